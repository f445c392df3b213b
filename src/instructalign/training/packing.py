"""Several examples in one row, none of which sees another.

transformers keeps examples apart where a model is told each token's position and the positions begin anew: its
attention is then causal inside each example, whatever the implementation. BLOOM takes no positions; it gets the
same here, with distances (Press et al. 2022, "Train Short, Test Long", arXiv 2108.12409) that begin anew too.
Whether a model really keeps them apart is tried before it trains.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from instructalign.config import TrainingConfig
from instructalign.errors import ModelError
from instructalign.training.cut import Limits
from instructalign.training.model import LoadedModel, unwrapped

ROW = 512
"""Tokens of a packed row, where examples are shorter: attention that is masked costs the more the longer it is."""
FIRST, SECOND, OTHER = [5, 9, 7, 3, 8], [4, 6, 10, 2], [2, 3, 4, 9, 6]


def keep_apart(loaded: LoadedModel) -> None:
    """Makes a model ready for packed rows, and tries whether examples in a row leave each other alone.

    Raises:
        ModelError: they do not, or the model is of a kind that cannot pack.
    """
    instead = "Set training.packing: false; batches are made of examples of like length then."
    if loaded.encoder_decoder:
        raise ModelError(
            f"training.packing: {loaded.name} has an encoder and a decoder, and its decoder would look at all "
            f"examples of a row of the encoder. {instead}"
        )
    if loaded.model.config.model_type == "bloom":
        _give_positions(loaded.model)
    if not any(weight.is_meta for weight in loaded.model.parameters()) and not _are_apart(loaded.model):
        raise ModelError(
            f"training.packing: examples in one row change each other in {loaded.name} "
            f"({loaded.model.config.model_type}). {instead}"
        )


def row_limits(training: TrainingConfig, limits: Limits, model: Any) -> tuple[int | None, Limits]:
    """How long packed rows are, None for rows of single examples; and the limits that go with them.

    Flash attention takes examples of all lengths one behind the other, in a single row and without padding.
    """
    if not training.packing:
        return None, limits
    if "flash" in str(getattr(model.config, "_attn_implementation", "")):
        return max(training.max_length, limits.tokens or 0), replace(limits, rows=1)
    return max(training.max_length, min(ROW, limits.tokens or ROW)), limits


def starts(positions: Tensor) -> Tensor:
    """The number of its example in the row for each token, of positions that begin anew; both [batch, seq]."""
    return (torch.diff(positions, prepend=positions[:, :1] - 1) != 1).cumsum(-1)


def _are_apart(model: Any) -> bool:
    """Whether the logits of two examples in a row are those of each alone, and none depends on the other."""

    def logits(*examples: list[int]) -> Tensor:
        device = model.get_input_embeddings().weight.device
        ids = torch.tensor([[token for example in examples for token in example]], device=device)
        places = torch.tensor([[place for example in examples for place in range(len(example))]], device=device)
        found: Tensor = model(input_ids=ids, position_ids=places, use_cache=False).logits
        return found[0].float()

    training = model.training
    model.eval()
    with torch.no_grad():
        together, changed = logits(FIRST, SECOND), logits(OTHER, SECOND)
        alone = torch.cat([logits(FIRST), logits(SECOND)])
    model.train(training)
    size = float(alone.abs().max())
    rounding = 1e-4 if model.dtype == torch.float32 else 5e-2
    untouched = (together[len(FIRST) :] - changed[len(OTHER) :]).abs().max() <= 1e-6 * size
    return bool(untouched and (together - alone).abs().max() <= rounding * size)


def _give_positions(model: nn.Module) -> None:
    """Lets BLOOM's blocks know positions: their masks and distances are made anew from those of each call."""
    state: dict[str, Any] = {}

    def remember(_: nn.Module, inputs: Any, keywords: dict[str, Any]) -> None:
        state.clear()
        state["positions"] = keywords.get("position_ids")

    def put(_: nn.Module, inputs: Any, keywords: dict[str, Any]) -> Any:
        if state.get("positions") is None:
            return None
        if "mask" not in state:
            state["alibi"] = _distances(keywords["alibi"], state["positions"])
            state["mask"] = _mask(state["positions"], keywords["alibi"].dtype)
        return inputs, {**keywords, "alibi": state["alibi"], "attention_mask": state["mask"]}

    inner = unwrapped(model)
    inner.register_forward_pre_hook(remember, with_kwargs=True)
    for block in inner.transformer.h:
        block.register_forward_pre_hook(put, with_kwargs=True)


def _distances(alibi: Tensor, positions: Tensor) -> Tensor:
    """BLOOM's biases [batch · heads, 1, seq] of positions [batch, seq], with the slopes of given ones."""
    batch, length = positions.shape
    slopes = alibi[:, 0, min(1, length - 1)].view(batch, -1, 1, 1)
    return (slopes * positions[:, None, None, :]).view(alibi.shape).to(alibi.dtype)


def _mask(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token of the same example stands at or before another, and the lowest number elsewhere."""
    example = starts(positions)
    place = torch.arange(positions.shape[1], device=positions.device)
    seen = (example[:, :, None] == example[:, None, :]) & (place[None, :] <= place[:, None])
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, torch.finfo(dtype).min)[
        :, None
    ]
