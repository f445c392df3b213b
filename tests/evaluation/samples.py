"""Samples of made-up answers to a classification task."""

from __future__ import annotations

import numpy as np

from instructalign.evaluation.bootstrap import sample_of_predictions
from instructalign.types import Prediction

LABELS = ("a", "b", "c")


def sample(language, gold, *predicted, metric="accuracy", labels=LABELS, items=None, prompts=None):
    """A sample from the numbers of the gold labels and, for each prompt, those of the predicted ones."""
    names = items or [f"i{number}" for number in range(len(gold))]
    scores, tokens = dict.fromkeys(labels, -1.0), dict.fromkeys(labels, 1)
    predictions = [
        Prediction("task", language, prompt, item, labels[truth], labels[answer], scores, tokens)
        for prompt, answers in zip(prompts or [f"p{n}" for n in range(len(predicted))], predicted, strict=True)
        for item, truth, answer in zip(names, gold, answers, strict=True)
    ]
    return sample_of_predictions(predictions, metric)


def random_sample(language, seed, size=300, skill=0.6, prompts=2, metric="accuracy"):
    """Answers that are right with a probability of `skill`, and else random."""
    generator = np.random.default_rng(seed)
    gold = np.arange(size) % 3
    answers = [
        np.where(generator.random(size) < skill, gold, generator.integers(0, 3, size)) for _ in range(prompts)
    ]
    return sample(language, gold, *answers, metric=metric)


def right_or_wrong(language, right, items=None):
    """A sample that is right where the array [prompts, items] says so."""
    right = np.atleast_2d(right).astype(bool)
    wrong = np.where(right, 0, 1)
    return sample(language, np.zeros(right.shape[1], dtype=int), *wrong, labels=("a", "b"), items=items)
