"""Scores with intervals: by language and group, and the change between two models.

Intervals come from the bootstrap over items (Efron 1979; for test scores Koehn 2004), percentile method, 95 %.
Items are resampled by id: all prompts, all languages of a parallel test set and both models of a comparison
see the same draw, so that what they share cancels out of differences.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.metrics import METRICS, majority_counts, random_counts
from instructalign.files import text_hash
from instructalign.randomness import digest_key
from instructalign.records import Prediction, Score

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


class Bootstrap:
    """Resampled weights of items, the same for the same ids.

    Args:
        rounds: how many draws; 0 for no intervals.
        seed: of the draws.
    """

    def __init__(self, rounds: int, seed: int) -> None:
        self.rounds, self.seed = rounds, seed
        self._weights: dict[tuple[str, ...], NDArray[np.float32]] = {}

    def weights(self, items: tuple[str, ...]) -> NDArray[np.float32]:
        """How often each item stands in each draw, [1 + rounds, items]; the first row is all ones."""
        if items not in self._weights:
            key = digest_key(self.seed, "bootstrap", text_hash(list(items)))
            generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
            n = len(items)
            draws = generator.multinomial(n, np.full(n, 1 / n), size=self.rounds)
            self._weights[items] = np.concatenate([np.ones((1, n)), draws]).astype(np.float32)
        return self._weights[items]

    def values(self, outcome: Outcome, metric: str) -> Values:
        """A metric, averaged over the prompts, on the items and on every draw."""
        weights = self.weights(outcome.items)
        size = len(outcome.labels)
        total = np.zeros(len(weights))
        for predicted in outcome.predicted:
            cells = np.eye(size * size, dtype=np.float32)[outcome.gold * size + predicted]
            counts = (weights @ cells).astype(np.float64).reshape(-1, size, size)
            total += METRICS[metric](counts)
        return total / len(outcome.predicted)


def interval(values: Values) -> tuple[float | None, float | None]:
    """The 95 % interval of the draws behind a value; none without draws."""
    if len(values) < 2:
        return None, None
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return float(low), float(high)


Signature = Callable[[Sequence[Outcome]], str]


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
        scores += _rows(outcomes, values, groups, run, metric, signature)
    for name, counts in (("random", random_counts), ("majority", majority_counts)):
        for metric, measure in METRICS.items():
            values = {
                outcome.language: np.atleast_1d(measure(counts(outcome.gold, len(outcome.labels))))
                for outcome in outcomes
            }
            scores += _rows(outcomes, values, groups, name, metric, signature)
    return scores


def compare_outcomes(
    base: Sequence[Outcome],
    adapted: Sequence[Outcome],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    signature: Signature,
    metric: str = "f1_weighted",
) -> list[Score]:
    """What adapting a model changed on one task.

    `gain` is after − before; `forgetting` is before − after on the known languages, L1 (Lopez-Paz and Ranzato
    2017 call its negative backward transfer). An interval without 0 is a difference that the paired test
    supports at 5 %.

    Args:
        base, adapted: one outcome a language each; the same items and prompts in both.
        groups: language codes by group.
        run: name of the adapted run.
        bootstrap: gives the intervals; both models are resampled alike.
        signature: says what a score measures.
        metric: the score that is compared.

    Raises:
        DataError: the two were not asked the same.
    """
    before = {outcome.language: outcome for outcome in base}
    both = [outcome for outcome in adapted if outcome.language in before]
    gains = {}
    for outcome in both:
        _check_alike(before[outcome.language], outcome)
        gains[outcome.language] = bootstrap.values(outcome, metric) - bootstrap.values(
            before[outcome.language], metric
        )
    known = [outcome for outcome in both if outcome.language in groups.get("L1", ())]
    losses = {outcome.language: -gains[outcome.language] for outcome in known}

    def about(chosen: Sequence[Outcome]) -> str:
        return f"{signature(chosen)}|metric:{metric}"

    return _rows(both, gains, groups, run, "gain", about) + _rows(
        known, losses, {"L1": groups.get("L1", ())}, run, "forgetting", about
    )


def correlate_gains(scores: Sequence[Score], rounds: int = 1000, seed: int = 0) -> list[Score]:
    """Pearson's and Spearman's correlation of the gains on new (L2) and related (L3) languages.

    Args:
        scores: `gain` rows of groups from several runs or tasks; each run and task that has both is a point.
        rounds: draws of the bootstrap over points, for the interval.
        seed: of the draws.

    Returns:
        Two scores, or none where there are fewer than three points or no spread.
    """
    gains: dict[tuple[str, str], dict[str, float]] = {}
    for score in scores:
        if score.metric == "gain" and not score.language and score.group in ("L2", "L3"):
            gains.setdefault((score.run, score.task), {})[score.group] = score.value
    points = np.array([[both["L2"], both["L3"]] for both in gains.values() if len(both) == 2])
    if len(points) < 3 or (np.ptp(points, axis=0) == 0).any():
        return []
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest_key(seed, "correlation"), "little")))
    draws = points[generator.integers(0, len(points), (rounds, len(points)))]
    result = []
    for name, prepare in (("pearson", lambda values: values), ("spearman", _ranks)):
        spread = _correlation(prepare(draws))
        low, high = interval(np.concatenate([[0.0], spread[np.isfinite(spread)]]))
        value = float(_correlation(prepare(points)))
        tasks = ",".join(sorted({task for _, task in gains}))
        result.append(
            Score("", tasks, "", "L2-L3", name, value, low, high, len(points), f"points:{len(points)}|gain")
        )
    return result


def _rows(
    outcomes: Sequence[Outcome],
    values: Mapping[str, Values],
    groups: Mapping[str, Sequence[str]],
    run: str,
    metric: str,
    signature: Signature,
) -> list[Score]:
    """One score a language and one a group, from values by language."""
    rows = []
    for outcome in outcomes:
        group = next((name for name, codes in groups.items() if outcome.language in codes), "")
        rows.append(_score(run, outcome.language, group, metric, values[outcome.language], [outcome], signature))
    for group, codes in groups.items():
        members = [outcome for outcome in outcomes if outcome.language in codes]
        if members:
            mean = np.mean([values[outcome.language] for outcome in members], axis=0)
            rows.append(_score(run, "", group, metric, mean, members, signature))
    return rows


def _score(
    run: str,
    language: str,
    group: str,
    metric: str,
    values: Values,
    outcomes: Sequence[Outcome],
    signature: Signature,
) -> Score:
    low, high = interval(values)
    count = sum(len(outcome.items) for outcome in outcomes)
    task = outcomes[0].task
    return Score(run, task, language, group, metric, float(values[0]), low, high, count, signature(outcomes))


def _check_alike(before: Outcome, after: Outcome) -> None:
    for what in ("labels", "prompts", "items"):
        if getattr(before, what) != getattr(after, what):
            raise DataError(
                f"{before.task} in {before.language}: the two models were not asked the same {what}; evaluate "
                "both with one configuration."
            )


def _ranks(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks along the second last axis, means of ranks where values are equal."""
    smaller = (points[..., :, None, :] > points[..., None, :, :]).sum(-2)
    equal = (points[..., :, None, :] == points[..., None, :, :]).sum(-2)
    ranks: NDArray[np.float64] = smaller + (equal - 1) / 2.0
    return ranks


def _correlation(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pearson's correlation of points [..., n, 2]; not a number where there is no spread."""
    centred = points - points.mean(-2, keepdims=True)
    products: NDArray[np.float64] = (centred[..., 0] * centred[..., 1]).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        result: NDArray[np.float64] = products / np.sqrt((centred**2).sum(-2).prod(-1))
    return result
