"""Plain text in one language: a sentence or a paragraph a line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from instructalign.data.formats import make_row
from instructalign.data.readers import files_in
from instructalign.errors import DataError
from instructalign.files import read_lines
from instructalign.types import Counts, ParallelRow

_LONGEST = 500  # lines of a document; a longer one is several, so that a part of it can be held out


def read_text(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    documents: Literal["blank lines", "lines"] | None = None,
) -> Iterator[ParallelRow]:
    """Reads plain text in one language, with a sentence or a paragraph on each line.

    Args:
        languages: the canonical code of the language, alone.
        counts: takes what was read and dropped.
        path: a file, or a folder with `*.txt` files.
        documents: where a document ends: at blank lines, or at the end of each line. By default at blank lines,
            and in a file without any at the end of each line.

    Raises:
        DataError: a file is missing, not UTF-8, or JSON lines; or more than one language is asked for.

    Example:
        {format: text, path: news.txt, languages: [jav]}
    """
    if len(languages) != 1:
        raise DataError(f"{path}: format text is monolingual. Name its language: languages: [CODE].")
    files = files_in(path, "txt")
    for file in files:
        by_line = not _has_blank_lines(file) if documents is None else documents == "lines"
        first = lines = 0  # the number of the document's first line; how many it has so far
        for number, line in read_lines(file):
            text = line.strip()
            if number == 1 and text.startswith("{") and _is_object(text):
                raise DataError(
                    f"{file}: its lines are JSON objects. Read them with format: jsonl and the key of the text, "
                    f"such as columns: {{{languages[0]}: text}}."
                )
            if not text and not by_line:
                lines = 0
                continue
            if by_line or lines in (0, _LONGEST):
                first, lines = number, 0
            lines += 1
            name = f"{file.stem}/{first}" if len(files) > 1 else str(first)
            if row := make_row(name, [(languages[0], text)], counts):
                yield row


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _has_blank_lines(file: Path) -> bool:
    """Whether there is a blank line between two others."""
    before = blank = False
    for _, line in read_lines(file):
        text = bool(line.strip())
        if text and blank:
            return True
        before |= text
        blank = before and not text
    return False
