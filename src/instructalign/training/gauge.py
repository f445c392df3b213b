"""How far a model has gone from its base: the KL divergence on text in known languages that is not trained on.

Shenfeld, Pari and Agrawal (2025, "RL's Razor", arXiv 2509.04259) find that forgetting follows the same divergence
on the new task. The base's predictions are kept, not the base: no second model is in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from instructalign.config import Config
from instructalign.corpora import Corpus
from instructalign.errors import TrainingError
from instructalign.records import Instruction
from instructalign.training.batch import Encoder, LossWeights, collate, to_device
from instructalign.training.loss import counted_logits

NAME = "kl_to_base"
_ROWS = 8  # probes of one forward pass


def kl_gauge(
    config: Config, heldout: Corpus, encoder: Encoder, model: Any, positions: int
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
            logits = counted_logits(model, to_device(batch, device), kind)
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


def _batches(heldout: Corpus, known: list[str], encoder: Encoder, positions: int) -> Iterator[dict[str, Any]]:
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
