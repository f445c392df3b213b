"""Corpora as downloaded from OPUS in Moses format: a zip file with one text file a language.

Nothing is unpacked to disk. Source: Tiedemann 2012, "Parallel Data, Tools and Interfaces in OPUS".
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from instructalign.data.formats.columns import make_row, select
from instructalign.data.formats.moses import align_lines
from instructalign.errors import DataError
from instructalign.files import decode_lines
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow


def read(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads a zip file of line-aligned texts (`Tatoeba.en-id.en`, `Tatoeba.en-id.id`); rows go by line.

    Args:
        languages: canonical codes; the files of others are left alone.
        counts: takes what was read and dropped.
        path: the zip file.

    Raises:
        DataError: the file is missing, damaged, locked by a password, holds names that lead out of it, or
            does not hold one file for each of two of the languages.
    """
    try:
        with zipfile.ZipFile(path) as archive, ExitStack() as stack:
            members = select(languages, _members(archive, path), path)
            sides = {
                code: (name, decode_lines(stack.enter_context(archive.open(name)), f"{path}:{name}"))
                for code, name in members.items()
            }
            for number, fields in align_lines(sides):
                row = make_row(str(number), fields, counts)
                if row:
                    yield row
    except FileNotFoundError:
        raise DataError(f"{path} does not exist.") from None
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise DataError(f"{path}: not a zip file that can be read ({error}). Get it again.") from None


def _members(archive: zipfile.ZipFile, path: Path) -> dict[str, str]:
    """The text files of one corpus by the language code their names end in."""
    found: dict[str, dict[str, str]] = {}
    for name in archive.namelist():
        place = PurePosixPath(name.replace("\\", "/"))
        if place.is_absolute() or ".." in place.parts or ":" in "".join(place.parts[:1]):
            raise DataError(f"{path}: holds the name {name!r}, which leads out of it; not to be trusted.")
        corpus, _, code = name.rpartition(".")
        try:
            canonical(code)
        except DataError:
            continue
        found.setdefault(corpus, {})[code] = name
    corpora = [corpus for corpus, members in found.items() if len(members) > 1]
    if len(corpora) != 1:
        raise DataError(
            f"{path}: expected the files of one corpus, such as Tatoeba.en-id.en and Tatoeba.en-id.id; found "
            f"{len(corpora)} among {', '.join(archive.namelist()[:12]) or 'no files'}."
        )
    return found[corpora[0]]
