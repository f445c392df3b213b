"""What a strategy can do to a training run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from instructalign.mixture import ReplayBuffer
    from instructalign.training.model import LoadedModel


class Strategy:
    """A way to keep what the model knew. Every hook does nothing unless a strategy overrides it.

    Constructors take keyword-only options; their annotations are the strategy's keys in the configuration.
    """

    def prepare(self, loaded: LoadedModel, replay: ReplayBuffer) -> None:
        """Called once before training, with the base model and the past data."""

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """A scalar added to the loss of every optimizer step, or None."""
        return None

    def before_update(self, model: torch.nn.Module) -> None:
        """Called when the gradients of a step are complete and clipped, before the optimizer uses them."""

    def after_update(self, model: torch.nn.Module) -> None:
        """Called when the optimizer has changed the weights."""

    def finish(self, model: torch.nn.Module) -> None:
        """Called once after the last step, before the model is saved."""
