"""A short measurement of how fast a model trains here."""

from __future__ import annotations

import math
import time
from statistics import median
from typing import Any

import torch

from instructalign.config import Config
from instructalign.errors import ModelError
from instructalign.mixture import Mixture
from instructalign.training.adapters import add_adapter
from instructalign.training.batching import ExampleEncoder, StepBatches, to_device
from instructalign.training.cpu_kernels import speed_up_training
from instructalign.training.loss import ChunkedLoss, at_positions
from instructalign.training.models import autocast, checkpoint_activations, load_model
from instructalign.training.tokenization import Codec
from instructalign.training.train import loss_weights, micro_batch_limits

OPERATIONS = 3e11
"""Floating-point operations of one measured step on a processor; a graphics card gets a hundred times as many."""
STEPS, SECONDS = 9, 3.0
"""So many steps, or as many as the time allows, but three at least. The first is to warm up."""


def measure_speed(config: Config, mixture: Mixture, codec: Codec) -> float:
    """Tokens a second of training with this model, on this machine, in this configuration.

    A few small steps of the stream go through the model, with the run's loss and an update of the weights, which
    are thrown away. The median of their rates counts, as other work on the machine slows some.

    Raises:
        ModelError: the model's weights cannot be loaded, a step fails, or its loss is no number.
    """
    loaded = load_model(config.model)
    speed_up_training(loaded.model)
    if config.training.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    model: Any = add_adapter(loaded, config.model.adapter) if config.model.adapter else loaded.model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chunked_loss = ChunkedLoss(model.to(device), codec.encoder_decoder)
    model.train()
    batches = StepBatches(
        mixture,
        ExampleEncoder(codec, config.training.max_length),
        batch_size=_rows(config, sum(weight.numel() for weight in model.parameters()), device),
        limits=micro_batch_limits(config.training, device),
        weights=loss_weights(config.training),
    )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.training.learning_rate)
    rates: list[float] = []
    end = time.perf_counter() + SECONDS
    for number in range(STEPS):
        step = [to_device(batch, torch.device(device)) for batch in batches[number]]
        began = time.perf_counter()
        try:
            loss = _run(model, chunked_loss, step, optimizer, config.training.precision)
        except RuntimeError as error:
            reason = next(iter(str(error).splitlines()), type(error).__name__)
            raise ModelError(f"a training step of {config.model.base} fails: {reason}") from None
        if not math.isfinite(loss):
            raise ModelError(f"the loss of {config.model.base} is {loss} in training step {number + 1}.")
        tokens = sum(sum(batch["lengths"]) for batch in step)
        rates.append(tokens / max(time.perf_counter() - began, 1e-9))
        if len(rates) >= 3 and time.perf_counter() > end:
            break
    return median(rates[1:])


def _rows(config: Config, parameters: int, device: str) -> int:
    """Examples of a measured step: those of the run's, or fewer where that would take long."""
    budget = OPERATIONS * (100 if device == "cuda" else 1)
    affordable = int(budget / (6 * parameters * config.training.max_length))
    return max(1, min(config.training.batch_size, affordable))


def _run(
    model: Any, chunked_loss: ChunkedLoss, step: list[dict[str, Any]], optimizer: Any, precision: str
) -> float:
    """One step; returns the mean loss in nats per token, 0 where no token counts."""
    device = step[0]["targets"].device.type
    mean = 0.0
    for batch in step:
        with autocast(device, precision):
            shares = at_positions(batch, "weights") / max(batch["step_mass"], 1e-9)
            loss, _ = chunked_loss(model, batch, shares)
        loss.backward()  # type: ignore[no-untyped-call]
        mean += float(loss.detach())  # also waits for a graphics card
    optimizer.step()
    optimizer.zero_grad()
    return mean
