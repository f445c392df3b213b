"""ELAN annotations (.eaf): transcriptions of recordings, in tiers (EAF 3.0, Max Planck Institute, Nijmegen)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Literal

from instructalign.data.formats import make_row, select_languages
from instructalign.data.formats.time_overlap import MinOverlap, Span, rows_of_spans
from instructalign.data.formats.xml_events import read_document
from instructalign.data.readers import files_in
from instructalign.errors import DataError, suggest
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow


@dataclass(slots=True)
class _Annotation:
    id: str
    tier: str
    start: str = ""  # time slots
    end: str = ""
    parent: str = ""  # the annotation that this one belongs to
    previous: str = ""  # the one before it, of those without times that belong to the same
    text: str = ""


@dataclass(slots=True)
class _Document:
    times: dict[str, int | None] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)  # by tier, the one above it
    speakers: dict[str, str] = field(default_factory=dict)  # by tier, its participant
    annotations: dict[str, _Annotation] = field(default_factory=dict)


def read_eaf(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    tiers: Mapping[LanguageCode, str | list[str]],
    align: Literal["auto", "parent", "time"] = "auto",
    overlap: MinOverlap = 0.5,
) -> Iterator[ParallelRow]:
    """Reads ELAN files; an utterance and its translation are a row.

    Args:
        languages: canonical codes; the tiers of others are ignored.
        counts: takes what was read and dropped.
        path: the file, or a folder with `*.eaf`.
        tiers: the tier or tiers of each language; `*` stands for any text, as in `ft@*` for every speaker's;
            those of one speaker are paired.
        align: by the annotation that both belong to (`parent`), or by overlap in time; `auto` takes the parent
            where the tiers have one.
        overlap: by time: the least share of the shorter annotation that both have in common.

    Raises:
        DataError: a file is missing, not ELAN's or inconsistent, or has no such tier.

    Example:
        {format: eaf, path: recordings/, tiers: {heg: "tx@*", eng: "ft@*"}}
    """
    chosen = select_languages(languages, tiers, "eaf")
    for file in files_in(path, "eaf"):
        document = _read_document(file)
        names = {code: _tiers(patterns, document, file) for code, patterns in chosen.items()}
        prefix = f"{file.stem}-" if file != path else ""
        groups = list(_trees(names, chosen, document, file, align))
        for number, group in enumerate(groups, start=1):
            within = f"{prefix}{number}-" if len(groups) > 1 or len(_roots(names, document)) > 1 else prefix
            common = _common_tier([tier for each in group.values() for tier in each], document)
            if align == "time" or common is None:
                spans = {code: _spans(each, document) for code, each in group.items()}
                yield from rows_of_spans(spans, overlap, within, counts)
            else:
                yield from _rows_by_parent(group, common, document, file, within, counts)


def _rows_by_parent(
    group: Mapping[str, Sequence[str]], common: str, document: _Document, path: Path, prefix: str, counts: Counts
) -> Iterator[ParallelRow]:
    texts: dict[str, dict[str, list[str]]] = {}
    for code, tiers in group.items():
        for each in document.annotations.values():
            if each.tier in tiers:
                texts.setdefault(_ancestor(each, common, document, path).id, {}).setdefault(code, []).append(
                    each.text
                )
    for id, by_language in texts.items():
        if row := make_row(
            f"{prefix}{id}", [(code, " ".join(by_language.get(code, []))) for code in group], counts
        ):
            yield row


def _ancestor(annotation: _Annotation, tier: str, document: _Document, path: Path) -> _Annotation:
    """The annotation of a tier above that one belongs to."""
    at = annotation
    while at.tier != tier:
        above = document.annotations.get(at.parent)
        if above is None:
            raise DataError(f"{path}: the annotation {at.id!r} of tier {at.tier!r} belongs to none of {tier!r}.")
        at = above
    return at


def _chain(tier: str, document: _Document) -> list[str]:
    """A tier and those above it; `_read_document` has refused circles."""
    chain = [tier]
    while above := document.parents.get(chain[-1]):
        chain.append(above)
    return chain


def _common_tier(tiers: Sequence[str], document: _Document) -> str | None:
    """The lowest tier that all of some tiers are, or are below of."""
    chains = [_chain(tier, document) for tier in tiers]
    return next((tier for tier in chains[0] if all(tier in chain for chain in chains)), None)


def _roots(names: Mapping[str, Sequence[str]], document: _Document) -> dict[str, None]:
    return {_chain(tier, document)[-1]: None for tiers in names.values() for tier in tiers}


def _trees(
    names: Mapping[str, Sequence[str]],
    patterns: Mapping[str, str | Sequence[str]],
    document: _Document,
    path: Path,
    align: str,
) -> Iterator[dict[str, list[str]]]:
    """The tiers to pair with one another: those of one root, or else of one speaker; or all, by time.

    A speaker is the tier's participant, what `*` of the tier's pattern stands for, or what follows @ in its name.
    """

    def star(tier: str) -> str:
        every = (each for given in patterns.values() for each in ([given] if isinstance(given, str) else given))
        found = (_pattern(each).fullmatch(tier) for each in every if "*" in each)
        return next(("\0".join(match.groups()) for match in found if match), "")

    together: list[dict[str, Sequence[str]]] = []
    by_root = False
    keys: list[Callable[[str], str]] = [lambda tier: _chain(tier, document)[-1]]
    if align != "parent":
        keys += [lambda tier: document.speakers[tier], star, lambda tier: tier.partition("@")[2]]
    for key in keys:
        among = dict.fromkeys(key(tier) for tiers in names.values() for tier in tiers)
        groups: list[dict[str, Sequence[str]]] = [
            {code: [t for t in tiers if key(t) == one] for code, tiers in names.items()} for one in among
        ]
        whole = all(among) and all(sum(map(bool, group.values())) > 1 for group in groups)
        if whole and (not together or (not by_root and len(groups) > len(together))):
            together, by_root = groups, key is keys[0]
    if align == "parent" and not together and len(names) > 1:
        alone = next(
            tier for tree in groups if sum(map(bool, tree.values())) < 2 for each in tree.values() for tier in each
        )
        raise DataError(
            f"{path}: no tier of another language has a parent in common with {alone!r}. Set align: time."
        )
    for tree in together or [dict(names)]:
        yield {code: list(tiers) for code, tiers in tree.items() if tiers}


def _spans(tiers: Sequence[str], document: _Document) -> list[Span]:
    times = document.times
    found = []
    for each in document.annotations.values():
        if each.tier in tiers:
            at = each
            while not at.start and at.parent in document.annotations:
                at = document.annotations[at.parent]
            found.append(Span(times.get(at.start) or 0, times.get(at.end) or 0, each.text))
    return found


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile("(.*)".join(map(re.escape, text.split("*"))), re.DOTALL)


def _tiers(patterns: str | Sequence[str], document: _Document, path: Path) -> list[str]:
    """The tiers that have one of some names."""
    found: dict[str, None] = {}
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        named = [tier for tier in document.parents if tier == pattern or _pattern(pattern).fullmatch(tier)]
        if not named:
            raise DataError(f"{path}: no tier {pattern!r}. {suggest(pattern, list(document.parents))}")
        found |= dict.fromkeys(named)
    return list(found)


def _read_document(path: Path) -> _Document:
    document = _Document()
    tier = ""
    annotation: _Annotation | None = None
    reading = False
    for event in read_document(path, "annotation_document"):
        name, given = event.value, event.attributes
        if event.kind == "text":
            if reading and annotation is not None:
                annotation.text += name
        elif event.kind == "end":
            reading = reading and name != "annotation_value"
        elif name == "time_slot":
            value = given.get("time_value")
            if value is not None and not value.isdecimal():
                raise DataError(f"{path}:{event.line}: expected a time in milliseconds, found {value!r}.")
            document.times[given.get("time_slot_id", "")] = None if value is None else int(value)
        elif name == "tier":
            tier = given.get("tier_id", "")
            document.parents[tier] = given.get("parent_ref", "")
            document.speakers[tier] = given.get("participant", "")
        elif name in ("alignable_annotation", "ref_annotation"):
            timed = name == "alignable_annotation"
            annotation = _Annotation(
                given.get("annotation_id", ""),
                tier,
                given.get("time_slot_ref1", "") if timed else "",
                given.get("time_slot_ref2", "") if timed else "",
                given.get("annotation_ref", ""),
                given.get("previous_annotation", ""),
            )
            for slot in (annotation.start, annotation.end) if timed else ():  # both are required
                if slot not in document.times:
                    raise DataError(f"{path}:{event.line}: there is no time slot {slot!r}.")
            if not annotation.id or annotation.id in document.annotations:
                fault = (
                    f"the annotation id {annotation.id!r} stands twice"
                    if annotation.id
                    else "an annotation without id"
                )
                raise DataError(f"{path}:{event.line}: {fault}; the file is damaged.")
            document.annotations[annotation.id] = annotation
        elif name == "annotation_value":
            reading = True
    _check_references(document, path)
    _fill_times(document)
    _find_parents(document)
    _put_in_order(document, path)
    return document


def _check_references(document: _Document, path: Path) -> None:
    """Refuses references to what is not there, and circles."""
    for tier, parent in document.parents.items():
        if parent and parent not in document.parents:
            raise DataError(f"{path}: tier {tier!r} is below {parent!r}, which is not there.")
    every = document.annotations.values()
    ups = (document.parents, {each.id: each.parent for each in every}, {each.id: each.previous for each in every})
    for above in ups:
        clear: set[str] = set()
        for start in above:
            trail: dict[str, None] = {}
            at = start
            while at and at not in clear:
                if at in trail:
                    raise DataError(f"{path}: {at!r} is above itself; the file is damaged.")
                trail[at] = None
                if at not in above:
                    raise DataError(f"{path}: {start!r} refers to {at!r}, which is not there.")
                at = above[at]
            clear.update(trail)


def _fill_times(document: _Document) -> None:
    """Gives time slots without a time one between their neighbours'."""
    slots = list(document.times)
    known = [place for place, slot in enumerate(slots) if document.times[slot] is not None]
    for before, after in pairwise(known):
        low, high = document.times[slots[before]] or 0, document.times[slots[after]] or 0
        for place in range(before + 1, after):
            document.times[slots[place]] = low + (high - low) * (place - before) // (after - before)


