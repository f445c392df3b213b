"""Source-shielded updates (Yamaguchi et al. 2025, "Mitigating Catastrophic Forgetting in Target Language
Adaptation of LLMs via Source-Shielded Updates", arXiv 2512.04844).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instructalign.config import Config, Positive
from instructalign.errors import TrainingError
from instructalign.training.strategies.calibration_examples import INSTEAD, Source, source_examples
from instructalign.training.strategies.parameter_deltas import adapted_layers, adapter_problems, low_rank
from instructalign.training.strategies.strategy import Setting, Strategy, sum_over_processes

if TYPE_CHECKING:
    import torch


class SourceShielded(Strategy):
    """Keeps those columns of each linear layer's weight that matter most for examples of the past.

    A column holds what one input feature adds to all outputs. Its importance is the length of the column of Wanda
    scores (Sun et al. 2024, arXiv 2306.11695), |W[i, j]| times the length of feature j over all tokens of the
    examples. The columns at the top get no gradient, and end bit for bit as they began: also with weight decay,
    which the published code lets act on them. Embeddings, output layer, biases and norms are trained. Under LoRA
    the same columns of the change are held at zero.

    Args:
        share: part of the columns of each layer that is kept (0.5 in the paper).
        on: what importance is measured on: `replay`, the past data, or `known`, sentences in the known languages.
        examples: how many of them (500 in the paper).
    """

    whole = True

    def __init__(
        self,
        *,
        share: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        on: Source = "replay",
        examples: Positive = 500,
    ) -> None:
        self.share = share
        self.on: Source = on
        self.examples = examples
        self.past_data = "needed" if on == "replay" else "unused"
        self.instead = INSTEAD.format(name="ssu")
        self._restore: list[Callable[[], None]] = []
        self._record = {"frozen": 0.0, "memory": 0.0}

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose change of the base is no product of two factors, or does not begin at zero."""
        return adapter_problems(config)

    def prepare(self, setting: Setting) -> None:
        """Measures importance and lets no gradient into the columns that are kept.

        Raises:
            TrainingError: the model has no linear layer that is trained.
        """
        layers = dict(shielded_layers(setting.model))
        if not layers:
            raise TrainingError(
                f"training.strategy.ssu found no linear layer in {setting.loaded.name} whose columns it could keep"
            )
        lengths = setting.cached("ssu", [self.on, self.examples], lambda: self._lengths(setting, layers))
        decayed = setting.config.training.weight_decay > 0
        for name, layer in layers.items():
            kept = top_columns(layer, lengths[name], self.share)
            self._shield(layer, kept, decayed)

    def _lengths(self, setting: Setting, layers: dict[str, Any]) -> dict[str, torch.Tensor]:
        """By layer, the length of each input feature over all tokens of the examples, [input features]."""
        import torch

        from instructalign.training.loss import target_logits

        chosen = setting.mine(source_examples(setting, self.on, self.examples))
        squares = {name: torch.zeros(_inputs(layer), dtype=torch.float64) for name, layer in layers.items()}

        def add(name: str) -> Callable[..., None]:
            def hook(_: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
                squares[name] += inputs[0].detach().flatten(0, -2).double().square().sum(dim=0).cpu()

            return hook

        handles = [_base(layer).register_forward_pre_hook(add(name)) for name, layer in layers.items()]
        with torch.no_grad():  # one at a time, so that no padding counts
            for done, batch in enumerate(setting.encoded(chosen, size=1)):
                setting.report("importance of columns", done, len(chosen), "")
                target_logits(setting.model, batch, setting.loaded.encoder_decoder)
        for handle in handles:
            handle.remove()
        return {name: sum_over_processes(value).sqrt() for name, value in squares.items()}

    def _shield(self, layer: Any, kept: torch.Tensor, decayed: bool) -> None:
        import torch

        if layer is not _base(layer):  # an adapter: the columns of A make those of the change
            weight = low_rank(layer)[0]
            with torch.no_grad():
                weight[:, kept] = 0
            weight.register_hook(lambda gradient: gradient.index_fill(1, kept, 0))
            self._record["frozen"] += len(kept) * layer.out_features
            return
        weight, along = layer.weight, _input_dimension(layer)
        weight.register_hook(lambda gradient: gradient.index_fill(along, kept, 0))
        self._record["frozen"] += len(kept) * weight.numel() // weight.shape[along]
        if decayed:  # without a gradient Adam leaves a weight alone, but weight decay does not
            copy = weight.detach().index_select(along, kept)
            self._record["memory"] += copy.nbytes
            self._restore.append(lambda: weight.data.index_copy_(along, kept, copy))

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Puts back what weight decay took from the columns that are kept."""
        for put_back in self._restore:
            put_back()

    def record(self) -> dict[str, float]:
        """How many weights are kept, and the memory of their copy where weight decay makes one needed."""
        return self._record


def shielded_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The linear layers whose columns can be kept, by name: all that are trained, but for the output layer."""
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


def top_columns(layer: Any, lengths: torch.Tensor, share: float) -> torch.Tensor:
    """The columns of highest importance, [kept], by number.

    Args:
        layer: the layer.
        lengths: of its input features, [input features].
        share: part of the columns.
    """
    base = _base(layer)
    weight = base.weight.detach().double()
    columns = weight.norm(dim=1 - _input_dimension(base)).cpu()
    kept = (columns * lengths.double()).topk(int(share * len(columns))).indices.sort().values
    moved: torch.Tensor = kept.to(base.weight.device)
    return moved


def _base(layer: Any) -> Any:
    return layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer


def _input_dimension(layer: Any) -> int:
    """Along which dimension of the weight the input features lie: the second, but for GPT-2's Conv1D."""
    import torch

    return 1 if isinstance(layer, torch.nn.Linear) else 0


def _inputs(layer: Any) -> int:
    base = _base(layer)
    return int(base.weight.shape[_input_dimension(base)])
