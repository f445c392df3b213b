"""Toolbox and Shoebox: standard format files (SFM), records of lines that begin with a marker."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from instructalign.data.formats import rows_of_variants, select_languages
from instructalign.errors import DataError, suggest
from instructalign.files import read_lines
from instructalign.languages import LanguageCode
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
            such as the senses of a word (`each`): the record's own marker goes with each of them, other markers
            with those that follow before their own is there again. A subentry (`se`, in records of `lx`) is a
            record of its own.

    Raises:
        DataError: the file is missing, not UTF-8 or not in standard format, or has no such marker.

    Example:
        {format: toolbox, path: text.txt, markers: {heg: tx, eng: ft}, record: ref}
    """
    chosen = select_languages(languages, {code: marker.lstrip("\\") for code, marker in markers.items()}, path)
    record = record.lstrip("\\")
    seen: dict[str, None] = {}
    split = "se" if record == "lx" and "se" not in chosen.values() else ""
    for number, fields in enumerate(_records(path, record, split, seen), start=1):
        groups = [_texts(fields, chosen)]
        if repeated == "join":
            groups = [{code: [" ".join(texts)] for code, texts in groups[0].items()}]
        elif any(len(texts) > 1 for texts in groups[0].values()):
            groups = _groups(fields, chosen, record)
        name = f"{number} {fields[0][1]}".strip()
        if not any(map(any, groups[0].values())):
            counts.read += 1
            counts.drop("empty")
            continue
        for variants in groups:
            yield from rows_of_variants(name, variants, languages, counts)
    for marker in (record, *chosen.values()):
        if marker not in seen:
            raise DataError(f"{path}: no line begins with the marker \\{marker}. {suggest(marker, list(seen))}")


def _texts(fields: Sequence[tuple[str, str]], chosen: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        code: [text for marker, text in fields if marker == wanted and text] for code, wanted in chosen.items()
    }


def _groups(
    fields: Sequence[tuple[str, str]], chosen: Mapping[str, str], record: str
) -> list[dict[str, list[str]]]:
    """The texts of a record that belong together: a group begins where the first marker is there again.

    Where that marker is missing, other markers tell: the same marker twice in a row are two translations, with
    another between them they are of two groups.
    """
    alone = [(marker, text) for marker, text in fields if marker == record]
    wanted = [marker for marker in chosen.values() if marker != record]
    first = next(marker for marker, _ in fields if marker in wanted)
    groups: list[list[tuple[str, str]]] = []
    last = ""
    for marker, text in fields:
        if marker in wanted:
            if not groups or marker == first or (marker != last and marker in dict(groups[-1])):
                groups.append([*alone])
            groups[-1].append((marker, text))
        last = marker
    return [_texts(group, chosen) for group in groups]


def _records(path: Path, record: str, split: str, seen: dict[str, None]) -> Iterator[list[tuple[str, str]]]:
    """The fields of each record, without those before the first.

    Args:
        path: the file.
        record: the marker that begins a record.
        split: another that begins one, which then has its text under `record`; or empty.
        seen: takes every marker of the file.
    """
    fields: list[tuple[str, str]] = []
    for number, line in read_lines(path):
        marker, value = "", line
        if line.startswith("\\"):  # the text follows a space or a tab
            marker, value = [*line[1:].split(None, 1), "", ""][:2]
        marker, value = marker.strip(), " ".join(value.split())
        if marker:
            seen[marker] = None
            if marker == split and fields:
                marker = record
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
