"""Scores over prompts, and of runs that differ in nothing but the seed, for the report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np

from instructalign.evaluation.bootstrap import Bootstrap, Sample, Signature
from instructalign.evaluation.paired_tests import check_alike
from instructalign.evaluation.variance import Draws, over_levels
from instructalign.files import text_hash
from instructalign.report.collect import Evaluated, Run
from instructalign.report.tables import FORGETTING, GAIN, groups_of, headline
from instructalign.run_folder import FREE
from instructalign.types import Score

OVER_PROMPTS, PROMPT_SD, SEED_SD = "_over_prompts", "_prompt_sd", "_seed_sd"
"""Ends of metrics: the number with an interval over prompts too; standard deviations over prompts and seeds."""

BOTH_WAYS = (-1.0, 1.0)  # what a difference of scores lies between


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """Runs of one configuration but for the seed.

    Attributes:
        name: what they have in common in their names, and how many they are.
        runs: the runs, one a seed, each with a base and an adapted model.
        seeds: their seeds.
    """

    name: str
    runs: tuple[Run, ...]
    seeds: tuple[int, ...]


def group_seeds(runs: Sequence[Run]) -> list[SeedGroup]:
    """The runs that are the same but for the seed, where there are two or more; a repeated seed counts once."""
    alike: dict[str, dict[int, Run]] = {}
    for run in runs:
        seed = run.config.get("seed")
        if run.adapted is not None and run.base is not None and isinstance(seed, int):
            alike.setdefault(_but_for_the_seed(run.config), {}).setdefault(seed, run)
    found: dict[str, SeedGroup] = {}
    for group in (some for some in alike.values() if len(some) > 1):
        members = tuple(group.values())
        name = _common_name(members)
        if name in found:  # two configurations of which the names tell no difference
            name = f"{members[0].name} and {len(members) - 1} other seeds"
        found[name] = SeedGroup(name, members, tuple(group))
    return list(found.values())


def _but_for_the_seed(config: Mapping[str, Any]) -> str:
    """A hash of what makes a configuration, without its seed and the keys that change no number."""
    kept: dict[str, Any] = {}
    for block, value in config.items():
        free = FREE.get(block, [])
        kept[block] = {k: v for k, v in value.items() if k not in free} if isinstance(value, Mapping) else value
    kept.pop("seed", None)
    return text_hash(kept)


def _common_name(runs: Sequence[Run]) -> str:
    """`replay-s1` and `replay-s2` are `replay, 2 seeds`."""
    names = [re.sub(r" \(\d+\)$", "", run.name) for run in runs]
    start = "".join(
        letters[0] for letters in takewhile(lambda some: len(set(some)) == 1, zip(*names, strict=False))
    )
    if len(set(names)) > 1:
        start = re.sub(r"([-_ .,=]+(seed|s)|seed)?[-_ .,=]*\d*$", "", start)
    return f"{start or runs[0].name}, {len(runs)} seeds"


def prompt_rows(
    model: Evaluated,
    task: str,
    samples: Mapping[str, Sample],
    bootstrap: Bootstrap,
    sign: Signature,
    base: Mapping[str, Sample] | None = None,
) -> list[Score]:
    """What other prompts would do to a model's scores, or to its gains over a base, by group.

    Args:
        model: the model.
        task: which task's.
        samples: what it did, by language.
        bootstrap: gives the draws.
        sign: says what a score measures.
        base: what the base did, for gains.

    Returns:
        The score (or gain) with its interval over prompts and items, and the standard deviation between prompts;
        nothing where there is a single prompt.

    Raises:
        DataError: the two models were not asked the same.
    """
    metric = GAIN if base is not None else headline(model.scores, task)
    rows = []
    for group, codes in groups_of(model.scores, task).items():
        some = [code for code in codes if code in samples and (base is None or code in base)]
        if not some or len({samples[code].prompts for code in some}) > 1 or len(samples[some[0]].prompts) < 2:
            continue
        draws = _mean([_draws(samples[code], bootstrap, None if base is None else base[code]) for code in some])
        items = sum(len(samples[code].items) for code in some)
        found = over_levels(draws, len(samples[some[0]].items), bounds=(0, 1) if base is None else BOTH_WAYS)
        signature = {**sign([samples[code] for code in some]), "interval": "prompts and items"}
        told = (model.name, task, "", group)
        rows.append(Score(*told, metric + OVER_PROMPTS, found.value, found.low, found.high, items, signature))
        if found.deviation is not None:
            rows.append(Score(*told, metric + PROMPT_SD, found.deviation, None, None, items, signature))
    return rows


def _draws(sample: Sample, bootstrap: Bootstrap, base: Sample | None) -> Draws:
    """By prompt, a score or its gain, on the items and on every draw."""
    if base is None:
        return bootstrap.by_prompt(sample)
    check_alike(base, sample)
    return bootstrap.by_prompt(sample) - bootstrap.by_prompt(base)


def _mean(draws: Sequence[Draws]) -> Draws:
    mean: Draws = np.mean(draws, axis=0)
    return mean


def seed_rows(
    group: SeedGroup, samples: Mapping[str, Mapping[str, Mapping[str, Sample]]], bootstrap: Bootstrap
) -> list[Score]:
    """Scores, gains and forgetting over seeds: the mean, its interval over seeds and items, and the deviation.

    Args:
        group: the runs.
        samples: by model, task and language.
        bootstrap: gives the draws.

    Raises:
        DataError: the runs were not asked the same.
    """
    models = [run.adapted for run in group.runs if run.adapted is not None]
    bases = [run.base for run in group.runs if run.base is not None]
    rows: list[Score] = []
    for task in samples[models[0].name]:
        if any(task not in samples[each.name] for each in (*models, *bases)):
            continue
        metric, groups = headline(models[0].scores, task), groups_of(models[0].scores, task)
        for code, name, codes in _places(groups, samples[models[0].name][task]):
            after = _by_seed([samples[model.name][task] for model in models], codes, bootstrap)
            before = _by_seed([samples[base.name][task] for base in bases], codes, bootstrap)
            about = (group, task, code, name, [samples[models[0].name][task][each] for each in codes])
            rows += _seed_scores(*about, {metric: after, GAIN: after - before})
            if name == "L1":
                rows += _seed_scores(*about, {FORGETTING: before - after})
    return rows


def _places(
    groups: Mapping[str, Sequence[str]], having: Mapping[str, Sample]
) -> Iterator[tuple[str, str, list[str]]]:
    """Language, group, and the languages it is the mean of: each language, and each group."""
    for group, codes in groups.items():
        some = [code for code in codes if code in having]
        yield from ((code, group, [code]) for code in some)
        if some:
            yield "", group, some


def _by_seed(models: Sequence[Mapping[str, Sample]], codes: Sequence[str], bootstrap: Bootstrap) -> Draws:
    """Scores by seed, means over prompts and languages: [seeds, 1 + rounds]."""
    for code in codes:
        for model in models[1:]:
            check_alike(models[0][code], model[code])
    return np.stack([_mean([bootstrap.by_prompt(model[code]).mean(0) for code in codes]) for model in models])


def _signature(group: SeedGroup, task: str, code: str, name: str) -> dict[str, Any]:
    """That of the first run's score, with the models of all."""
    metric = headline(group.runs[0].adapted.scores if group.runs[0].adapted else (), task)
    found = [
        next((s.signature for s in model.scores if _place_of(s) == (task, metric, name, code)), {})
        for run in group.runs
        if (model := run.adapted) is not None
    ]
    return {**found[0], "model": [each["model"] for each in found if "model" in each]}


