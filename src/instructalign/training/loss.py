"""The loss of a micro-batch: logits only where a label is, and never more of them in memory than a piece.

Of a model with 250 880 tokens the logits and their gradients take more memory than all else in a step, and with
answers of a quarter of the tokens most of them are computed for nothing. `piecewise_loss` runs the output layer
where a position counts, a few rows at a time, and computes the gradients of a piece while its logits are at hand
(the way of Liger-Kernel: Hsu et al. 2024, arXiv 2410.10989, section 3.2), so that nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instructalign.training.cpu_kernels import HEAD_STEP, fast_outer_sum, fast_product
from instructalign.training.models import logits_at, unwrapped

PIECE = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits computed at a time, by device: 16 MB that a processor's cache holds in part; 256 MB on a GPU."""


@dataclass(frozen=True, slots=True)
class Head:
    """What becomes of a model's last hidden states.

    Attributes:
        plain: whether logits are its linear output layer, and at most the cap; if not, the model computes them.
        cap: c of logits c*tanh(z/c), as Gemma 2 has it; None for logits z.
    """

    plain: bool
    cap: float | None = None


def target_logits(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> Tensor:
    """The model's logits at every position that counts; its output layer runs at those alone.

    Returns:
        [positions that count, vocabulary], in the order of `batch["positions"]`.
    """
    with logits_at(model, batch["positions"]):
        return _run(model, batch, encoder_decoder)


def cross_entropy(logits: Tensor, batch: dict[str, Any]) -> Tensor:
    """Cross-entropy at every position that counts, in nats, [positions that count]."""
    return F.cross_entropy(logits.float(), at_positions(batch, "targets"), reduction="none")


def token_losses(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> Tensor:
    """Cross-entropy at every position that counts, in nats, without reduction.

    Returns:
        Losses in the order of `batch["positions"]`, shape [positions that count].
    """
    return cross_entropy(target_logits(model, batch, encoder_decoder), batch)


def piecewise_loss(
    model: nn.Module, batch: dict[str, Any], shares: Tensor, encoder_decoder: bool, head: Head
) -> tuple[Tensor, Tensor]:
    """The sum of shares times `token_losses`, ready for the backward pass, without all logits at once.

    Args:
        model: the model, possibly wrapped for peft or for distribution.
        batch: as `batch.collate` makes it.
        shares: what each counted position counts in the loss, float32 [counted].
        encoder_decoder: what kind of model it is.
        head: as `head_of` found it.

    Returns:
        The sum, a scalar; and the losses, float32 [counted], without gradient.
    """
    if not head.plain or _half_autocast(shares.device.type):
        losses = token_losses(model, batch, encoder_decoder)
        return (losses * shares).sum(), losses.detach()
    layer = unwrapped(model).get_output_embeddings()
    targets = at_positions(batch, "targets")
    found = []

    def sum_up(hidden: Tensor) -> Tensor:
        chosen = hidden.flatten(0, -2).index_select(0, batch["positions"])
        total, losses = _PiecewiseLoss.apply(  # type: ignore[no-untyped-call]
            chosen, layer.weight, layer.bias, targets, shares, head.cap
        )
        found.append(losses)
        summed: Tensor = total.reshape(1, 1)
        return summed

    # The sum leaves the model in the place of logits, so that wrappers see what gradients will come from.
    with _instead_of_logits(unwrapped(model), layer, sum_up):
        total = _run(model, batch, encoder_decoder).sum()
    return total, found[0]


def head_of(model: nn.Module, encoder_decoder: bool) -> Head:
    """Finds out what a model does with its last hidden states by trying it on two tokens.

    Args:
        model: a `PreTrainedModel`, possibly inside peft's wrapper, on one device.
        encoder_decoder: what kind of model it is.
    """
    inner = unwrapped(model)
    layer = inner.get_output_embeddings()
    if type(layer) is not nn.Linear or any(weight.is_meta for weight in inner.parameters()):
        return Head(plain=False)
    cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
    probe = torch.linspace(-60.0, 60.0, 7, device=layer.weight.device)
    tokens = torch.zeros(1, 2, dtype=torch.long, device=layer.weight.device)
    inputs = {"input_ids": tokens, **({"decoder_input_ids": tokens} if encoder_decoder else {})}

    def given(hidden: Tensor) -> Tensor:
        return probe.to(hidden.dtype).expand(*hidden.shape[:-1], -1)

    def comes_out(capped: bool) -> Tensor:
        with torch.no_grad(), _instead_of_logits(inner, layer, given, capped):
            logits: Tensor = inner(**inputs, use_cache=False).logits
        return logits[0, -1].float()

    as_given = probe.to(layer.weight.dtype).float()
    expected = as_given if cap is None else cap * torch.tanh(as_given / cap)
    plain = bool(torch.equal(comes_out(False), as_given) and torch.allclose(comes_out(True), expected, rtol=1e-2))
    return Head(plain, cap if plain else None)


def at_positions(batch: dict[str, Any], name: str) -> Tensor:
    """The `targets` or `weights` of a batch at the positions that count, [counted]."""
    values: Tensor = batch[name]
    return values.flatten().index_select(0, batch["positions"])


class _PiecewiseLoss(torch.autograd.Function):
    """Cross-entropy behind a linear layer, [n, width] to the weighted sum and [n] losses."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        shares: Tensor,
        cap: float | None,
    ) -> tuple[Tensor, Tensor]:
        """Goes through the rows piece by piece; with gradients where they are wanted."""
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        wanted = ctx.needs_input_grad[:3]
        with torch.autocast(device, enabled=False):
            losses, gradients = _go_through(hidden.to(low), weight.to(low), bias, targets, shares, cap, wanted)
        given = (hidden, weight, bias)
        ctx.gradients = [None if g is None else g.to(x.dtype) for g, x in zip(gradients, given, strict=True)]  # type: ignore[union-attr]
        ctx.mark_non_differentiable(losses)
        return (losses * shares).sum(), losses

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Scales the gradients that were computed forward, in place: they are needed once."""
        return (*(None if each is None else each.mul_(above[0]) for each in ctx.gradients), None, None, None)


def _go_through(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    shares: Tensor,
    cap: float | None,
    wanted: tuple[bool, bool, bool],
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None, Tensor | None]]:
    """The losses of all rows; and the gradients of hidden states, weight and bias, in float32, where wanted."""
    losses = torch.empty_like(shares)
    into_hidden, into_weight, into_bias = (
        torch.zeros(each.shape, dtype=torch.float32, device=hidden.device) if want and each is not None else None
        for each, want in zip((hidden, weight, bias), wanted, strict=True)
    )
    rows = max(1, PIECE.get(hidden.device.type, PIECE["cuda"]) // weight.shape[0] // HEAD_STEP) * HEAD_STEP
    for begin in range(0, hidden.shape[0], rows):
        piece = slice(begin, begin + rows)
        logits = fast_product(hidden[piece], weight).float()
        if bias is not None:
            logits += bias.float()
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        target = targets[piece, None]
        norm = logits.logsumexp(1, keepdim=True)
        losses[piece] = (norm - logits.gather(1, target))[:, 0]
        if not any(wanted):
            continue
        slope = (1 - (logits / cap).square()) if cap is not None else None
        above = logits.sub_(norm).exp_().scatter_add_(1, target, torch.full_like(norm, -1.0))
        above.mul_(shares[piece, None])
        if slope is not None:
            above.mul_(slope)
        low = above.to(hidden.dtype)
        if into_hidden is not None:
            into_hidden[piece] = fast_product(low, weight.t())
        if into_weight is not None:
            into_weight += fast_outer_sum(low, hidden[piece])
        if into_bias is not None:
            into_bias += above.sum(0)
    return losses, (into_hidden, into_weight, into_bias)


def _run(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> Tensor:
    inputs = batch["inputs"]
    if encoder_decoder:
        decoder = unwrapped(model).prepare_decoder_input_ids_from_labels(labels=batch["targets"])
        inputs = {**inputs, "decoder_input_ids": decoder}
    logits: Tensor = model(**inputs, use_cache=False).logits
    return logits


@contextmanager
def _instead_of_logits(
    model: Any, layer: Any, function: Callable[[Tensor], Tensor], capped: bool = False
) -> Iterator[None]:
    """Inside, a model's output layer computes something else, and nothing is capped behind it unless asked for."""
    config = model.config.get_text_config()
    cap = getattr(config, "final_logit_softcapping", None)
    before = layer.__dict__.get("forward")
    layer.forward = function
    if cap is not None and not capped:
        config.final_logit_softcapping = None
    try:
        yield
    finally:
        if cap is not None:
            config.final_logit_softcapping = cap
        if before is not None:
            layer.forward = before
        else:
            del layer.forward


def _half_autocast(device: str) -> bool:
    """Whether float16 is in use: its gradients need the scale that only the backward pass knows."""
    return torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
