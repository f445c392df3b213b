"""Scores with intervals, by language and group.

Intervals come from the bootstrap over items (Efron 1979; for test scores Koehn 2004), percentile method, 95 %.
Items are resampled by id: all prompts, all languages of a parallel test set and both models of a comparison
see the same draw, so that what they share cancels out of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.classification_metrics import METRICS, majority_counts, random_counts
from instructalign.files import text_hash
from instructalign.randomness import digest_key
from instructalign.types import Prediction, Score

Values = NDArray[np.float64]
"""A score on the items themselves, and behind it on every resampled draw: [1 + rounds]."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one model answered on one task in one language.

    Attributes:
        task, language: what was asked.
        labels: the labels, in the task's order.
        prompts: ids of the prompts.
        items: ids of the items.
        gold: [items], index of the right label.
        predicted: [prompts, items], index of the label that the model preferred.
    """

    task: str
    language: str
    labels: tuple[str, ...]
    prompts: tuple[str, ...]
    items: tuple[str, ...]
    gold: NDArray[np.int64]
    predicted: NDArray[np.int64]


def outcome_of(predictions: Sequence[Prediction]) -> Outcome:
    """Gathers the predictions of one task in one language.

    Raises:
        DataError: there are none, or not every item was asked under every prompt.
    """
    if not predictions:
        raise DataError("there are no predictions to score.")
    first = predictions[0]
    labels = tuple(first.scores)
    index = {label: number for number, label in enumerate(labels)}
    prompts = tuple(dict.fromkeys(prediction.prompt for prediction in predictions))
    items = tuple(dict.fromkeys(prediction.item for prediction in predictions))
    answers = {(prediction.prompt, prediction.item): prediction for prediction in predictions}
    if len(answers) != len(predictions) or len(answers) != len(prompts) * len(items):
        raise DataError(
            f"the predictions of {first.task} in {first.language} are not one for each of {len(items)} items "
            f"under each of {len(prompts)} prompts, but {len(predictions)}."
        )
    gold = [index[answers[prompts[0], item].gold] for item in items]
    predicted = [[index[answers[prompt, item].predicted] for item in items] for prompt in prompts]
    return Outcome(
        first.task, first.language, labels, prompts, items, np.array(gold), np.array(predicted, dtype=np.int64)
    )


@dataclass(frozen=True, slots=True)
class Sample:
    """What one model did item by item, as statistics whose sum over items is all that a score needs.

    Attributes:
        task, language, prompts, items: what was asked.
        statistics: [prompts, items, k].
        score: from sums [..., k] to scores [...].
        labels: those of a classification task.
    """

    task: str
    language: str
    prompts: tuple[str, ...]
    items: tuple[str, ...]
    statistics: NDArray[np.floating]
    score: Callable[[NDArray[np.float64]], Values]
    labels: tuple[str, ...] = ()


Asked = Outcome | Sample
"""Whatever knows its task, language, prompts and items."""


def sample_of(outcome: Outcome, metric: str) -> Sample:
    """A classification outcome as confusion cells, whose sums a metric is a function of."""
    size = len(outcome.labels)
    cells = np.eye(size * size, dtype=np.float32)[outcome.gold * size + outcome.predicted]
    measure = METRICS[metric]

    def score(sums: NDArray[np.float64]) -> Values:
        return measure(sums.reshape(*sums.shape[:-1], size, size))

    asked = (outcome.task, outcome.language, outcome.prompts, outcome.items)
    return Sample(*asked, cells, score, outcome.labels)


class Bootstrap:
    """Resampled weights of items, the same for the same ids.

    Args:
        rounds: how many draws; 0 for no intervals.
        seed: of the draws.
    """

    def __init__(self, rounds: int, seed: int) -> None:
        self.rounds, self.seed = rounds, seed
        self._weights: dict[tuple[str, ...], NDArray[np.float32]] = {}
        self._known: dict[int, tuple[Sample, NDArray[np.float64]]] = {}  # by id, which the sample kept holds on to

    def weights(self, items: tuple[str, ...]) -> NDArray[np.float32]:
        """How often each item stands in each draw, [1 + rounds, items]; the first row is all ones."""
        if items not in self._weights:
            key = digest_key(self.seed, "bootstrap", text_hash(list(items)))
            generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
            n = len(items)
            draws = generator.multinomial(n, np.full(n, 1 / n), size=self.rounds)
            self._weights[items] = np.concatenate([np.ones((1, n)), draws]).astype(np.float32)
        return self._weights[items]

    def swaps(self, items: tuple[str, ...]) -> NDArray[np.float32]:
        """Which items change sides in each random swap, [1 + rounds, items]; in the first none does."""
        key = digest_key(self.seed, "swaps", text_hash(list(items)))
        generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
        chosen = generator.integers(0, 2, (self.rounds, len(items)))
        return np.concatenate([np.zeros((1, len(items))), chosen]).astype(np.float32)

    def by_prompt(self, sample: Sample) -> NDArray[np.float64]:
        """A sample's score under each prompt, on the items and on every draw: [prompts, 1 + rounds]."""
        if id(sample) not in self._known:
            self._known[id(sample)] = sample, self._scores(sample)
        return self._known[id(sample)][1]

    def values(self, outcome: Outcome, metric: str) -> Values:
        """A metric, averaged over the prompts, on the items and on every draw."""
        mean: Values = self._scores(sample_of(outcome, metric)).mean(0)
        return mean

    def _scores(self, sample: Sample) -> NDArray[np.float64]:
        weights = self.weights(sample.items)
        return np.stack([sample.score((weights @ some).astype(np.float64)) for some in sample.statistics])