def _place_of(score: Score) -> tuple[str, str, str, str]:
    return score.task, score.metric, score.group, score.language


def _seed_scores(
    group: SeedGroup, task: str, code: str, name: str, some: Sequence[Sample], draws: Mapping[str, Draws]
) -> Iterator[Score]:
    items = sum(len(sample.items) for sample in some)
    about = _signature(group, task, code, name)
    sign = {**about, "seeds": list(group.seeds), "interval": "seeds and items"}
    for metric, values in draws.items():
        bounds = BOTH_WAYS if metric in (GAIN, FORGETTING) else (0.0, 1.0)
        found = over_levels(values, len(some[0].items), bounds=bounds)
        told = (group.name, task, code, name)
        yield Score(*told, metric, found.value, found.low, found.high, items, sign)
        if found.deviation is not None:
            yield Score(*told, metric + SEED_SD, found.deviation, None, None, items, sign)


def best_over_seeds(
    groups: Sequence[SeedGroup], samples: Mapping[str, Mapping[str, Mapping[str, Sample]]], bootstrap: Bootstrap
) -> Iterator[tuple[str, str, str]]:
    """(run, task, column) of the cells that intervals over seeds and items put before all others of their column.

    Bases stand among the others but for forgetting. Of forgetting, the best of L1 is best where all started from
    one base.
    """
    models = {
        group.name: [model.name for run in group.runs if (model := run.adapted) is not None] for group in groups
    }
    bases = {run.base.name: [run.base.name] for group in groups for run in group.runs if run.base is not None}
    scores = [run.adapted.scores for group in groups for run in group.runs if run.adapted is not None]
    for task in samples[next(iter(models.values()))[0]] if groups else ():
        for group, codes in groups_of(scores[0], task).items():
            having = {
                name: _by_seed([samples[each][task] for each in members], codes, bootstrap)
                for name, members in {**bases, **models}.items()
                if all(code in samples[each].get(task, {}) for each in members for code in codes)
            }
            items = len(next(iter(samples[next(iter(models.values()))[0]][task].values())).items)
            if winner := _beats_all(having, items):
                yield winner, task, group
            trained = {name: draws for name, draws in having.items() if name in models}
            if group == "L1" and len(bases) == 1 and (winner := _beats_all(trained, items)):
                yield winner, task, FORGETTING


def _beats_all(having: Mapping[str, Draws], items: int) -> str:
    """The name of what is better than each other; empty where there is none."""
    if len(having) < 2:
        return ""
    top = max(having, key=lambda name: float(having[name][:, 0].mean()))
    for other, draws in having.items():
        if other != top and not _is_better(having[top], draws, items):
            return ""
    return top


def _is_better(one: Draws, other: Draws, items: int) -> bool:
    # What has levels stands first: a base has none.
    if len(one) > 1:
        low = over_levels(one, items, minus=other, bounds=BOTH_WAYS).low
        return low is not None and low > 0
    high = over_levels(other, items, minus=one, bounds=BOTH_WAYS).high
    return high is not None and high < 0
