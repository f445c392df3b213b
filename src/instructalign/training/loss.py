"""The loss of a micro-batch: logits only at positions that carry loss, and only a chunk of them in memory.

With a vocabulary of 250 880 tokens, logits and their gradients take more memory than everything else in a step,
and where answers are a quarter of the tokens, most of them are computed for nothing. `ChunkedLoss` runs the output
layer at the positions that carry loss, some rows at a time, and computes a chunk's gradients while its logits are
still in memory (as Liger-Kernel does: Hsu et al. 2024, arXiv 2410.10989, section 3.2): nothing is done twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instructalign.training.cpu_kernels import HEAD_STEP, fast_outer_sum, fast_product
from instructalign.training.models import logits_at, unwrapped

CHUNK_LOGITS = {"cpu": 1 << 22, "cuda": 1 << 26}
"""Logits computed at a time, by device: 16 MB, part of which stays in a CPU's cache; 256 MB on a GPU."""


def target_logits(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> Tensor:
    """The model's logits at the positions that carry loss; the output layer runs at those alone.

    Returns:
        [counted, vocabulary], in the order of `batch["positions"]`.
    """
    with logits_at(model, batch["positions"]):
        logits: Tensor = model(**_model_inputs(model, batch, encoder_decoder)).logits
    return logits


def token_losses(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> Tensor:
    """Cross-entropy in nats at the positions that carry loss, in the order of `batch["positions"]`, [counted]."""
    return cross_entropy(target_logits(model, batch, encoder_decoder), batch)


def cross_entropy(logits: Tensor, batch: dict[str, Any]) -> Tensor:
    """Cross-entropy in nats, [counted], of logits [counted, vocabulary]."""
    return F.cross_entropy(logits.float(), at_positions(batch, "targets"), reduction="none")


def at_positions(batch: dict[str, Any], name: str) -> Tensor:
    """The `targets` or `weights` of a batch at the positions that carry loss, [counted]."""
    values: Tensor = batch[name]
    return values.flatten().index_select(0, batch["positions"])


def _model_inputs(model: nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> dict[str, Any]:
    inputs = {**batch["inputs"], "use_cache": False}
    if encoder_decoder:
        shifted = unwrapped(model).prepare_decoder_input_ids_from_labels(labels=batch["targets"])
        inputs["decoder_input_ids"] = shifted
    return inputs


class ChunkedLoss:
    """The weighted sum of `token_losses`, with its gradient, never holding all logits.

    Whether a model's logits are its linear output layer's (and at most capped) is found by running it once on two
    tokens; where they are not, the model computes all of them itself.

    Args:
        model: a `PreTrainedModel`, possibly inside peft's wrapper, on one device.
        encoder_decoder: whether it has an encoder and a decoder.

    Attributes:
        chunked: whether the output layer is run in chunks.
        cap: c of logits c·tanh(z/c), as Gemma 2 has it; None for logits z.
    """

    def __init__(self, model: nn.Module, encoder_decoder: bool) -> None:
        self.encoder_decoder = encoder_decoder
        self.chunked, self.cap = False, None
        inner = unwrapped(model)
        layer = inner.get_output_embeddings()
        if type(layer) is not nn.Linear or any(weight.is_meta for weight in inner.parameters()):
            return
        # Known numbers take the place of the output layer's result: do they come out as they went in?
        device = layer.weight.device
        known = torch.linspace(-60.0, 60.0, 7, device=device)
        tokens = torch.zeros(1, 2, dtype=torch.long, device=device)
        inputs = {"input_ids": tokens, **({"decoder_input_ids": tokens} if encoder_decoder else {})}

        def known_logits(hidden: Tensor) -> Tensor:
            return known.to(hidden.dtype).expand(*hidden.shape[:-1], -1)

        def result(capped: bool) -> Tensor:
            with torch.no_grad(), _output_layer_replaced(inner, known_logits, capped):
                logits: Tensor = inner(**inputs, use_cache=False).logits
            return logits[0, -1].float()

        cap = getattr(inner.config.get_text_config(), "final_logit_softcapping", None)
        expected = known.to(layer.weight.dtype).float()
        capped = expected if cap is None else cap * torch.tanh(expected / cap)
        if torch.equal(result(False), expected) and torch.allclose(result(True), capped, rtol=1e-2):
            self.chunked, self.cap = True, cap

    def __call__(self, model: nn.Module, batch: dict[str, Any], shares: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of shares times token losses, ready for the backward pass.

        Args:
            model: the model, possibly wrapped for peft or for distribution.
            batch: as `batching.collate` makes it.
            shares: weight of each counted position in the loss, float32 [counted].

        Returns:
            The sum, a scalar; and the token losses, float32 [counted], without gradient.
        """
        device = shares.device.type
        # Gradients in float16 need the loss scale, which only the backward pass knows: no chunks then.
        if not self.chunked or (
            torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device) == torch.float16
        ):
            losses = token_losses(model, batch, self.encoder_decoder)
            return (losses * shares).sum(), losses.detach()
        inner = unwrapped(model)
        layer = inner.get_output_embeddings()
        targets = at_positions(batch, "targets")
        found = []

        def summed_loss(hidden: Tensor) -> Tensor:
            chosen = hidden.flatten(0, -2).index_select(0, batch["positions"])
            total, losses = _ChunkedCrossEntropy.apply(  # type: ignore[no-untyped-call]
                chosen, layer.weight, layer.bias, targets, shares, self.cap
            )
            found.append(losses)
            loss: Tensor = total.reshape(1, 1)
            return loss

        # The sum leaves the model in the place of logits: wrappers for distribution look at a model's outputs to
        # find what gradients will come from.
        with _output_layer_replaced(inner, summed_loss):
            total: Tensor = model(**_model_inputs(model, batch, self.encoder_decoder)).logits.sum()
        return total, found[0]


class _ChunkedCrossEntropy(torch.autograd.Function):
    """Linear layer and cross-entropy in one: hidden states [n, width] to the weighted sum and the losses [n]."""

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
        """Computes losses chunk by chunk, and at once the gradients that are needed, summed in float32."""
        given, needed = (hidden, weight, bias), ctx.needs_input_grad[:3]
        device = hidden.device.type
        low = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        hidden, weight = hidden.to(low), weight.to(low)
        losses = torch.empty_like(shares)
        into_hidden, into_weight, into_bias = gradients = [
            torch.zeros(each.shape, dtype=torch.float32, device=each.device) if need and each is not None else None
            for each, need in zip(given, needed, strict=True)
        ]
        rows = max(1, CHUNK_LOGITS.get(device, CHUNK_LOGITS["cuda"]) // weight.shape[0] // HEAD_STEP) * HEAD_STEP
        for begin in range(0, hidden.shape[0], rows):
            chunk = slice(begin, begin + rows)
            with torch.autocast(device, enabled=False):
                logits = fast_product(hidden[chunk], weight).float()
                if bias is not None:
                    logits += bias.float()
                if cap is not None:
                    logits = cap * torch.tanh(logits / cap)
                target = targets[chunk, None]
                norm = logits.logsumexp(1, keepdim=True)
                losses[chunk] = (norm - logits.gather(1, target))[:, 0]
                if not any(needed):
                    continue
                slope = (1 - (logits / cap).square()) if cap is not None else None  # of the cap, by z
                # d loss / d logits = softmax - one-hot, in the memory of the logits, which are done with.
                above = logits.sub_(norm).exp_().scatter_add_(1, target, torch.full_like(norm, -1.0))
                above.mul_(shares[chunk, None])
                if slope is not None:
                    above.mul_(slope)
                above_low = above.to(low)
                if into_hidden is not None:
                    into_hidden[chunk] = fast_product(above_low, weight.t())
                if into_weight is not None:
                    into_weight += fast_outer_sum(above_low, hidden[chunk])
                if into_bias is not None:
                    into_bias += above.sum(0)
        ctx.gradients = [None if g is None else g.to(x.dtype) for g, x in zip(gradients, given, strict=True)]  # type: ignore[union-attr]
        ctx.mark_non_differentiable(losses)
        return (losses * shares).sum(), losses

    @staticmethod
    def backward(ctx: Any, *above: Tensor) -> tuple[Tensor | None, ...]:
        """Scales the gradients computed in the forward pass, in place: they are needed only once."""
        return (*(None if each is None else each.mul_(above[0]) for each in ctx.gradients), None, None, None)


@contextmanager
def _output_layer_replaced(
    model: Any, function: Callable[[Tensor], Tensor], capped: bool = False
) -> Iterator[None]:
    """Inside, a function takes the place of the output layer, and its result is not capped unless asked for."""
    config, layer = model.config.get_text_config(), model.get_output_embeddings()
    cap = getattr(config, "final_logit_softcapping", None)
    before = layer.__dict__.get("forward")  # `speed_up_training` may have set one
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
