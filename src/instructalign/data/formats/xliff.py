"""XLIFF, the exchange format of translation tools, versions 1.2 and 2 (OASIS 2008, 2014)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from instructalign.data.formats import code_by_tag, make_row, require_languages
from instructalign.data.formats.xml_events import is_line_break, read_events
from instructalign.errors import DataError
from instructalign.types import Counts, ParallelRow

_HIDDEN = frozenset(
    {"bpt", "ept", "it", "ph", "alt-trans", "matches", "ignorable", "metadata", "changetrack"}
    | {"glossary", "resourcedata"}
)
"""Elements whose text is markup of the original document, a suggested or former translation, or no segment."""

_UNTRANSLATED = frozenset({"new", "needs-translation", "needs-l10n", "initial"})
"""States of a target that is no translation yet, usually a copy of the source (in 1.2 and 2.0 respectively)."""

_SETTLED = frozenset({"translated", "signed-off", "final"})
"""States of version 1.2 in which a suggestion has been accepted."""

_SUGGESTED = frozenset({"fuzzy-match", "mt-suggestion", "tm-suggestion"})
"""Where a target of version 1.2 comes from (`state-qualifier`) that is the translation of a similar source, or
that nobody has accepted; so are those that were rejected (`rejected-…`)."""

_UNCONFIRMED = frozenset(
    {"notstarted", "pretranslated", "machinetranslated", "assembledfromfragments", "rejected"}
    | {"draft", "rejectedtranslation", "rejectedsignoff"}
)
"""Of memoQ (`mq:status` of a unit) and Trados (`conf` of a segment): states that nobody has confirmed."""

_OPEN = frozenset({"file", "group", "unit", "trans-unit", "bin-unit"})
"""Elements whose attribute `translate` holds for all that is in them."""

_DROPPED = "marked untranslated (often identical to the source)"


@dataclass(slots=True)
class _Unit:
    """A source and its target: their texts and languages, and whether the target is a translation.

    `parts` has the segments of version 1.2 within a unit: by side, the text of each <mrk mtype="seg"> by `mid`;
    `whole` says that there is text outside of them, `unconfirmed` which are no translation yet.
    """

    codes: dict[str, str]
    translated: bool = True
    texts: dict[str, str] = field(default_factory=lambda: {"source": "", "target": ""})
    parts: dict[str, dict[str, str]] = field(default_factory=lambda: {"source": {}, "target": {}})
    whole: bool = False
    unconfirmed: set[str] = field(default_factory=set)

    def segments(self) -> list[tuple[str, str, bool]]:
        """The source and target of each segment, where all text of both is in segments; else those of the unit.

        With each, whether the target is a translation.
        """
        source, target = self.parts["source"], self.parts["target"]
        if source and target.keys() <= source.keys() and target and not self.whole:
            return [
                (text, target.get(mid, ""), self.translated and mid not in self.unconfirmed)
                for mid, text in source.items()
            ]
        return [(self.texts["source"], self.texts["target"], self.translated and not self.unconfirmed)]


def read_xliff(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads the source and target of each segment; a row's id is the unit's id and its segment's number.

    The languages are those of the file, or of the source and target themselves (`xml:lang`). Units not to be
    translated (`translate="no"`), not yet translated (by the target's state, also by those of memoQ and Trados),
    with a suggestion that nobody accepted, or whose target is no equivalent (`equiv-trans="no"`) are dropped.

    Args:
        languages: canonical codes.
        counts: takes what was read and dropped.
        path: the file, plain or compressed.

    Raises:
        DataError: the file is missing, not XLIFF, or not between two of the languages.

    Example:
        {format: xliff, path: strings.xlf}
    """
    for id, unit, number in _units(path):
        codes = unit.codes
        require_languages(languages, set(codes.values()), path)
        for source, target, translated in unit.segments():
            number += 1
            if not translated:
                counts.read += 1
                counts.drop(
                    _DROPPED, row=f"{id}-{number}", texts={codes["source"]: source, codes["target"]: target}
                )
                continue
            texts = {codes["source"]: source, codes["target"]: target}
            fields = [(code, texts[code]) for code in languages if code in texts]
            if row := make_row(f"{id}-{number}", fields, counts):
                yield row


