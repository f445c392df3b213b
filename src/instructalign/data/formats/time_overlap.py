"""Pairing texts by when they are said: subtitles, and tiers of annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field

from instructalign.data.formats import make_row
from instructalign.errors import DataError
from instructalign.types import Counts, ParallelRow

MinOverlap = Annotated[float, Field(gt=0, le=1)]
"""The least share of the shorter of two spans that both have in common."""

_MOST = 6  # spans of one language in a row; a chain of more is no translation of sentences
_MOST_AT_ONCE = 500


class Span(NamedTuple):
    """A text from one time to another, in milliseconds."""

    start: int
    end: int
    text: str


def rows_of_spans(
    spans: Mapping[str, Sequence[Span]], overlap: float, prefix: str, counts: Counts
) -> Iterator[ParallelRow]:
    """Rows of the texts that are said at the same time; where one spans several of another, these are joined.

    Args:
        spans: by language.
        overlap: the least share of the shorter of two spans that both have in common.
        prefix: before each row's id, which is its start in milliseconds.
        counts: takes what was read and dropped.

    Raises:
        DataError: hundreds of texts are said at one time.
    """
    every = sorted(
        (
            (span, code)
            for code, among in spans.items()
            for span in among
            if span.end > span.start and span.text.strip()
        ),
        key=lambda pair: pair[0][:2],
    )
    empty = sum(map(len, spans.values())) - len(every)
    if empty:
        counts.read += empty
        counts.drop("empty", empty)
    group_of = list(range(len(every)))  # union-find

    def find(place: int) -> int:
        while group_of[place] != place:
            group_of[place] = group_of[group_of[place]]
            place = group_of[place]
        return place

    open_ones: list[int] = []
    for place, (span, code) in enumerate(every):
        open_ones = [other for other in open_ones if every[other][0].end > span.start]
        if len(open_ones) > _MOST_AT_ONCE:
            raise DataError(
                f"{prefix or 'time'}: more than {_MOST_AT_ONCE} texts at {span.start} ms; no speech has as many."
            )
        for other in open_ones:
            before, language = every[other]
            shared = min(before.end, span.end) - span.start
            shorter = min(before.end - before.start, span.end - span.start)
            if language != code and shared >= overlap * shorter:
                group_of[find(place)] = find(other)
        open_ones.append(place)
    groups: dict[int, dict[str, list[int]]] = {}
    for place, (_, code) in enumerate(every):
        groups.setdefault(find(place), {}).setdefault(code, []).append(place)
    seen: dict[str, int] = {}
    for group in groups.values():
        if max(map(len, group.values())) > _MOST:
            counts.read += 1
            counts.drop(f"more than {_MOST} in a row overlap")
            continue
        fields = [
            (code, " ".join(every[place][0].text.strip() for place in group.get(code, []))) for code in spans
        ]
        name = f"{prefix}{min(every[places[0]][0].start for places in group.values())}"
        seen[name] = seen.get(name, 0) + 1
        if row := make_row(name + (f"-{seen[name]}" if seen[name] > 1 else ""), fields, counts):
            yield row
