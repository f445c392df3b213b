"""Cleaning and deduplication on a Ray cluster: blocks of rows go through the same filters, into parts on disk."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Entry, FilterConfig
from instructalign.data.corpus import clean_rows, read_entry, without_placeholders
from instructalign.data.deduplication import BANDS, band_keys, exact_key, groups, near_copies
from instructalign.data.filters import Cleaner, Removed, reject_line
from instructalign.files import atomic
from instructalign.ray_data.arrow_rows import ArrowRows, read_part, write_part
from instructalign.ray_data.ray_session import cluster_cpus, dataset, map_unordered
from instructalign.types import Counts, ParallelRow

_BLOCK_ROWS = 50_000  # rows that one task cleans, and the most that a part holds
_RANGE = 1_000_000  # keys that one task compares


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


@dataclass(slots=True)
class CleanedBlock:
    """What became of one block.

    Attributes:
        entry, block: which corpus it is from, and its number there.
        rows: how many rows are left.
        part: its entry in the index of the parts; empty where no row is left.
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


def clean_blocks(
    entries: Sequence[Entry], names: Sequence[str], languages: Sequence[str], config: FilterConfig, folder: Path
) -> Iterator[CleanedBlock]:
    """Reads each corpus in a task of its own, and cleans its blocks in others, into parts.

    Beside each part are the keys by which duplicates are found, and its lines of the file of rejects.

    Args:
        entries: the corpora, with checked options.
        names: the prefix of the ids of each one's rows.
        languages: the languages to read; also the columns of the parts.
        config: the filters.
        folder: where the parts go.

    Returns:
        What became of each block, in the order in which they finish.
    """
    read = {"entries": entries, "names": names, "languages": languages}
    blocks = dataset([{"entry": place} for place in range(len(entries))]).flat_map(_read_blocks, fn_kwargs=read)
    # One block per task; and a barrier between reading and cleaning, so that they do not become one task.
    blocks = blocks.repartition(target_num_rows_per_block=1)
    options = {"languages": languages, "config": config, "folder": folder}
    for row in blocks.map(_clean_block, fn_kwargs=options).iter_rows():
        yield pickle.loads(row["cleaned"])


