"""The test items whose prediction changed most between two models."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from instructalign.types import Prediction

_SMALLEST = 0.005  # a change of probability that is shown: reports have whole percents


@dataclass(frozen=True, slots=True)
class PredictionChange:
    """How the probability of one item's gold label changed, averaged over prompts.

    Attributes:
        task, language, item, gold: the item.
        before, after: the gold label's probability among the task's labels, 0 to 1.
        predicted_before, predicted_after: the label predicted under most prompts.
    """

    task: str
    language: str
    item: str
    gold: str
    before: float
    after: float
    predicted_before: str
    predicted_after: str


def most_changed(
    before: Iterable[Prediction], after: Iterable[Prediction], count: int = 10
) -> tuple[list[PredictionChange], list[PredictionChange]]:
    """The items whose gold label gained most probability, and those where it lost most.

    Items whose probability changed by less than half a percentage point did not change.

    Args:
        before, after: predictions of the two models; items that only one has are left out.
        count: how many each way at most.
    """
    old: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    new: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for by_item, predictions in ((old, before), (new, after)):
        for p in predictions:
            by_item[p.task, p.language, p.item].append(p)
    changes = []
    for key in old.keys() & new.keys():
        p_old, p_new = (sum(map(gold_probability, some[key])) / len(some[key]) for some in (old, new))
        was, now = (Counter(p.predicted for p in some[key]).most_common(1)[0][0] for some in (old, new))
        changes.append(PredictionChange(*key, old[key][0].gold, p_old, p_new, was, now))
    changes.sort(key=lambda c: (c.before - c.after, c.task, c.language, c.item))
    gained = [change for change in changes[:count] if change.after - change.before >= _SMALLEST]
    lost = [change for change in changes[::-1][:count] if change.before - change.after >= _SMALLEST]
    return gained, lost


def gold_probability(prediction: Prediction) -> float:
    """The gold label's share of the labels' likelihood, 0 to 1: a softmax over the summed log-likelihoods."""
    top = max(prediction.scores.values())
    weights = {label: math.exp(score - top) for label, score in prediction.scores.items()}
    return weights.get(prediction.gold, 0.0) / sum(weights.values())
