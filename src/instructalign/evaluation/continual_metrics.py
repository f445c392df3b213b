"""Continual learning: the accuracy matrix, ACC, BWT, FWT and forgetting; the correlation of gains."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import ArrayLike

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, BootstrapScores, percentile_interval
from instructalign.evaluation.gains import GAIN
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import BASE, headline, is_in_bits
from instructalign.randomness import digest_key
from instructalign.types import Score


@dataclass(frozen=True, slots=True)
class ContinualScores:
    """What was learned, kept and transferred in a sequence of stages.

    Attributes:
        average: the mean score on all stages' languages at the end (ACC; Lopez-Paz and Ranzato 2017).
        backward: how much later stages changed a stage's score, on average (backward transfer, BWT; same source);
            negative values are forgetting. None with one stage.
        forward: how far above the random baseline a stage's score is before its own training, on average (forward
            transfer, FWT; same source). None with one stage.
        forgetting: how far a stage's final score is below its best since its training, on average (Chaudhry et
            al. 2018). None with one stage.
    """

    average: float
    backward: float | None
    forward: float | None
    forgetting: float | None


def continual_scores(matrix: ArrayLike, random: ArrayLike) -> ContinualScores:
    """Computes them from the accuracy matrix.

    Args:
        matrix: [stages + 1, stages]; row i, column j is the score on the languages of stage j after i stages,
            so that the first row is the base model's.
        random: [stages], the random baseline's score on the languages of each stage.

    Raises:
        DataError: the shapes do not match.
    """
    scores, baseline = np.asarray(matrix, dtype=np.float64), np.asarray(random, dtype=np.float64)
    stages = baseline.size
    if baseline.ndim != 1 or stages == 0 or scores.shape != (stages + 1, stages):
        raise DataError(
            f"a matrix of shape {scores.shape} does not match {stages} stages: it needs a row for the base and "
            f"for each stage, and a column for each stage: ({stages + 1}, {stages})."
        )
    average = float(scores[-1].mean())
    if stages == 1:
        return ContinualScores(average, None, None, None)
    own = np.array([scores[stage + 1, stage] for stage in range(stages)])
    best = np.array([scores[stage + 1 : stages, stage].max() for stage in range(stages - 1)])
    return ContinualScores(
        average,
        backward=float((scores[-1] - own)[:-1].mean()),
        forward=float(np.mean([scores[stage, stage] - baseline[stage] for stage in range(1, stages)])),
        forgetting=float((best - scores[-1, :-1]).mean()),
    )


STAGED = "stages"
"""The group of the rows on all stages of a run."""


@dataclass(frozen=True, slots=True)
class StageMatrix:
    """One run's stages on one task.

    Attributes:
        run: the run's name.
        task, metric: what was measured.
        models: names of the rows: `base`, and each stage by its languages.
        columns: names of the columns: L1, each stage's languages, L3.
        scores: [stages + 1, columns, 1 + resamples], the mean score on the languages of each column.
        own: the columns that are stages, in order.
        random: by stage, the random baseline's score on its languages.
        items: how many items a row has.
    """

    run: str
    task: str
    metric: str
    models: tuple[str, ...]
    columns: tuple[str, ...]
    scores: BootstrapScores
    own: tuple[int, ...]
    random: tuple[float, ...]
    items: int

    def rows(self) -> list[Score]:
        """ACC, BWT, FWT and forgetting (`stages_average`, …), with intervals over items."""
        matrices = np.moveaxis(self.scores[:, list(self.own)], -1, 0)
        every = [continual_scores(matrix, self.random) for matrix in matrices]
        signature = {"task": self.task, "stages": list(self.models[1:]), "metric": self.metric}
        found = []
        for each in fields(ContinualScores):
            values = [getattr(scores, each.name) for scores in every]
            if values[0] is not None:
                low, high = percentile_interval(np.array(values, dtype=np.float64))
                place = (self.run, self.task, "", STAGED, f"stages_{each.name}")
                found.append(Score(*place, values[0], low, high, self.items, signature))
        return found


def stage_matrices(
    run: str,
    base: ModelResults,
    stages: Sequence[ModelResults],
    taught: Sequence[tuple[str, Sequence[str]]],
    bootstrap: Bootstrap,
) -> list[StageMatrix]:
    """The accuracy matrices of a run in several stages: one a classification task that has languages of all.

    Args:
        run: the run's name.
        base: the results before the first stage.
        stages: the results after each stage.
        taught: by stage, the name of its column and the codes of the languages it teaches.
        bootstrap: gives the intervals.
    """
    samples = [model.samples() for model in (base, *stages)]
    found = []
    for task in (task for task in samples[0] if task in base.predictions):
        metric = headline(base.scores, task)
        group_of = {row.language: row.group for row in base.scores.select(task=task) if row.language}
        columns = {
            "L1": [code for code, group in group_of.items() if group == "L1"],
            **{name: [code for code in codes if code in group_of] for name, codes in taught},
            "L3": [code for code, group in group_of.items() if group == "L3"],
        }
        columns = {name: codes for name, codes in columns.items() if codes}
        by_model = [some.get(task, {}) for some in samples]
        own = [name for name, _ in taught]
        if not columns.keys() >= set(own) or any(set(group_of) - set(some) for some in by_model):
            continue
        scores = [[bootstrap.scores([some[c] for c in codes]) for codes in columns.values()] for some in by_model]
        random = {row.language: row.value for row in base.baselines.select(run="random", task=task, metric=metric)}
        found.append(
            StageMatrix(
                run,
                task,
                metric,
                (BASE, *(f"after {name}" for name in own)),
                tuple(columns),
                np.array(scores),
                tuple(list(columns).index(name) for name in own),
                tuple(float(np.mean([random.get(code, 0.0) for code in columns[name]])) for name in own),
                sum(len(sample.items) for sample in by_model[0].values()),
            )
        )
    return found


def correlate_gains(scores: Iterable[Score], resamples: int = 1000, seed: int = 0) -> list[Score]:
    """Pearson's and Spearman's correlation of the gains on new (L2) and related (L3) languages.

    Args:
        scores: `gain` rows of groups from several runs or tasks; each run and task that has both is a point, but
            for gains in bits per byte, a unit of their own.
        resamples: of the bootstrap over points, for the interval.
        seed: of the bootstrap.

    Returns:
        Two scores, or none where there are fewer than three points or one of the gains does not vary.
    """
    from scipy.stats import pearsonr, rankdata  # slow to import

    gains: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.metric == GAIN and not score.language and score.group in ("L2", "L3") and not is_in_bits(score):
            gains.setdefault((score.run, score.task), {})[score.group] = score.value
    points = np.array([[both["L2"], both["L3"]] for both in gains.values() if len(both) == 2])
    if len(points) < 3 or (np.ptp(points, axis=0) == 0).any():
        return []
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest_key(seed, "correlation"), "little")))
    resampled = points[generator.integers(0, len(points), (resamples, len(points)))]
    tasks = ",".join(sorted({task for _, task in gains}))
    result = []
    for name in ("pearson", "spearman"):
        # Spearman's coefficient is Pearson's of the ranks.
        every = np.concatenate([points[None], resampled])  # [1 + resamples, points, 2]
        every = rankdata(every, axis=1) if name == "spearman" else every
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of resamples in which a gain does not vary: they have no coefficient
            found = pearsonr(every[..., 0], every[..., 1], axis=1).statistic
        low, high = percentile_interval(np.concatenate([found[:1], found[1:][np.isfinite(found[1:])]]))
        signature = {"metric": GAIN, "points": len(points)}
        result.append(Score("", tasks, "", "L2-L3", name, float(found[0]), low, high, len(points), signature))
    return result
