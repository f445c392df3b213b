"""Several examples in one row, none of which sees another.

transformers keeps examples apart where a model is told each token's position and the positions begin anew: its
attention is then causal inside each example, whatever the implementation. BLOOM takes no positions; it gets the
same here, with distances (Press et al. 2022, "Train Short, Test Long", arXiv 2108.12409) that begin anew too.
Whether a model really keeps them apart is tried before it trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from instructalign.config import TrainingConfig
from instructalign.errors import ModelError
from instructalign.training.batching import MicroBatchLimits
from instructalign.training.models import LoadedModel

ROW = 512
"""Tokens of a packed row, where examples are shorter: attention that is masked costs the more the longer it is."""
FIRST, SECOND, OTHER = [5, 9, 7, 3, 8], [4, 6, 10, 2], [2, 3, 4, 9, 6]


def enable_packing(loaded: LoadedModel, adapted: Any = None) -> None:
    """Makes a model ready for packed rows, and tries whether examples in a row leave each other alone.

    Args:
        loaded: the base; BLOOM is changed in place.
        adapted: the same inside its adapter, as it will be trained; None where it has none.

    Raises:
        ModelError: they do not, or the model is of a kind that cannot pack.
    """
    instead = "Set training.packing: false; batches are made of examples of like length then."
    if loaded.encoder_decoder:
        raise ModelError(
            f"training.packing: {loaded.name} has an encoder and a decoder, and its decoder would look at all "
            f"examples of a row of the encoder. {instead}"
        )
    model: Any = loaded.model if adapted is None else adapted
    if loaded.model.config.model_type == "bloom":
        _give_positions(loaded.model)
    if not any(weight.is_meta for weight in model.parameters()) and not _are_apart(model, loaded.model):
        raise ModelError(
            f"training.packing: examples in one row change each other in {loaded.name} "
            f"({loaded.model.config.model_type}). {instead}"
        )


def packed_row_limits(
    training: TrainingConfig, limits: MicroBatchLimits, model: Any
) -> tuple[int | None, MicroBatchLimits]:
    """How long packed rows are, None for rows of single examples; and the limits that go with them.

    `micro_batch_size` bounds memory by the number of examples; packed, by the tokens that so many may have.
    Flash attention takes examples of all lengths one behind the other, in a single row and without padding.
    """
    if not training.packing:
        return None, limits
    bounds = [limits.tokens, limits.rows and limits.rows * training.max_length]
    tokens = min((bound for bound in bounds if bound), default=ROW)
    if _by_flash(model):
        return max(training.max_length, tokens), replace(limits, rows=1, tokens=tokens)
    return max(training.max_length, min(ROW, tokens)), replace(limits, rows=None, tokens=tokens)


def example_numbers(positions: Tensor) -> Tensor:
    """The number of its example in the row for each token, of positions that begin anew; both [batch, seq]."""
    return (torch.diff(positions, prepend=positions[:, :1] - 1) != 1).cumsum(-1)


def _by_flash(model: Any) -> bool:
    return "flash" in str(getattr(model.config, "_attn_implementation", ""))


def _are_apart(model: Any, base: Any) -> bool:
    """Whether the logits of two examples in a row are those of each alone, and none depends on the other."""
    device = base.get_input_embeddings().weight.device

    def logits(*examples: list[int]) -> Tensor:
        ids = torch.tensor([[token for example in examples for token in example]], device=device)
        places = torch.tensor([[place for example in examples for place in range(len(example))]], device=device)
        found: Tensor = model(input_ids=ids, position_ids=places, use_cache=False).logits
        return found[0].float()

    training = model.training
    model.eval()
    with torch.no_grad(), _without_flash(base, device):
        together, changed = logits(FIRST, SECOND), logits(OTHER, SECOND)
        alone = torch.cat([logits(FIRST), logits(SECOND)])
    model.train(training)
    size = float(alone.abs().max())
    rounding = 1e-4 if base.dtype == torch.float32 else 5e-2
    untouched = (together[len(FIRST) :] - changed[len(OTHER) :]).abs().max() <= 1e-6 * size
    return bool(untouched and (together - alone).abs().max() <= rounding * size)


@contextmanager
def _without_flash(model: Any, device: torch.device) -> Iterator[None]:
    """Lets plain attention, with masks of the same positions, stand in where weights are not on a GPU yet."""
    usual = model.config._attn_implementation
    if device.type != "cuda" and _by_flash(model):
        model.config._attn_implementation = "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def _give_positions(model: Any) -> None:
    """Lets BLOOM know positions: a call with `position_ids` gets its mask and distances from those.

    That is done before the first block, so that blocks may be compiled, and run again in the backward pass; and in
    `forward` itself, which some versions of peft call without the model's hooks.
    """
    body, forward, distances = model.transformer, model.forward, model.transformer.build_alibi_tensor

    def with_positions(*inputs: Any, position_ids: Tensor | None = None, **keywords: Any) -> Any:
        if position_ids is None:
            return forward(*inputs, **keywords)
        body.build_alibi_tensor = partial(_distances, distances, position_ids)
        try:
            mask = _mask(position_ids, body.word_embeddings.weight.dtype)
            return forward(*inputs, **{**keywords, "attention_mask": mask})
        finally:
            del body.build_alibi_tensor

    model.forward = with_positions


def _distances(usual: Any, positions: Tensor, _: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """BLOOM's biases [batch · heads, 1, seq] of positions [batch, seq], from the usual ones of one long text."""
    batch, length = positions.shape
    by_place: Tensor = usual(torch.ones_like(positions[:1]), heads, dtype)[:, 0]  # [heads, seq]
    return by_place[:, positions].transpose(0, 1).reshape(batch * heads, 1, length)


def _mask(positions: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where a token of the same example stands at or before another, and the lowest number elsewhere."""
    example = example_numbers(positions)
    place = torch.arange(positions.shape[1], device=positions.device)
    seen = (example[:, :, None] == example[:, None, :]) & (place[None, :] <= place[:, None])
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest)[:, None]