def interval(values: Values) -> tuple[float | None, float | None]:
    """The 95 % interval of the draws behind a value; none without draws."""
    if len(values) < 2:
        return None, None
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(low), float(high)


Signature = Callable[[Sequence[Asked]], Mapping[str, Any]]
"""Makes the signature of a score from the samples that it is made of."""


def signer(entry: Mapping[str, Any], *, model: str = "", bootstrap: int, **more: Any) -> Signature:
    """Makes signatures: what was measured, field by field, so that two scores can be known to be comparable.

    Args:
        entry: what the manifest of an evaluation records of the task (split, scoring, questions, version, …).
        model: hash of the model.
        bootstrap: number of bootstrap resamples.
        **more: further fields, put last.
    """
    noted = {name: entry[name] for name in ("split", "scoring", "dtype", "engine", "version") if entry.get(name)}

    def sign(chosen: Sequence[Asked]) -> dict[str, Any]:
        fields = {
            "task": chosen[0].task,
            "languages": [each.language for each in chosen],
            "n": [len(each.items) for each in chosen],
            "prompts": list(chosen[0].prompts),
            "questions": str(entry.get("questions", ""))[:8],
            "bootstrap": bootstrap,
            "model": model,
        }
        return {name: value for name, value in {**fields, **noted, **more}.items() if value != ""}

    return sign


def score_outcomes(
    outcomes: Sequence[Outcome],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    signature: Signature,
) -> list[Score]:
    """Every metric of one task, by language and by group, with the two baselines beside.

    Args:
        outcomes: one a language.
        groups: language codes by group; a group's score is the mean over its languages.
        run: name of the run.
        bootstrap: gives the intervals.
        signature: says what a score measures, from the outcomes it is made of.

    Returns:
        Scores of the run, and of runs named `random` and `majority`, which have no interval.
    """
    scores = []
    for metric in METRICS:
        values = {outcome.language: bootstrap.values(outcome, metric) for outcome in outcomes}
        scores += score_rows(outcomes, values, groups, run, metric, signature)
    for name, counts in (("random", random_counts), ("majority", majority_counts)):
        for metric, measure in METRICS.items():
            values = {
                outcome.language: np.atleast_1d(measure(counts(outcome.gold, len(outcome.labels))))
                for outcome in outcomes
            }
            scores += score_rows(outcomes, values, groups, name, metric, signature)
    return scores


def score_rows(
    asked: Sequence[Asked],
    values: Mapping[str, Values],
    groups: Mapping[str, Sequence[str]],
    run: str,
    metric: str,
    signature: Signature,
) -> list[Score]:
    """One score a language and one a group, from values by language; a group's is the mean of its languages'."""
    rows = []
    for each in asked:
        group = next((name for name, codes in groups.items() if each.language in codes), "")
        rows.append(_score(run, each.language, group, metric, values[each.language], [each], signature))
    for group, codes in groups.items():
        members = [each for each in asked if each.language in codes]
        if members:
            mean = np.mean([values[each.language] for each in members], axis=0)
            rows.append(_score(run, "", group, metric, mean, members, signature))
    return rows


def _score(
    run: str,
    language: str,
    group: str,
    metric: str,
    values: Values,
    asked: Sequence[Asked],
    signature: Signature,
) -> Score:
    low, high = interval(values)
    count = sum(len(each.items) for each in asked)
    return Score(run, asked[0].task, language, group, metric, float(values[0]), low, high, count, signature(asked))
