"""Batches: instructions to token tensors, micro-batches within a step, steps of an epoch."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from instructalign.training.tokenization import Codec, EncodedExample, truncate_pair
from instructalign.types import Instruction

Length = tuple[int, ...]
"""The tokens of a row: one number, or two where encoder and decoder are padded apart."""


@dataclass(frozen=True, slots=True)
class MicroBatchLimits:
    """How much goes through the model at once.

    Attributes:
        rows: rows that a micro-batch may have at most; None for no limit.
        tokens: tokens that a micro-batch may have at most, padding included; None for no limit. A longer row
            stands alone.
        overhead: what a pass through the model costs however little is in it, in tokens that would take as long.
    """

    rows: int | None = None
    tokens: int | None = None
    overhead: int = 0

    def allow(self, rows: int, tokens: int) -> bool:
        """Whether a micro-batch may have so many rows and, with padding, tokens."""
        if rows == 1:
            return True
        return (self.rows is None or rows <= self.rows) and (self.tokens is None or tokens <= self.tokens)

    def rows_of(self, length: int) -> int:
        """How many rows of a length may stand together, of any number of them at hand."""
        by_tokens = max(1, self.tokens // length) if self.tokens is not None else None
        return min((limit for limit in (self.rows, by_tokens) if limit is not None), default=1 << 30)


def plan_micro_batches(lengths: Sequence[Length], limits: MicroBatchLimits, multiple: int = 1) -> list[range]:
    """Cuts rows that are sorted by length into micro-batches of neighbours.

    Of all ways within the limits, the one whose passes take the least time together, where a pass takes as long
    as its tokens, padding included, and the overhead.

    Args:
        lengths: of the rows, in order of their sums.
        limits: what a micro-batch may have.
        multiple: the number of micro-batches is a multiple of this, so that as many processes get as many each.
            The number of rows must be at least as large, and itself a multiple where the limits want single rows.

    Returns:
        The numbers of each micro-batch's rows; every row is in one.
    """
    best = [0.0] + [float("inf")] * len(lengths)
    begins = [0] * (len(lengths) + 1)
    for end in range(1, len(lengths) + 1):
        widths = (0,) * len(lengths[0])
        for begin in range(end - 1, -1, -1):
            widths = tuple(map(max, widths, lengths[begin]))
            tokens = (end - begin) * sum(widths)
            if not limits.allow(end - begin, tokens):
                break
            cost = best[begin] + limits.overhead + tokens
            if cost < best[end]:
                best[end], begins[end] = cost, begin
    parts: list[range] = []
    end = len(lengths)
    while end:
        parts.append(range(begins[end], end))
        end = begins[end]
    return _to_multiple(parts[::-1], lengths, multiple)


def _to_multiple(parts: list[range], lengths: Sequence[Length], multiple: int) -> list[range]:
    while len(parts) % multiple:
        # Halving the one that takes longest also evens out what the processes wait for.
        largest = max(range(len(parts)), key=lambda k: (len(parts[k]) > 1, padded_tokens(parts[k], lengths), k))
        part = parts[largest]
        middle = part.start + len(part) // 2
        parts[largest : largest + 1] = [range(part.start, middle), range(middle, part.stop)]
    return parts


def padded_tokens(part: Sequence[int], lengths: Sequence[Length]) -> int:
    """The tokens of a micro-batch, padding included."""
    return len(part) * sum(max(map(int, column)) for column in zip(*(lengths[row] for row in part), strict=True))


def pack_rows(lengths: Sequence[int], longest: int, multiple: int = 1) -> list[list[int]]:
    """Puts examples into as few rows of about equal length as will do, the longest examples first.

    This is the rule of longest processing time (Graham 1969, "Bounds on Multiprocessing Timing Anomalies"): each
    example goes to the row that is the shortest so far.

    Args:
        lengths: tokens of each example, at most `longest`.
        longest: tokens that a row may have.
        multiple: the number of rows is a multiple of this; there are at least as many examples.

    Returns:
        The examples of each row, by number.
    """
    order = sorted(range(len(lengths)), key=lambda number: (-lengths[number], number))
    count = _round_up(-(-sum(lengths) // longest), multiple)
    while True:
        rows: list[list[int]] = [[] for _ in range(count)]
        shortest = [(0, row) for row in range(count)]
        for number in order:
            length, row = heapq.heappop(shortest)
            rows[row].append(number)
            heapq.heappush(shortest, (length + lengths[number], row))
        if max(shortest)[0] <= longest:
            return [sorted(row) for row in rows]
        count += multiple


def _round_up(number: int, multiple: int) -> int:
    return max(1, -(-number // multiple)) * multiple


@dataclass(frozen=True, slots=True)
class LossWeights:
    """What a token counts in the loss: `answer` on the answer, `prompt` on the question before it."""

    answer: float = 1.0
    prompt: float = 0.0


class ExampleEncoder:
    """Turns instructions into training examples of bounded length.

    Args:
        codec: the model's way with prompts and answers.
        max_length: tokens that prompt and answer may have together; for encoder-decoder models each.
    """

    def __init__(self, codec: Codec, max_length: int) -> None:
        self.codec = codec
        self.max_length = max_length
        self._end: int | None = codec.tokenizer.eos_token_id
        self._opening = codec.opening()

    def __call__(self, instruction: Instruction) -> tuple[EncodedExample, list[str]]:
        """The example, and what was lost: of `prompt truncated`, `answer truncated`, `answer without tokens`."""
        prompt, answer = self.codec.pair(instruction.prompt, instruction.answer)
        if self.codec.encoder_decoder:
            kept_prompt, _ = truncate_pair(prompt, [], None, self.max_length)
            _, kept_answer = truncate_pair([], answer, self._end, self.max_length)
        else:
            kept_prompt, kept_answer = truncate_pair(prompt, answer, self._end, self.max_length, self._opening)
        lost = []
        if len(kept_prompt) < len(prompt):
            lost.append("prompt truncated")
        if len(kept_answer) < len(answer) + (self._end is not None):
            lost.append("answer truncated")
        if not answer:
            lost.append("answer without tokens")
        return EncodedExample(kept_prompt, kept_answer, instruction.objective, instruction.target), lost


def collate(
    examples: Sequence[tuple[EncodedExample, list[str]]],
    codec: Codec,
    weights: LossWeights,
    rows: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Puts examples into one batch, padded on the right, where causal attention never looks.

    Args:
        examples: each with what was cut from it.
        codec: the model's way with texts.
        weights: what prompt and answer tokens count in the loss.
        rows: how many examples stand in each row, packed one behind the other; None for one in each.

    Returns:
        A dictionary of

        * `inputs`: what the model is called with: token ids, [batch, seq]; where rows are packed, each token's
          position in its own example, [batch, seq], which keeps the examples apart; for encoder-decoder models
          the encoder's mask, [batch, seq] (their decoder's input comes from `targets`);
        * `targets`: the token that each position should predict, [batch, seq];
        * `weights`: what that prediction counts, float [batch, seq], 0 for padding;
        * `positions`: where it counts, as places in the flattened `weights`, in order, [counted];
        * `examples`: by counted position, the number of its example in the lists below, [counted];
        * for each example `kinds` (its objective), `languages` (the one asked for), `lengths` (its tokens),
          `counted` and `masses` (how many of them count in the loss, and how much in all);
        * `cuts`: what was cut; `padded`: tokens that go through the model, padding included.
    """
    pad = codec.tokenizer.pad_token_id
    encoded = [example for example, _ in examples]
    if codec.encoder_decoder:
        inputs, targets, counted, owners = _encoder_decoder(encoded, pad)
    else:
        inputs, targets, counted, owners = _decoder_only(encoded, pad, weights, rows)
    positions = counted.flatten().nonzero()[:, 0]
    owner = owners.flatten()[positions]
    mass = torch.bincount(owner, counted.flatten()[positions], minlength=len(encoded))
    return {
        "inputs": inputs,
        "targets": targets,
        "weights": counted,
        "positions": positions,
        "examples": owner,
        "kinds": [example.kind for example in encoded],
        "languages": [example.target for example in encoded],
        "lengths": [len(example) for example in encoded],
        "counted": torch.bincount(owner, minlength=len(encoded)).tolist(),
        "masses": mass.tolist(),
        "truncated": [each for _, lost in examples for each in lost],
        "padded": inputs["input_ids"].numel() + (targets.numel() if codec.encoder_decoder else 0),
    }


