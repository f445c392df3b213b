"""Freezing the bottom of the model: the lower layers and the input embeddings (Zheng et al. 2025, "Spurious
Forgetting in Continual Learning of Language Models", arXiv 2501.13453).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from instructalign.config import Config, Positive
from instructalign.errors import TrainingError
from instructalign.training.strategies.strategy import Strategy, StrategyContext

if TYPE_CHECKING:
    import torch


class Freeze(Strategy):
    """Freezes the bottom layers; they need no memory for gradients and optimizer states either.

    Args:
        layers: how many layers, counted from the input; in encoder-decoder models of the encoder and the decoder
            each.
        embeddings: whether the input embeddings are frozen too. An output layer that is tied to them is then
            frozen with them.
    """

    def __init__(self, *, layers: Positive, embeddings: bool = True) -> None:
        self.layers = layers
        self.embeddings = embeddings
        self._frozen = 0

    def problems(self, config: Config) -> Iterable[str]:
        """An adapter that trains the embeddings, or new rows of them, which would be frozen."""
        if self.embeddings and config.model.vocabulary:
            yield "freezes the embeddings, to which model.vocabulary adds rows; set embeddings to false here"
        if self.embeddings and config.model.adapter and config.model.adapter.train_embeddings:
            yield (
                "freezes the embeddings, which model.adapter.train_embeddings trains; set embeddings to false "
                "here, or train_embeddings to false there"
            )

    def prepare(self, context: StrategyContext) -> None:
        """Freezes the parameters before the optimizer exists.

        Raises:
            TrainingError: no layer would be left to train.
        """
        frozen: list[Any] = []
        for stack in layer_stacks(context.model):
            if self.layers >= len(stack):
                raise TrainingError(
                    f"training.strategy.freeze.layers is {self.layers}, but {context.loaded.name} has "
                    f"{len(stack)} layers and at least one must be trained: set it to {len(stack) - 1} or less."
                )
            frozen += stack[: self.layers]
        if self.embeddings:
            frozen.append(context.loaded.model.get_input_embeddings())
        for weight in {id(weight): weight for module in frozen for weight in module.parameters()}.values():
            weight.requires_grad_(False)
            self._frozen += weight.numel()

    def costs(self) -> dict[str, float]:
        """The number of frozen parameters."""
        return {"frozen": self._frozen}


def layer_stacks(model: torch.nn.Module) -> list[Any]:
    """The stacks of layers of a model: one, or those of encoder and decoder.

    They are the outermost lists of modules, whatever they are called.
    """
    import torch

    stacks: dict[str, torch.nn.Module] = {}
    for name, module in model.named_modules():
        inside = any(name.startswith(f"{outer}.") for outer in stacks)
        if isinstance(module, torch.nn.ModuleList) and len(module) > 0 and not inside:
            stacks[name] = module
    return list(stacks.values())
