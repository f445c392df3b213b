"""Reading and cleaning corpora a block at a time, into parts that lie in a folder."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructalign.cluster.parts import write_keys
from instructalign.cluster.session import dataset
from instructalign.config import Entry, FilterConfig
from instructalign.corpora.clean import Cleaner, Removed
from instructalign.corpora.parts import write_part
from instructalign.corpora.read import clean_rows, read_entry
from instructalign.files import atomic
from instructalign.records import Counts, ParallelRow

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