def to_device(value: Any, device: torch.device) -> Any:
    """A batch, or a part of it, with its tensors on a device."""
    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, dict):
        return {key: to_device(inner, device) for key, inner in value.items()}
    return value


def _decoder_only(
    examples: Sequence[EncodedExample], pad: int, weights: LossWeights, rows: Sequence[int] | None
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    ends = list(accumulate(rows if rows is not None else [1] * len(examples)))
    packed = [range(end - size, end) for end, size in zip(ends, rows or [1] * len(examples), strict=True)]
    width = max(1, max(sum(len(examples[number]) for number in row) for row in packed))
    shape = (len(packed), width)
    ids, targets = torch.full(shape, pad), torch.full(shape, pad)
    counted, owners = torch.zeros(shape), torch.zeros(shape, dtype=torch.long)
    places = torch.arange(width).repeat(len(packed), 1)
    for row, numbers in enumerate(packed):
        start = 0
        for number in numbers:
            example = examples[number]
            tokens = torch.tensor(example.prompt + example.answer, dtype=torch.long)
            end, answer = start + len(tokens), start + max(len(example.prompt) - 1, 0)
            ids[row, start:end] = tokens
            # Position t predicts token t + 1, so the last position of an example predicts nothing.
            targets[row, start : max(end - 1, start)] = tokens[1:]
            counted[row, start:answer] = weights.prompt
            counted[row, answer : max(end - 1, answer)] = weights.answer
            owners[row, start:end] = number
            places[row, start:] = torch.arange(width - start)
            start = end
        places[row, start:] = torch.arange(width - start)  # padding behind packed examples is apart from them
    inputs = {"input_ids": ids} if rows is None else {"input_ids": ids, "position_ids": places}
    return inputs, targets, counted, owners


def _encoder_decoder(
    examples: Sequence[EncodedExample], pad: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    prompts = _padded([example.prompt for example in examples], pad)
    targets = _padded([example.answer for example in examples], pad)
    counted = _mask([example.answer for example in examples], targets.shape[1]).float()
    mask = _mask([example.prompt for example in examples], prompts.shape[1])
    owners = torch.arange(len(examples))[:, None].expand_as(targets)
    return {"input_ids": prompts, "attention_mask": mask}, targets, counted, owners


def _padded(rows: Sequence[Sequence[int]], pad: int) -> torch.Tensor:
    width = max(1, max(len(row) for row in rows))
    padded = torch.full((len(rows), width), pad, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded


def _mask(rows: Sequence[Sized], width: int) -> torch.Tensor:
    lengths = torch.tensor([len(row) for row in rows])
    return (torch.arange(width)[None, :] < lengths[:, None]).long()


Numbered = tuple[int, tuple[EncodedExample, list[str]]]
"""An example with its position in the stream, and with what was cut from it."""


class StepBatches(Dataset[list[dict[str, Any]]]):
    """The micro-batches of a run; item s holds those of optimizer step s that one process runs.

    Step s takes the examples s*B … (s+1)*B - 1 of the stream. They are sorted by length and cut into
    micro-batches of neighbours (or packed into rows of about equal length, and these cut), so that little is
    padding and every step still sees exactly its own examples. Micro-batches are dealt out to the processes in
    turn; all get as many.

    A micro-batch is what `collate` makes, with the positions of its examples in the stream under `numbers`, and
    what all counted tokens of the whole step weigh, over all processes, under `step_mass`.

    Args:
        stream: the mixture; `stream[i]` is the i-th example.
        encoder: from instruction to token ids.
        batch_size: examples of one optimizer step, over all processes; a multiple of their number.
        limits: how much goes through the model at once.
        weights: what prompt and answer tokens count in the loss.
        row_length: tokens of a row into which examples are packed; None for a row for each example.
        process, processes: this process's number, and how many there are.
    """

    def __init__(
        self,
        stream: Any,
        encoder: ExampleEncoder,
        *,
        batch_size: int,
        limits: MicroBatchLimits,
        weights: LossWeights,
        row_length: int | None = None,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.stream = stream
        self.encoder = encoder
        self.batch_size = batch_size
        self.limits = limits
        self.weights = weights
        self.row_length = row_length
        self.process, self.processes = process, processes

    def __getitem__(self, step: int) -> list[dict[str, Any]]:
        first = step * self.batch_size
        encoded = [(i, self.encoder(self.stream[i])) for i in range(first, first + self.batch_size)]
        rows = self._rows(encoded)
        lengths = [self._length(row) for row in rows]
        parts = plan_micro_batches(lengths, self.limits, self.processes)
        mass = sum(self._mass(example) for _, (example, _) in encoded)
        return [
            {**self._collate([rows[number] for number in part]), "step_mass": mass}
            for part in parts[self.process :: self.processes]
        ]

    def _rows(self, encoded: list[Numbered]) -> list[list[Numbered]]:
        """What stands in each row, the shortest first."""
        if self.row_length is None:
            rows = [[numbered] for numbered in encoded]
        else:
            lengths = [len(example) for _, (example, _) in encoded]
            longest = max(self.row_length, *lengths)
            rows = [[encoded[k] for k in row] for row in pack_rows(lengths, longest, self.processes)]
        return sorted(rows, key=lambda row: sum(self._length(row)))

    def _length(self, row: list[Numbered]) -> Length:
        if self.encoder.codec.encoder_decoder:
            [(_, (example, _))] = row
            return (len(example.prompt), len(example.answer))
        return (sum(len(example) for _, (example, _) in row),)

    def _collate(self, rows: list[list[Numbered]]) -> dict[str, Any]:
        numbered = [each for row in rows for each in row]
        sizes = [len(row) for row in rows] if self.row_length is not None else None
        batch = collate([pair for _, pair in numbered], self.encoder.codec, self.weights, sizes)
        return {**batch, "numbers": [number for number, _ in numbered]}

    def _mass(self, example: EncodedExample) -> float:
        """What an example's counted tokens weigh together."""
        if self.encoder.codec.encoder_decoder:
            return float(len(example.answer))
        prompt = max(len(example.prompt) - 1, 0)
        return prompt * self.weights.prompt + max(len(example) - 1 - prompt, 0) * self.weights.answer


class RemainingSteps(Sampler[int]):
    """The steps of a run from where it stands: what is done is not even looked at again.

    Args:
        steps: optimizer steps of the whole run.
        done: says, when the first step is asked for, how many are already done.
    """

    def __init__(self, steps: int, done: Callable[[], int]) -> None:
        self._steps = steps
        self._done = done

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._done(), self._steps))
