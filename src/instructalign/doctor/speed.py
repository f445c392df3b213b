"""A short measurement of how fast a model trains here."""

from __future__ import annotations

import contextlib
import math
import time
from statistics import median
from typing import Any

import torch

from instructalign.config import Config
from instructalign.errors import ModelError
from instructalign.mixture import Mixture
from instructalign.training.adapter import add_adapter
from instructalign.training.batch import Encoder, MicroBatches
from instructalign.training.encode import Codec
from instructalign.training.model import checkpoint_activations, load_configured
from instructalign.training.train import loss_weights
from instructalign.training.trainer import weighted_loss

OPERATIONS = 3e11
"""Floating-point operations of one measured pass on a processor; a graphics card gets a hundred times as many."""
PASSES, SECONDS = 9, 3.0
"""So many passes forward and backward, with an update each, or as many as the time allows, but three at least. The
first, which only warms up, does not count."""


def measure_speed(config: Config, mixture: Mixture, codec: Codec) -> float:
    """Tokens a second of training with this model, on this machine, in this configuration.

    A few short micro-batches of the stream go through the model, with the run's loss and an update of the
    weights, which are thrown away. The median of their rates counts, as other work on the machine slows some.

    Raises:
        ModelError: the model's weights cannot be loaded, a step fails, or its loss is no number.
    """
    loaded = load_configured(config.model)
    if config.training.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    model: Any = add_adapter(loaded, config.model.adapter) if config.model.adapter else loaded.model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device).train()
    rows = _rows(config, sum(weight.numel() for weight in model.parameters()), device)
    batches = MicroBatches(
        mixture,
        Encoder(codec, config.training.max_length),
        batch_size=rows,
        micro_batch_size=rows,
        weights=loss_weights(config.training),
    )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.training.learning_rate)
    rates: list[float] = []
    end = time.perf_counter() + SECONDS
    for number in range(PASSES):
        batch = _moved(batches[number], device)
        began = time.perf_counter()
        try:
            loss = _pass(model, batch, optimizer, config.training.precision, codec.encoder_decoder)
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"a training step of {config.model.base} fails: {reason}") from None
        if not math.isfinite(loss):
            raise ModelError(f"the loss of {config.model.base} is {loss} in training step {number + 1}.")
        rates.append(_tokens(batch, codec.encoder_decoder) / max(time.perf_counter() - began, 1e-9))
        if len(rates) >= 3 and time.perf_counter() > end:
            break
    return median(rates[1:])


def _rows(config: Config, parameters: int, device: str) -> int:
    """Examples of one pass: those of a micro-batch, or fewer where that would take long."""
    budget = OPERATIONS * (100 if device == "cuda" else 1)
    affordable = int(budget / (6 * parameters * config.training.max_length))
    micro = config.training.micro_batch_size or config.training.batch_size
    return max(1, min(micro, affordable))


def _pass(model: Any, batch: dict[str, Any], optimizer: Any, precision: str, encoder_decoder: bool) -> float:
    """One step; returns the mean loss in nats per token, 0 where no token counts."""
    device = batch["targets"].device.type
    cast = (
        torch.autocast(device, getattr(torch, precision)) if precision != "float32" else contextlib.nullcontext()
    )
    with cast:
        losses = weighted_loss(model, batch, encoder_decoder)
    if losses.numel():
        losses.mean().backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    optimizer.zero_grad()
    return float(losses.detach().mean()) if losses.numel() else 0.0  # also waits for a graphics card


def _tokens(batch: dict[str, Any], encoder_decoder: bool) -> int:
    tokens = int(batch["inputs"]["attention_mask"].sum())
    return tokens + int((batch["weights"] > 0).sum()) if encoder_decoder else tokens


def _moved(value: Any, device: str) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to(device)
    return {key: _moved(inner, device) for key, inner in value.items()} if isinstance(value, dict) else value
