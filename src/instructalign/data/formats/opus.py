"""Corpora as downloaded from OPUS in Moses format: a zip file with one text file a language.

Nothing is unpacked to disk. Source: Tiedemann 2012, "Parallel Data, Tools and Interfaces in OPUS".
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from instructalign.data.formats import is_language, rows_of_lines, select_languages
from instructalign.errors import DataError
from instructalign.files import ZIP_ERRORS, check_file, decode_lines, hidden
from instructalign.types import Counts, ParallelRow


def read_opus(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads a zip file of line-aligned texts (`Tatoeba.en-id.en`, `Tatoeba.en-id.id`); row ids are line numbers.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        path: the zip file.

    Raises:
        DataError: the file is missing, damaged or protected by a password, contains a path outside the archive,
            or does not contain one file for each of two of the languages.

    Example:
        {format: opus, path: en-jv.txt.zip}
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            members = select_languages(languages, _members(archive, path), path)
            sides = {
                code: (name, decode_lines(stack.enter_context(archive.open(name)), f"{path}:{name}"))
                for code, name in members.items()
            }
            yield from rows_of_lines(sides, counts)
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: not a readable zip file ({error}). Get the file again.") from None


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, str]:
    """The text files of one corpus by the language code their names end in."""
    found: dict[str, dict[str, str]] = {}
    for name in archive.namelist():
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in "".join(place.parts[:1]):
            raise DataError(f"{path}: contains {name!r}, a path outside the archive; do not trust this file.")
        corpus, _, code = name.rpartition(".")
        if is_language(code) and not hidden(place):
            found.setdefault(corpus, {})[code] = name
    corpora = [corpus for corpus, members in found.items() if len(members) > 1]
    if len(corpora) != 1:
        raise DataError(
            f"{path}: expected the files of one corpus, such as Tatoeba.en-id.en and Tatoeba.en-id.id; found "
            f"{len(corpora)} corpora among {', '.join(archive.namelist()[:12]) or 'no files'}."
        )
    return found[corpora[0]]
