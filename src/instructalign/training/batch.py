"""Micro-batch m of a run, as a pure function of m."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from instructalign.records import Instruction
from instructalign.training.encode import Codec, Encoded, fit


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a token counts in the loss: `answer` on the answer, `prompt` on the question before it."""

    answer: float = 1.0
    prompt: float = 0.0


class Encoder:
    """Turns instructions into training examples of bounded length.

    Args:
        codec: the model's way with prompts and answers.
        max_length: tokens that prompt and answer may have together; for encoder-decoder models each.
    """

    def __init__(self, codec: Codec, max_length: int) -> None:
        self.codec = codec
        self.max_length = max_length
        self._end: int | None = codec.tokenizer.eos_token_id
        self._first: int | None = codec.tokenizer.bos_token_id

    def __call__(self, instruction: Instruction) -> tuple[Encoded, list[str]]:
        """The example, and what had to be cut from it: of `prompt cut`, `answer cut`, `answer without tokens`."""
        prompt, answer = self.codec.pair(instruction.prompt, instruction.answer)
        if self.codec.encoder_decoder:
            kept_prompt, _ = fit(prompt, [], None, self.max_length)
            _, kept_answer = fit([], answer, self._end, self.max_length)
        else:
            kept_prompt, kept_answer = fit(prompt, answer, self._end, self.max_length, self._first)
        cuts = []
        if len(kept_prompt) < len(prompt):
            cuts.append("prompt cut")
        if len(kept_answer) < len(answer) + (self._end is not None):
            cuts.append("answer cut")
        if not answer:
            cuts.append("answer without tokens")
        return Encoded(kept_prompt, kept_answer, instruction.objective, instruction.target), cuts


class MicroBatches(Dataset[dict[str, Any]]):
    """The micro-batches of a run; item m is computed from the stream alone.

    An item is what `collate` makes, with the positions of its examples in the stream under `numbers`.

    Optimizer step s takes the examples s*B … (s+1)*B - 1 of the stream. They are sorted by length and cut into
    equal micro-batches, so that little is padding and every step still sees exactly its own examples.

    Args:
        stream: the mixture; `stream[i]` is the i-th example.
        encoder: from instruction to token ids.
        batch_size: examples of one optimizer step, over all processes.
        micro_batch_size: examples of one forward pass of one process.
        weights: what prompt and answer tokens count in the loss.
    """

    def __init__(
        self,
        stream: Any,
        encoder: Encoder,
        *,
        batch_size: int,
        micro_batch_size: int,
        weights: LossWeights,
    ) -> None:
        self.stream = stream
        self.encoder = encoder
        self.batch_size = batch_size
        self.micro_batch_size = micro_batch_size
        self.weights = weights
        self.per_step = batch_size // micro_batch_size
        self._step = lru_cache(maxsize=2)(self._encode_step)

    def __getitem__(self, index: int) -> dict[str, Any]:
        step, part = divmod(index, self.per_step)
        examples = self._step(step)
        chosen = examples[part * self.micro_batch_size : (part + 1) * self.micro_batch_size]
        batch = collate([pair for _, pair in chosen], self.encoder.codec, self.weights)
        return {**batch, "numbers": [number for number, _ in chosen]}

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_step"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._step = lru_cache(maxsize=2)(self._encode_step)

    def _encode_step(self, step: int) -> list[tuple[int, tuple[Encoded, list[str]]]]:
        first = step * self.batch_size
        encoded = [(i, self.encoder(self.stream[i])) for i in range(first, first + self.batch_size)]
        return sorted(encoded, key=lambda numbered: len(numbered[1][0]))


class ProcessShare(Sampler[int]):
    """The micro-batches that one of several processes runs, from a given step on.

    Args:
        dataset: the micro-batches.
        steps: optimizer steps of the whole run.
        process, processes: this process's number and how many there are.
        done: says, when the first micro-batch is asked for, how many steps are already done.
    """

    def __init__(
        self, dataset: MicroBatches, steps: int, process: int, processes: int, done: Callable[[], int]
    ) -> None:
        self._total = steps * dataset.per_step
        self._per_step = dataset.per_step
        self._process, self._processes = process, processes
        self._done = done

    def __len__(self) -> int:
        return self._total // self._processes

    def __iter__(self) -> Iterator[int]:
        first = self._done() * self._per_step
        return iter(range(first + self._process, self._total, self._processes))


def collate(examples: Sequence[tuple[Encoded, list[str]]], codec: Codec, weights: LossWeights) -> dict[str, Any]:
    """Pads examples on the right into one batch.

    Returns:
        `inputs`: what the model is called with (token ids and masks, [batch, seq]; encoder-decoder models get
        their decoder's input from `targets`); `targets`: the token each position should predict, [batch, seq];
        `weights`: what that prediction counts, float [batch, seq], 0 for padding; `kinds`, `lengths` and `cuts`:
        the examples' objectives, their tokens (prompt and answer) and what was cut, for the record.
    """
    pad = codec.tokenizer.pad_token_id
    encoded = [example for example, _ in examples]
    if codec.encoder_decoder:
        inputs, targets, counted = _encoder_decoder(encoded, pad)
    else:
        inputs, targets, counted = _decoder_only(encoded, pad, weights)
    return {
        "inputs": inputs,
        "targets": targets,
        "weights": counted,
        "kinds": [example.kind for example in encoded],
        "lengths": [len(example) for example in encoded],
        "cuts": [cut for _, cuts in examples for cut in cuts],
    }


def example_of(batch: dict[str, Any]) -> torch.Tensor:
    """By counted position, the place in `kinds` and `numbers` of the example it belongs to, [counted]."""
    counted: torch.Tensor = (batch["weights"] > 0).nonzero()
    return counted[:, 0]


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, or a part of it, with its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(inner, device) for key, inner in value.items()}
    return value


def _decoder_only(
    examples: Sequence[Encoded], pad: int, weights: LossWeights
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    ids = _padded([example.prompt + example.answer for example in examples], pad)
    mask = _mask(examples, ids.shape[1])
    # Position t predicts token t + 1, so the last position of a row predicts nothing.
    targets = torch.full_like(ids, pad)
    targets[:, :-1] = ids[:, 1:]
    counted = torch.zeros(ids.shape, dtype=torch.float32)
    for row, example in enumerate(examples):
        start, end = len(example.prompt), len(example)
        counted[row, : max(start - 1, 0)] = weights.prompt
        counted[row, max(start - 1, 0) : end - 1] = weights.answer
    return {"input_ids": ids, "attention_mask": mask}, targets, counted


def _encoder_decoder(
    examples: Sequence[Encoded], pad: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    prompts = _padded([example.prompt for example in examples], pad)
    targets = _padded([example.answer for example in examples], pad)
    counted = _mask([example.answer for example in examples], targets.shape[1]).float()
    mask = _mask([example.prompt for example in examples], prompts.shape[1])
    return {"input_ids": prompts, "attention_mask": mask}, targets, counted


def _padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    width = max(1, max(len(row) for row in rows))
    padded = torch.full((len(rows), width), pad, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


def _mask(rows: Sequence[Sized], width: int) -> torch.Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(width)[None, :] < lengths[:, None]).long()
