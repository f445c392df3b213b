"""What becomes of one weight when saved models are merged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from instructalign.randomness import digest_key

Method = Literal["linear", "ties", "dare"]
BLOCK = 1 << 22  # elements that are worked on at a time, in float64


@dataclass(frozen=True, slots=True)
class Recipe:
    """How models are merged: base + alpha · (what the methods makes of the changes, weighed).

    With d_i the change of model i from the base and w_i its weight:

    - `linear`: Σ w_i d_i, task arithmetic (Ilharco et al. 2023, arXiv 2212.04089); with one model, interpolation
      with the base.
    - `ties`: of each d_i the elements of largest size, then the mean, weighed by w_i, of those whose sign is that
      of Σ w_i d_i (Yadav et al. 2023, arXiv 2306.01708).
    - `dare`: of each d_i elements chosen by chance, made larger by 1 / density; then as `linear` (Yu et al. 2024,
      arXiv 2311.03099).

    What TIES keeps is chosen in each weight by itself, not over the whole model, so that one is enough in memory.

    Attributes:
        alpha: how far to go from the base, 0 to 1.
        weights: by model.
        method: as above.
        density: part of the elements that `ties` and `dare` keep.
        seed: decides which elements `dare` keeps.
    """

    alpha: float
    weights: tuple[float, ...] = (1.0,)
    method: Method = "linear"
    density: float = 0.2
    seed: int = 0


def merge_weight(
    name: str, base: torch.Tensor, adapted: Sequence[torch.Tensor], recipe: Recipe, dtype: torch.dtype
) -> torch.Tensor:
    """One merged weight, in a given type; computed in float64, so that alpha 0 and 1 give back what went in.

    Args:
        name: the weight's, for the draws of `dare`.
        base: the base's.
        adapted: the models', in the order of the recipe's weights.
        recipe: how.
        dtype: of the result.
    """
    merged = torch.empty(base.shape, dtype=dtype)
    combine = _combiner(name, base, adapted, recipe)
    flat, start, others = merged.view(-1), base.reshape(-1), [each.reshape(-1) for each in adapted]
    for block in _blocks(len(flat)):
        origin = start[block].double()
        changes = torch.stack([each[block].double() - origin for each in others])
        flat[block] = (origin + recipe.alpha * combine(changes)).to(dtype)
    return merged


def _blocks(size: int) -> Iterator[slice]:
    return (slice(first, first + BLOCK) for first in range(0, size, BLOCK))


def _combiner(
    name: str, base: torch.Tensor, adapted: Sequence[torch.Tensor], recipe: Recipe
) -> Callable[[torch.Tensor], torch.Tensor]:
    """What makes one change of the changes, [models, elements], of one block after the other."""
    weights = torch.tensor(recipe.weights, dtype=torch.float64)[:, None]
    if recipe.method == "ties":
        least = torch.tensor([[_least(base, each, recipe.density)] for each in adapted], dtype=torch.float64)
        return lambda changes: elected(changes * (changes.abs() >= least), weights)
    if recipe.method == "dare":
        seed = int.from_bytes(digest_key(recipe.seed, "dare", name)[:8], "little") >> 1
        chance = torch.Generator().manual_seed(seed)

        def dropped(changes: torch.Tensor) -> torch.Tensor:
            kept = torch.rand(changes.shape, generator=chance, dtype=torch.float64) < recipe.density
            return (weights * changes * kept / recipe.density).sum(dim=0)

        return dropped
    return lambda changes: (weights * changes).sum(dim=0)


def _least(base: torch.Tensor, adapted: torch.Tensor, density: float) -> float:
    """The size from which on a change is among the largest."""
    sizes = (adapted.double() - base.double()).abs().flatten()
    kept = max(1, round(density * len(sizes)))
    return float(sizes.kthvalue(len(sizes) - kept + 1).values)


def elected(changes: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """The weighed mean of those changes that have the sign of their weighed sum; 0 where there are none.

    Args:
        changes: [models, elements].
        weights: [models, 1].
    """
    sign = (weights * changes).sum(dim=0).sign()
    agree = (changes.sign() == sign) & (changes != 0)
    return (weights * changes * agree).sum(dim=0) / (weights * agree).sum(dim=0).clamp(min=1e-12)
