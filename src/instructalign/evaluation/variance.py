"""Prompts and seeds as a second source of variance beside items.

A score is a mean over a few levels (prompts, or seeds) of scores on the same items. The bootstrap over items says
how it would vary with other items and the same levels; here it is said how it would vary with other levels too.
Levels and items are crossed random effects, for which no bootstrap is exact (McCullagh 2000; Owen 2007); with the
three to six levels that are usual, resampling levels is also far too coarse. So the variance components are
estimated as in the analysis of variance (Brennan 2001, "Generalizability Theory"; Bouthillier et al. 2021 on
seeds), and the interval takes its width from Student's t with the degrees of freedom of Satterthwaite (1946).
`benchmarks/coverage.py` shows how often the intervals of each way hold the truth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]
"""Scores by level, on the items themselves and behind them on every draw of items: [levels, 1 + rounds]."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A mean over levels.

    Attributes:
        value: the mean.
        low, high: its 95 % interval over levels and items; None with a single level, or without draws.
        deviation: the standard deviation of the levels' scores; None with a single level.
        levels: how many they are.
    """

    value: float
    low: float | None
    high: float | None
    deviation: float | None
    levels: int


def over_levels(
    values: Draws, items: int, *, minus: Draws | None = None, bounds: tuple[float, float] = (0, 1)
) -> Spread:
    """The mean over levels, with its interval over levels and items.

    Args:
        values: the scores.
        items: how many items they are on.
        minus: scores on the same items that are subtracted: levels of their own (other seeds), or a single row
            for something that has no levels (the base).
        bounds: what the score lies between; the interval is cut to it.
    """
    sides = [values] if minus is None else [values, minus]
    signs = (1, -1)
    draws = sum(sign * side.mean(0) for sign, side in zip(signs, sides, strict=False))
    value = float(np.asarray(draws)[0])
    deviation = float(values[:, 0].std(ddof=1)) if len(values) > 1 else None
    if deviation is None or values.shape[1] < 3:
        return Spread(value, None, None, deviation, len(values))
    # Mean squares, each with its degrees of freedom and its sign in the variance of the mean.
    parts = [(float(np.asarray(draws)[1:].var(ddof=1)), items - 1.0)]
    for side in sides:
        parts += _between(side, items)
    variance, freedom = _combine(parts)
    half = student_quantile(freedom) * variance**0.5
    return Spread(value, max(bounds[0], value - half), min(bounds[1], value + half), deviation, len(values))


def _between(values: Draws, items: int) -> list[tuple[float, float]]:
    """What levels add to the variance of a mean, as (part, degrees of freedom); the draws have the rest already.

    The spread of the levels' scores is that of the levels and that of levels and items together. How much the
    latter is, the draws tell: it is how the levels' scores move apart from one draw to the next. As the draws over
    items hold it too, it is taken off once.
    """
    levels = len(values)
    if levels < 2:
        return []
    both = float(values[:, 0].var(ddof=1))
    together = float((values[:, 1:] - values[:, :1]).var(axis=0, ddof=1).mean())
    if both <= together:
        return []
    return [(both / levels, levels - 1.0), (-together / levels, (levels - 1.0) * max(items - 1, 1))]


def _combine(parts: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of mean squares, and its degrees of freedom (Satterthwaite 1946)."""
    total = sum(part for part, _ in parts)
    spread = sum(part**2 / max(freedom, 1.0) for part, freedom in parts)
    return total, (total**2 / spread if spread > 0 else 1.0)


def student_quantile(freedom: float, share: float = 0.975) -> float:
    """The quantile of Student's t.

    With t = √f · tan θ its density is that of cosᶠ⁻¹ θ, which is smooth and bounded, so that a sum over a grid
    is exact to four digits.

    Args:
        freedom: degrees of freedom, at least 1; need not be whole.
        share: the probability below the quantile.
    """
    freedom = min(max(freedom, 1.0), 1e4)
    angles = np.linspace(0, np.pi / 2, 20_001)
    density = np.cos(angles) ** (freedom - 1)
    steps = (density[1:] + density[:-1]) / 2
    below = np.concatenate([[0.0], np.cumsum(steps)])
    angle = np.interp((2 * share - 1) * below[-1], below, angles)
    return float(np.sqrt(freedom) * np.tan(angle))
