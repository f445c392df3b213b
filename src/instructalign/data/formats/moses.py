"""Moses corpora: one file a language, one sentence a line, line i of each a translation of the others'."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from instructalign.data.formats import rows_of_lines, select_languages
from instructalign.files import read_lines
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow


def read_moses(
    languages: Sequence[str], counts: Counts, *, files: Mapping[LanguageCode, Path]
) -> Iterator[ParallelRow]:
    """Reads two or more line-aligned files; a row's id is its line number.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        files: the file of each language.

    Raises:
        DataError: a file is missing or not UTF-8, or the files differ in length.

    Example:
        {format: moses, files: {eng: corpus.en, jav: corpus.jv}}
    """
    chosen = select_languages(languages, files, "moses")
    return rows_of_lines({code: (path, read_lines(path)) for code, path in chosen.items()}, counts)
