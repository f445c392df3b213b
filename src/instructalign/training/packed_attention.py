"""Packing: several examples in one row, none of which attends to another.

Where a model is given each token's position and positions restart at 0, transformers makes attention causal inside
each example, whatever the attention implementation. BLOOM takes no positions; here it gets the same, with ALiBi
distances (Press et al. 2022, "Train Short, Test Long", arXiv 2108.12409) that restart too. Whether a model really
separates examples is tested before it trains.
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

_ROW_LENGTH = 512
"""Tokens of a packed row, where examples are shorter: the cost of masked attention grows with the row's square."""


def enable_packing(loaded: LoadedModel, adapted: Any = None) -> None:
    """Makes a model ready for packed rows, and tests that examples in a row do not attend to each other.

    Args:
        loaded: the base; BLOOM is changed in place.
        adapted: the same inside its adapter, as it will be trained; None where it has none.

    Raises:
        ModelError: they do, or the model is of a kind that cannot pack.
    """
    instead = "Set training.packing: false; batches then have examples of similar length."
    if loaded.encoder_decoder:
        raise ModelError(
            f"training.packing: {loaded.name} has an encoder and a decoder, and its decoder would attend to all "
            f"examples of the encoder's row. {instead}"
        )
    model: Any = loaded.model if adapted is None else adapted
    if loaded.model.config.model_type == "bloom":
        _give_bloom_positions(loaded.model)
    if not any(weight.is_meta for weight in model.parameters()) and not _separates_examples(model, loaded.model):
        raise ModelError(
            f"training.packing: examples in one row change each other's logits in {loaded.name} "
            f"({loaded.model.config.model_type}). {instead}"
        )


def packed_row_limits(
    training: TrainingConfig, limits: MicroBatchLimits, model: Any
) -> tuple[int | None, MicroBatchLimits]:
    """The length of packed rows, None for a row per example; and the micro-batch limits that go with it.

    `micro_batch_size` bounds memory by the number of examples; when packing, by the tokens they could have. Flash
    attention takes examples of all lengths one after the other, in a single row and without padding.
    """
    if not training.packing:
        return None, limits
    bounds = [limits.tokens, limits.rows and limits.rows * training.max_length]
    tokens = min((bound for bound in bounds if bound), default=_ROW_LENGTH)
    if _uses_flash(model):
        return max(training.max_length, tokens), replace(limits, rows=1, tokens=tokens)
    return max(training.max_length, min(_ROW_LENGTH, tokens)), replace(limits, rows=None, tokens=tokens)


def example_numbers(positions: Tensor) -> Tensor:
    """For each token the number of its example in the row, from positions that restart; both [batch, seq]."""
    return (torch.diff(positions, prepend=positions[:, :1] - 1) != 1).cumsum(-1)


def _uses_flash(model: Any) -> bool:
    return "flash" in str(getattr(model.config, "_attn_implementation", ""))


def _separates_examples(model: Any, base: Any) -> bool:
    """Whether the logits of two examples in a row are those of each alone, and independent of the other."""
    first, second, other = [5, 9, 7, 3, 8], [4, 6, 10, 2], [2, 3, 4, 9, 6]  # any token ids
    device = base.get_input_embeddings().weight.device

    def logits(*examples: list[int]) -> Tensor:
        ids = torch.tensor([[token for example in examples for token in example]], device=device)
        places = torch.tensor([[place for example in examples for place in range(len(example))]], device=device)
        found: Tensor = model(input_ids=ids, position_ids=places, use_cache=False).logits
        return found[0].float()

    training = model.training
    model.eval()
    with torch.no_grad(), _without_flash(base, device):
        together, changed = logits(first, second), logits(other, second)
        alone = torch.cat([logits(first), logits(second)])
    model.train(training)
    size = float(alone.abs().max())
    # A row of another length is computed in another order, so alone and together agree only up to rounding; but
    # what another example says must change nothing at all.
    rounding = 1e-4 if base.dtype == torch.float32 else 5e-2
    untouched = (together[len(first) :] - changed[len(other) :]).abs().max() <= 1e-6 * size
    return bool(untouched and (together - alone).abs().max() <= rounding * size)


@contextmanager
def _without_flash(model: Any, device: torch.device) -> Iterator[None]:
    """Uses plain attention, with masks from the same positions, where weights are not on a GPU yet."""
    usual = model.config._attn_implementation
    if device.type != "cuda" and _uses_flash(model):
        model.config._attn_implementation = "eager"
    try:
        yield
    finally:
        model.config._attn_implementation = usual


def _give_bloom_positions(model: Any) -> None:
    """Makes BLOOM take positions: a call with `position_ids` gets its mask and distances from those.

    Both are made before the first block, so that blocks may be compiled, and run again in the backward pass; and
    in `forward` itself, which some versions of peft call without the model's hooks.
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
    """0 where a token of the same example is at or before another, the lowest number elsewhere."""
    example = example_numbers(positions)
    place = torch.arange(positions.shape[1], device=positions.device)
    seen = (example[:, :, None] == example[:, None, :]) & (place[None, :] <= place[:, None])
    lowest = torch.finfo(dtype).min
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill(~seen, lowest)[:, None]
