"""What guessing would score, run by run: a score that is not above it shows no knowledge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from instructalign.report.collect import Evaluated, Run, evaluated
from instructalign.report.levels import SeedGroup
from instructalign.report.tables import BASELINES, unique
from instructalign.types import Score

_Values = dict[tuple[str, str, str, str], float]  # by baseline, language, group and metric


@dataclass(frozen=True, slots=True)
class Chance:
    """The baselines of a report.

    Attributes:
        rows: their scores. Where not all runs have the same, they are named: `random of replay`.
        whose: by model and task, the run after which its baselines are named; nothing where all have the same.
    """

    rows: Sequence[Score] = ()
    whose: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def guess(self, row: Score, names: Sequence[str] = BASELINES) -> float | None:
        """What guessing would score in a score's place: the larger of the baselines; None where there is none."""
        owner = self.whose.get((row.run, row.task), "")
        wanted = {_named(name, owner) for name in names}
        place = _place(row)
        return max((r.value for r in self.rows if r.run in wanted and _place(r) == place), default=None)

    def is_beaten_by(self, row: Score) -> bool:
        """Whether a score is above guessing, by its interval's lower end; true where there are no baselines."""
        guess = self.guess(row)
        return guess is None or (row.value if row.low is None else row.low) > guess


def chance_of(runs: Sequence[Run], groups: Sequence[SeedGroup] = ()) -> Chance:
    """The baselines of runs and of their bases.

    Runs that were asked the same have one set; where two sets of a task differ, each is named after its first run.

    Args:
        runs: the runs.
        groups: the runs that are reported together over seeds; a group has the baselines of its first run.
    """
    models = list({model.name: model for run in runs for model in _models(run)}.values())
    whose: dict[tuple[str, str], str] = {}
    for task in unique(row.task for model in models for row in model.baselines):
        sets: list[tuple[_Values, list[str]]] = []
        for model in models:
            values = _values(model, task)
            same = next((each for each in sets if _agree(each[0], values)), None)
            if same is None:
                sets.append((values, [model.name]))
            elif values:
                same[0].update(values)
                same[1].append(model.name)
        if len(sets) > 1:
            whose |= {(name, task): names[0] for _, names in sets for name in names}
    rows = [
        replace(row, run=_named(row.run, whose.get((model.name, row.task), "")))
        for model in evaluated(runs)
        for row in model.baselines
    ]
    first = {group.name: group.runs[0].name for group in groups}
    whose |= {(name, task): whose[run, task] for name, run in first.items() for r, task in whose if r == run}
    return Chance(unique(rows), whose)


def _models(run: Run) -> Iterator[Evaluated]:
    """The models of a run; the adapted one first, after which baselines are named."""
    yield from (model for model in (run.adapted, run.base) if model is not None)


def _named(baseline: str, owner: str) -> str:
    return f"{baseline} of {owner}" if owner else baseline


def _place(row: Score) -> tuple[str, str, str, str]:
    return row.task, row.language, row.group, row.metric


def _values(model: Evaluated, task: str) -> _Values:
    return {(r.run, r.language, r.group, r.metric): r.value for r in model.baselines if r.task == task}


def _agree(one: _Values, other: _Values) -> bool:
    return all(abs(one[key] - other[key]) < 1e-9 for key in one.keys() & other.keys())
