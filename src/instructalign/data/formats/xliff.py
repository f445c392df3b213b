"""XLIFF, the exchange format of translation tools, versions 1.2 and 2 (OASIS 2008, 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from instructalign.data.formats import make_row, require_two_languages
from instructalign.data.formats.xml_events import read_events
from instructalign.errors import DataError
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow

_HIDDEN = frozenset({"bpt", "ept", "it", "ph", "alt-trans", "matches"})
"""Elements whose text is markup of the original document, or a suggested translation."""


def read_xliff(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads the source and target of each unit; a row's id is the unit's id and its segment's number.

    Args:
        languages: canonical codes.
        counts: takes what was read and dropped.
        path: the file, plain or compressed.

    Raises:
        DataError: the file is missing, not XLIFF, or not between two of the languages.
    """
    for id, texts in _segments(path):
        require_two_languages(languages, texts, path)
        if row := make_row(id, [(code, texts[code]) for code in languages if code in texts], counts):
            yield row


def _segments(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    codes = {"source": "", "target": ""}
    texts = {"source": "", "target": ""}
    side, unit = "", ""
    units = segment = hidden = 0
    opened = False
    for event in read_events(path):
        name, attributes = event.value, event.attributes
        if event.kind == "text":
            if side and not hidden:
                texts[side] += name
            continue
        if name in _HIDDEN:
            hidden += 1 if event.kind == "start" else -1
        elif hidden:
            continue
        elif event.kind == "start":
            if not opened and name != "xliff":
                raise DataError(f"{path}: the document is <{name}>, not <xliff>.")
            opened = True
            if name in ("file", "xliff"):
                for key, attribute in (("source", "srclang"), ("target", "trglang")):
                    tag = attributes.get(f"{key}-language") or attributes.get(attribute)
                    codes[key] = canonical(tag) if tag else codes[key]
            elif name in ("trans-unit", "unit"):
                units += 1
                unit, segment = attributes.get("id") or str(units), 0
            elif name in ("source", "target"):
                side, texts[name] = name, ""
        elif name in ("source", "target"):
            side = ""
        elif name in ("trans-unit", "segment"):
            segment += 1
            if not all(codes.values()):
                raise DataError(f"{path}: unit {unit!r} comes before both languages are named.")
            yield f"{unit}-{segment}", {codes[key]: texts[key] for key in codes}
            texts = {"source": "", "target": ""}
