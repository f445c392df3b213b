"""Freezing the bottom of the model: the lower layers and the input embeddings (Zheng et al. 2025, "Spurious
Forgetting in Continual Learning of Language Models", arXiv 2501.13453).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from instructalign.config import Config, Positive
from instructalign.errors import TrainingError
from instructalign.training.strategies.strategy import Setting, Strategy

if TYPE_CHECKING:
    import torch


class Freeze(Strategy):
    """Keeps the bottom layers as they are; they take no memory for gradients and optimizer either.

    Args:
        layers: how many layers from the input on; in encoder-decoder models of the encoder and of the decoder.
        embeddings: whether the input embeddings are kept too. Where the output layer has the same weights, it is
            kept with them.
    """

    def __init__(self, *, layers: Positive, embeddings: bool = True) -> None:
        self.layers = layers
        self.embeddings = embeddings
        self._frozen = 0

    def problems(self, config: Config) -> Iterable[str]:
        """An adapter that trains the embeddings, which would be frozen."""
        if self.embeddings and config.model.adapter and config.model.adapter.train_embeddings:
            yield (
                "freezes the embeddings, which model.adapter.train_embeddings trains; set embeddings to false "
                "here, or train_embeddings to false there"
            )

    def prepare(self, setting: Setting) -> None:
        """Freezes the weights before the optimizer exists.

        Raises:
            TrainingError: the model has no more layers than would be frozen.
        """
        model = setting.model
        kept = [layer for stack in layer_stacks(model) for layer in self._bottom(stack, setting.loaded.name)]
        if self.embeddings:
            kept.append(setting.loaded.model.get_input_embeddings())
        for weight in {id(weight): weight for module in kept for weight in module.parameters()}.values():
            weight.requires_grad_(False)
            self._frozen += weight.numel()

    def _bottom(self, stack: torch.nn.ModuleList, name: str) -> Iterable[torch.nn.Module]:
        if self.layers >= len(stack):
            raise TrainingError(
                f"training.strategy.freeze.layers is {self.layers}, but {name} has {len(stack)} layers, and at "
                f"least one must be trained: set it to {len(stack) - 1} or less."
            )
        return stack[: self.layers]

    def record(self) -> dict[str, float]:
        """How many weights are frozen."""
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
