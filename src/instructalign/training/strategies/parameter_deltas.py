"""What training makes of the base's weights, with an adapter and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from instructalign.config import Config


class Changes:
    """The change W - W0 of every weight that is trained, as something a gradient flows through.

    Without an adapter these are the model's trainable weights. Under an adapter, the change of an adapted layer is
    the product of its low-rank factors, scaled; its own weight is not touched. What is trained beside an adapter
    (embeddings) counts like a weight without one.

    Args:
        model: the model as it is trained, with the base's weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._adapted = dict(adapted_layers(model))
        inside = {id(weight) for layer in self._adapted.values() for weight in layer.parameters()}
        self._free = {
            name: weight
            for name, weight in model.named_parameters()
            if weight.requires_grad and id(weight) not in inside
        }
        self._base = {name: weight.detach().clone() for name, weight in self._free.items()}

    @property
    def bytes(self) -> int:
        """What the copies of the base's weights take."""
        return sum(copy.nbytes for copy in self._base.values())

    def bases(self) -> dict[str, torch.nn.Parameter]:
        """By the names of `each`, the weights that the changes are changes of."""
        layers = {name: layer.get_base_layer().weight for name, layer in self._adapted.items()}
        return {**self._free, **layers}

    def each(self) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
        """Each weight's name, with a function that computes its change."""
        for name, weight in self._free.items():
            base = self._base[name]
            yield name, lambda weight=weight, base=base: weight - base  # type: ignore[misc]
        for name, layer in self._adapted.items():
            yield name, lambda layer=layer: layer.get_delta_weight(layer.active_adapters[0])  # type: ignore[misc]

    def sum_of_squares(self, scales: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The sum of the squared changes, each multiplied by its scale.

        No change is kept for the backward pass; each is computed again there, so that no more than one weight's
        is in memory at a time.

        Args:
            scales: by name, a tensor of the weight's shape; None for ones.
        """
        import torch
        from torch.utils.checkpoint import checkpoint

        total = torch.zeros(())
        for name, change in self.each():
            scale = None if scales is None else scales[name]

            def term(change: Any = change, scale: torch.Tensor | None = scale) -> torch.Tensor:
                square: torch.Tensor = change().float().square()
                return square.sum() if scale is None else (square * scale).sum()

            square: torch.Tensor = checkpoint(term, use_reentrant=False, preserve_rng_state=False)
            total = total.to(square.device) + square
        return total


def adapted_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of a model that have a trained low-rank adapter, by name; none without an adapter."""
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        adapted: Any = module
        if isinstance(module, LoraLayer) and any(weight.requires_grad for weight in adapted.parameters()):
            yield name, adapted


def low_rank(layer: Any) -> tuple[Any, Any]:
    """The factors A and B of an adapted layer: what is added to its weight is their scaled product B A."""
    [adapter] = layer.active_adapters
    if adapter in layer.lora_A:
        return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]


def unwrapped(model: Any) -> Any:
    """The model inside the wrapper for several processes."""
    import torch

    while isinstance(getattr(model, "module", None), torch.nn.Module):
        model = model.module
    return model


def adapter_problems(config: Config, *, dora: bool = False) -> Iterator[str]:
    """What is wrong with the configured adapter for a strategy that asks what training changes of the base.

    Args:
        config: the run's configuration.
        dora: whether that may be more than the product of two factors, added to the base.
    """
    adapter = config.model.adapter
    if adapter is None:
        return
    if adapter.type == "dora" and not dora:
        yield (
            "does not work under model.adapter.type dora, which rescales whole rows of the base's weights; use "
            "lora, or no adapter"
        )
    if adapter.init in ("pissa", "olora"):
        yield (
            f"does not work under model.adapter.init {adapter.init}, which moves a part of the weights into "
            "the adapter; use init default"
        )
