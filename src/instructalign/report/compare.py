"""What the runs changed, by the evaluation's paired bootstrap: gains, forgetting, and which run is best."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from instructalign.errors import DataError
from instructalign.evaluation.correlation import correlate_gains
from instructalign.evaluation.metrics import METRICS
from instructalign.evaluation.paired import compare_outcomes
from instructalign.evaluation.significance import Asked, Bootstrap, Outcome, outcome_of
from instructalign.records import Prediction, Score
from instructalign.report.collect import Evaluated, Run, evaluated
from instructalign.report.tables import FORGETTING, GAIN, GROUPS, headline, unique


@dataclass(slots=True)
class Comparison:
    """The outcome of every paired test.

    Attributes:
        rows: gains by language and group, forgetting, and the correlation of L2 and L3 gains.
        best: (run, task, column) of the main table's cells that are better than all others of their column.
        refused: why a run could not be compared with its base, a sentence each.
    """

    rows: list[Score] = field(default_factory=list)
    best: set[tuple[str, str, str]] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)


def compare(runs: Sequence[Run], rounds: int = 1000, seed: int = 0) -> Comparison:
    """Compares every run with its base, and the runs with one another.

    Args:
        runs: the runs, with their predictions.
        rounds: draws of the bootstrap.
        seed: of the draws.
    """
    found = Comparison()
    bootstrap = Bootstrap(rounds, seed)
    models = evaluated(runs)
    outcomes = {model.name: outcomes_of(model) for model in models}
    for run in runs:
        if run.base is None or run.adapted is None:
            continue
        for task, after in outcomes[run.adapted.name].items():
            before = outcomes[run.base.name].get(task)
            try:
                found.rows += _gains(before or [], after, run.base, run.adapted, bootstrap)
            except DataError as error:
                found.refused.append(f"{run.name} was not compared with its base: {error}")
    found.rows += correlate_gains(found.rows, rounds, seed)
    tasks = unique(task for by_task in outcomes.values() for task in by_task)
    for task in tasks:
        found.best.update(_best(task, runs, outcomes, bootstrap))
    return found


def outcomes_of(model: Evaluated) -> dict[str, list[Outcome]]:
    """A model's outcomes by task, one a language."""
    found: dict[str, list[Outcome]] = {}
    for task in unique(score.task for score in model.scores):
        by_language: dict[str, list[Prediction]] = {}
        for prediction in model.predictions.get(task, ()):
            by_language.setdefault(prediction.language, []).append(prediction)
        if by_language:
            found[task] = [outcome_of(each) for each in by_language.values()]
    return found


def _gains(
    before: Sequence[Outcome], after: Sequence[Outcome], base: Evaluated, model: Evaluated, bootstrap: Bootstrap
) -> list[Score]:
    task = after[0].task
    metric = headline(model.scores, task)
    if metric not in METRICS or not before:
        return []
    groups = _groups(model.scores, task)
    old, new = (_signatures(each.scores, task, metric) for each in (base, model))

    def sign(outcomes: Sequence[Asked]) -> str:
        codes = tuple(outcome.language for outcome in outcomes)
        return _joined(old.get(codes, ""), new.get(codes, ""))

    return compare_outcomes(before, after, groups, model.name, bootstrap, sign, metric)


def _signatures(scores: Iterable[Score], task: str, metric: str) -> dict[tuple[str, ...], str]:
    """The signatures of a model's scores by the languages that each covers."""
    groups = _groups(scores, task)
    return {
        (score.language,) if score.language else tuple(groups.get(score.group, ())): score.signature
        for score in scores
        if score.task == task and score.metric == metric
    }


def _joined(before: str, after: str) -> str:
    """One signature for a comparison: the parts that differ as `before→after`."""
    pairs = list(zip_longest(before.split("|"), after.split("|"), fillvalue=""))
    return "|".join(a if a == b else f"{a}→{b.partition(':')[2] or b}" for a, b in pairs)


def _groups(scores: Iterable[Score], task: str) -> dict[str, list[str]]:
    """The language codes of each group that a task was scored in."""
    pairs = unique((score.group, score.language) for score in scores if score.task == task and score.language)
    return {group: codes for group in GROUPS if (codes := [code for name, code in pairs if name == group])}


def _best(
    task: str,
    runs: Sequence[Run],
    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]],
    bootstrap: Bootstrap,
) -> Iterator[tuple[str, str, str]]:
    """The cells of one task that paired intervals put before every other cell of their column."""
    models = {model.name: model for model in evaluated(runs) if task in outcomes[model.name]}
    for group in GROUPS:
        values = {name: _value(model, task, group) for name, model in models.items()}
        if winner := _winner(values, group, models, task, outcomes, bootstrap):
            yield winner, task, group
    # Forgetting compares runs only, and only where all of them started from one base.
    pairs = [(run.base.name, run.adapted.name) for run in runs if run.base and run.adapted]
    trained = {name: _value(models[name], task, "L1") for _, name in pairs if name in models}
    if len({base for base, _ in pairs}) == 1 and (
        winner := _winner(trained, "L1", models, task, outcomes, bootstrap)
    ):
        yield winner, task, FORGETTING


def _value(model: Evaluated, task: str, group: str) -> float | None:
    metric = headline(model.scores, task)
    wanted = (task, metric, group, "")
    return next((s.value for s in model.scores if (s.task, s.metric, s.group, s.language) == wanted), None)


def _winner(
    values: Mapping[str, float | None],
    group: str,
    models: Mapping[str, Evaluated],
    task: str,
    outcomes: Mapping[str, Mapping[str, Sequence[Outcome]]],
    bootstrap: Bootstrap,
) -> str:
    """The name of the model whose paired difference to every other excludes 0; empty where there is none."""
    known = {name: value for name, value in values.items() if value is not None}
    if len(known) < 2:
        return ""
    top = max(known, key=lambda name: known[name])
    for other in known:
        if other == top:
            continue
        try:
            rows = _gains(outcomes[other][task], outcomes[top][task], models[other], models[top], bootstrap)
        except DataError:
            return ""
        difference = next(
            (row for row in rows if (row.metric, row.group, row.language) == (GAIN, group, "")), None
        )
        if difference is None or difference.low is None or difference.low <= 0:
            return ""
    return top
