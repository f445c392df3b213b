"""How the report writes numbers: points with a fitting number of decimals, signs, intervals, p-values."""

from __future__ import annotations

from collections.abc import Iterable
from math import floor, log10

from instructalign.evaluation.score_table import is_in_bits
from instructalign.types import Score

NBSP = "\u00a0"  # a space at which no line ends


def signed(value: float, digits: int = 1) -> str:
    """A change with its sign: `+3.1`, `−0.4`, and `0.0` without one."""
    text = f"{abs(value):.{digits}f}"
    if float(text) == 0:
        return text
    return f"{'+' if value > 0 else '−'}{text}"


def decimals(points: Iterable[float]) -> int:
    """How many decimals numbers in points are shown with: one; two significant digits where all are below 1."""
    largest = max(map(abs, points), default=0.0)
    return 1 if largest >= 1 or largest < 1e-6 else 1 - floor(log10(largest))


def in_unit(row: Score, value: float | None = None) -> float:
    """A row's value, or a bound of its interval, as it is shown: in points, or in bits per byte."""
    return (1 if is_in_bits(row) else 100) * (row.value if value is None else value)


def is_small(row: Score) -> bool:
    """Whether a number is below a point; a column of such numbers is shown with more decimals."""
    return abs(row.value) < 0.01


def precision(row: Score, small: bool) -> int:
    """The decimals of a number and its interval: of points more than one only in a column of small numbers."""
    if is_in_bits(row):
        return 3
    known = (value for value in (row.value, row.low, row.high) if value is not None)
    return decimals(100 * value for value in known) if small else 1


def as_points(value: float, digits: int = 1) -> str:
    """A number in points, without a plus: 0.834 → "83.4"."""
    return signed(100 * value, digits).removeprefix("+")


def interval_text(low: float | None, high: float | None, digits: int = 1, scale: float = 100) -> str:
    """An interval in points (or, with a scale of 1, in its own unit); empty where there is none."""
    if low is None or high is None:
        return ""
    texts = [signed(scale * bound, digits).removeprefix("+") for bound in (low, high)]
    return (" to " if "−" in "".join(texts) else "–").join(texts)


def p_text(row: Score) -> str:
    """A p-value: `p 0.03`; at its smallest, that of the number of random swaps, `p 0.001`."""
    return f"p {row.value:.3f}" if row.value < 0.1 else f"p {row.value:.2f}"


def shorten(text: str, length: int) -> str:
    """A text truncated to a number of characters, with an ellipsis where something is missing."""
    return text if len(text) <= length else f"{text[: length - 1].rstrip()}…"


def join_with_and(names: Iterable[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last
