"""Interpolation with the base after training (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models",
arXiv 2109.01903; against forgetting in language adaptation: Alexandrov et al. 2024, arXiv 2407.08699).

`instructalign merge` does the same with saved models, for several values of alpha, and chooses one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from instructalign.config import Config, Probability
from instructalign.training.strategies.parameter_deltas import (
    adapted_layers,
    adapter_problems,
    free_parameters,
    low_rank,
)
from instructalign.training.strategies.strategy import Strategy, StrategyContext

if TYPE_CHECKING:
    import torch


class Interpolate(Strategy):
    """After the last step, W ← W0 + alpha · (W - W0), W0 being the base's weights.

    Args:
        alpha: from 0 (the base) to 1 (no change).
    """

    needs_full_weights = True

    def __init__(self, *, alpha: Probability = 0.5) -> None:
        self.alpha = alpha
        self._base: dict[str, torch.Tensor] = {}

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose delta is not a low-rank product."""
        return adapter_problems(config)

    def prepare(self, context: StrategyContext) -> None:
        """Copies the base's weights to the CPU."""
        parameters = free_parameters(context.model)
        self._base = {name: weight.detach().cpu().clone() for name, weight in parameters.items()}

    def finish(self, model: torch.nn.Module) -> None:
        """Interpolates; with an adapter by scaling the second factor."""
        for name, weight in free_parameters(model).items():
            base = self._base[name].to(weight.device).float()
            weight.data.copy_(base.lerp(weight.detach().float(), self.alpha))
        for _, layer in adapted_layers(model):
            low_rank(layer)[1].data.mul_(self.alpha)

    def costs(self) -> dict[str, float]:
        """The memory of the copy, on the CPU."""
        return {"memory": sum(copy.nbytes for copy in self._base.values())}
