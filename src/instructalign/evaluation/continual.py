"""The scores of the continual-learning literature, for a model that learns in several stages."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from instructalign.errors import DataError


@dataclass(frozen=True, slots=True)
class Continual:
    """What was learned, kept and carried over in a row of stages.

    Attributes:
        average: the mean score on all stages' languages in the end (ACC; Lopez-Paz and Ranzato 2017).
        backward: how much a stage's score changed by the stages behind it, on average (BWT; same source);
            below 0 it is what was forgotten. None with one stage.
        forward: how far above chance a stage's score stands before its own training, on average (FWT; same
            source). None with one stage.
        forgetting: how far a stage's score in the end lies below the best it ever was since its training, on
            average (Chaudhry et al. 2018). None with one stage.
    """

    average: float
    backward: float | None
    forward: float | None
    forgetting: float | None


def continual_scores(matrix: ArrayLike, chance: ArrayLike) -> Continual:
    """Computes them from the matrix of scores.

    Args:
        matrix: [stages + 1, stages]; row i, column j is the score on the languages of stage j after i stages,
            so that the first row is the base model's.
        chance: [stages], what guessing scores on the languages of each stage.

    Raises:
        DataError: the shapes do not fit each other.
    """
    scores, guess = np.asarray(matrix, dtype=np.float64), np.asarray(chance, dtype=np.float64)
    stages = guess.size
    if guess.ndim != 1 or stages == 0 or scores.shape != (stages + 1, stages):
        raise DataError(
            f"a matrix of shape {scores.shape} does not fit {stages} stages: it needs a row for the base and one "
            f"for each stage, and a column for each stage: ({stages + 1}, {stages})."
        )
    average = float(scores[-1].mean())
    if stages == 1:
        return Continual(average, None, None, None)
    own = np.array([scores[stage + 1, stage] for stage in range(stages)])
    best = np.array([scores[stage + 1 : stages, stage].max() for stage in range(stages - 1)])
    return Continual(
        average,
        backward=float((scores[-1] - own)[:-1].mean()),
        forward=float(np.mean([scores[stage, stage] - guess[stage] for stage in range(1, stages)])),
        forgetting=float((best - scores[-1, :-1]).mean()),
    )