def _read_blocks(
    item: dict[str, Any], *, entries: Sequence[Entry], names: Sequence[str], languages: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """The rows of a corpus in blocks, each with what was read and dropped since the one before."""
    place = item["entry"]
    before, block = Counts(), 0
    rows: list[tuple[str, dict[str, str]] | bytes] = []  # and lines of the file of rejects, in their places
    counts = Counts(reject=lambda *what: rows.append(reject_line(names[place], *what)))

    def packed() -> dict[str, Any]:
        since = Counts(counts.read - before.read)
        for reason, count in counts.dropped.items():
            if count > before.dropped.get(reason, 0):
                since.drop(reason, count - before.dropped.get(reason, 0))
        before.add(since)
        return {"entry": place, "block": block, "rows": pickle.dumps((rows, since))}

    for row in read_entry(entries[place], names[place], languages, counts):
        rows.append((row.id, dict(row.texts)))
        if len(rows) >= _BLOCK_ROWS:
            yield packed()
            block += 1
            rows.clear()
    yield packed()


def _clean_block(
    item: dict[str, Any], *, languages: Sequence[str], config: FilterConfig, folder: Path
) -> dict[str, bytes]:
    read, counts = pickle.loads(item["rows"])
    rejects = io.BytesIO() if config.rejects else None
    cleaner = Cleaner(config, rejects)

    def rows_read() -> Iterator[ParallelRow]:
        for each in read:
            if not isinstance(each, bytes):
                yield ParallelRow(*each)
            elif rejects:
                rejects.write(each)

    rows = list(clean_rows(rows_read(), cleaner, counts))
    done = CleanedBlock(item["entry"], item["block"], len(rows), {}, counts, cleaner.removed)
    if rejects:
        with atomic(folder / f"{done.stem}.rejects") as file:
            file.write(rejects.getvalue())
    if rows:
        done.part = write_part(folder / f"{done.stem}.arrow", rows, languages)
        done.languages = {code for row in rows for code in row.texts}
        _write_keys(folder, done.stem, rows, cleaner.duplicates)
    return {"cleaned": pickle.dumps(done)}


def _write_keys(folder: Path, stem: str, rows: Sequence[ParallelRow], kind: str) -> None:
    """Writes the keys of a part in ascending order, and the row of each: [1 or 1 + BANDS, rows].

    The first line has the keys of exact duplicates; with `near`, the others have those of the bands.
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


def drop_placeholders(
    stem: str,
    begin: int,
    rows: int,
    *,
    folder: Path,
    languages: Sequence[str],
    found: Sequence[NDArray[np.uint32]],
    kind: str,
) -> tuple[str, CleanedBlock, bytes]:
    """Writes a part again, without its placeholders.

    Args:
        stem, begin, rows: the part.
        folder: holds it.
        languages: of the parts' columns.
        found: by language, what `find_placeholders` gave for all rows.
        kind: which keys of duplicates the part has.

    Returns:
        Its stem; what is left, and what was taken out; and its lines of the file of rejects.
    """
    path, rejects, counts = folder / f"{stem}.arrow", io.BytesIO(), Counts()
    cleaner = Cleaner(FilterConfig(preset="none"), rejects)
    here = {code: each[begin : begin + rows] for code, each in zip(languages, found, strict=True)}
    left = list(without_placeholders(list(read_part(path, languages)), here, counts, cleaner))
    done = CleanedBlock(0, 0, len(left), {}, counts, cleaner.removed, {code for row in left for code in row.texts})
    if left:
        done.part = write_part(path, left, languages)
        _write_keys(folder, stem, left, kind)
    return stem, done, rejects.getvalue()


def find_duplicates(kind: str, folder: Path, parts: Sequence[Part]) -> NDArray[np.uint16]:
    """The rows that `data.deduplication` would find, by the same comparisons.

    Every part has its keys in order, so that a task can take from all parts those of one range, and has every row
    of each of these keys. Exact duplicates are those of one key, as on one machine. For near ones, each band is a
    round: within a band a row is in one group only, so that groups can be compared in any order, and what a round
    finds is left out of the next.

    Args:
        kind: `exact` or `near`; anything else finds none.
        folder: holds the parts, with their index and keys.
        parts: in the rows' order.

    Returns:
        How similar each row is to an earlier one, in thousandths; 0 for rows to keep [rows].
    """
    similarity = np.zeros(sum(part.rows for part in parts), dtype=np.uint16)
    ranges = max(cluster_cpus(), -(-len(similarity) // _RANGE)) if kind else 0
    for round in range({"exact": 1, "near": 1 + BANDS}.get(kind, 0)):
        shared = {"folder": folder, "parts": parts, "round": round, "ranges": ranges, "alive": similarity == 0}
        items = [{"number": number} for number in range(ranges)]
        for rows, values in map_unordered(items, _compare, **shared):
            similarity[rows] = np.rint(1000 * values)
    return similarity


def _compare(
    *, number: int, ranges: int, folder: Path, parts: Sequence[Part], round: int, alive: Any
) -> tuple[Any, Any]:
    """The duplicates among the rows with keys of one range: their numbers, and how similar the first ones are."""
    low, high = number * (1 << 64) // ranges, (number + 1) * (1 << 64) // ranges - 1
    doubles: list[tuple[int, float]] = []
    keys, places = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for part in parts:
        ascending = np.load(folder / f"{part.stem}.keys.npy", mmap_mode="r")[round]
        begin = np.searchsorted(ascending, np.uint64(low))
        end = np.searchsorted(ascending, np.uint64(high), "right")
        order = np.load(folder / f"{part.stem}.order.npy", mmap_mode="r")[round, begin:end]
        key, place = np.array(ascending[begin:end]), np.array(order, dtype=np.int64) + part.begin
        left = alive[place]
        key, place = key[left], place[left]
        if not round and len(key):
            # Of one key, the part's first row is enough: a sentence can be there a million times.
            first = np.concatenate(([True], key[1:] != key[:-1]))
            doubles += ((int(row), 1.0) for row in place[~first])
            key, place = key[first], place[first]
        keys.append(key)
        places.append(place)
    rows = ArrowRows(folder) if round else None
    joined = np.concatenate(places)
    for group in groups(np.concatenate(keys)):
        members = joined[group].tolist()
        doubles += ((row, 1.0) for row in members[1:]) if rows is None else near_copies(rows, members)
    found = np.array([row for row, _ in doubles], dtype=np.int64)
    return found, np.array([similarity for _, similarity in doubles], dtype=np.float64)


def parts_of(cleaned: Sequence[CleanedBlock]) -> list[Part]:
    """The parts of the blocks that have rows left, numbered in their order."""
    parts: list[Part] = []
    for block in cleaned:
        if block.rows:
            begin = parts[-1].begin + parts[-1].rows if parts else 0
            parts.append(Part(block.stem, begin, block.rows))
    return parts


def part_items(parts: Sequence[Part]) -> list[dict[str, Any]]:
    """The parts as items of `map_unordered`."""
    return [asdict(part) for part in parts]
