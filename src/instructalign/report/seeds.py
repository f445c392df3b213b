"""The interval of a cell over its seeds and over the items that all of them answered (docs/decisions/010)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from instructalign.evaluation.bootstrap import Bootstrap, Outcome
from instructalign.evaluation.variance import Draws, Spread, over_levels
from instructalign.files import read_object
from instructalign.report.collect import BASE, read_evaluated
from instructalign.report.compare import outcomes_of
from instructalign.report.tables import FORGETTING, GAIN, GROUPS
from instructalign.types import Score

Outcomes = Mapping[tuple[str, str], Outcome]
"""What a model answered, by task and language."""


def with_items(rows: Sequence[Score], folders: Sequence[Path], metrics: Mapping[str, str]) -> list[Score]:
    """A cell's rows over seeds, with the intervals that take its items into account as well.

    Rows that this cannot be said of stay as they are: of other metrics, of translations, or where the predictions
    are not there.

    Args:
        rows: the cell's rows, means over its seeds.
        folders: the run folders of its seeds, at least two.
        metrics: by task, the metric that gains and forgetting are in.
    """
    bootstrap = bootstrap_of(folders[0])
    after = [outcomes_in(folder / "evaluation" / "adapted") for folder in folders]
    before = outcomes_in(folders[0] / "evaluation" / "base")
    if bootstrap is None or not all(after):
        return list(rows)
    found: dict[tuple[str, str, str, str], Spread] = {}
    for task, metric in metrics.items():
        codes = [row.language for row in rows if row.language and (row.task, row.metric) == (task, metric)]
        groups = {row.language: row.group for row in rows if row.language and row.task == task}
        known = [code for code in codes if all((task, code) in each for each in after)]
        asked = {code: after[0][task, code].items for code in known}
        known = [code for code in known if all(each[task, code].items == asked[code] for each in after)]
        new = {code: np.array([bootstrap.values(each[task, code], metric) for each in after]) for code in known}
        old = {
            code: bootstrap.values(before[task, code], metric)[None]
            for code in known
            if (task, code) in before and before[task, code].items == asked[code]
        }
        for (language, group), codes in _places(known, groups):
            items = min(len(asked[code]) for code in codes)
            values = _mean(new, codes)
            found[task, language, group, metric] = over_levels(values, items)
            if all(code in old for code in codes):
                base = _mean(old, codes)
                found[task, language, group, GAIN] = over_levels(values, items, minus=base, bounds=(-1, 1))
    return [_bounded(row, found) for row in rows]


def bootstrap_of(folder: Path) -> Bootstrap | None:
    """The draws that a run's own intervals are from; None where it has none."""
    config = read_object(folder / "config.yaml", yaml.safe_load)
    rounds = int((config.get("evaluation") or {}).get("bootstrap", 0))
    return Bootstrap(rounds, int(config.get("seed", 0))) if rounds > 1 else None


def outcomes_in(folder: Path) -> Outcomes:
    """What the model of an evaluation's folder answered; empty where there are no predictions."""
    evaluated = read_evaluated(folder, BASE)
    by_task = {} if evaluated is None else outcomes_of(evaluated)
    return {(task, outcome.language): outcome for task, some in by_task.items() for outcome in some}


def _places(codes: Sequence[str], groups: Mapping[str, str]) -> Iterator[tuple[tuple[str, str], list[str]]]:
    """(language, group) of every row, with the languages that it is the mean of."""
    for code in codes:
        yield (code, groups[code]), [code]
    for group in GROUPS:
        if members := [code for code in codes if groups[code] == group]:
            yield ("", group), members


def _mean(values: Mapping[str, Draws], codes: Sequence[str]) -> Draws:
    mean: Draws = np.mean([values[code] for code in codes], axis=0)
    return mean


def _bounded(row: Score, found: Mapping[tuple[str, str, str, str], Spread]) -> Score:
    """A row with the interval that was found for it; forgetting is the gain on L1 with its sign turned."""
    turned = row.metric == FORGETTING
    spread = found.get((row.task, row.language, row.group, GAIN if turned else row.metric))
    if spread is None or spread.low is None or spread.high is None:
        return row
    low, high = (-spread.high, -spread.low) if turned else (spread.low, spread.high)
    return replace(row, low=low, high=high)
