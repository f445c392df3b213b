"""What is done to the modules of a loaded model: wrappers, output layer, activations, compilation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from instructalign.errors import ModelError


@contextmanager
def logits_at(model: torch.nn.Module, positions: torch.Tensor) -> Iterator[None]:
    """Inside, the model's output layer runs only where it is wanted.

    The logits of a call then have the shape [chosen, vocabulary], in the order of `positions.nonzero()`,
    instead of [batch, seq, vocabulary]: with 250 880 tokens in the vocabulary and a loss on answers only,
    most of the work and memory of a step. Works for every model whose logits come from its output embedding.

    Args:
        model: a `PreTrainedModel`, possibly wrapped for peft or for distribution.
        positions: bool [batch, seq]; for encoder-decoder models over the decoder's sequence. Or the places of
            those wanted in the flattened sequence, [chosen], which a GPU need not be waited for to find.
    """
    head = unwrapped(model).get_output_embeddings()

    def choose(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        hidden = inputs[0]
        if positions.dtype == torch.bool:
            return (hidden[positions], *inputs[1:])
        return (hidden.flatten(0, -2).index_select(0, positions), *inputs[1:])

    handle = head.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        handle.remove()


def checkpoint_activations(model: Any) -> None:
    """Makes a model compute activations again in the backward pass instead of keeping them in memory."""
    enable = getattr(model, "activation_checkpointing_enable", None)
    if enable is not None:
        enable(activation_checkpointing_kwargs={"use_reentrant": False})
    else:  # transformers before 5.20 calls it so
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def compile_layers(model: Any) -> None:
    """Lets PyTorch compile a model's layers when they first run, each kind once for all and for all lengths.

    What stands around the layers, the loss among it, stays as it is.

    Raises:
        ModelError: the model does not say which of its modules are layers.
    """
    kinds = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in kinds]
    if not layers:
        raise ModelError(
            f"training.compile compiles a model's layers, and {type(model).__name__} does not say which of its "
            "modules are layers (_no_split_modules). Set training.compile: false."
        )
    for layer in layers:
        layer.compile(dynamic=True)


def unwrapped(model: torch.nn.Module) -> Any:
    """The model inside what it was wrapped in for distribution."""
    while hasattr(model, "module") and isinstance(model.module, torch.nn.Module):
        model = model.module
    return model
