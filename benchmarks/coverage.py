"""How often intervals over prompts (or seeds) and items hold the truth: three ways, on made-up answers.

`python benchmarks/coverage.py --out docs/results/coverage.md`

Answers are right with a probability that depends on the item, on the level (a prompt, a seed) and on both
together. Levels and items are drawn anew for each experiment, so that the accuracy over all there are is known,
and an interval of 95 % should hold it in 95 of 100 experiments.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np

from instructalign.evaluation.bootstrap import BootstrapScores, percentile_interval
from instructalign.evaluation.variance import over_levels
from machine import describe, put

Bounds = tuple[float, float]

LEVELS, ITEMS = (2, 3, 6), (100, 400)
APART = (0.0, 0.1, 0.3)  # standard deviation of the levels, in logits
OF_ITEMS, TOGETHER, MEAN = 1.0, 0.7, 0.3  # of the items, of levels and items together; and the mean, in logits


def over_items(scores: BootstrapScores, items: int, generator: np.random.Generator) -> Bounds:
    """The bootstrap over items, for the given levels."""
    return _bounds(percentile_interval(scores.mean(0)))


def resampled(scores: BootstrapScores, items: int, generator: np.random.Generator) -> Bounds:
    """The bootstrap over levels and items, each resampled by itself (Owen 2007)."""
    levels, resamples = scores.shape[0], scores.shape[1] - 1
    weights = generator.multinomial(levels, np.full(levels, 1 / levels), resamples) / levels
    return _bounds(percentile_interval(np.concatenate([[0.0], (scores[:, 1:].T * weights).sum(1)])))


def components(scores: BootstrapScores, items: int, generator: np.random.Generator) -> Bounds:
    """Variance components with Student's t: what instructalign does."""
    found = over_levels(scores, items)
    return _bounds((found.low, found.high))


WAYS: dict[str, Callable[[BootstrapScores, int, np.random.Generator], Bounds]] = {
    "items only": over_items,
    "levels and items resampled": resampled,
    "variance components": components,
}


def _bounds(found: tuple[float | None, float | None]) -> Bounds:
    low, high = found
    return (-np.inf, np.inf) if low is None or high is None else (low, high)


def experiment(
    levels: int, items: int, apart: float, resamples: int, generator: np.random.Generator
) -> BootstrapScores:
    """Accuracies by level on made-up answers, on the items and on resamples of them."""
    logits = MEAN + generator.normal(0, apart, (levels, 1)) + generator.normal(0, OF_ITEMS, items)
    logits = logits + generator.normal(0, TOGETHER, (levels, items))
    right = generator.random((levels, items)) < 1 / (1 + np.exp(-logits))
    weights = generator.multinomial(items, np.full(items, 1 / items), resamples) / items
    return np.concatenate([right.mean(1)[:, None], right @ weights.T], axis=1)


def truth(apart: float) -> float:
    """The accuracy over all levels and items there are, by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    spread = np.sqrt(apart**2 + OF_ITEMS**2 + TOGETHER**2)
    return float((weights / (1 + np.exp(-(MEAN + spread * nodes)))).sum() / weights.sum())


def measure(levels: int, items: int, apart: float, experiments: int, resamples: int) -> list[str]:
    """The table's cells: by way, the share of intervals that hold the truth, and their mean width in points."""
    generator = np.random.default_rng([levels, items, round(100 * apart)])
    expected = truth(apart)
    held, width = dict.fromkeys(WAYS, 0), dict.fromkeys(WAYS, 0.0)
    for _ in range(experiments):
        scores = experiment(levels, items, apart, resamples, generator)
        for name, way in WAYS.items():
            low, high = way(scores, items, generator)
            held[name] += low <= expected <= high
            width[name] += 100 * (high - low) / experiments
    return [f"{100 * held[name] / experiments:.1f} ({width[name]:.1f})" for name in WAYS]


def main() -> None:
    """Measures every case and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiments", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500, help="bootstrap resamples")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    rows = [
        "| levels | items | spread of levels | " + " | ".join(WAYS) + " |",
        "| ---: | ---: | ---: |" + " ---: |" * 3,
    ]
    for levels, items, apart in product(LEVELS, ITEMS, APART):
        cells = measure(levels, items, apart, given.experiments, given.resamples)
        rows.append(f"| {levels} | {items} | {apart} | " + " | ".join(cells) + " |")
        print(rows[-1], flush=True)
    error = 100 * np.sqrt(0.95 * 0.05 / given.experiments)
    put(
        [
            "# How often an interval over prompts or seeds holds the truth",
            f"Made by `python benchmarks/coverage.py --out docs/results/coverage.md` on {describe('numpy')}.",
            f"Percent of 95 % intervals that hold the accuracy over all levels and items there are, with their "
            f"mean width in points, in {given.experiments} experiments a line of {given.resamples} resamples each "
            f"(standard error {error:.1f}). Levels are prompts or seeds; their spread is the standard deviation "
            f"in logits (items: {OF_ITEMS}; levels and items together: {TOGETHER}).",
            "\n".join(rows),
        ],
        given.out,
    )


if __name__ == "__main__":
    main()
