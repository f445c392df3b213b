"""Compares trained runs: with their bases, with one another, over prompts, over seeds, and with the baselines.

Every number of this kind is computed here and nowhere else; reports show the rows. One rule says what is better:
the 95 % interval of the paired difference excludes 0. For single runs it is an interval over items; where there
are several seeds, over seeds and items (docs/decisions/010).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import takewhile
from math import inf
from statistics import fmean
from typing import Any

import numpy as np

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, BootstrapScores, Sample, Signer
from instructalign.evaluation.continual_metrics import correlate_gains
from instructalign.evaluation.gains import FORGETTING, GAIN, check_alike, compare_samples
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import BASELINES, groups_of, headline, is_base, is_baseline
from instructalign.evaluation.variance import Estimate, mean_interval, over_levels
from instructalign.files import text_hash
from instructalign.run_folder import NEUTRAL_KEYS
from instructalign.types import Score

OVER_PROMPTS, PROMPT_SD, SEED_SD = "_over_prompts", "_prompt_sd", "_seed_sd"
"""Suffixes of metrics: a number with its interval over prompts and items; standard deviations."""

_OF_ONE_RUN = ("_p", "_p_holm", OVER_PROMPTS, PROMPT_SD)  # suffixes of metrics without a mean over seeds
_DIFFERENCE = (-1.0, 1.0)  # what a difference of two scores lies between

Samples = Mapping[str, Mapping[str, Sample]]
"""By task and language."""


@dataclass(frozen=True, slots=True)
class TrainedRun:
    """One run: the base it started from and what became of it.

    Attributes:
        name: unlike that of any other run.
        config: its configuration, as nested dictionaries.
        base, adapted: the results before and after training; None where not evaluated.
    """

    name: str
    config: Mapping[str, Any]
    base: ModelResults | None
    adapted: ModelResults | None


@dataclass(frozen=True, slots=True)
class SeedGroup:
    """Runs of one configuration but for the seed.

    Attributes:
        name: what their names have in common, and how many they are.
        runs: one a seed, each with a base and an adapted model.
        seeds: their seeds.
    """

    name: str
    runs: tuple[TrainedRun, ...]
    seeds: tuple[int, ...]


@dataclass(slots=True)
class Comparison:
    """The outcome of all comparisons.

    Attributes:
        rows: gains by language and group, their tests, forgetting, scores and gains over prompts, and the
            correlation of L2 and L3 gains.
        best: (run, task, column) of the main table's cells that are better than all others of their column.
        refused: why a run could not be compared with its base, or seeds not be averaged; a sentence each.
        seeds: the runs that differ in nothing but the seed.
        over_seeds: scores, gains and forgetting of those, over seeds and items.
    """

    rows: list[Score] = field(default_factory=list)
    best: set[tuple[str, str, str]] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    seeds: list[SeedGroup] = field(default_factory=list)
    over_seeds: list[Score] = field(default_factory=list)


def models_of(runs: Iterable[TrainedRun]) -> list[ModelResults]:
    """Every evaluated model once, each base before the runs that started from it."""
    models = [model for run in runs for model in (run.base, run.adapted) if model is not None]
    return list({model.name: model for model in models}.values())


def compare_runs(runs: Sequence[TrainedRun], resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compares every run with its base, and the runs with one another.

    Args:
        runs: the runs, with their predictions, translations and answers.
        resamples: of the bootstrap, and random swaps of the tests.
        seed: of both.
    """
    found = Comparison(seeds=group_seeds(runs))
    bootstrap = Bootstrap(resamples, seed)
    models = {model.name: model for model in models_of(runs)}
    samples = {name: model.samples() for name, model in models.items()}
    pairs = [(run, run.base, run.adapted) for run in runs if run.base is not None and run.adapted is not None]
    for run, base, adapted in pairs:
        for task, after in samples[adapted.name].items():
            before = samples[base.name].get(task, {})
            if not before:
                continue
            sign, metric = _signer(task, adapted, base), headline(adapted.scores, task)
            both = list(before.values()), list(after.values())
            groups = groups_of(adapted.scores, task)
            try:
                found.rows += compare_samples(*both, groups, adapted.name, bootstrap, sign, metric)
                found.rows += over_prompts(adapted, task, after, bootstrap, sign, before)
            except DataError as error:
                found.refused.append(f"{run.name} was not compared with its base: {error}")
    for name, model in models.items():
        for task, after in samples[name].items():
            found.rows += over_prompts(model, task, after, bootstrap, _signer(task, model))
    # Gains are correlated where they are in the same units: of classification tasks.
    classified = {task for model in models.values() for task in model.predictions}
    found.rows += correlate_gains([row for row in found.rows if row.task in classified], resamples, seed)
    every = [score for model in models.values() for score in model.scores]
    tasks = dict.fromkeys(task for some in samples.values() for task in some)
    places = {task: groups_of(every, task) for task in tasks}
    singles = {name: [some] for name, some in samples.items()}
    trained = {adapted.name for *_, adapted in pairs}
    found.best |= _best_cells(singles, {base.name for _, base, _ in pairs}, trained, places, bootstrap)
    together: dict[str, list[Samples]] = {}
    starts: dict[str, list[Samples]] = {}
    for group in list(found.seeds):
        members = [run.adapted for run in group.runs if run.adapted is not None]
        bases = [run.base.name for run in group.runs if run.base is not None]
        ours: list[Samples] = [samples[model.name] for model in members]
        theirs: list[Samples] = [samples[name] for name in bases]
        try:
            for task in ours[0]:
                found.over_seeds += over_seeds(group.name, group.seeds, task, members, ours, theirs, bootstrap)
        except DataError as error:
            found.refused.append(f"{group.name} were not averaged: {error}")
            found.seeds.remove(group)
            continue
        together[group.name] = ours
        starts |= {name: [samples[name]] for name in bases}
    found.best |= _best_cells({**starts, **together}, set(starts), set(together), places, bootstrap)
    return found


