"""Reads a sweep's folder: its cells, each with the numbers of its seeds, their summary, and the best cell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.gains import FORGETTING, GAIN
from instructalign.evaluation.model_results import ModelResults, read_results
from instructalign.evaluation.run_comparison import Samples, difference, mean_over_seeds, over_seeds
from instructalign.evaluation.score_table import (
    GROUPS,
    ScoreTable,
    groups_of,
    is_base,
    is_baseline,
    is_in_bits,
)
from instructalign.evaluation.variance import Estimate
from instructalign.files import read_object
from instructalign.report.plots import pareto_front
from instructalign.report.run_results import bootstrap_of
from instructalign.types import Score

SWEEP_FILE = "sweep.json"
_CELLS = "cells"
_MEASURED = {"model.base": ("model", "parameters"), "instructions.sentences": ("corpus", "train")}
"""Keys whose values are no numbers, or not all of them, and what run.json measured in their place."""


@dataclass(frozen=True, slots=True)
class SweepRun:
    """One finished run of a sweep: a cell with one seed.

    Attributes:
        cell: the cell's name.
        seed: its seed.
        at: the labels of its place on each axis.
        folder: the name of its folder.
        rows: the rows of its own report.
        record: its `run.json`.
        seconds: how long it took, evaluation included.
    """

    cell: str
    seed: int
    at: Mapping[str, str]
    folder: str
    rows: ScoreTable
    record: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True, slots=True)
class SweepAxis:
    """One axis of a sweep's grid; `numbers` are its values where they are numbers."""

    name: str
    labels: tuple[str, ...]
    numbers: tuple[float, ...] | None


@dataclass(frozen=True, slots=True)
class BestCell:
    """The best of the cells with several seeds, minus each other such cell.

    Attributes:
        name: its name.
        minus: by other cell and group, the difference with its interval over seeds and items.
    """

    name: str
    minus: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True)
class SweepResults:
    """A sweep's folder.

    Attributes:
        folder: its path.
        axes: the axes of its grid.
        runs: the finished runs, in the order of the plan.
        failed: `sweep.json`'s entries of those that failed.
        missing: how many are not finished and did not fail.
        rows: every number of every cell over its seeds; bases and baselines once.
        best: by task, the best cell against the others; without a task where nothing could be compared.
        title: the title of a task, from its name.
    """

    folder: Path
    axes: tuple[SweepAxis, ...]
    runs: tuple[SweepRun, ...]
    failed: tuple[Mapping[str, Any], ...]
    missing: int
    rows: ScoreTable = field(default_factory=ScoreTable)
    best: Mapping[str, BestCell] = field(default_factory=dict)
    title: Callable[[str], str] = str

    @property
    def cells(self) -> list[str]:
        """The names of the cells with a finished run."""
        return list(dict.fromkeys(run.cell for run in self.runs))

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return list(dict.fromkeys(row.task for row in self.rows if row.group in GROUPS))

    def of(self, cell: str) -> list[SweepRun]:
        """A cell's runs, one a seed."""
        return [run for run in self.runs if run.cell == cell]

    def cell_at(self, place: Mapping[str, str]) -> str | None:
        """The cell at a place on the axes; None where none is finished there."""
        return next((run.cell for run in self.runs if run.at == place), None)

    def base_of(self, cell: str) -> str:
        """The name of a cell's base in the rows: `base`, or `base of` its model where there are several."""

        def model(run: SweepRun) -> str:
            return Path(str((run.record.get("model") or {}).get("base", ""))).name

        return f"base of {model(self.of(cell)[0])}" if len(set(map(model, self.runs))) > 1 else "base"

    def points(self, task: str) -> dict[str, tuple[float, float]]:
        """Forgetting on L1 and gain on L2 of every cell that has both, in points or in bits per byte."""
        found = {}
        for cell in self.cells:
            loss, gain = self.rows.get(cell, task, FORGETTING, "L1"), self.rows.get(cell, task, GAIN, "L2")
            if loss is not None and gain is not None:
                scale = 1 if is_in_bits(gain) else 100
                found[cell] = (scale * loss.value, scale * gain.value)
        return found

    def front(self, task: str) -> list[str]:
        """The cells on the Pareto front of gain on L2 and forgetting on L1, least forgetting first."""
        points = self.points(task)
        names = list(points)
        return [names[i] for i in pareto_front(list(points.values()), ("low", "high"))]

    def all_tie(self, task: str) -> bool:
        """Whether several cells have the same gain and the same forgetting, so that none is best."""
        return len(self.points(task)) > 1 and not self.front(task)

    def ranked(self, task: str) -> list[str]:
        """The cells by gain on L2 less forgetting on L1, best first; those without come last."""
        points = self.points(task)
        return sorted(self.cells, key=lambda cell: points[cell][0] - points[cell][1] if cell in points else 1e9)


def read_sweep(folder: Path) -> SweepResults:
    """Reads a sweep's folder and summarises its cells over their seeds.

    Raises:
        DataError: a file in it cannot be read.
    """
    record = read_object(folder / SWEEP_FILE, json.loads)
    try:
        runs = [_read_run(folder / _CELLS / c["folder"], c) for c in record["cells"] if c["status"] == "done"]
        axes = tuple(_axis(axis, runs) for axis in record["axes"])
        failed = tuple(cell for cell in record["cells"] if cell["status"] == "failed")
        missing = len(record["cells"]) - len(runs) - len(failed)
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / SWEEP_FILE}: {error!r} is missing or wrong; run the sweep again.") from None
    return _summarised(SweepResults(folder, axes, tuple(runs), failed, missing))


