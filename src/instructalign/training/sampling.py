"""Letting a model write: batches of prompts as token ids, greedily or by draws that depend on nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from instructalign.errors import DataError
from instructalign.randomness import Draws
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.models import LoadedModel, context_length


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is drawn; without it, it is the likeliest.

    Attributes:
        key: of the draws (`randomness.digest_key`).
        temperature: what the logits are divided by.
        top_k: of how many of the likeliest tokens it is drawn.
    """

    key: bytes
    temperature: float = 1.0
    top_k: int = 50


@dataclass(frozen=True, slots=True)
class Written:
    """What a model wrote behind one prompt.

    Attributes:
        tokens: their ids, without the one that ends a text.
        finished: whether the model came to an end by itself.
        likelihood: the mean log-likelihood of a written token, that of the end included, in nats; 0 if none.
    """

    tokens: list[int]
    finished: bool
    likelihood: float


def write_all(
    loaded: LoadedModel,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    batch_tokens: int,
    *,
    sampling: Sampling | None = None,
    numbers: Sequence[int] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Written]:
    """What a model writes behind prompts.

    Args:
        loaded: the model.
        prompts: as token ids.
        tokens: how many it may write.
        batch_tokens: tokens of a batch, those to be written included.
        sampling: how tokens are drawn; greedily if None.
        numbers: by prompt, what its draws depend on beside the key.
        progress: told how many prompts are done.

    Raises:
        DataError: a prompt leaves no room in the model's context.
    """
    context = context_length(loaded)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    done: dict[int, Written] = {}
    while order:
        longest = len(prompts[order[0]])
        room = tokens if context is None or loaded.encoder_decoder else min(tokens, context - longest)
        if room < 1:
            text = loaded.tokenizer.decode(list(prompts[order[0]]))
            raise DataError(
                f"a prompt of {longest} tokens leaves no room in the model's context of {context}: {text[:60]}…"
            )
        rows = max(1, batch_tokens // (longest + room))
        batch, order = order[:rows], order[rows:]
        choice = _Choice(sampling, [numbers[index] for index in batch] if numbers else [0] * len(batch))
        written = _write(loaded, [prompts[index] for index in batch], room, choice)
        done.update(zip(batch, written, strict=True))
        if progress:
            progress(len(done), len(prompts))
    return [done[index] for index in range(len(prompts))]


def _write(loaded: LoadedModel, prompts: Sequence[Sequence[int]], tokens: int, choice: _Choice) -> list[Written]:
    model: Any = loaded.model
    tokenizer = loaded.tokenizer
    end = {tokenizer.eos_token_id, *_as_list(model.generation_config.eos_token_id)} - {None}
    longest = max(map(len, prompts))
    ids = torch.zeros((len(prompts), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        # A decoder goes on behind the last token, so that its padding stands in front.
        where = slice(0, len(prompt)) if loaded.encoder_decoder else slice(longest - len(prompt), longest)
        ids[row, where] = torch.tensor(prompt)
        mask[row, where] = 1
    with fast_inference(model):
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            logits_processor=LogitsProcessorList([choice]),
            eos_token_id=sorted(end) or None,
            pad_token_id=tokenizer.pad_token_id,
        )
    behind = written[:, 1:] if loaded.encoder_decoder else written[:, longest:]
    steps = [step.tolist() for step in choice.likelihoods]
    results = []
    for number, row in enumerate(behind.tolist()):
        stop = next((place for place, token in enumerate(row) if token in end), None)
        values = [step[number] for step in steps[: len(row) if stop is None else stop + 1]]
        results.append(Written(row[:stop], stop is not None, sum(values) / max(1, len(values))))
    return results


class _Choice(LogitsProcessor):
    """Chooses each next token itself, leaving no other, and keeps its log-likelihood.

    A draw from the softmax is the maximum of logits with Gumbel noise (Maddison, Tarlow and Minka 2014, "A*
    Sampling"). The noise is a function of key, number and position, so that a text does not depend on what is
    written beside it, or before.
    """

    def __init__(self, sampling: Sampling | None, numbers: Sequence[int]) -> None:
        self._sampling = sampling
        self._numbers = numbers
        self.likelihoods: list[torch.Tensor] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """The scores [batch, vocabulary] with one token left in each row."""
        chosen = self._draw(scores, self._sampling) if self._sampling else scores.argmax(dim=-1, keepdim=True)
        self.likelihoods.append(torch.log_softmax(scores.float(), dim=-1).gather(1, chosen)[:, 0])
        return torch.full_like(scores, float("-inf")).scatter(1, chosen, 0.0)

    def _draw(self, scores: Any, sampling: Sampling) -> Any:
        count = min(sampling.top_k, scores.shape[-1])
        values, tokens = scores.float().topk(count, dim=-1)
        step = len(self.likelihoods)
        bits = [Draws(sampling.key, number << 20 | step).many(count) for number in self._numbers]
        noise = [[-log(-log((each + 0.5) / 2**32)) for each in row] for row in bits]
        noisy = values / sampling.temperature + torch.tensor(noise, device=scores.device)
        return tokens.gather(1, noisy.argmax(dim=-1, keepdim=True))


def _as_list(value: int | list[int] | None) -> list[int]:
    return value if isinstance(value, list) else [] if value is None else [value]
