"""Interpolation with the base after training (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models",
arXiv 2109.01903; against forgetting in language adaptation: Alexandrov et al. 2024, arXiv 2407.08699).

`instructalign merge` does the same to saved models, for several alphas, and picks one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from instructalign.config import Config, Probability
from instructalign.training.strategies.parameter_deltas import adapted_layers, adapter_problems, low_rank
from instructalign.training.strategies.strategy import Setting, Strategy

if TYPE_CHECKING:
    import torch


class Interpolate(Strategy):
    """After the last step, W ← W0 + alpha · (W - W0), W0 being the base's weights.

    Args:
        alpha: from 0, which leaves the base, to 1, which changes nothing.
    """

    whole = True

    def __init__(self, *, alpha: Probability = 0.5) -> None:
        self.alpha = alpha
        self._base: dict[str, torch.Tensor] = {}

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose change of the base is no product of two factors."""
        return adapter_problems(config)

    def prepare(self, setting: Setting) -> None:
        """Copies the base's weights to the CPU."""
        self._base = {name: weight.detach().cpu().clone() for name, weight in _free(setting.model).items()}

    def finish(self, model: torch.nn.Module) -> None:
        """Goes back the way from the base; an adapter does so by its second factor."""
        import torch

        with torch.no_grad():
            for name, weight in _free(model).items():
                base = self._base[name].to(weight.device)
                weight.copy_(base.float().lerp(weight.float(), self.alpha))
            for _, layer in adapted_layers(model):
                low_rank(layer)[1].mul_(self.alpha)

    def record(self) -> dict[str, float]:
        """The memory of the copy, on the CPU."""
        return {"memory": sum(copy.nbytes for copy in self._base.values())}


def _free(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The trained weights that are no factor of an adapter."""
    factors = {id(weight) for _, layer in adapted_layers(model) for weight in layer.parameters()}
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.requires_grad and id(weight) not in factors
    }