# -- signatures ----------------------------------------------------------------------------------------------


def _signer(task: str, model: ModelResults, base: ModelResults | None = None) -> Signer:
    """Gives the signatures of a model's own scores; with a base, its differing fields are added under `base`."""

    def signatures(of: ModelResults) -> dict[tuple[str, ...], Mapping[str, Any]]:
        metric, groups = headline(model.scores, task), groups_of(of.scores, task)
        return {
            (score.language,) if score.language else tuple(groups.get(score.group, ())): score.signature
            for score in of.scores.select(task=task, metric=metric)
        }

    new, old = signatures(model), {} if base is None else signatures(base)

    def sign(samples: Sequence[Sample]) -> Mapping[str, Any]:
        codes = tuple(sample.language for sample in samples)
        after, before = new.get(codes, {}), old.get(codes, {})
        differing = {name: value for name, value in before.items() if after.get(name) != value}
        return {**after, "base": differing} if differing else after

    return sign


# -- which is better -----------------------------------------------------------------------------------------


def difference(
    one: Sequence[Mapping[str, Sample]],
    other: Sequence[Mapping[str, Sample]],
    codes: Iterable[str],
    bootstrap: Bootstrap,
) -> Estimate | None:
    """How much better one is than another: the difference of their scores, with its paired 95 % interval.

    Scores are means over prompts, languages and seeds; where a lower one is better, the other's minus this one's.

    Args:
        one, other: samples by language of each seed; a single run is a list of one.
        codes: languages; those that not all have are left out.
        bootstrap: gives the intervals.

    Returns:
        The difference; None where they share no language.

    Raises:
        DataError: they were not evaluated on the same items and prompts.
    """
    both = [code for code in codes if all(code in some for some in (*one, *other))]
    if not both:
        return None
    for code in both:
        for some in (*one[1:], *other):
            check_alike(one[0][code], some[code])
    items = min(len(one[0][code].items) for code in both)
    sign = one[0][both[0]].sign
    ours, theirs = (sign * _by_seed(side, both, bootstrap) for side in (one, other))
    return over_levels(ours, items, minus=theirs, bounds=_bounds(one[0][both[0]])[1])


