"""Reads a corpus with options as a configuration gives them."""

from __future__ import annotations

from typing import Any

from instructalign.plugins import FORMATS
from instructalign.types import Counts, ParallelRow

Read = tuple[list[ParallelRow], Counts]


def read(format: str, languages: list[str], **options: Any) -> Read:
    """The rows of a corpus and its counts; the options are checked as in a configuration."""
    counts = Counts()
    checked = FORMATS.check(format, options).options
    return list(FORMATS.get(format)(languages, counts, **checked)), counts


def texts(result: Read) -> dict[str, dict[str, str]]:
    """The texts of each row by its id."""
    return {row.id: dict(row.texts) for row in result[0]}