def _units(path: Path) -> Iterator[tuple[str, _Unit, int]]:
    """The id of each unit, its text, and how many segments of the same unit came before (in version 2)."""
    of_document = {"source": "", "target": ""}
    codes = dict(of_document)
    code_of = code_by_tag(None)
    unit = _Unit(codes)
    side, into, id = "", "", ""  # the element whose text is read, the side it belongs to, the unit's id
    units = before = hidden = 0
    opened = False
    translate = [True]  # by open file, group and unit: whether their text is to be translated
    marks: list[str] = []  # by open <mrk>: the id of the segment that it is

    def add(text: str) -> None:
        segment = next((mid for mid in reversed(marks) if mid), "")
        if segment:
            unit.parts[side][segment] = unit.parts[side].get(segment, "") + text
        elif into != "source" and text.strip():
            unit.whole = True
        if into != "seg-source":  # which repeats the source
            unit.texts[side] += text

    for event in read_events(path):
        name, attributes = event.value, event.attributes
        if event.kind == "text":
            if side and not hidden:
                add(name)
            continue
        if event.kind == "start" and side and not hidden and is_line_break(attributes):
            add(" ")
        if name in _HIDDEN:
            hidden += 1 if event.kind == "start" else -1
        elif hidden:
            continue
        elif event.kind == "start":
            if not opened and name != "xliff":
                raise DataError(f"{path}: the document is <{name}>, not <xliff>.")
            opened = True
            if name in ("file", "xliff"):
                codes = dict(of_document)
                for key, attribute in (("source", "srclang"), ("target", "trglang")):
                    if tag := attributes.get(f"{key}-language") or attributes.get(attribute):
                        codes[key] = code_of(tag)
                if name == "xliff":
                    of_document = codes
            if name in _OPEN:
                translate.append(
                    translate[-1] if "translate" not in attributes else attributes["translate"] != "no"
                )
            if name in ("trans-unit", "unit"):
                units += 1
                id, before = attributes.get("id") or str(units), 0
            if name in ("trans-unit", "segment"):
                untranslated = attributes.get("state") in _UNTRANSLATED  # version 2 has the state here
                unit = _Unit(dict(codes), translate[-1] and not untranslated)
                approved = attributes.get("approved") == "yes"
                if attributes.get("status", "").lower() in _UNCONFIRMED:
                    unit.translated = False
            elif name == "seg" and attributes.get("conf", "").lower() in _UNCONFIRMED:
                unit.unconfirmed.add(attributes.get("id", ""))
            elif name in ("source", "seg-source", "target"):
                side, into, marks = name.removeprefix("seg-"), name, []
                if name == "seg-source":
                    continue
                unit.texts[name] = ""
                if tag := attributes.get("lang"):
                    unit.codes[name] = code_of(tag)
                state, origin = attributes.get("state"), attributes.get("state-qualifier", "")  # version 1.2
                unaccepted = origin in _SUGGESTED and state not in _SETTLED and not approved
                if state in _UNTRANSLATED or unaccepted or origin.startswith("rejected-"):
                    unit.translated = False
                if attributes.get("equiv-trans") == "no":
                    unit.translated = False
            elif name == "mrk":
                marks.append(attributes.get("mid", "") if attributes.get("mtype") == "seg" else "")
                if side and marks[-1]:
                    unit.parts[side].setdefault(marks[-1], "")
        else:
            if name == into:
                side = into = ""
            elif name == "mrk" and marks:
                marks.pop()
            elif name in ("trans-unit", "segment"):
                if not all(unit.codes.values()):
                    lacks = " and ".join(key for key, code in unit.codes.items() if not code)
                    raise DataError(
                        f"{path}: unit {id!r} has no {lacks} language. Add source-language and target-language "
                        "to <file> (version 2: srcLang and trgLang to <xliff>), or xml:lang to <source>, <target>."
                    )
                yield id, unit, before
                before += 1
            if name in _OPEN:
                translate.pop()
