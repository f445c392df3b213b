"""XLIFF, the exchange format of translation tools, versions 1.2 and 2 (OASIS 2008, 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from instructalign.data.formats import make_row, require_two_languages
from instructalign.data.formats.xml_events import read_events
from instructalign.errors import DataError
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow

_HIDDEN = frozenset({"bpt", "ept", "it", "ph", "alt-trans", "matches", "ignorable", "metadata", "changetrack"})
"""Elements whose text is markup of the original document, a suggested or former translation, or no segment."""

_UNTRANSLATED = frozenset({"new", "needs-translation", "needs-l10n", "initial"})
"""States of a target that is no translation yet, usually a copy of the source (in 1.2 and 2.0 respectively)."""


_DROPPED = "marked untranslated (often identical to the source)"


@dataclass(slots=True)
class _Segment:
    """A source and its target: their texts and languages, and whether the target is a translation."""

    texts: dict[str, str]
    codes: dict[str, str]
    translated: bool = True


def read_xliff(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads the source and target of each unit; a row's id is the unit's id and its segment's number.

    The languages are those of the file, or of the source and target themselves (`xml:lang`). Units not to be
    translated (`translate="no"`) or not yet translated (by the target's state) are dropped.

    Args:
        languages: canonical codes.
        counts: takes what was read and dropped.
        path: the file, plain or compressed.

    Raises:
        DataError: the file is missing, not XLIFF, or not between two of the languages.

    Example:
        {format: xliff, path: strings.xlf}
    """
    for id, segment in _segments(path):
        texts = {segment.codes[side]: text for side, text in segment.texts.items()}
        require_two_languages(languages, texts, path)
        if not segment.translated:
            counts.read += 1
            counts.drop(_DROPPED)
        elif row := make_row(id, [(code, texts[code]) for code in languages if code in texts], counts):
            yield row


def _segments(path: Path) -> Iterator[tuple[str, _Segment]]:
    codes = {"source": "", "target": ""}
    segment = _Segment({"source": "", "target": ""}, dict(codes))
    side, unit = "", ""
    units = number = hidden = 0
    opened = False
    translate = [True]  # by open file, group and unit: whether their text is to be translated
    for event in read_events(path):
        name, attributes = event.value, event.attributes
        if event.kind == "text":
            if side and not hidden:
                segment.texts[side] += name
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
            if name in ("file", "group", "trans-unit", "unit"):
                translate.append(
                    translate[-1] if "translate" not in attributes else attributes["translate"] != "no"
                )
            if name in ("trans-unit", "unit"):
                units += 1
                unit, number = attributes.get("id") or str(units), 0
            if name in ("trans-unit", "segment"):
                untranslated = attributes.get("state") in _UNTRANSLATED  # version 2 has the state here
                segment = _Segment({"source": "", "target": ""}, dict(codes), translate[-1] and not untranslated)
            elif name in ("source", "target"):
                side, segment.texts[name] = name, ""
                if tag := attributes.get("lang"):
                    segment.codes[name] = canonical(tag)
                if attributes.get("state") in _UNTRANSLATED:  # and version 1.2 here
                    segment.translated = False
        else:
            if name in ("source", "target"):
                side = ""
            elif name in ("trans-unit", "segment"):
                number += 1
                if not all(segment.codes.values()):
                    lacks = " and ".join(key for key, code in segment.codes.items() if not code)
                    raise DataError(
                        f"{path}: unit {unit!r} has no {lacks} language. Add source-language and target-language "
                        "to <file> (version 2: srcLang and trgLang to <xliff>), or xml:lang to <source>, <target>."
                    )
                yield f"{unit}-{number}", segment
            if name in ("file", "group", "trans-unit", "unit"):
                translate.pop()
