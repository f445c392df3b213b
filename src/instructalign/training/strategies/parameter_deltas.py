"""Parameter deltas: how training changes the base model's weights, with an adapter and without."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from instructalign.config import Config


class ParameterDeltas:
    """The delta W - W0 of every trained weight, as something a gradient flows through.

    Without an adapter these are the model's trainable weights. Under an adapter, the delta of an adapted layer is
    the scaled product of its low-rank factors; its own weight is frozen. What is trained beside an adapter
    (embeddings) is treated like a weight without one.

    Args:
        model: the model as it is trained, with the base's weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        self._adapted = dict(adapted_layers(model))
        self._free = free_parameters(model)
        self._base = {name: weight.detach().clone() for name, weight in self._free.items()}

    @property
    def bytes(self) -> int:
        """The memory of the copies of the base's weights."""
        return sum(copy.nbytes for copy in self._base.values())

    def base_parameters(self) -> dict[str, torch.nn.Parameter]:
        """By name, the parameters that the deltas refer to: the trained ones, and those under an adapter."""
        layers = {name: layer.get_base_layer().weight for name, layer in self._adapted.items()}
        return {**self._free, **layers}

    def sum_of_squares(self, scales: dict[str, torch.Tensor] | None = None) -> torch.Tensor:
        """The sum of the squared deltas, each multiplied by its scale.

        Args:
            scales: by name (of `base_parameters`), a tensor of the weight's shape; None for ones.
        """
        import torch
        from torch.utils.checkpoint import checkpoint

        def term(delta: Callable[[], torch.Tensor], scale: torch.Tensor | None) -> torch.Tensor:
            square = delta().float().square()
            return square.sum() if scale is None else (square * scale).sum()

        total = torch.zeros(())
        for name, delta in self._deltas():
            scale = None if scales is None else scales[name]
            # Recomputed in the backward pass, so that only one weight's delta is in memory at a time.
            square: torch.Tensor = checkpoint(term, delta, scale, use_reentrant=False, preserve_rng_state=False)
            total = total.to(square.device) + square
        return total

    def _deltas(self) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
        """Each weight's name, with a function that computes its delta."""
        for name, weight in self._free.items():
            base = self._base[name]
            yield name, lambda weight=weight, base=base: weight - base  # type: ignore[misc]
        for name, layer in self._adapted.items():
            yield name, lambda layer=layer: layer.get_delta_weight(layer.active_adapters[0])  # type: ignore[misc]


def adapted_layers(model: torch.nn.Module) -> Iterator[tuple[str, Any]]:
    """The layers of a model that have a trained low-rank adapter, by name; none without an adapter."""
    if not hasattr(model, "peft_config"):
        return
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        adapted: Any = module
        if isinstance(module, LoraLayer) and any(weight.requires_grad for weight in adapted.parameters()):
            yield name, adapted


def free_parameters(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The trained parameters that are not factors of an adapter, by name."""
    factors = {id(weight) for _, layer in adapted_layers(model) for weight in layer.parameters()}
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.requires_grad and id(weight) not in factors
    }


def low_rank(layer: Any) -> tuple[Any, Any]:
    """The factors A and B of an adapted layer; the delta of its weight is their scaled product B A."""
    [adapter] = layer.active_adapters
    if adapter in layer.lora_A:
        return layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    return layer.lora_embedding_A[adapter], layer.lora_embedding_B[adapter]


def adapter_problems(config: Config, *, dora: bool = False) -> Iterator[str]:
    """Why the configured adapter is incompatible with a strategy that needs parameter deltas.

    Args:
        config: the run's configuration.
        dora: whether the delta may be something other than a low-rank product added to the base's weight.
    """
    adapter = config.model.adapter
    if adapter is None:
        return
    if adapter.type == "dora" and not dora:
        yield (
            "does not work with model.adapter.type dora, which rescales whole rows of the base's weights; use "
            "lora, or no adapter"
        )
    if adapter.init in ("pissa", "olora"):
        yield (
            f"does not work with model.adapter.init {adapter.init}, which moves a part of the base's weights into "
            "the adapter; use init default"
        )