def _bounds(sample: Sample) -> tuple[tuple[float, float], tuple[float, float]]:
    """What a score lies between, and what a difference of two."""
    return ((0.0, inf), (-inf, inf)) if sample.lower_is_better else ((0.0, 1.0), _DIFFERENCE)


def _by_seed(
    models: Sequence[Mapping[str, Sample]], codes: Sequence[str], bootstrap: Bootstrap
) -> BootstrapScores:
    """Scores by seed, means over prompts and languages: [seeds, 1 + resamples]."""
    return np.stack([bootstrap.scores([some[code] for code in codes]) for some in models])


def _best_cells(
    candidates: Mapping[str, Sequence[Samples]],
    bases: Set[str],
    trained: Set[str],
    groups: Mapping[str, Mapping[str, Sequence[str]]],
    bootstrap: Bootstrap,
) -> set[tuple[str, str, str]]:
    """(run, task, column) of the candidates that are better than all others on a task and group.

    Forgetting compares the trained ones only, and only where all of them started from one base: then the best on
    L1 forgot least.
    """
    cells = set()
    for task, by_group in groups.items():
        having = {name: [some.get(task, {}) for some in each] for name, each in candidates.items()}
        for group, codes in by_group.items():
            if best := _best(having, codes, bootstrap):
                cells.add((best, task, group))
            ours = {name: each for name, each in having.items() if name in trained}
            if group == "L1" and len(bases) == 1 and (best := _best(ours, codes, bootstrap)):
                cells.add((best, task, FORGETTING))
    return cells


def _best(
    candidates: Mapping[str, Sequence[Mapping[str, Sample]]], codes: Sequence[str], bootstrap: Bootstrap
) -> str:
    """The candidate whose paired difference to every other has its interval above 0; empty where there is none."""
    values = {}
    for name, models in candidates.items():
        own = [code for code in codes if all(code in some for some in models)]
        if own:
            values[name] = models[0][own[0]].sign * float(_by_seed(models, own, bootstrap)[:, 0].mean())
    if len(values) < 2:
        return ""
    top = max(values, key=lambda name: values[name])
    for name in values:
        if name != top:
            try:
                found = difference(candidates[top], candidates[name], codes, bootstrap)
            except DataError:
                return ""
            if found is None or found.low is None or found.low <= 0:
                return ""
    return top


# -- over prompts, over seeds --------------------------------------------------------------------------------


def over_prompts(
    model: ModelResults,
    task: str,
    samples: Mapping[str, Sample],
    bootstrap: Bootstrap,
    sign: Signer,
    base: Mapping[str, Sample] | None = None,
) -> list[Score]:
    """How other prompts would change a model's scores, or its gains over a base, by group.

    Returns:
        The score (or gain) with its interval over prompts and items, and the standard deviation between prompts;
        nothing where there is a single prompt.

    Raises:
        DataError: the two models were not evaluated on the same items and prompts.
    """
    metric = headline(model.scores, task) if base is None else GAIN
    rows = []
    for group, codes in groups_of(model.scores, task).items():
        some = [samples[code] for code in codes if code in samples and (base is None or code in base)]
        if not some or len({sample.prompts for sample in some}) > 1 or len(some[0].prompts) < 2:
            continue
        scores = np.mean([bootstrap.by_prompt(sample) for sample in some], axis=0)
        if base is not None:
            for sample in some:
                check_alike(base[sample.language], sample)
            scores = scores - np.mean([bootstrap.by_prompt(base[sample.language]) for sample in some], axis=0)
        found = over_levels(scores, len(some[0].items), bounds=(0, 1) if base is None else _DIFFERENCE)
        n, how = sum(len(sample.items) for sample in some), {**sign(some), "interval": "prompts and items"}
        place = (model.name, task, "", group)
        rows.append(Score(*place, metric + OVER_PROMPTS, found.value, found.low, found.high, n, how))
        if found.deviation is not None:
            rows.append(Score(*place, metric + PROMPT_SD, found.deviation, None, None, n, how))
    return rows


