"""What is measured while a model trains: validation loss, and KL divergence from the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from instructalign.config import Config
from instructalign.data import Corpus
from instructalign.errors import TrainingError
from instructalign.mixture.training_data import Data, build_instructions
from instructalign.training.batching import (
    ExampleEncoder,
    LossWeights,
    MicroBatchLimits,
    collate,
    plan_micro_batches,
    to_device,
)
from instructalign.training.loss import target_logits, token_losses
from instructalign.training.models import LoadedModel
from instructalign.types import Instruction

HELDOUT_EXAMPLES = 256
HELDOUT_LIMITS = MicroBatchLimits(rows=32, tokens=4096)


def validation_loss(
    config: Config,
    data: Data,
    encoder: ExampleEncoder,
    loaded: LoadedModel,
    limits: MicroBatchLimits = HELDOUT_LIMITS,
) -> Callable[[Any], float] | None:
    """A function that measures the loss on instructions of held-out sentences, in nats per answer token.

    None where fewer than two sentences are held out: a pair that does not mean the same needs a second one.
    """
    if len(data.heldout) < 2:
        return None
    stream = build_instructions(config, data.heldout)
    return answer_loss([stream[k] for k in range(HELDOUT_EXAMPLES)], encoder, loaded.encoder_decoder, limits)


def answer_loss(
    instructions: Sequence[Instruction],
    encoder: ExampleEncoder,
    encoder_decoder: bool,
    limits: MicroBatchLimits = HELDOUT_LIMITS,
) -> Callable[[Any], float]:
    """A function that measures the mean loss over the answers' tokens of some instructions, in nats.

    Args:
        instructions: what the model is asked.
        encoder: from instruction to token ids.
        encoder_decoder: what kind of model it is.
        limits: how much goes through the model at once.
    """
    examples = sorted(map(encoder, instructions), key=lambda pair: len(pair[0]))
    parts = plan_micro_batches([(len(example),) for example, _ in examples], limits)
    batches = [collate([examples[k] for k in part], encoder.codec, LossWeights()) for part in parts]

    @torch.inference_mode()
    def measure(model: Any) -> float:
        was_training = model.training
        model.eval()
        total, count = 0.0, 0
        device = next(model.parameters()).device
        for batch in batches:
            losses = token_losses(model, to_device(batch, device), encoder_decoder)
            total += float(losses.sum())
            count += losses.numel()
        model.train(was_training)
        return total / max(count, 1)

    return measure


NAME = "kl_to_base"
_ROWS = 8  # probes of one forward pass


def kl_monitor(
    config: Config, heldout: Corpus, encoder: ExampleEncoder, model: Any, positions: int
) -> Callable[[Any], dict[str, float]]:
    """A function that measures KL(base ‖ model), the mean over fixed positions, in nats.

    The second half of each held-out sentence of a known language is predicted from the first.

    Args:
        config: says which languages are known, and in what precision the model runs.
        heldout: the sentences that are not trained on.
        encoder: from instruction to token ids.
        model: the model as it is before its first step, which computes what the base does.
        positions: how many predictions are compared, about.

    Raises:
        TrainingError: no sentence of a known language is held out.
    """
    batches = list(_batches(heldout, config.languages.known, encoder, positions))
    if not batches:
        raise TrainingError(
            "training.kl needs sentences of a known language (languages.known) that are not trained on, and "
            "none is held out: raise instructions.heldout."
        )
    kind, precision = encoder.codec.encoder_decoder, config.training.precision

    def predict(model: Any, batch: dict[str, Any]) -> Tensor:
        device = next(model.parameters()).device
        with _cast(device.type, precision):
            logits = target_logits(model, to_device(batch, device), kind)
        return logits.float().log_softmax(dim=-1)

    with torch.inference_mode(), _evaluating(model):
        base = [predict(model, batch).cpu() for batch in batches]
    count = sum(len(each) for each in base)

    def measure(model: Any) -> dict[str, float]:
        total = 0.0
        with torch.inference_mode(), _evaluating(model):
            for batch, before in zip(batches, base, strict=True):
                total += divergence(before, predict(model, batch).cpu())
        return {NAME: total / count}

    return measure


def divergence(before: Tensor, after: Tensor) -> float:
    """The sum over positions of KL(before ‖ after), in nats, summed in double precision.

    Args:
        before, after: log-probabilities, [positions, vocabulary].
    """
    chance = before.double()
    return float((chance.exp() * (chance - after.double())).sum())


def _batches(
    heldout: Corpus, known: list[str], encoder: ExampleEncoder, positions: int
) -> Iterator[dict[str, Any]]:
    """Probes as batches, until there are so many positions."""
    rows, counted = [], 0
    for example in _probes(heldout, known):
        rows.append(encoder(example))
        counted += len(rows[-1][0].answer)
        if len(rows) == _ROWS or counted >= positions:
            yield collate(rows, encoder.codec, LossWeights())
            rows = []
        if counted >= positions:
            return
    if rows:
        yield collate(rows, encoder.codec, LossWeights())


def _probes(heldout: Corpus, known: list[str]) -> Iterator[Instruction]:
    for row in heldout:
        for language in known:
            words = row.texts.get(language, "").split(" ")
            if len(words) == 1:  # a language without spaces, or one word
                text = words[0]
                first, second = text[: len(text) // 2], text[len(text) // 2 :]
            else:
                half = len(words) // 2
                first, second = " ".join(words[:half]), " ".join(words[half:])
            if first and second:
                yield Instruction(first, second, "gauge", language, language, row.id, "")


def _cast(device: str, precision: str) -> AbstractContextManager[Any]:
    return torch.autocast(device, getattr(torch, precision)) if precision != "float32" else nullcontext()


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)
