"""A sweep's folder as records: its cells, each with the numbers of its seeds, and their summary over seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from instructalign.errors import DataError
from instructalign.evaluation.score_table import ScoreTable
from instructalign.evaluation.variance import student_quantile
from instructalign.files import read_object
from instructalign.report.seeds import with_items
from instructalign.report.tables import GROUPS, headline, is_base, is_baseline, unique
from instructalign.types import Score

RECORD, CELLS = "sweep.json", "cells"
MEASURED = {"model.base": ("model", "parameters"), "instructions.sentences": ("corpus", "train")}
"""Keys whose values are no numbers, or not all of them, and what run.json measured in their place."""

OF_ONE_RUN = ("_p", "_p_holm", "_over_prompts", "_prompt_sd")
"""Ends of metrics that have no mean over seeds: p-values, and what other prompts would do to one run."""


@dataclass(frozen=True, slots=True)
class Run:
    """One finished run of a sweep: a cell with one seed.

    Attributes:
        cell: the cell's name.
        seed: its seed.
        at: the labels of its place on each axis.
        folder: the name of its folder.
        rows: the rows of its own report.
        record: its `run.json`.
        seconds: what it took, evaluation included.
    """

    cell: str
    seed: int
    at: Mapping[str, str]
    folder: str
    rows: tuple[Score, ...]
    record: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class Axis:
    """One direction of a sweep's grid; `numbers` are its values where they are numbers."""

    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class Sweep:
    """A sweep's folder.

    Attributes:
        folder: where it lies.
        axes: the axes of its grid.
        runs: the finished runs, in the order of the plan.
        failed: `sweep.json`'s entries of those that failed.
        missing: how many are not finished and did not fail.
    """

    folder: Path
    axes: tuple[Axis, ...]
    runs: tuple[Run, ...]
    failed: tuple[Mapping[str, Any], ...]
    missing: int

    @property
    def cells(self) -> list[str]:
        """The names of the cells with a finished run."""
        return unique(run.cell for run in self.runs)

    def cell_at(self, place: Mapping[str, str]) -> str | None:
        """The cell at a place on the axes; None where none is finished there."""
        return next((run.cell for run in self.runs if run.at == place), None)

    def of(self, cell: str) -> list[Run]:
        """A cell's runs, one a seed."""
        return [run for run in self.runs if run.cell == cell]

    def base_of(self, cell: str) -> str:
        """What the base of a cell is called in the summary: `base`, or of which model where there are several."""
        several = len({_base_of(run) for run in self.runs}) > 1
        return f"base of {_base_of(self.of(cell)[0])}" if several else "base"


def read_sweep(folder: Path) -> Sweep:
    """Reads a sweep's folder.

    Raises:
        DataError: a file in it cannot be read.
    """
    record = read_object(folder / RECORD, json.loads)
    runs = []
    try:
        for cell in record["cells"]:
            if cell["status"] == "done":
                runs.append(_read_run(folder / CELLS / cell["folder"], cell))
        axes = tuple(_axis(axis, runs) for axis in record["axes"])
        failed = tuple(cell for cell in record["cells"] if cell["status"] == "failed")
        missing = len(record["cells"]) - len(runs) - len(failed)
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / RECORD}: not a sweep's record ({error!r} is missing or wrong).") from None
    return Sweep(folder, axes, tuple(runs), failed, missing)


def _read_run(folder: Path, cell: Mapping[str, Any]) -> Run:
    path = folder / "report.json"
    rows = ScoreTable.from_rows(read_object(path, json.loads)["rows"], f"{path}: row")
    record = read_object(folder / "run.json", json.loads)
    return Run(cell["name"], cell["seed"], cell["at"], cell["folder"], tuple(rows), record, float(cell["seconds"]))


def _axis(axis: Mapping[str, Any], runs: Sequence[Run]) -> Axis:
    name, labels = axis["name"], tuple(axis["labels"])
    numbers = None if axis["numbers"] is None else tuple(map(float, axis["numbers"]))
    if name in MEASURED:
        block, key = MEASURED[name]
        found = {run.at.get(name): (run.record.get(block) or {}).get(key) for run in runs}
        measured = [found.get(label) for label in labels]
        known = [float(value) for value in measured if value is not None]
        numbers = tuple(known) if len(set(known)) == len(labels) > 1 else numbers
    return Axis(name, labels, numbers)


def summary(sweep: Sweep) -> list[Score]:
    """Every number of every cell, over its seeds; bases and baselines once.

    The value is the mean over seeds. With several seeds, the interval says what other seeds and other items would
    change; where the predictions are not there, what other seeds would (Student's t). With one seed it is the
    run's own, over items.
    """
    bases: dict[tuple[str, ...], Score] = {}
    baselines: dict[tuple[str, ...], Score] = {}
    cells: list[Score] = []
    for run in sweep.runs:
        name = sweep.base_of(run.cell)
        for row in run.rows:
            if is_base(row.run):
                bases.setdefault((name, *_place(row)), replace(row, run=name))
            elif is_baseline(row.run):
                baselines.setdefault((row.run, *_place(row)), row)
    for cell in sweep.cells:
        runs = sweep.of(cell)
        own = _over_seeds(runs)
        if len(runs) > 1:
            metrics = {
                task: headline(own, task) for task in unique(row.task for row in own if row.group in GROUPS)
            }
            own = with_items(own, [sweep.folder / CELLS / run.folder for run in runs], metrics)
        cells += own
    return [*bases.values(), *cells, *baselines.values()]


def _place(row: Score) -> tuple[str, str, str, str]:
    """What a score is of, whoever scored it."""
    return row.task, row.language, row.group, row.metric


def _base_of(run: Run) -> str:
    """What the base of a run is called."""
    return Path(str((run.record.get("model") or {}).get("base", ""))).name


def _over_seeds(runs: Sequence[Run]) -> list[Score]:
    """The numbers of one cell over its seeds; one that not every seed has is left out."""
    values: dict[tuple[str, ...], list[Score]] = {}
    for run in runs:
        for row in run.rows:
            several = len(runs) > 1 and row.metric.endswith(OF_ONE_RUN)
            if row.run and not is_baseline(row.run) and not is_base(row.run) and not several:
                values.setdefault(_place(row), []).append(row)
    seeds = [run.seed for run in runs]
    found = []
    for rows in values.values():
        if len(rows) == len(runs):
            first, each = rows[0], [row.value for row in rows]
            low, high = (first.low, first.high) if len(each) == 1 else mean_interval(each)
            signature = {name: field for name, field in first.signature.items() if name != "model"}
            signature["seeds"] = seeds
            row = replace(first, run=runs[0].cell, value=fmean(each), low=low, high=high, signature=signature)
            found.append(row)
    return found


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values, by Student's t (Student 1908)."""
    half = student_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half


def find(rows: Iterable[Score], run: str, task: str, metric: str, group: str) -> Score | None:
    """A group's score."""
    wanted = (run, task, metric, group, "")
    return next((row for row in rows if (row.run, row.task, row.metric, row.group, row.language) == wanted), None)


def brief(cell: str) -> str:
    """`replay.size=50, training.steps=4` as `size=50, steps=4`, which has room beside a point."""
    return re.sub(r"[\w.]+\.(?=\w+=)", "", cell)
