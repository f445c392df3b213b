"""Batches: instructions as token tensors, micro-batches of a step, steps of a run."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch.utils.data import Dataset, Sampler

from instructalign.training.tokenization import Codec, EncodedExample, truncate_pair
from instructalign.types import Instruction

RowLength = tuple[int, ...]
"""The tokens of a row: one number, or two where encoder and decoder are padded separately."""


@dataclass(frozen=True, slots=True)
class MicroBatchLimits:
    """How much goes through the model at once.

    Attributes:
        rows: rows that a micro-batch may have at most; None for no limit.
        tokens: tokens that a micro-batch may have at most, padding included; None for no limit. A longer row
            is a micro-batch of its own.
        overhead: what a pass through the model costs whatever its size, in tokens that would take as long.
    """

    rows: int | None = None
    tokens: int | None = None
    overhead: int = 0

    def allow(self, rows: int, tokens: int) -> bool:
        """Whether a micro-batch may have this many rows and, with padding, tokens."""
        if rows == 1:
            return True
        return (self.rows is None or rows <= self.rows) and (self.tokens is None or tokens <= self.tokens)

    def rows_of(self, length: int) -> int:
        """How many rows of one length a micro-batch may have."""
        by_tokens = max(1, self.tokens // length) if self.tokens is not None else None
        return min((limit for limit in (self.rows, by_tokens) if limit is not None), default=1 << 30)


def plan_micro_batches(lengths: Sequence[RowLength], limits: MicroBatchLimits, multiple: int = 1) -> list[range]:
    """Divides rows that are sorted by length into micro-batches of neighbours.

    Of all ways within the limits, the one whose passes take the least time together, where a pass takes as long
    as its tokens, padding included, and the overhead.

    Args:
        lengths: of the rows, in order of their sums.
        limits: what a micro-batch may have.
        multiple: the number of micro-batches is a multiple of this, so that as many processes get equally many.
            The number of rows must be at least as large, and itself a multiple where the limits want single rows.

    Returns:
        The numbers of each micro-batch's rows; every row is in one.
    """
    # Dynamic programming: the least cost of the first `end` rows, by where their last micro-batch begins. Rows are
    # sorted, so once a micro-batch is too large it stays so with more rows.
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
        parts.insert(0, range(begins[end], end))
        end = begins[end]
    while len(parts) % multiple:
        # Halving the one that takes longest also evens out how long processes wait for each other.
        largest = max(range(len(parts)), key=lambda k: (len(parts[k]) > 1, padded_tokens(parts[k], lengths), k))
        part = parts[largest]
        middle = part.start + len(part) // 2
        parts[largest : largest + 1] = [range(part.start, middle), range(middle, part.stop)]
    return parts


def padded_tokens(part: Sequence[int], lengths: Sequence[RowLength]) -> int:
    """The tokens of a micro-batch, padding included."""
    return len(part) * sum(max(map(int, column)) for column in zip(*(lengths[row] for row in part), strict=True))


def pack_rows(lengths: Sequence[int], longest: int, multiple: int = 1) -> list[list[int]]:
    """Puts examples into as few rows of about equal length as possible, the longest examples first.

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
    full_rows = -(-sum(lengths) // longest)
    count = max(1, -(-full_rows // multiple)) * multiple
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


@dataclass(frozen=True, slots=True)
class LossWeights:
    """The weight of a token in the loss: `answer` for those of the answer, `prompt` for those of the prompt."""

    answer: float = 1.0
    prompt: float = 0.0


class ExampleEncoder:
    """Turns instructions into training examples of bounded length.

    Args:
        codec: how the model's prompts and answers become tokens.
        max_length: tokens that prompt and answer may have together; for encoder-decoder models each.
    """

    def __init__(self, codec: Codec, max_length: int) -> None:
        self.codec = codec
        self.max_length = max_length
        self._end = codec.end
        self._opening = codec.opening()

    def __call__(self, instruction: Instruction) -> EncodedExample:
        """The instruction as tokens, truncated."""
        end = self._end
        if instruction.prompt:
            prompt, answer = self.codec.pair(instruction.prompt, instruction.answer, instruction.turns)
        else:
            prompt, answer = self.codec.text(instruction.answer)
            end = self.codec.tokenizer.eos_token_id
        if instruction.goes_on:
            end = None
        if self.codec.encoder_decoder:
            kept_prompt, _ = truncate_pair(prompt, [], None, self.max_length)
            _, kept_answer = truncate_pair([], answer, end, self.max_length)
        else:
            kept_prompt, kept_answer = truncate_pair(prompt, answer, end, self.max_length, self._opening)
        lost = {
            "prompt truncated": len(kept_prompt) < len(prompt),
            "answer truncated": len(kept_answer) < len(answer) + (end is not None),
            "answer without tokens": not answer,
        }
        reasons = tuple(reason for reason, applies in lost.items() if applies)
        return EncodedExample(kept_prompt, kept_answer, instruction.objective, instruction.target, reasons)


def collate(
    examples: Sequence[EncodedExample],
    codec: Codec,
    weights: LossWeights,
    rows: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Puts examples into one batch, padded on the right, where causal attention never looks.

    Args:
        examples: as `ExampleEncoder` makes them.
        codec: how the model's prompts and answers become tokens.
        weights: the weights of prompt and answer tokens in the loss.
        rows: how many examples each row has, packed one after the other; None for one in each.

    Returns:
        A dictionary of

        * `inputs`: what the model is called with: token ids, [batch, seq]; where rows are packed, each token's
          position in its own example, [batch, seq], which separates the examples; for encoder-decoder models
          the encoder's mask, [batch, seq] (their decoder's input comes from `targets`);
        * `targets`: the token that each position should predict, [batch, seq];
        * `weights`: the weight of that prediction in the loss, float [batch, seq], 0 for padding;
        * `positions`: where it is not 0, as places in the flattened `weights`, in order, [counted];
        * `examples`: by counted position, the number of its example in the lists below, [counted];
        * for each example `kinds` (its objective), `languages` (the target language), `lengths` (its tokens),
          `counted` and `masses` (how many of them count in the loss, and their weight together);
        * `truncated`: what examples lost; `padded`: tokens that go through the model, padding included.
    """
    pad = codec.tokenizer.pad_token_id
    if codec.encoder_decoder:
        inputs, targets, counted, owners = _encoder_decoder(examples, pad)
    else:
        inputs, targets, counted, owners = _decoder_only(examples, pad, weights, rows)
    positions = counted.flatten().nonzero()[:, 0]
    owner = owners.flatten()[positions]
    return {
        "inputs": inputs,
        "targets": targets,
        "weights": counted,
        "positions": positions,
        "examples": owner,
        "kinds": [example.kind for example in examples],
        "languages": [example.target for example in examples],
        "lengths": [len(example) for example in examples],
        "counted": torch.bincount(owner, minlength=len(examples)).tolist(),
        "masses": torch.bincount(owner, counted.flatten()[positions], minlength=len(examples)).tolist(),
        "truncated": [reason for example in examples for reason in example.truncated],
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
        places[row, start:] = torch.arange(width - start)  # padding is an example of its own
    inputs = {"input_ids": ids} if rows is None else {"input_ids": ids, "position_ids": places}
    return inputs, targets, counted, owners


def _encoder_decoder(
    examples: Sequence[EncodedExample], pad: int
) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor, torch.Tensor]:
    prompts, mask = _padded([example.prompt for example in examples], pad)
    targets, counted = _padded([example.answer for example in examples], pad)
    owners = torch.arange(len(examples))[:, None].expand_as(targets)
    return {"input_ids": prompts, "attention_mask": mask}, targets, counted.float(), owners


def _padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of tokens as one tensor, padded on the right, and 1 where it holds a token; both [batch, seq]."""
    shape = (len(rows), max(1, max(len(row) for row in rows)))
    padded, mask = torch.full(shape, pad, dtype=torch.long), torch.zeros(shape, dtype=torch.long)
    for number, row in enumerate(rows):
        padded[number, : len(row)] = torch.tensor(row, dtype=torch.long)
        mask[number, : len(row)] = 1
    return padded, mask


_NumberedExample = tuple[int, EncodedExample]  # with its position in the stream


class StepBatches(Dataset[list[dict[str, Any]]]):
    """The micro-batches of a run; item s holds those of optimizer step s that one process runs.

    Step s takes the examples s*B … (s+1)*B - 1 of the stream. They are sorted by length and divided into
    micro-batches of neighbours (or packed into rows of about equal length, and these divided), so that little is
    padding and every step still sees exactly its own examples. Micro-batches are dealt to the processes in turn;
    all get equally many.

    A micro-batch is what `collate` makes, with the positions of its examples in the stream under `numbers`, and
    the weight of all counted tokens of the whole step, over all processes, under `step_mass`.

    Args:
        stream: the mixture; `stream[i]` is the i-th example.
        encoder: from instruction to token ids.
        batch_size: examples of one optimizer step, over all processes; a multiple of their number.
        limits: how much goes through the model at once.
        weights: the weights of prompt and answer tokens in the loss.
        row_length: tokens of a row into which examples are packed; None for a row for each example.
        process, processes: rank and world size.
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
        rows = [[each] for each in encoded]
        if self.row_length is not None:
            lengths = [len(example) for _, example in encoded]
            # An example that is longer than a row is a row of its own.
            packed = pack_rows(lengths, max(self.row_length, *lengths), self.processes)
            rows = [[encoded[k] for k in row] for row in packed]
        rows.sort(key=lambda row: sum(self._length(row)))
        parts = plan_micro_batches([self._length(row) for row in rows], self.limits, self.processes)
        mass = sum(self._mass(example) for _, example in encoded)
        return [
            {**self._collate([rows[number] for number in part]), "step_mass": mass}
            for part in parts[self.process :: self.processes]
        ]

    def _length(self, row: list[_NumberedExample]) -> RowLength:
        if self.encoder.codec.encoder_decoder:
            [(_, example)] = row
            return (len(example.prompt), len(example.answer))
        return (sum(len(example) for _, example in row),)

    def _collate(self, rows: list[list[_NumberedExample]]) -> dict[str, Any]:
        numbers, examples = zip(*(each for row in rows for each in row), strict=True)
        sizes = [len(row) for row in rows] if self.row_length is not None else None
        return {**collate(examples, self.encoder.codec, self.weights, sizes), "numbers": list(numbers)}

    def _mass(self, example: EncodedExample) -> float:
        """The weight of an example's counted tokens together: `sum(masses)` of `collate`, for other processes."""
        if self.encoder.codec.encoder_decoder:
            return float(len(example.answer))
        prompt = max(len(example.prompt) - 1, 0)
        return prompt * self.weights.prompt + max(len(example) - 1 - prompt, 0) * self.weights.answer


class RemainingSteps(Sampler[int]):
    """The steps of a run that are not done yet: a resumed run does not even look at the others.

    Args:
        steps: optimizer steps of the whole run.
        done: returns how many are done; called when the first step is asked for.
    """

    def __init__(self, steps: int, done: Callable[[], int]) -> None:
        self._steps = steps
        self._done = done

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._done(), self._steps))
