"""Finding duplicates among more rows than the memory of one machine holds the keys of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instructalign.cluster.parts import Part, load_keys
from instructalign.cluster.session import each, processors
from instructalign.corpora.duplicates import BANDS, Marks, groups, near_copies
from instructalign.corpora.parts import StoredRows

_RANGE = 1_000_000  # keys that one task looks at


def find(kind: str, folder: Path, parts: Sequence[Part]) -> Marks:
    """Marks the rows that `corpora.duplicates` would find, in the same way.

    Every part has its keys in order, so that a task can take from all parts those of one range, and has every row
    of each of these keys. Exact duplicates are those of one key, as on one machine. For near ones, each band is a
    round: within a band a row is in one group only, so that groups can be looked at in any order, and what a round
    marks is left out of the next.

    Args:
        kind: `exact` or `near`.
        folder: holds the parts, with their index and keys.
        parts: in the rows' order.
    """
    marks = Marks(sum(part.rows for part in parts))
    ranges = max(processors(), -(-sum(part.rows for part in parts) // _RANGE))
    for round in range(1 + BANDS if kind == "near" else 1):
        items = [{"number": number} for number in range(ranges)]
        shared = {"folder": folder, "parts": parts, "round": round, "ranges": ranges, "alive": ~marks.marked}
        for places, likeness in each(items, _compare, **shared):
            marks.put(places, likeness)
    return marks


def _compare(
    *, number: int, ranges: int, folder: Path, parts: Sequence[Part], round: int, alive: Any
) -> tuple[Any, Any]:
    """The duplicates among the rows with keys of one range: their numbers, and how like the first they are."""
    bounds = [number * (1 << 64) // ranges, (number + 1) * (1 << 64) // ranges - 1]
    doubles: list[tuple[int, float]] = []
    keys, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in parts:
        key, place = load_keys(folder, part, round, *bounds)
        left = alive[place]
        key, place = key[left], place[left]
        if not round and len(key):
            # Of one key, the part's first row is enough: a sentence can be there a million times.
            first = np.concatenate(([True], key[1:] != key[:-1]))
            doubles += ((int(row), 1.0) for row in place[~first])
            key, place = key[first], place[first]
        keys.append(key)
        places.append(place)
    doubles += _copies(np.concatenate(keys), np.concatenate(places), StoredRows(folder) if round else None)
    found = np.array([row for row, _ in doubles], dtype=np.int64)
    return found, np.array([likeness for _, likeness in doubles])


def _copies(keys: Any, places: Any, rows: StoredRows | None) -> Iterator[tuple[int, float]]:
    """The duplicates in each group of equal keys; with rows, those that are near copies of its first."""
    for group in groups(keys):
        members = places[group].tolist()
        if rows is None:
            yield from ((place, 1.0) for place in members[1:])
        else:
            yield from near_copies(rows, members)
