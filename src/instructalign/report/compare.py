"""What the runs changed, by the evaluation's paired tests: gains, forgetting, which run is best, and over what.

A run is compared with its base, and with every other run for the best of a column. Beside the interval over items
that every number has, there is one over prompts and items, and for runs that differ in nothing but the seed one
over seeds and items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Asked,
    Bootstrap,
    Outcome,
    Sample,
    Signature,
    interval,
    outcome_of,
    sample_of,
)
from instructalign.evaluation.classification_metrics import METRICS
from instructalign.evaluation.continual_metrics import correlate_gains
from instructalign.evaluation.mt_metrics import measure
from instructalign.evaluation.paired_tests import check_alike, compare_samples
from instructalign.report.collect import Evaluated, Run, evaluated
from instructalign.report.levels import SeedGroup, best_over_seeds, group_seeds, prompt_rows, seed_rows
from instructalign.report.tables import FORGETTING, GROUPS, groups_of, headline, unique
from instructalign.types import Prediction, Score

Samples = Mapping[str, Mapping[str, Mapping[str, Sample]]]
"""By model, task and language: what the model did item by item, for the task's headline metric."""


@dataclass(slots=True)
class Comparison:
    """The outcome of every paired test.

    Attributes:
        rows: gains by language and group, their tests, forgetting, what prompts do to scores and gains, and the
            correlation of L2 and L3 gains.
        best: (run, task, column) of the main table's cells that are better than all others of their column.
        refused: why a run could not be compared with its base, a sentence each.
        seeds: the runs that differ in nothing but the seed.
        over_seeds: scores, gains and forgetting of those, over seeds and items.
    """

    rows: list[Score] = field(default_factory=list)
    best: set[tuple[str, str, str]] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    seeds: list[SeedGroup] = field(default_factory=list)
    over_seeds: list[Score] = field(default_factory=list)


def compare(runs: Sequence[Run], rounds: int = 1000, seed: int = 0) -> Comparison:
    """Compares every run with its base, and the runs with one another.

    Args:
        runs: the runs, with their predictions and translations.
        rounds: draws of the bootstrap, and random swaps of the tests.
        seed: of both.
    """
    found = Comparison(seeds=group_seeds(runs))
    bootstrap = Bootstrap(rounds, seed)
    models = {model.name: model for model in evaluated(runs)}
    samples = {name: _samples(model) for name, model in models.items()}
    for run in runs:
        if run.base is None or run.adapted is None:
            continue
        for task, after in samples[run.adapted.name].items():
            before = samples[run.base.name].get(task, {})
            try:
                if before:
                    sign = _signer(task, run.base, run.adapted)
                    found.rows += _gains(before, after, run.adapted, sign, bootstrap)
                    found.rows += prompt_rows(run.adapted, task, after, bootstrap, sign, before)
            except DataError as error:
                found.refused.append(f"{run.name} was not compared with its base: {error}")
    for name, model in models.items():
        for task, some in samples[name].items():
            found.rows += prompt_rows(model, task, some, bootstrap, _signer(task, model, model))
    classified = [row for row in found.rows if _is_classified(models, row.task)]
    found.rows += correlate_gains(classified, rounds, seed)
    for task in unique(task for by_task in samples.values() for task in by_task):
        found.best.update(_best(task, runs, models, samples, bootstrap))
    alike = asked_alike(samples, models)
    for group in list(found.seeds):
        try:
            found.over_seeds += seed_rows(group, alike, bootstrap)
        except DataError as error:
            found.refused.append(f"{group.name} were not put together: {error}")
            found.seeds = [other for other in found.seeds if other is not group]
    found.best.update(best_over_seeds(found.seeds, alike, bootstrap))
    return found


def asked_alike(samples: Samples, models: Mapping[str, Evaluated]) -> Samples:
    """The samples without open questions that not all models were asked: seeds hold out different sentences."""
    opened = {task for model in models.values() for task in model.answers}
    asked: dict[str, set[tuple[tuple[str, tuple[str, ...]], ...]]] = {}
    for by_task in samples.values():
        for task in opened & by_task.keys():
            place = tuple((code, sample.items) for code, sample in sorted(by_task[task].items()))
            asked.setdefault(task, set()).add(place)
    uneven = {task for task, ways in asked.items() if len(ways) > 1}
    return {
        name: {task: some for task, some in by_task.items() if task not in uneven}
        for name, by_task in samples.items()
    }


def _is_classified(models: Mapping[str, Evaluated], task: str) -> bool:
    """Whether a task is one of classification, whose gains are all in the same units."""
    return any(task in model.predictions for model in models.values())


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


