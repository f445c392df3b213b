"""L2-SP: L2 regularisation towards the starting point (Li, Grandvalet and Davoine 2018, "Explicit Inductive Bias
for Transfer Learning with Convolutional Networks", arXiv 1802.01483, equation 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from instructalign.config import Config
from instructalign.training.strategies.parameter_deltas import ParameterDeltas, adapter_problems
from instructalign.training.strategies.strategy import PenaltyWeight, Strategy, StrategyContext

if TYPE_CHECKING:
    import torch


class L2SP(Strategy):
    """Adds `weight / 2 · |W - W0|²` to the loss of a step, W0 being the base's weights.

    Under LoRA, W - W0 is the scaled product of the adapter's factors.

    Args:
        weight: the penalty's weight (α in the paper).
    """

    needs_full_weights = True
    _deltas: ParameterDeltas  # from `prepare` on

    def __init__(self, *, weight: PenaltyWeight = 0.01) -> None:
        self.weight = weight

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose delta is not a low-rank product."""
        return adapter_problems(config)

    def prepare(self, context: StrategyContext) -> None:
        """Copies the base's weights."""
        self._deltas = ParameterDeltas(context.model)

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The squared distance from the base."""
        return self.weight / 2 * self._deltas.sum_of_squares()

    def costs(self) -> dict[str, float]:
        """The memory of the copy."""
        return {"memory": self._deltas.bytes}
