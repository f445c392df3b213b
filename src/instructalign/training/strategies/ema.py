"""Exponential moving average of the weights (Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation
by Averaging"; with exponential weights as in Tarvainen and Valpola 2017, arXiv 1703.01780).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instructalign.training.strategies.parameter_deltas import unwrapped
from instructalign.training.strategies.strategy import Setting, Strategy

if TYPE_CHECKING:
    import torch

Decay = Annotated[float, Field(ge=0, lt=1)]


class EMA(Strategy):
    """After every step, mean ← decay · mean + (1 - decay) · W; the mean takes the place of W at the end.

    The mean begins with the base, which keeps a part of decay ** steps in it: with 0.999, 61 % after 500 steps,
    less than 1 % after 5 000. While training, the held-out loss is that of W.

    Args:
        decay: how much of the mean stays each step.
    """

    whole = True

    def __init__(self, *, decay: Decay = 0.999) -> None:
        self.decay = decay
        self._means: dict[str, torch.Tensor] = {}

    def prepare(self, setting: Setting) -> None:
        """Begins with the base's weights."""
        self._means = {name: weight.detach().float().clone() for name, weight in _trained(setting.model).items()}

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Moves the mean."""
        for name, weight in _trained(model).items():
            self._means[name].lerp_(weight.detach().float(), 1 - self.decay)

    def finish(self, model: torch.nn.Module) -> None:
        """Puts the mean into the model."""
        import torch

        with torch.no_grad():
            for name, weight in _trained(model).items():
                weight.copy_(self._means[name])

    def state(self) -> dict[str, torch.Tensor]:
        """The mean."""
        return self._means

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Takes the mean over."""
        self._means = {name: state[name].to(mean.device) for name, mean in self._means.items()}

    def record(self) -> dict[str, float]:
        """The memory of the mean, which each checkpoint holds as well."""
        size = sum(mean.nbytes for mean in self._means.values())
        return {"memory": size, "disk": size}


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: weight for name, weight in unwrapped(model).named_parameters() if weight.requires_grad}