def over_seeds(
    name: str,
    seeds: Sequence[int],
    task: str,
    models: Sequence[ModelResults],
    samples: Sequence[Samples],
    bases: Sequence[Samples],
    bootstrap: Bootstrap,
) -> list[Score]:
    """Scores, gains and forgetting on one task over seeds: the mean, its interval, and the SD.

    Args:
        name: what the rows call the runs.
        seeds: the seeds.
        task: the task.
        models, samples: the adapted models, one a seed, and what they did.
        bases: what their bases did: one for all, or one a seed; where one has no samples there are no gains.
        bootstrap: gives the intervals.

    Returns:
        The rows; none where not all did the task, or were asked different open questions, as seeds that hold out
        different sentences are.

    Raises:
        DataError: the runs were not evaluated on the same items and prompts.
    """
    found = [some.get(task, {}) for some in samples]
    starts = [some.get(task, {}) for some in bases]
    scores = models[0].scores
    rows: list[Score] = []
    for group, codes in groups_of(scores, task).items():
        shared = [code for code in codes if all(code in some for some in found)]
        for language, members in [*((code, [code]) for code in shared), ("", shared)]:
            if not members:
                continue
            before = starts if starts and all(code in some for some in starts for code in members) else []
            try:
                for code in members:
                    for some in (*found[1:], *before):
                        check_alike(found[0][code], some[code])
            except DataError:
                if task in models[0].answers:
                    return []
                raise
            metric = headline(scores, task)
            after = _by_seed(found, members, bootstrap)
            sample = found[0][members[0]]
            level, change = _bounds(sample)
            values = {metric: (after, level)}
            if before:
                gain = sample.sign * (after - _by_seed(before, members, bootstrap))
                values[GAIN] = gain, change
                if group == "L1":
                    values[FORGETTING] = -gain, change
            items, n = (kind(len(found[0][code].items) for code in members) for kind in (min, sum))
            own = [each.scores.get(each.name, task, metric, group, language) for each in models]
            signed = [score.signature for score in own if score is not None]
            how = {
                **(signed[0] if signed else {}),
                "model": [each["model"] for each in signed if "model" in each],
                "seeds": list(seeds),
                "interval": "seeds and items",
                **({"metric": metric} if sample.lower_is_better else {}),
            }
            place = (name, task, language, group)
            for measured, (some_scores, bounds) in values.items():
                over = over_levels(some_scores, items, bounds=bounds)
                rows.append(Score(*place, measured, over.value, over.low, over.high, n, how))
                if over.deviation is not None:
                    rows.append(Score(*place, measured + SEED_SD, over.deviation, None, None, n, how))
    return rows


def group_seeds(runs: Sequence[TrainedRun]) -> list[SeedGroup]:
    """The runs that are the same but for the seed, where there are two or more; a repeated seed counts once."""
    alike: dict[str, dict[int, TrainedRun]] = {}
    for run in runs:
        seed = run.config.get("seed")
        if run.adapted is None or run.base is None or not isinstance(seed, int):
            continue
        # Without the seed and the keys that change no number.
        kept = {
            block: {k: v for k, v in value.items() if k not in NEUTRAL_KEYS.get(block, [])}
            if isinstance(value, Mapping)
            else value
            for block, value in run.config.items()
            if block != "seed"
        }
        alike.setdefault(text_hash(kept), {}).setdefault(seed, run)
    found: dict[str, SeedGroup] = {}
    for group in (some for some in alike.values() if len(some) > 1):
        members = tuple(group.values())
        # `replay-s1` and `replay-s2` are `replay, 2 seeds`.
        names = [re.sub(r" \(\d+\)$", "", run.name) for run in members]
        same = takewhile(lambda letters: len(set(letters)) == 1, zip(*names, strict=False))
        start = "".join(letters[0] for letters in same)
        if len(set(names)) > 1:
            start = re.sub(r"([-_ .,=]+(seed|s)|seed)?[-_ .,=]*\d*$", "", start)
        name = f"{start or members[0].name}, {len(members)} seeds"
        if name in found:  # two configurations that their names do not tell apart
            name = f"{members[0].name} and {len(members) - 1} other seeds"
        found[name] = SeedGroup(name, members, tuple(group))
    return list(found.values())


