"""The parts that cleaned rows lie in, and the keys beside them by which duplicates are found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from instructalign.corpora.duplicates import BANDS, band_keys, exact_key
from instructalign.files import atomic
from instructalign.records import ParallelRow


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
