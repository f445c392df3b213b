"""Measures of continual learning: ACC, BWT, FWT, forgetting, and correlation of gains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import interval
from instructalign.randomness import digest_key
from instructalign.types import Score


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
        sign = {"metric": "gain", "points": len(points)}
        result.append(Score("", tasks, "", "L2-L3", name, value, low, high, len(points), sign))
    return result


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
