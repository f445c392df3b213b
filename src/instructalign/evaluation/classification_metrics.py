"""Accuracy and F1 from confusion matrices, and those of the random and the majority baseline.

The statistic of an item is the cell of the confusion matrix that it falls in. Every metric is a function of the
cells' sums, so that a bootstrap resample needs new sums and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from instructalign.randomness import digest_key

ConfusionMatrix = NDArray[np.float64]
"""Counts [..., gold label, predicted label]."""


def accuracy(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    """The share of items with the right label; with one label an item, the same as micro F1."""
    return _ratio(_hits(matrix).sum(-1), matrix.sum((-2, -1)))


def f1_macro(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    """The mean F1 of the labels that are gold or predicted somewhere (scikit-learn's default)."""
    present = (matrix.sum(-1) + matrix.sum(-2)) > 0
    return _ratio((_f1(matrix) * present).sum(-1), present.sum(-1).astype(np.float64))


def f1_weighted(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    """The mean F1 of the labels, each weighted by how many items have it; the paper's headline metric."""
    support = matrix.sum(-1)
    return _ratio((_f1(matrix) * support).sum(-1), support.sum(-1))


CLASSIFICATION_METRICS: Mapping[str, Callable[[ConfusionMatrix], NDArray[np.float64]]] = {
    "accuracy": accuracy,
    "f1_micro": accuracy,
    "f1_macro": f1_macro,
    "f1_weighted": f1_weighted,
}


def random_score(support: NDArray[np.float64], metric: str) -> float:
    """The expected score of choosing labels at random: exact for accuracy, the mean over draws for F1.

    F1 of the expected confusion matrix would be too high: F1 is concave in what is guessed (Jensen's inequality).

    Args:
        support: [labels], how many items have each gold label.
        metric: one of `CLASSIFICATION_METRICS`.
    """
    count = len(support)
    measure = CLASSIFICATION_METRICS[metric]
    if measure is accuracy:
        return 1 / count if support.sum() > 0 else 0.0
    key = digest_key(0, "random baseline", *(str(int(items)) for items in support))
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(key, "little")))
    guesses = [generator.multinomial(int(items), np.full(count, 1 / count), _DRAWS) for items in support]
    return float(measure(np.stack(guesses, axis=1).astype(np.float64)).mean())


_DRAWS = 10_000  # of the random baseline; the error of the mean is a few hundredths of a point


def majority_matrix(support: NDArray[np.float64]) -> ConfusionMatrix:
    """The confusion matrix of always predicting the most frequent gold label (the first, where several are)."""
    matrix = np.zeros((len(support), len(support)))
    matrix[:, support.argmax()] = support
    return matrix


def _hits(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    return np.diagonal(matrix, axis1=-2, axis2=-1)


def _f1(matrix: ConfusionMatrix) -> NDArray[np.float64]:
    """By label; 0 where a label is neither gold nor predicted anywhere."""
    return _ratio(2 * _hits(matrix), matrix.sum(-1) + matrix.sum(-2))


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
