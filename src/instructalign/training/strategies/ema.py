"""Exponential moving average of the weights (Polyak and Juditsky 1992, "Acceleration of Stochastic Approximation
by Averaging"; with exponential weights as in Tarvainen and Valpola 2017, arXiv 1703.01780).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instructalign.training.strategies.strategy import Strategy, StrategyContext

if TYPE_CHECKING:
    import torch


class EMA(Strategy):
    """After every step, mean ← decay · mean + (1 - decay) · W; at the end the mean replaces W.

    The mean starts as the base, whose share in it is decay ** steps: with 0.999, 61 % after 500 steps and less
    than 1 % after 5 000. During training, the held-out loss is that of W.

    Args:
        decay: the share of the mean that each step keeps.
    """

    needs_full_weights = True

    def __init__(self, *, decay: Annotated[float, Field(ge=0, lt=1)] = 0.999) -> None:
        self.decay = decay
        self._means: dict[str, torch.Tensor] = {}

    def prepare(self, context: StrategyContext) -> None:
        """Starts with the base's weights."""
        self._means = {name: weight.detach().float().clone() for name, weight in _trained(context.model)}

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Updates the mean."""
        for name, weight in _trained(model):
            self._means[name].lerp_(weight.detach().float(), 1 - self.decay)

    @contextmanager
    def in_place_of(self, model: torch.nn.Module) -> Iterator[None]:
        """Inside, the model has the mean as its weights."""
        own = [(weight, weight.data) for _, weight in _trained(model)]
        for name, weight in _trained(model):
            weight.data = self._means[name].to(weight.dtype)
        try:
            yield
        finally:
            for weight, data in own:
                weight.data = data

    def finish(self, model: torch.nn.Module) -> None:
        """Copies the mean into the model."""
        for name, weight in _trained(model):
            weight.data.copy_(self._means[name])

    def state(self) -> dict[str, torch.Tensor]:
        """The mean."""
        return self._means

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Restores the mean."""
        self._means = {name: state[name].to(mean.device) for name, mean in self._means.items()}

    def costs(self) -> dict[str, float]:
        """The memory of the mean, which each checkpoint stores as well."""
        size = sum(mean.nbytes for mean in self._means.values())
        return {"memory": size, "disk": size}


def _trained(model: torch.nn.Module) -> list[tuple[str, torch.nn.Parameter]]:
    from instructalign.training.models import unwrapped

    return [(name, weight) for name, weight in unwrapped(model).named_parameters() if weight.requires_grad]
