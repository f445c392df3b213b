"""Prompts and seeds as a second source of variance beside items.

A score is a mean over a few levels (prompts, or seeds) of scores on the same items. The bootstrap over items says
how it would vary with other items and the same levels; this module estimates how it would vary with other levels.
Levels and items are crossed random effects, for which no bootstrap is exact (McCullagh 2000; Owen 2007); with the
three to six levels that are usual, resampling levels is also far too coarse. So the variance components are
estimated as in the analysis of variance (Brennan 2001, "Generalizability Theory"; Bouthillier et al. 2021 on
seeds), and the interval takes its width from Student's t with the degrees of freedom of Satterthwaite (1946).
`benchmarks/coverage.py` shows how often the intervals of each way hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from scipy.special import stdtrit

from instructalign.evaluation.bootstrap import BootstrapScores, percentile_interval


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean over levels, or a difference of two.

    Attributes:
        value: the mean.
        low, high: its 95 % interval over levels and items (of a single level, over items); None without resamples.
        deviation: the standard deviation of the levels' scores; None with a single level.
    """

    value: float
    low: float | None
    high: float | None
    deviation: float | None

    @property
    def excludes_zero(self) -> bool:
        """Whether the interval is wholly above or below 0; false where there is none."""
        return self.low is not None and self.high is not None and not self.low <= 0 <= self.high


def over_levels(
    scores: BootstrapScores,
    items: int,
    *,
    minus: BootstrapScores | None = None,
    bounds: tuple[float, float] = (0, 1),
) -> Estimate:
    """The mean over levels, with its interval over levels and items.

    With a single level on each side it is the percentile interval of the (paired) bootstrap over items.

    Args:
        scores: by level, [levels, 1 + resamples].
        items: how many items they are on.
        minus: scores on the same items and resamples that are subtracted: levels of their own (other seeds), or a
            single row for something that has no levels (the base).
        bounds: what the score lies between; the interval is clipped to it.
    """
    sides = [scores] if minus is None else [scores, minus]
    mean = scores.mean(0) if minus is None else scores.mean(0) - minus.mean(0)
    value = float(mean[0])
    deviation = float(scores[:, 0].std(ddof=1)) if len(scores) > 1 else None
    if max(map(len, sides)) == 1:
        return Estimate(value, *percentile_interval(mean), deviation)
    if scores.shape[1] < 3:
        return Estimate(value, None, None, deviation)
    # Mean squares as they enter the variance of the mean, each with its degrees of freedom: that of the items,
    # and of each side what its levels add.
    parts = [(float(mean[1:].var(ddof=1)), items - 1.0)]
    for side in sides:
        parts += _between(side, items)
    variance = sum(part for part, _ in parts)
    spread = sum(part**2 / max(freedom, 1.0) for part, freedom in parts)
    freedom = variance**2 / spread if spread > 0 else 1.0  # Satterthwaite 1946
    half = student_quantile(freedom) * variance**0.5
    return Estimate(value, max(bounds[0], value - half), min(bounds[1], value + half), deviation)


def _between(scores: BootstrapScores, items: int) -> list[tuple[float, float]]:
    """What levels add to the variance of a mean, as (part, degrees of freedom)."""
    levels = len(scores)
    if levels < 2:
        return []
    # The variance between the levels' scores is that of levels and that of levels × items together. How large the
    # latter is shows in how the levels' scores move apart from one resample to the next. The bootstrap over items
    # has counted it already, so it is subtracted once.
    both = float(scores[:, 0].var(ddof=1))
    interaction = float((scores[:, 1:] - scores[:, :1]).var(axis=0, ddof=1).mean())
    if both <= interaction:
        return []
    return [(both / levels, levels - 1.0), (-interaction / levels, (levels - 1.0) * max(items - 1, 1))]


def student_quantile(freedom: float) -> float:
    """The 97.5 % quantile of Student's t; the degrees of freedom need not be whole, and count as at least 1."""
    return float(stdtrit(max(freedom, 1.0), 0.975))


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The 95 % interval of the mean of at least two values, by Student's t (Student 1908)."""
    half = student_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return fmean(values) - half, fmean(values) + half
