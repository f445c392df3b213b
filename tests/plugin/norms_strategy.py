"""A strategy of a plug-in: gradients of normalisation layers are damped."""

from __future__ import annotations

from typing import Any

from instructalign.training.strategies import Strategy


class DampNorms(Strategy):
    """Multiplies the gradients of normalisation layers."""

    def __init__(self, *, factor: float = 0.0) -> None:
        self.factor = factor
        self.steps = 0

    def before_update(self, model: Any, step: int) -> None:
        self.steps += 1
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.grad.mul_(self.factor)

    def costs(self) -> dict[str, float]:
        return {"steps": self.steps}