def _read_run(folder: Path, cell: Mapping[str, Any]) -> SweepRun:
    path = folder / "report.json"
    rows = ScoreTable.from_rows(read_object(path, json.loads)["rows"], f"{path}: row")
    record = read_object(folder / "run.json", json.loads)
    return SweepRun(cell["name"], cell["seed"], cell["at"], cell["folder"], rows, record, float(cell["seconds"]))


def _axis(axis: Mapping[str, Any], runs: list[SweepRun]) -> SweepAxis:
    name, labels = axis["name"], tuple(axis["labels"])
    numbers = None if axis["numbers"] is None else tuple(map(float, axis["numbers"]))
    if name in _MEASURED:
        block, key = _MEASURED[name]
        found = {run.at.get(name): (run.record.get(block) or {}).get(key) for run in runs}
        known = [float(value) for label in labels if (value := found.get(label)) is not None]
        numbers = tuple(known) if len(set(known)) == len(labels) > 1 else numbers
    return SweepAxis(name, labels, numbers)


def _summarised(sweep: SweepResults) -> SweepResults:
    """The sweep with its rows, and the best cell of each task compared with the others.

    The value is the mean over seeds. With several seeds, the interval is over seeds and items; without
    predictions, over seeds (Student's t). With one seed it is the run's own, over items.
    """
    bases: dict[tuple[str, ...], Score] = {}
    baselines: dict[tuple[str, ...], Score] = {}
    for run in sweep.runs:
        for row in run.rows:
            place = (row.task, row.language, row.group, row.metric)
            if is_base(row.run):
                name = sweep.base_of(run.cell)
                bases.setdefault((name, *place), replace(row, run=name))
            elif is_baseline(row.run):
                baselines.setdefault((row.run, *place), row)
    cells: list[Score] = []
    samples: dict[str, Sequence[Samples]] = {}
    several = [cell for cell in sweep.cells if len(sweep.of(cell)) > 1]
    bootstrap: Bootstrap | None = None
    for cell in sweep.cells:
        runs = sweep.of(cell)
        rows = mean_over_seeds(cell, {run.seed: run.rows for run in runs})
        if cell in several:
            folders = [sweep.folder / _CELLS / run.folder for run in runs]
            models = [read_results(folder / "evaluation" / "adapted", cell) for folder in folders]
            evaluated = [model for model in models if model is not None]
            if len(evaluated) == len(models):
                if bootstrap is None:
                    bootstrap = bootstrap_of(read_object(folders[0] / "config.yaml", yaml.safe_load))
                samples[cell] = [model.samples() for model in evaluated]
                base = read_results(folders[0] / "evaluation" / "base", "base")
                starts = [base.samples()] if base is not None else []
                rows = _over_items(rows, [run.seed for run in runs], evaluated, samples[cell], starts, bootstrap)
        cells += rows
    sweep = replace(sweep, rows=ScoreTable([*bases.values(), *cells, *baselines.values()]))
    if bootstrap is None or bootstrap.resamples < 2:
        return sweep
    best = {task: found for task in sweep.tasks if (found := _best_cell(sweep, task, samples, bootstrap))}
    return replace(sweep, best=best)


def _over_items(
    rows: list[Score],
    seeds: Sequence[int],
    models: Sequence[ModelResults],
    samples: Sequence[Samples],
    bases: Sequence[Samples],
    bootstrap: Bootstrap,
) -> list[Score]:
    """A cell's rows with the intervals over seeds and items, where its predictions allow it."""
    found: list[Score] = []
    for task in samples[0]:
        try:
            found += over_seeds(models[0].name, seeds, task, models, samples, bases, bootstrap)
        except DataError:  # evaluated on other items: the interval over seeds remains
            continue
    table = ScoreTable(found)
    bounded = []
    for row in rows:
        over = table.get(row.run, row.task, row.metric, row.group, row.language)
        known = over is not None and over.low is not None
        bounded.append(replace(row, low=over.low, high=over.high) if over is not None and known else row)
    return bounded


def _best_cell(
    sweep: SweepResults, task: str, samples: Mapping[str, Sequence[Samples]], bootstrap: Bootstrap
) -> BestCell | None:
    """The best cell minus the others, on the languages and items that both have; None where there is one cell."""
    found = {
        cell: [some.get(task, {}) for some in samples[cell]] for cell in sweep.ranked(task) if cell in samples
    }
    having = {cell: each for cell, each in found.items() if all(each)}
    if len(having) < 2 or sweep.all_tie(task):
        return None
    best, *others = having
    minus: dict[str, dict[str, Estimate]] = {}
    for other in others:
        minus[other] = {}
        for group, codes in groups_of(sweep.rows, task).items():
            try:
                over = difference(having[best], having[other], codes, bootstrap)
            except DataError:
                continue
            if over is not None:
                minus[other][group] = over
    return BestCell(best, minus)
