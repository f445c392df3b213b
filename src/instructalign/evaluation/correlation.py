"""Whether what a run gains on one group of languages goes with what it gains on another."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from instructalign.evaluation.significance import interval
from instructalign.randomness import digest_key
from instructalign.records import Score


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
