"""How the examples of an optimizer step are cut into micro-batches: little padding, bounded memory, few passes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

Length = tuple[int, ...]
"""The tokens of a row: one number, or two where encoder and decoder are padded apart."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much goes through the model at once.

    Attributes:
        rows: rows that a micro-batch may have at most; None for no limit.
        tokens: tokens that a micro-batch may have at most, padding included; None for no limit. A longer row
            stands alone.
        overhead: what a pass through the model costs however little is in it, in tokens that would take as long.
    """

    rows: int | None = None
    tokens: int | None = None
    overhead: int = 0

    def allow(self, rows: int, tokens: int) -> bool:
        """Whether a micro-batch may have so many rows and, with padding, tokens."""
        if rows == 1:
            return True
        return (self.rows is None or rows <= self.rows) and (self.tokens is None or tokens <= self.tokens)

    def rows_of(self, length: int) -> int:
        """How many rows of a length may stand together, of any number of them at hand."""
        by_tokens = max(1, self.tokens // length) if self.tokens is not None else None
        return min((limit for limit in (self.rows, by_tokens) if limit is not None), default=1 << 30)


def cut(lengths: Sequence[Length], limits: Limits, multiple: int = 1) -> list[range]:
    """Cuts rows that are sorted by length into micro-batches of neighbours.

    Of all ways within the limits, the one whose passes take the least time together, where a pass takes as long
    as its tokens, padding included, and the overhead.

    Args:
        lengths: of the rows, in order of their sums.
        limits: what a micro-batch may have.
        multiple: the number of micro-batches is a multiple of this, so that as many processes get as many each.
            The number of rows must be at least as large, and itself a multiple where the limits want single rows.

    Returns:
        The numbers of each micro-batch's rows; every row is in one.
    """
    best = [0.0] + [float("inf")] * len(lengths)
    begins = [0] * (len(lengths) + 1)
    for end in range(1, len(lengths) + 1):
        widths = (0,) * len(lengths[0])
        for begin in range(end - 1, -1, -1):
            widths = tuple(map(max, widths, lengths[begin]))
            tokens = (end - begin) * sum(widths)
            if not limits.allow(end - begin, tokens):
                break
            cost = best[begin] + limits.overhead + tokens
            if cost < best[end]:
                best[end], begins[end] = cost, begin
    parts: list[range] = []
    end = len(lengths)
    while end:
        parts.append(range(begins[end], end))
        end = begins[end]
    return _to_multiple(parts[::-1], lengths, multiple)


def _to_multiple(parts: list[range], lengths: Sequence[Length], multiple: int) -> list[range]:
    while len(parts) % multiple:
        # Halving the one that takes longest also evens out what the processes wait for.
        largest = max(range(len(parts)), key=lambda k: (len(parts[k]) > 1, tokens_of(parts[k], lengths), k))
        part = parts[largest]
        middle = part.start + len(part) // 2
        parts[largest : largest + 1] = [range(part.start, middle), range(middle, part.stop)]
    return parts


def tokens_of(part: Sequence[int], lengths: Sequence[Length]) -> int:
    """The tokens of a micro-batch, padding included."""
    return len(part) * sum(max(map(int, column)) for column in zip(*(lengths[row] for row in part), strict=True))


def pack(lengths: Sequence[int], longest: int, multiple: int = 1) -> list[list[int]]:
    """Puts examples into as few rows of about equal length as will do, the longest examples first.

    This is the rule of longest processing time (Graham 1969, "Bounds on Multiprocessing Timing Anomalies"): each
    example goes to the row that is the shortest so far.

    Args:
        lengths: tokens of each example, at most `longest`.
        longest: tokens that a row may have.
        multiple: the number of rows is a multiple of this; there are at least as many examples.

    Returns:
        The examples of each row, by number.
    """
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], number))
    count = _round_up(-(-sum(lengths) // longest), multiple)
    while True:
        rows: list[list[int]] = [[] for _ in range(count)]
        shortest = [(0, row) for row in range(count)]
        for number in order:
            length, row = heapq.heappop(shortest)
            rows[row].append(number)
            heapq.heappush(shortest, (length + lengths[number], row))
        if max(shortest)[0] <= longest:
            return [sorted(row) for row in rows]
        count += multiple


def _round_up(number: int, multiple: int) -> int:
    return max(1, -(-number // multiple)) * multiple
