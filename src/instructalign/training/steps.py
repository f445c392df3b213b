"""Optimizer step s of a run, as a pure function of s."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import Dataset, Sampler

from instructalign.training.batch import Encoder, LossWeights, collate
from instructalign.training.cut import Length, Limits, cut, pack
from instructalign.training.encode import Encoded

Numbered = tuple[int, tuple[Encoded, list[str]]]
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
        encoder: Encoder,
        *,
        batch_size: int,
        limits: Limits,
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
        parts = cut(lengths, self.limits, self.processes)
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
            rows = [[encoded[k] for k in row] for row in pack(lengths, longest, self.processes)]
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

    def _mass(self, example: Encoded) -> float:
        """What an example's counted tokens weigh together."""
        if self.encoder.codec.encoder_decoder:
            return float(len(example.answer))
        prompt = max(len(example.prompt) - 1, 0)
        return prompt * self.weights.prompt + max(len(example) - 1 - prompt, 0) * self.weights.answer


class StepsFrom(Sampler[int]):
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
