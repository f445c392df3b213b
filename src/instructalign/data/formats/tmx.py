"""TMX, the exchange format of translation memories (Translation Memory eXchange 1.4b, LISA 2005)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from instructalign.data.formats import code_by_tag, require_languages, rows_of_variants
from instructalign.data.formats.xml_events import is_line_break, read_events
from instructalign.errors import DataError
from instructalign.types import Counts, ParallelRow

_CODES = frozenset({"bpt", "ept", "it", "ph", "ut"})
"""Elements within a segment whose content is markup of the original document, not text."""

_NO_LANGUAGE = "variant without a language (xml:lang)"


def read_tmx(languages: Sequence[str], counts: Counts, *, path: Path) -> Iterator[ParallelRow]:
    """Reads a TMX file as a stream, plain or compressed.

    A unit with several variants in one language gives as many rows, all with the unit's id: its `tuid`, or else
    its number. Markup within segments is left out, with text inside it (<sub>: a footnote, a caption); the text
    around it and inside highlights is kept. A variant that names no language counts as a dropped row.

    Args:
        languages: canonical codes; variants in others are ignored.
        counts: takes what was read and dropped.
        path: the file.

    Raises:
        DataError: the file is missing, not TMX, or has text in fewer than two of the languages.

    Example:
        {format: tmx, path: memory.tmx}
    """
    seen: set[str] = set()
    number = 0
    for number, (id, variants) in enumerate(_units(path), start=1):
        for text in variants.pop("", ()):
            counts.read += 1
            counts.drop(_NO_LANGUAGE, row=id or str(number), fields=[text])
        seen.update(variants)
        yield from rows_of_variants(id or str(number), variants, languages, counts)
    if number:
        require_languages(languages, seen, path)


def _units(path: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """The id of each unit, and its variants by language."""
    id, code = "", ""
    variants: dict[str, list[str]] = {}
    text: list[str] | None = None
    hidden = variant = 0  # the line of the <tuv> whose child is read
    opened = False
    code_of = code_by_tag(None)
    for event in read_events(path):
        if event.kind == "text":
            if text is not None and not hidden:
                text.append(event.value)
            elif variant and event.value.strip():
                raise DataError(
                    f"{path}:{variant}: <tuv> has the text {event.value.strip()[:40]!r} without <seg> around it. "
                    "This is not TMX; export the memory again, or put each text into <seg>…</seg>."
                )
        elif event.kind == "start":
            if not opened and event.value != "tmx":
                raise DataError(f"{path}: the document is <{event.value}>, not <tmx>.")
            opened = True
            variant = event.line if event.value == "tuv" else 0
            if event.value == "tu":
                id, variants = event.attributes.get("tuid", "").strip(), {}
            elif event.value == "tuv":
                code = code_of(event.attributes.get("lang", "").strip())
            elif event.value == "seg":
                text = []
            elif text is not None and not hidden and is_line_break(event.attributes):
                text.append(" ")
            hidden += event.value in _CODES
        else:
            hidden -= event.value in _CODES
            if event.value == "seg" and text is not None:
                variants.setdefault(code, []).append("".join(text))
                text = None
            elif event.value == "tu":
                yield id, variants
