"""A corpus format of a plug-in: one sentence per line in all languages, separated by dashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from instructalign.types import Counts, ParallelRow


def read_dashes(languages: Sequence[str], counts: Counts, *, path: Path, mark: str) -> Iterator[ParallelRow]:
    """Reads a file with one sentence per line.

    Args:
        path: the file.
        mark: what separates the languages.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines[1:], start=2):
        counts.read += 1
        texts = dict(zip(lines[0].split(mark), line.split(mark), strict=True))
        yield ParallelRow(f"line-{number}", {code: texts[code] for code in languages if code in texts})