def _find_parents(document: _Document) -> None:
    """Annotations with times of their own, in a tier below another, belong to the one that spans them."""
    by_tier: dict[str, list[tuple[int, int, str]]] = {}
    times = document.times
    for each in document.annotations.values():
        if each.start:
            by_tier.setdefault(each.tier, []).append((times[each.start] or 0, times[each.end] or 0, each.id))
    for spans in by_tier.values():
        spans.sort()
    for tier, spans in by_tier.items():
        above = by_tier.get(document.parents[tier], [])
        place = 0
        for start, end, id in spans if above else []:
            while place + 1 < len(above) and above[place][1] <= start:
                place += 1
            if above[place][0] < end and start < above[place][1]:
                document.annotations[id].parent = document.annotations[id].parent or above[place][2]


def _put_in_order(document: _Document, path: Path) -> None:
    """Sorts the annotations as they follow one another; in the file, those of a tier may be in any order."""
    places: dict[str, tuple[int, ...]] = {}

    def place(id: str) -> tuple[int, ...]:
        waiting = [id]
        asked: set[str] = set()
        while waiting:  # a chain may be longer than Python's stack
            each = document.annotations[waiting[-1]]
            needed = [other for other in (each.previous, each.parent) if other and other not in places]
            if needed:
                if each.id in asked:  # by links of both kinds: `_check_references` looks at one kind at a time
                    raise DataError(f"{path}: the annotation {each.id!r} is above itself; the file is damaged.")
                asked.add(each.id)
                waiting += needed
                continue
            above = places[each.parent] if each.parent else ()
            number = places[each.previous][-1] + 1 if each.previous else document.times.get(each.start) or 0
            places[waiting.pop()] = (*above, number)
        return places[id]

    document.annotations = {
        each.id: each for each in sorted(document.annotations.values(), key=lambda each: place(each.id))
    }
