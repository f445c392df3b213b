"""What is measured while a model trains: validation loss, and KL divergence from the base."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from instructalign.config import Config
from instructalign.data import Corpus
from instructalign.errors import TrainingError
from instructalign.mixture.training_data import TrainingData, heldout_instructions
from instructalign.training.batching import (
    ExampleEncoder,
    LossWeights,
    MicroBatchLimits,
    collate,
    plan_micro_batches,
    to_device,
)
from instructalign.training.loss import target_logits, token_losses
from instructalign.training.models import LoadedModel, autocast
from instructalign.training.requirements import NO_KNOWN_SENTENCE
from instructalign.types import Instruction

VALIDATION_EXAMPLES = 256
_VALIDATION_LIMITS = MicroBatchLimits(rows=32, tokens=4096)
_KL_ROWS = 8  # sentences in one forward pass


@dataclass(frozen=True, slots=True)
class Monitor:
    """Something that is measured now and then while a model trains, and after its last step.

    Attributes:
        measure: from the model to names and values.
        every: steps between two measurements; None for the one after the last step alone.
    """

    measure: Callable[[Any], Mapping[str, float]]
    every: int | None

    def due(self, step: int, steps: int) -> bool:
        """Whether to measure after step `step` of `steps`."""
        return step == steps or (self.every is not None and step % self.every == 0)


def validation_loss(
    config: Config,
    data: TrainingData,
    encoder: ExampleEncoder,
    loaded: LoadedModel,
    limits: MicroBatchLimits = _VALIDATION_LIMITS,
    examples: int = VALIDATION_EXAMPLES,
) -> Callable[[Any], float] | None:
    """A function that measures the loss on some held-out instructions, in nats per answer token.

    None where fewer than two sentences are held out: objectives with a wrong translation need a second one.
    """
    stream = heldout_instructions(config, data.heldout) if len(data.heldout) > 1 else None
    if stream is None:
        return None
    return answer_loss([stream[k] for k in range(examples)], encoder, loaded.encoder_decoder, limits)


def answer_loss(
    instructions: Sequence[Instruction],
    encoder: ExampleEncoder,
    encoder_decoder: bool,
    limits: MicroBatchLimits = _VALIDATION_LIMITS,
) -> Callable[[Any], float]:
    """A function that measures the mean loss over the answer tokens of some instructions, in nats.

    Args:
        instructions: the prompts with their answers.
        encoder: from instruction to token ids.
        encoder_decoder: whether the model has an encoder and a decoder.
        limits: how much goes through the model at once.
    """
    examples = sorted(map(encoder, instructions), key=len)
    parts = plan_micro_batches([(len(example),) for example in examples], limits)
    batches = [collate([examples[k] for k in part], encoder.codec, LossWeights()) for part in parts]

    def measure(model: Any) -> float:
        total, count = 0.0, 0
        device = next(model.parameters()).device
        with _evaluating(model):
            for batch in batches:
                losses = token_losses(model, to_device(batch, device), encoder_decoder)
                total += float(losses.sum())
                count += losses.numel()
        return total / max(count, 1)

    return measure


def kl_monitor(
    config: Config, heldout: Corpus, encoder: ExampleEncoder, model: Any, positions: int
) -> Callable[[Any], dict[str, float]]:
    """A function that measures KL(base ‖ model), the mean over fixed positions, in nats, as `kl_to_base`.

    The second half of each held-out sentence in a known language is predicted from the first.

    Args:
        config: says which languages are known, and in what precision the model runs.
        heldout: the sentences that are not trained on.
        encoder: from instruction to token ids.
        model: the model before its first step, which computes what the base does.
        positions: about how many predictions are compared.

    Raises:
        TrainingError: no sentence of a known language is held out.
    """
    batches: list[dict[str, Any]] = []
    rows, counted = [], 0
    for example in half_sentences(heldout, config.languages.known):
        rows.append(encoder(example))
        counted += len(rows[-1].answer)
        if len(rows) == _KL_ROWS or counted >= positions:
            batches.append(collate(rows, encoder.codec, LossWeights()))
            rows = []
        if counted >= positions:
            break
    if rows:
        batches.append(collate(rows, encoder.codec, LossWeights()))
    if not batches:
        raise TrainingError(NO_KNOWN_SENTENCE)

    def log_probabilities(model: Any) -> Iterator[Tensor]:
        device = next(model.parameters()).device
        for batch in batches:
            with autocast(device.type, config.training.precision):
                logits = target_logits(model, to_device(batch, device), encoder.codec.encoder_decoder)
            # To the CPU: the base's log-probabilities, vocabulary times positions, stay for the whole run.
            yield logits.float().log_softmax(dim=-1).cpu()

    with _evaluating(model):
        base = list(log_probabilities(model))
    count = sum(len(each) for each in base)

    def measure(model: Any) -> dict[str, float]:
        with _evaluating(model):
            total = sum(map(summed_kl, base, log_probabilities(model)))
        return {"kl_to_base": total / count}

    return measure


def summed_kl(before: Tensor, after: Tensor) -> float:
    """The sum over positions of KL(before ‖ after), in nats, computed in double precision.

    Args:
        before, after: log-probabilities, [positions, vocabulary].
    """
    before = before.double()
    return float((before.exp() * (before - after.double())).sum())


def half_sentences(heldout: Corpus, known: list[str]) -> Iterator[Instruction]:
    """Each sentence as an instruction: its first half the prompt, its second the answer."""
    for row in heldout:
        for language in known:
            words = row.texts.get(language, "").split(" ")
            if len(words) == 1:  # a language without spaces, or a single word
                text = words[0]
                first, second = text[: len(text) // 2], text[len(text) // 2 :]
            else:
                half = len(words) // 2
                first, second = " ".join(words[:half]), " ".join(words[half:])
            if first and second:
                yield Instruction(first, second, "kl", language, language, row.id, "")


@contextmanager
def _evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode without gradients; afterwards the model is in the mode it was in."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)
