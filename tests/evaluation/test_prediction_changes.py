from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from instructalign.evaluation.prediction_changes import gold_probability, most_changed
from instructalign.types import Prediction


def prediction_of(item: int) -> Prediction:
    """A prediction with made-up log-likelihoods."""
    scores = dict(zip(("a", "b", "c"), np.random.default_rng(item).normal(-6, 1, 3).tolist(), strict=True))
    best = max(scores, key=lambda label: scores[label])
    return Prediction("mood", "eng", "p", str(item), "abc"[item % 3], best, scores, dict.fromkeys(scores, 2), 0)


def test_gold_probability_is_a_softmax() -> None:
    for prediction in (prediction_of(item) for item in range(50)):
        shares = dict(zip(prediction.scores, softmax(list(prediction.scores.values())), strict=True))
        assert gold_probability(prediction) == pytest.approx(shares[prediction.gold])


def test_most_changed_items_are_those_that_moved_most() -> None:
    before = [prediction_of(item) for item in range(20)]
    moved = {"5": 4.0, "7": 2.0, "9": -3.0}
    after = [_pushed(p, moved.get(p.item, 0.0)) for p in before if p.item != "11"]
    gained, lost = most_changed(before, after)
    assert {shift.item for shift in gained} == {"5", "7"}
    assert [shift.item for shift in lost] == ["9"]
    assert lost[0].after < lost[0].before
    assert most_changed(before, before) == ([], [])
    hardly = [_pushed(p, 0.01 if p.item in moved else 0.0) for p in before]  # less than half a percentage point
    assert most_changed(before, hardly) == ([], [])


def _pushed(prediction: Prediction, by: float) -> Prediction:
    scores = dict(prediction.scores)
    scores[prediction.gold] += by
    return replace(prediction, scores=scores)
