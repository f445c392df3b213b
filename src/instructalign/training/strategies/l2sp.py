"""L2-SP: a spring to the starting point (Li, Grandvalet and Davoine 2018, "Explicit Inductive Bias for Transfer
Learning with Convolutional Networks", arXiv 1802.01483, equation 2).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instructalign.config import Config
from instructalign.training.strategies.parameter_deltas import Changes, adapter_problems
from instructalign.training.strategies.strategy import Setting, Strategy

if TYPE_CHECKING:
    import torch

Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class L2SP(Strategy):
    """Adds `weight / 2 · |W - W0|²` to the loss of a step, W0 being the base's weights.

    Under LoRA, W - W0 is the scaled product of the adapter's factors.

    Args:
        weight: the spring's strength (α in the paper).
    """

    whole = True
    _changes: Changes  # from `prepare` on

    def __init__(self, *, weight: Weight = 0.01) -> None:
        self.weight = weight

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose change of the base is no product of two factors."""
        return adapter_problems(config)

    def prepare(self, setting: Setting) -> None:
        """Copies the base's weights."""
        self._changes = Changes(setting.model)

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The spring's energy."""
        return self.weight / 2 * self._changes.sum_of_squares()

    def record(self) -> dict[str, float]:
        """The memory of the copy."""
        return {"memory": self._changes.bytes}
