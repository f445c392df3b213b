"""Scores with bootstrap confidence intervals, by language and group.

Intervals come from the bootstrap over items (Efron 1979; for test scores Koehn 2004), percentile method, 95 %.
Items are resampled by id: all prompts, all languages of a parallel test set and both models of a comparison
see the same resamples, so that what they share cancels out of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.classification_metrics import (
    CLASSIFICATION_METRICS,
    majority_matrix,
    random_score,
)
from instructalign.files import text_hash
from instructalign.randomness import digest_key
from instructalign.types import Prediction, Score

BootstrapScores = NDArray[np.float64]
"""A score on the items themselves, then on each bootstrap resample of them: [..., 1 + resamples]."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model did on one task in one language, item by item.

    Attributes:
        task, language: what was measured.
        prompts, items: ids.
        statistics: [prompts, items, k]; their sum over items is all that the score needs.
        score: the metric, from sums [..., k] to scores [...].
        labels: those of a classification task, in its order. Its statistics are the cells of the confusion matrix.
        lower_is_better: whether a lower score is the better one.
        guessing: where items have options of their own, the expected accuracy of choosing one at random.
    """

    task: str
    language: str
    prompts: tuple[str, ...]
    items: tuple[str, ...]
    statistics: NDArray[np.floating]
    score: Callable[[NDArray[np.float64]], BootstrapScores]
    labels: tuple[str, ...] = ()
    lower_is_better: bool = False
    guessing: float | None = None

    @property
    def sign(self) -> int:
        """1, or -1 where a lower score is better: what a difference of scores times this says is a gain."""
        return -1 if self.lower_is_better else 1


def sample_of_predictions(predictions: Sequence[Prediction], metric: str = "f1_weighted") -> Sample:
    """The predictions of one task in one language as cells of the confusion matrix.

    Raises:
        DataError: there are none, or they are not one for each item and prompt.
    """
    if not predictions:
        raise DataError("there are no predictions to score.")
    first = predictions[0]
    labels = tuple(dict.fromkeys(label for prediction in predictions for label in prediction.scores))
    prompts = tuple(dict.fromkeys(prediction.prompt for prediction in predictions))
    items = tuple(dict.fromkeys(prediction.item for prediction in predictions))
    by_place = {(prediction.prompt, prediction.item): prediction for prediction in predictions}
    if len(by_place) != len(predictions) or len(by_place) != len(prompts) * len(items):
        raise DataError(
            f"the predictions of {first.task} in {first.language} are not one for each of {len(items)} items "
            f"under each of {len(prompts)} prompts, but {len(predictions)}."
        )
    index = {label: number for number, label in enumerate(labels)}
    cells = [
        [index[found.gold] * len(labels) + index[found.predicted] for found in (by_place[p, i] for i in items)]
        for p in prompts
    ]
    statistics = np.eye(len(labels) ** 2, dtype=np.float32)[np.array(cells)]
    sample = Sample(first.task, first.language, prompts, items, statistics, lambda sums: sums[..., 0], labels)
    if first.by_item:
        sizes = [len(prediction.scores) for prediction in predictions]
        return with_metric(replace(sample, guessing=float(np.mean([1 / size for size in sizes]))), "accuracy")
    return with_metric(sample, metric)


def ratio(sums: NDArray[np.float64]) -> BootstrapScores:
    """The first count over the second, `sums` [..., 2]; 0 where nothing was counted."""
    return np.divide(sums[..., 0], sums[..., 1], out=np.zeros(sums.shape[:-1]), where=sums[..., 1] > 0)


def with_metric(sample: Sample, metric: str) -> Sample:
    """The same predictions of a classification task, scored by one of `CLASSIFICATION_METRICS`."""
    size, measure = len(sample.labels), CLASSIFICATION_METRICS[metric]
    return replace(sample, score=lambda sums: measure(sums.reshape(*sums.shape[:-1], size, size)))


class Bootstrap:
    """Resampled weights of items, the same for the same ids.

    Args:
        resamples: how many; 0 for no intervals.
        seed: of the random numbers.
    """

    def __init__(self, resamples: int, seed: int) -> None:
        self.resamples, self.seed = resamples, seed
        self._weights: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._scores: dict[
            int, tuple[Sample, BootstrapScores]
        ] = {}  # by id; keeping the sample keeps its id valid

    def weights(self, items: tuple[str, ...]) -> NDArray[np.float32]:
        """How often each item is in each resample, [1 + resamples, items]; the first row is all ones."""
        if items not in self._weights:
            n = len(items)
            counts = self._generator("bootstrap", items).multinomial(n, np.full(n, 1 / n), size=self.resamples)
            self._weights[items] = np.concatenate([np.ones((1, n)), counts]).astype(np.float32)
        return self._weights[items]

    def swaps(self, items: tuple[str, ...]) -> NDArray[np.float32]:
        """Which items change sides in each random swap, [1 + resamples, items]; in the first none does."""
        chosen = self._generator("swaps", items).integers(0, 2, (self.resamples, len(items)))
        return np.concatenate([np.zeros((1, len(items))), chosen]).astype(np.float32)

    def _generator(self, purpose: str, items: tuple[str, ...]) -> np.random.Generator:
        key = digest_key(self.seed, purpose, text_hash(list(items)))
        return np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))

    def by_prompt(self, sample: Sample) -> BootstrapScores:
        """A sample's score under each prompt: [prompts, 1 + resamples]."""
        if id(sample) not in self._scores:
            weights = self.weights(sample.items)
            # Counts stay exact in float32, and the product is twice as fast as in float64.
            scores = np.stack([sample.score((weights @ some).astype(np.float64)) for some in sample.statistics])
            self._scores[id(sample)] = sample, scores
        return self._scores[id(sample)][1]

    def scores(self, samples: Sequence[Sample]) -> BootstrapScores:
        """The mean over prompts, and over the samples (languages): [1 + resamples]."""
        mean: BootstrapScores = np.mean([self.by_prompt(sample).mean(0) for sample in samples], axis=0)
        return mean


