"""A source of test items of a plug-in: whether a number is even, in words of the toy family."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def read_parity(data: Path, code: str, name: str, *, items: int = 4) -> Iterator[dict[str, str]]:
    """Items in one language.

    Args:
        items: how many.
    """
    for number in range(items):
        yield {"id": f"n{number}", "text": f"{code} {number}", "label": "odd" if number % 2 else "even"}
