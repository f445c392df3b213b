"""Cleaning and deduplication as Ray Data operations over parts of a corpus."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from instructalign.config import Entry, FilterConfig
from instructalign.data.corpus import clean_rows, read_entry
from instructalign.data.deduplication import BANDS, Marks, band_keys, exact_key, groups, near_copies
from instructalign.data.filters import Cleaner, Removed
from instructalign.files import atomic
from instructalign.ray_data.row_files import StoredRows, write_part
from instructalign.ray_data.session import dataset, each, processors
from instructalign.types import Counts, ParallelRow


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the cleaned rows.

    Attributes:
        stem: the name of its files, without endings.
        begin: the number of its first row.
        rows: how many rows it has.
    """

    stem: str
    begin: int
    rows: int


def write_keys(folder: Path, stem: str, rows: Sequence[ParallelRow], kind: str) -> None:
    """Writes the keys of a part in ascending order, and the row of each.

    Args:
        folder, stem: where the part is.
        rows: its rows.
        kind: `exact` for the key of exact duplicates, `near` for those of the bands too; otherwise there are none.
    """
    if kind not in ("exact", "near"):
        return
    keys = np.empty((1 + (BANDS if kind == "near" else 0), len(rows)), dtype=np.uint64)
    for place, row in enumerate(rows):
        keys[0, place] = exact_key(row)
        if kind == "near":
            keys[1:, place] = band_keys(row)
    order = np.argsort(keys, axis=1, kind="stable")
    for name, array in (("keys", np.take_along_axis(keys, order, axis=1)), ("order", order.astype(np.uint32))):
        with atomic(folder / f"{stem}.{name}.npy") as file:
            np.save(file, array)


def load_keys(folder: Path, part: Part, round: int, low: int, high: int) -> tuple[Any, Any]:
    """The keys of a part from `low` to `high`, in ascending order, and the number of the row of each.

    Args:
        folder, part: where the keys are.
        round: 0 for the key of exact duplicates, from 1 on those of the bands.
        low, high: the first and the last key wanted.
    """
    keys = np.load(folder / f"{part.stem}.keys.npy", mmap_mode="r")[round]
    begin, end = np.searchsorted(keys, np.uint64(low)), np.searchsorted(keys, np.uint64(high), "right")
    order = np.load(folder / f"{part.stem}.order.npy", mmap_mode="r")[round, begin:end]
    return np.array(keys[begin:end]), np.array(order, dtype=np.int64) + part.begin


BLOCK = 50_000
"""Rows of a block as read: what one task cleans, and the most that a part holds."""


@dataclass(slots=True)
class Cleaned:
    """What became of one block.

    Attributes:
        entry, block: which corpus it is from, and its number there.
        rows: how many rows are left.
        part: what the index of the parts says of it; empty where no row is left.
        counts: what was read, kept and dropped.
        removed: what each filter took out.
        languages: the languages of the rows.
    """

    entry: int
    block: int
    rows: int = 0
    part: dict[str, Any] = field(default_factory=dict)
    counts: Counts = field(default_factory=Counts)
    removed: dict[str, Removed] = field(default_factory=dict)
    languages: set[str] = field(default_factory=set)

    @property
    def stem(self) -> str:
        """The name of the block's files, without endings."""
        return f"{self.entry:04}-{self.block:07}"


def clean(
    entries: Sequence[Entry], names: Sequence[str], languages: Sequence[str], config: FilterConfig, folder: Path
) -> Iterator[Cleaned]:
    """Reads each corpus in a task of its own, and cleans its blocks in others, into parts.

    Beside each part lie the keys by which duplicates are found, and what is to be written down of rejected texts.

    Args:
        entries: the corpora, with checked options.
        names: what stands before the ids of each one's rows.
        languages: the languages wanted; also the columns of the parts.
        config: the filters.
        folder: where the parts go.

    Returns:
        What became of each block, as it gets done.
    """
    read = {"entries": entries, "names": names, "languages": languages}
    blocks = dataset([{"entry": place} for place in range(len(entries))]).flat_map(_read, fn_kwargs=read)
    # One block a task; and a wall between reading and cleaning, so that they do not become one task.
    blocks = blocks.repartition(target_num_rows_per_block=1)
    options = {"languages": languages, "config": config, "folder": folder}
    for row in blocks.map(_clean, fn_kwargs=options).iter_rows():
        yield pickle.loads(row["cleaned"])


def _read(
    item: dict[str, Any], *, entries: Sequence[Entry], names: Sequence[str], languages: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a corpus in blocks; each has what was read and dropped since the one before."""
    place = item["entry"]
    counts, told, block = Counts(), Counts(), 0
    rows: list[tuple[str, dict[str, str]]] = []

    def packed() -> dict[str, Any]:
        since = Counts(counts.read - told.read)
        for reason, count in counts.dropped.items():
            if count > told.dropped.get(reason, 0):
                since.drop(reason, count - told.dropped.get(reason, 0))
        told.add(since)
        return {"entry": place, "block": block, "rows": pickle.dumps((rows, since))}

    for row in read_entry(entries[place], names[place], languages, counts):
        rows.append((row.id, dict(row.texts)))
        if len(rows) == BLOCK:
            yield packed()
            block += 1
            rows = []
    yield packed()


def _clean(
    item: dict[str, Any], *, languages: Sequence[str], config: FilterConfig, folder: Path
) -> dict[str, bytes]:
    read, counts = pickle.loads(item["rows"])
    rejects = io.BytesIO() if config.rejects else None
    cleaner = Cleaner(config, rejects)
    rows = list(clean_rows((ParallelRow(*each) for each in read), cleaner, counts))
    done = Cleaned(item["entry"], item["block"], len(rows), {}, counts, cleaner.removed)
    if rejects:
        with atomic(folder / f"{done.stem}.rejects") as file:
            file.write(rejects.getvalue())
    if rows:
        done.part = write_part(folder / f"{done.stem}.arrow", rows, languages)
        done.languages = {code for row in rows for code in row.texts}
        write_keys(folder, done.stem, rows, cleaner.duplicates)
    return {"cleaned": pickle.dumps(done)}


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