def mean_over_seeds(name: str, reports: Mapping[int, Iterable[Score]]) -> list[Score]:
    """The means of what runs that differ in the seed alone report, with Student's t intervals.

    A number that not every seed has is left out. With one seed, the interval is the run's own, over items.

    Args:
        name: what the rows call the runs.
        reports: by seed, the rows of its report.
    """
    values: dict[tuple[str, ...], list[Score]] = {}
    for rows in reports.values():
        for row in rows:
            single = len(reports) > 1 and row.metric.endswith(_OF_ONE_RUN)
            if row.run and not is_baseline(row.run) and not is_base(row.run) and not single:
                values.setdefault((row.task, row.language, row.group, row.metric), []).append(row)
    found = []
    for some in values.values():
        if len(some) == len(reports):
            each = [row.value for row in some]
            low, high = (some[0].low, some[0].high) if len(each) == 1 else mean_interval(each)
            how = {key: value for key, value in some[0].signature.items() if key != "model"}
            how["seeds"] = list(reports)
            found.append(replace(some[0], run=name, value=fmean(each), low=low, high=high, signature=how))
    return found


# -- baselines -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Baselines:
    """The baselines: a score that is not above them shows no knowledge.

    Attributes:
        rows: their scores. Where not all runs have the same, they are named: `random of replay`.
        owners: by model and task, the run after which its baselines are named; empty where all have the same.
    """

    rows: Sequence[Score] = ()
    owners: Mapping[tuple[str, str], str] = field(default_factory=dict)

    def value_for(self, row: Score, names: Sequence[str] = BASELINES) -> float | None:
        """The larger baseline in a score's place (task, language, group, metric); None where there is none."""
        owner = self.owners.get((row.run, row.task), "")
        runs = {_named(name, owner) for name in names}
        return max((r.value for r in self.rows if r.run in runs and _place(r) == _place(row)), default=None)

    def are_below(self, row: Score) -> bool:
        """Whether a score is above its baselines, by its interval's lower end; true where there are none."""
        baseline = self.value_for(row)
        return baseline is None or (row.value if row.low is None else row.low) > baseline


def baselines_of(runs: Sequence[TrainedRun], groups: Sequence[SeedGroup] = ()) -> Baselines:
    """The baselines of runs and of their bases.

    Runs with the same items have one set; where two sets of a task differ, each is named after its first run.

    Args:
        runs: the runs.
        groups: the runs that are reported together over seeds; a group has the baselines of its first run.
    """
    # The adapted model first: baselines are named after it.
    models = {model.name: model for run in runs for model in (run.adapted, run.base) if model is not None}
    owners: dict[tuple[str, str], str] = {}
    for task in dict.fromkeys(row.task for model in models.values() for row in model.baselines):
        sets: list[tuple[dict[tuple[str, ...], float], list[str]]] = []
        for name, model in models.items():
            rows = [row for row in model.baselines if row.task == task]
            values: dict[tuple[str, ...], float] = {(row.run, *_place(row)): row.value for row in rows}
            same = next((each for each in sets if _agree(each[0], values)), None)
            if same is None:
                sets.append((values, [name]))
            elif values:
                same[0].update(values)
                same[1].append(name)
        if len(sets) > 1:
            owners |= {(name, task): names[0] for _, names in sets for name in names}
    named = [
        replace(row, run=_named(row.run, owners.get((model.name, row.task), "")))
        for model in models_of(runs)
        for row in model.baselines
    ]
    first = {group.name: group.runs[0].name for group in groups}
    owners |= {(name, task): owners[run, task] for name, run in first.items() for r, task in owners if r == run}
    return Baselines(list(dict.fromkeys(named)), owners)


def _named(baseline: str, owner: str) -> str:
    return f"{baseline} of {owner}" if owner else baseline


def _place(row: Score) -> tuple[str, str, str, str]:
    return row.task, row.language, row.group, row.metric


def _agree(one: Mapping[tuple[str, ...], float], other: Mapping[tuple[str, ...], float]) -> bool:
    return all(abs(one[key] - other[key]) < 1e-9 for key in one.keys() & other.keys())
