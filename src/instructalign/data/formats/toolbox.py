"""Toolbox and Shoebox: standard format files (SFM), records of lines that begin with a marker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from instructalign.config import LanguageCode
from instructalign.data.formats import rows_of_variants, select_languages
from instructalign.errors import DataError, suggest
from instructalign.files import read_lines
from instructalign.types import Counts, ParallelRow


def read_toolbox(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    markers: Mapping[LanguageCode, str],
    record: str = "ref",
    repeated: Literal["join", "each"] = "join",
) -> Iterator[ParallelRow]:
    r"""Reads a Toolbox file as a stream: interlinear texts with free translations, or a dictionary.

    Args:
        languages: canonical codes; the markers of others are ignored.
        counts: takes what was read and dropped.
        path: the file, in UTF-8.
        markers: the marker of each language, without its backslash: `tx` and `ft` of a text, `lx` and `ge` of a
            dictionary.
        record: the marker that begins a record: `ref` of a text, `lx` of a dictionary. A row's id is its value and
            the record's number.
        repeated: a marker that a record has several times is one text, wrapped (`join`), or several translations,
            such as the senses of a word (`each`).

    Raises:
        DataError: the file is missing, not UTF-8 or not in standard format, or has no such marker.

    Example:
        {format: toolbox, path: text.txt, markers: {heg: tx, eng: ft}, record: ref}
    """
    chosen = select_languages(languages, {code: marker.lstrip("\\") for code, marker in markers.items()}, path)
    record = record.lstrip("\\")
    seen: dict[str, None] = {}
    for number, fields in enumerate(_records(path, record, seen), start=1):
        variants = {
            code: [text for marker, text in fields if marker == wanted and text] for code, wanted in chosen.items()
        }
        if repeated == "join":
            variants = {code: [" ".join(texts)] for code, texts in variants.items()}
        name = f"{number} {fields[0][1]}".strip()
        if any(map(any, variants.values())):
            yield from rows_of_variants(name, variants, languages, counts)
        else:
            counts.read += 1
            counts.drop("empty")
    for marker in (record, *chosen.values()):
        if marker not in seen:
            raise DataError(f"{path}: no line begins with the marker \\{marker}. {suggest(marker, list(seen))}")


def _records(path: Path, record: str, seen: dict[str, None]) -> Iterator[list[tuple[str, str]]]:
    """The fields of each record, without those before the first; `seen` takes every marker of the file."""
    fields: list[tuple[str, str]] = []
    for number, line in read_lines(path):
        marker, value = "", line
        if line.startswith("\\"):  # the text follows a space or a tab
            marker, value = [*line[1:].split(None, 1), "", ""][:2]
        marker, value = marker.strip(), " ".join(value.split())
        if marker:
            seen[marker] = None
            if marker == record and fields:
                yield fields
                fields = []
            if fields or marker == record:
                fields.append((marker, value))
        elif value and not seen:
            raise DataError(
                f"{path}:{number}: expected a marker, such as \\_sh or \\{record}, found {value[:40]!r}."
            )
        elif value and fields:  # a long line, wrapped
            fields[-1] = (fields[-1][0], f"{fields[-1][1]} {value}".strip())
    if fields:
        yield fields
