"""Moses corpora: one file a language, one sentence a line, line i of each a translation of the others'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path

from instructalign.data.formats.columns import Language, make_row, select
from instructalign.errors import DataError
from instructalign.files import read_lines
from instructalign.types import Counts, ParallelRow


def read(languages: Sequence[str], counts: Counts, *, files: Mapping[Language, Path]) -> Iterator[ParallelRow]:
    """Reads two or more line-aligned files; rows are named by their line number.

    Args:
        languages: canonical codes; the files of others are left alone.
        counts: takes what was read and dropped.
        files: the file of each language.

    Raises:
        DataError: a file is missing or not UTF-8, or the files differ in length.
    """
    chosen = select(languages, files, "moses")
    for number, fields in align_files(chosen):
        row = make_row(str(number), fields, counts)
        if row:
            yield row


def align_files(files: Mapping[str, Path]) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Line numbers from 1 and the (language, line) pairs of line-aligned files; see `align_lines`."""
    return align_lines({code: (str(path), read_lines(path)) for code, path in files.items()})


def align_lines(
    sides: Mapping[str, tuple[str, Iterator[tuple[int, str]]]],
) -> Iterator[tuple[int, list[tuple[str, str]]]]:
    """Line numbers from 1 and the (language, line) pairs of line-aligned texts.

    Args:
        sides: by language, the text's name and its numbered lines.

    Raises:
        DataError: the texts differ in length; the message gives the length of each.
    """
    missing = (0, "")
    readers = [lines for _, lines in sides.values()]
    for count, lines in enumerate(zip_longest(*readers, fillvalue=missing)):
        if missing in lines:
            lengths = [
                count + (line != missing) + sum(1 for _ in reader)
                for line, reader in zip(lines, readers, strict=True)
            ]
            listed = ", ".join(f"{name} has {n}" for (name, _), n in zip(sides.values(), lengths, strict=True))
            raise DataError(
                f"line-aligned files must have equal numbers of lines, but {listed}. "
                "A line was lost or split on one side; the pairs behind it would not be translations."
            )
        yield count + 1, [(code, text) for code, (_, text) in zip(sides, lines, strict=True)]
