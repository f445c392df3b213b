"""The loss on instructions made of sentences that are not trained on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from instructalign.config import Config
from instructalign.mixture.build import Data, build_instructions
from instructalign.records import Instruction
from instructalign.training.batch import Encoder, LossWeights, collate, to_device
from instructalign.training.cut import Limits, cut
from instructalign.training.loss import weighted_loss
from instructalign.training.model import LoadedModel

HELDOUT_EXAMPLES = 256
HELDOUT_LIMITS = Limits(rows=32, tokens=4096)


def heldout_loss(
    config: Config, data: Data, encoder: Encoder, loaded: LoadedModel, limits: Limits = HELDOUT_LIMITS
) -> Callable[[Any], float] | None:
    """A function that measures the loss on instructions of held-out sentences, in nats per answer token.

    None where fewer than two sentences are held out: a pair that does not mean the same needs a second one.
    """
    if len(data.heldout) < 2:
        return None
    stream = build_instructions(config, data.heldout)
    return mean_loss([stream[k] for k in range(HELDOUT_EXAMPLES)], encoder, loaded.encoder_decoder, limits)


def mean_loss(
    instructions: Sequence[Instruction], encoder: Encoder, encoder_decoder: bool, limits: Limits = HELDOUT_LIMITS
) -> Callable[[Any], float]:
    """A function that measures the mean loss over the answers' tokens of some instructions, in nats.

    Args:
        instructions: what the model is asked.
        encoder: from instruction to token ids.
        encoder_decoder: what kind of model it is.
        limits: how much goes through the model at once.
    """
    examples = sorted(map(encoder, instructions), key=lambda pair: len(pair[0]))
    parts = cut([(len(example),) for example, _ in examples], limits)
    batches = [collate([examples[k] for k in part], encoder.codec, LossWeights()) for part in parts]

    @torch.inference_mode()
    def measure(model: Any) -> float:
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        device = next(model.parameters()).device
        for batch in batches:
            losses = weighted_loss(model, to_device(batch, device), encoder_decoder)
            total += float(losses.sum())
            count += losses.numel()
        model.train(was_training)
        return total / max(count, 1)

    return measure
