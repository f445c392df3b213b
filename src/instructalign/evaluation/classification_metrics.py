"""Accuracy and F1 from confusion counts, and what guessing would reach.

The statistic of an item is the cell of the confusion matrix that it falls in. Every score is a function of
the cells' sums, so that resampled items need new sums and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
"""Confusion counts [..., gold label, predicted label]."""


def confusion(gold: NDArray[np.int64], predicted: NDArray[np.int64], labels: int) -> Counts:
    """Counts how often each label was taken for each; both arrays [items], values from 0 to labels - 1."""
    cells = np.bincount(gold * labels + predicted, minlength=labels * labels)
    return cells.reshape(labels, labels).astype(np.float64)


def accuracy(counts: Counts) -> NDArray[np.float64]:
    """The share of items whose label was right."""
    return _ratio(_hits(counts).sum(-1), counts.sum((-2, -1)))


def f1_micro(counts: Counts) -> NDArray[np.float64]:
    """F1 of all decisions together; with one label an item, the same as accuracy."""
    return accuracy(counts)


def f1_macro(counts: Counts) -> NDArray[np.float64]:
    """The mean F1 of the labels that are right or predicted somewhere (scikit-learn's default)."""
    here = (counts.sum(-1) + counts.sum(-2)) > 0
    return _ratio((_f1(counts) * here).sum(-1), here.sum(-1).astype(np.float64))


def f1_weighted(counts: Counts) -> NDArray[np.float64]:
    """The mean F1 of the labels, each weighted by how many items have it; the paper's headline score."""
    support = counts.sum(-1)
    return _ratio((_f1(counts) * support).sum(-1), support.sum(-1))


METRICS: Mapping[str, Callable[[Counts], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "f1_micro": f1_micro,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
}


def random_counts(gold: NDArray[np.int64], labels: int) -> Counts:
    """The counts to expect of a guesser to whom all labels are alike."""
    support = np.bincount(gold, minlength=labels).astype(np.float64)
    return np.repeat(support[:, None] / labels, labels, axis=1)


def majority_counts(gold: NDArray[np.int64], labels: int) -> Counts:
    """The counts of one who always answers the most frequent label (the first, where several are)."""
    support = np.bincount(gold, minlength=labels)
    return confusion(gold, np.full_like(gold, int(support.argmax())), labels)


def _hits(counts: Counts) -> NDArray[np.float64]:
    return np.diagonal(counts, axis1=-2, axis2=-1)


def _f1(counts: Counts) -> NDArray[np.float64]:
    """By label; 0 where a label is neither right nor predicted anywhere."""
    return _ratio(2 * _hits(counts), counts.sum(-1) + counts.sum(-2))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