def _samples(model: Evaluated) -> dict[str, dict[str, Sample]]:
    """What a model did, by task and language, for the headline metric of each task."""
    found: dict[str, dict[str, Sample]] = {}
    for task, outcomes in outcomes_of(model).items():
        metric = headline(model.scores, task)
        if metric in METRICS:
            found[task] = {outcome.language: sample_of(outcome, metric) for outcome in outcomes}
    for task, by_language in model.translations.items():
        metric = headline(model.scores, task)
        if any(score.task == task for score in model.scores):
            found[task] = {
                code: replace(measure(records, only=metric)[metric][0], task=task, language=code)
                for code, records in by_language.items()
            }
    return found | {task: dict(some) for task, some in model.answers.items()}


def _gains(
    before: Mapping[str, Sample],
    after: Mapping[str, Sample],
    model: Evaluated,
    sign: Signature,
    bootstrap: Bootstrap,
) -> list[Score]:
    task = next(iter(after.values())).task
    metric = headline(model.scores, task)
    some = (list(before.values()), list(after.values()))
    return compare_samples(*some, groups_of(model.scores, task), model.name, bootstrap, sign, metric)


def _signer(task: str, base: Evaluated, model: Evaluated) -> Signature:
    """Signs what compares a model with its base; what is of one model alone, where the two are the same."""
    metric = headline(model.scores, task)
    old, new = (_signatures(each.scores, task, metric) for each in (base, model))

    def sign(asked: Sequence[Asked]) -> Mapping[str, Any]:
        codes = tuple(each.language for each in asked)
        return _joined(old.get(codes, {}), new.get(codes, {}))

    return sign


def _signatures(scores: Iterable[Score], task: str, metric: str) -> dict[tuple[str, ...], Mapping[str, Any]]:
    """The signatures of a model's scores by the languages that each covers."""
    groups = groups_of(scores, task)
    return {
        (score.language,) if score.language else tuple(groups.get(score.group, ())): score.signature
        for score in scores
        if score.task == task and score.metric == metric
    }


def _joined(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """The signature of the adapted model, with the fields in which the base differs under `base`."""
    other = {name: value for name, value in before.items() if after.get(name) != value}
    return {**after, "base": other} if other else dict(after)


def _best(
    task: str, runs: Sequence[Run], models: Mapping[str, Evaluated], samples: Samples, bootstrap: Bootstrap
) -> Iterator[tuple[str, str, str]]:
    """The cells of one task that paired intervals put before every other cell of their column."""
    having = {name: model for name, model in models.items() if task in samples[name]}
    for group in GROUPS:
        values = {name: _value(model, task, group) for name, model in having.items()}
        if winner := _winner(values, task, group, having, samples, bootstrap):
            yield winner, task, group
    # Forgetting compares runs only, and only where all of them started from one base.
    pairs = [(run.base.name, run.adapted.name) for run in runs if run.base and run.adapted]
    trained = {name: _value(having[name], task, "L1") for _, name in pairs if name in having}
    if len({base for base, _ in pairs}) == 1 and (
        winner := _winner(trained, task, "L1", having, samples, bootstrap)
    ):
        yield winner, task, FORGETTING


def _value(model: Evaluated, task: str, group: str) -> float | None:
    metric = headline(model.scores, task)
    wanted = (task, metric, group, "")
    return next((s.value for s in model.scores if (s.task, s.metric, s.group, s.language) == wanted), None)


def _winner(
    values: Mapping[str, float | None],
    task: str,
    group: str,
    models: Mapping[str, Evaluated],
    samples: Samples,
    bootstrap: Bootstrap,
) -> str:
    """The name of the model whose paired difference to every other excludes 0; empty where there is none."""
    known = {name: value for name, value in values.items() if value is not None}
    if len(known) < 2:
        return ""
    top = max(known, key=lambda name: known[name])
    codes = groups_of(models[top].scores, task).get(group, ())
    for other in known:
        if other == top:
            continue
        mine, others = samples[top][task], samples[other][task]
        both = [code for code in codes if code in mine and code in others]
        try:
            for code in both:
                check_alike(others[code], mine[code])
        except DataError:
            return ""
        if not both:
            return ""
        differences = [bootstrap.by_prompt(mine[c]).mean(0) - bootstrap.by_prompt(others[c]).mean(0) for c in both]
        low, _ = interval(np.mean(differences, axis=0))
        if low is None or low <= 0:
            return ""
    return top
