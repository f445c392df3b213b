"""Source-shielded updates (Yamaguchi et al. 2025, "Mitigating Catastrophic Forgetting in Target Language
Adaptation of LLMs via Source-Shielded Updates", arXiv 2512.04844).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instructalign.config import Config, Positive
from instructalign.errors import TrainingError
from instructalign.training.strategies.calibration_examples import (
    WITHOUT_REPLAY,
    CalibrationSource,
    calibration_examples,
)
from instructalign.training.strategies.parameter_deltas import adapted_layers, adapter_problems, low_rank
from instructalign.training.strategies.strategy import Strategy, StrategyContext, sum_over_processes

if TYPE_CHECKING:
    import torch


class SourceShielded(Strategy):
    """Freezes those columns of each linear layer's weight that matter most for calibration examples.

    A column is what one input feature contributes to all outputs. Its importance is the norm of its column of
    Wanda scores (Sun et al. 2024, arXiv 2306.11695), |W[i, j]| times the norm of feature j over all tokens of the
    examples. The most important columns get no gradient and are bit for bit unchanged at the end, with weight
    decay too, which the published code applies to them. Embeddings, output layer, biases and norms are trained.
    Under LoRA the same columns of the delta are held at zero.

    Args:
        share: the part of the columns of each layer that is frozen (0.5 in the paper).
        on: what importance is measured on: `replay` data, or `known`, sentences in the known languages.
        examples: the number of calibration examples (500 in the paper).
    """

    needs_full_weights = True

    def __init__(
        self,
        *,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        on: CalibrationSource = "replay",
        examples: Positive = 500,
    ) -> None:
        self.share = share
        self.on: CalibrationSource = on
        self.examples = examples
        self.replay_data = "needed" if on == "replay" else "unused"
        self.without_replay = WITHOUT_REPLAY.format(name="ssu")
        self._undo_decay: list[Callable[[], object]] = []
        self._costs = {"frozen": 0.0, "memory": 0.0}

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose delta is not a low-rank product, or does not start at zero."""
        return adapter_problems(config)

    def prepare(self, context: StrategyContext) -> None:
        """Measures importance and blocks the gradient of the most important columns.

        Raises:
            TrainingError: the model has no linear layer that is trained.
        """
        layers = dict(shielded_layers(context.model))
        if not layers:
            raise TrainingError(
                f"training.strategy.ssu found no trainable linear layer in {context.loaded.name} to shield"
            )
        options = [self.on, self.examples]
        norms = context.cached("ssu", options, lambda: self._feature_norms(context, layers))
        decayed = context.config.training.weight_decay > 0
        for name, layer in layers.items():
            self._shield(layer, top_columns(layer, norms[name], self.share), decayed)

    def _feature_norms(self, context: StrategyContext, layers: dict[str, Any]) -> dict[str, torch.Tensor]:
        """By layer, the norm of each input feature over all tokens of the examples, [input features]."""
        import torch

        from instructalign.training.loss import target_logits

        chosen = context.shard(calibration_examples(context, self.on, self.examples))
        squares: dict[str, torch.Tensor] = {}
        handles = []
        for name, layer in layers.items():
            base = _base(layer)
            squares[name] = torch.zeros(base.weight.shape[_input_dimension(base)], dtype=torch.float64)

            def add(_: Any, inputs: tuple[torch.Tensor, ...], total: torch.Tensor = squares[name]) -> None:
                total += inputs[0].detach().flatten(0, -2).double().square().sum(dim=0).cpu()

            handles.append(base.register_forward_pre_hook(add))
        with torch.no_grad():
            for done, batch in enumerate(context.encoded(chosen, size=1)):  # one each: padding must not count
                context.progress("importance of columns", done, len(chosen), "")
                target_logits(context.model, batch, context.loaded.encoder_decoder)
        for handle in handles:
            handle.remove()
        return {name: sum_over_processes(value).sqrt() for name, value in squares.items()}

    def _shield(self, layer: Any, columns: torch.Tensor, decayed: bool) -> None:
        if layer is not _base(layer):  # an adapter: the columns of A are those of the delta
            weight = low_rank(layer)[0]
            weight.data[:, columns] = 0
            weight.register_hook(lambda gradient: gradient.index_fill(1, columns, 0))
            self._costs["frozen"] += len(columns) * layer.out_features
            return
        weight, along = layer.weight, _input_dimension(layer)
        weight.register_hook(lambda gradient: gradient.index_fill(along, columns, 0))
        self._costs["frozen"] += len(columns) * weight.numel() // weight.shape[along]
        if decayed:  # Adam leaves a weight without gradient unchanged, but weight decay does not
            copy = weight.detach().index_select(along, columns)
            self._costs["memory"] += copy.nbytes
            self._undo_decay.append(lambda: weight.data.index_copy_(along, columns, copy))

    def undo_update(self, model: torch.nn.Module, step: int) -> None:
        """Restores the frozen columns after weight decay."""
        for undo in self._undo_decay:
            undo()

    def costs(self) -> dict[str, float]:
        """The number of frozen parameters, and the memory of their copy, needed only with weight decay."""
        return self._costs


def shielded_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers whose columns can be frozen, by name: all that are trained, except the output layer."""
    import torch
    from transformers.pytorch_utils import Conv1D

    adapted = dict(adapted_layers(model))
    if adapted:
        yield from ((name, layer) for name, layer in adapted.items() if hasattr(layer, "in_features"))
        return
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    embeddings = {id(end.weight) for end in ends if end is not None}
    for name, module in model.named_modules():
        linear = isinstance(module, (torch.nn.Linear, Conv1D))
        if linear and module.weight.requires_grad and id(module.weight) not in embeddings:
            yield name, module


def top_columns(layer: Any, norms: torch.Tensor, share: float) -> torch.Tensor:
    """The numbers of the most important columns, [kept].

    Args:
        layer: the layer.
        norms: of its input features, [input features].
        share: part of the columns.
    """
    base = _base(layer)
    columns = base.weight.detach().double().norm(dim=1 - _input_dimension(base)).cpu()
    top: torch.Tensor = (columns * norms.double()).topk(int(share * len(columns))).indices.sort().values
    return top.to(base.weight.device)


def _base(layer: Any) -> Any:
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def _input_dimension(layer: Any) -> int:
    """The dimension of the weight that runs over input features: the second, except in GPT-2's Conv1D."""
    import torch

    return 1 if isinstance(layer, torch.nn.Linear) else 0