def percentile_interval(scores: BootstrapScores) -> tuple[float | None, float | None]:
    """The 95 % confidence interval of a score; none without resamples."""
    if len(scores) < 2:
        return None, None
    low, high = np.quantile(scores[1:], [0.025, 0.975])
    return float(low), float(high)


Signer = Callable[[Sequence[Sample]], Mapping[str, Any]]
"""Makes the signature of a score from the samples that it is made of."""


def signer(entry: Mapping[str, Any], *, model: str = "", bootstrap: int, **more: Any) -> Signer:
    """Makes signatures: what was measured, field by field, so that two scores can be known to be comparable.

    Args:
        entry: what the manifest of an evaluation records of the task (split, scoring, questions, version, …).
        model: hash of the model.
        bootstrap: number of bootstrap resamples.
        **more: further fields, put last.
    """
    optional = ("split", "scoring", "shots", "headline", "dtype", "engine", "version")
    noted = {name: entry[name] for name in optional if entry.get(name)}

    def sign(samples: Sequence[Sample]) -> dict[str, Any]:
        fields = {
            "task": samples[0].task,
            "languages": [sample.language for sample in samples],
            "n": [len(sample.items) for sample in samples],
            "prompts": list(samples[0].prompts),
            "questions": str(entry.get("questions", ""))[:8],
            "bootstrap": bootstrap,
            "model": model,
        }
        return {name: value for name, value in {**fields, **noted, **more}.items() if value != ""}

    return sign


def score_rows(
    samples: Sequence[Sample],
    scores: Mapping[str, BootstrapScores] | Bootstrap,
    groups: Mapping[str, Sequence[str]],
    run: str,
    metric: str,
    sign: Signer,
) -> list[Score]:
    """A row for each language and one for each group, which is the mean of its languages.

    Args:
        samples: one a language.
        scores: by language; or the bootstrap that makes the samples' own.
        groups: language codes by group.
        run, metric: what the rows call them.
        sign: makes the signatures.
    """
    if isinstance(scores, Bootstrap):
        scores = {sample.language: scores.scores([sample]) for sample in samples}
    rows = []
    group_of = {code: name for name, codes in [*groups.items()][::-1] for code in codes}
    places = [(sample.language, group_of.get(sample.language, ""), [sample]) for sample in samples]
    places += [("", name, [s for s in samples if s.language in codes]) for name, codes in groups.items()]
    for language, group, members in places:
        if members:
            mean = np.mean([scores[member.language] for member in members], axis=0)
            low, high = percentile_interval(mean)
            n = sum(len(member.items) for member in members)
            task, value = members[0].task, float(mean[0])
            rows.append(Score(run, task, language, group, metric, value, low, high, n, sign(members)))
    return rows


def score_classification(
    samples: Sequence[Sample],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    sign: Signer,
) -> list[Score]:
    """Every classification metric of one task, by language and by group, and the same of the two baselines.

    Args:
        samples: one a language.
        groups: language codes by group; a group's score is the mean over its languages.
        run: name of the run.
        bootstrap: gives the intervals.
        sign: makes the signatures.

    Returns:
        Scores of the run, and of runs named `random` and `majority`, which have no interval.
    """
    rows = []
    # Where items have options of their own, a label means something else in each: F1 over labels says nothing.
    by_item = samples[0].guessing is not None
    metrics = {"accuracy": CLASSIFICATION_METRICS["accuracy"]} if by_item else CLASSIFICATION_METRICS
    for metric in metrics:
        measured = [with_metric(sample, metric) for sample in samples]
        rows += score_rows(measured, bootstrap, groups, run, metric, sign)
    baselines: dict[str, list[Score]] = {"random": [], "majority": []}
    support = {
        sample.language: sample.statistics[0].sum(0, dtype=np.float64).reshape(len(sample.labels), -1).sum(1)
        for sample in samples
    }
    for metric, measure in metrics.items():
        chance = {code: random_score(counts, metric) for code, counts in support.items()}
        if by_item:
            chance = {sample.language: sample.guessing or 0.0 for sample in samples}
        most = {code: float(measure(majority_matrix(counts))) for code, counts in support.items()}
        for name, values in (("random", chance), ("majority", most)):
            baseline = {code: np.atleast_1d(value) for code, value in values.items()}
            baselines[name] += score_rows(samples, baseline, groups, name, metric, sign)
    rows += [*baselines["random"], *baselines["majority"]]
    return rows
