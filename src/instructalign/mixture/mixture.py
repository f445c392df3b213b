"""The training stream: example i is a new alignment instruction or a replay example, by the share of replay."""

from __future__ import annotations

from fractions import Fraction
from math import lcm, pi, sin
from typing import Protocol

from instructalign.config import ShareScheduleConfig
from instructalign.mixture.replay_buffer import ReplayBuffer
from instructalign.types import Instruction


class InstructionSequence(Protocol):
    """Anything that has an instruction at every position."""

    def __getitem__(self, index: int) -> Instruction: ...


class ReplaySchedule:
    """How many of the first n training examples are replayed: the sum of their shares, rounded down.

    The share is constant, changes in stages, or moves to another value along a line or half a cosine wave. Sums
    are exact (integers over a common denominator; 0.1 is a tenth, not the float next to it), so that every
    platform gives the same sequence.

    Args:
        share: the share of replay at the beginning, at least 0 and below 1.
        schedule: how it changes; None where it is constant.
        steps: optimizer steps of the training, over which a line or a cosine reaches its end.
        batch_size: examples of a step.
    """

    def __init__(
        self, share: float, schedule: ShareScheduleConfig | None = None, *, steps: int = 0, batch_size: int = 0
    ) -> None:
        exact = [Fraction(str(each)) for each in (share, *(schedule.shares if schedule else ()))]
        self._shape = schedule.shape if schedule else "staged"
        self._unit = lcm(*(each.denominator for each in exact))
        self._shares = [int(each * self._unit) for each in exact]  # in units of 1 / self._unit
        stages = (schedule.stages if schedule else None) or ()
        self._begins = [0, *(stage.at * batch_size for stage in stages)]
        self._total = steps * batch_size

    def replayed(self, count: int) -> int:
        """How many of the first `count` examples are replayed."""
        numerator, denominator = self._sum(count)
        return numerator // denominator

    def due(self, count: int) -> Fraction:
        """The share summed over the first `count` examples."""
        return Fraction(*self._sum(count))

    def at(self, index: int) -> float:
        """The share at one example: what `due` grows by there."""
        return float(self.due(index + 1) - self.due(index))

    def mean(self, count: int) -> float:
        """The mean share of the first `count` examples."""
        return float(self.due(count) / count)

    def _sum(self, count: int) -> tuple[int, int]:
        """Numerator and denominator of the sum over the first `count` examples."""
        if self._shape == "staged":
            ends = [*self._begins[1:], count]
            stages = zip(self._shares, self._begins, ends, strict=True)
            return sum(share * max(0, min(end, count) - begin) for share, begin, end in stages), self._unit
        first, last = self._shares
        total = self._total
        n = min(count, total)
        after = last * (count - n)  # the share holds once it has reached its end
        if self._shape == "linear":  # the area of a trapezium
            return n * (2 * total * first + (last - first) * n) + 2 * total * after, 2 * total * self._unit
        wave = (first - last) * total / pi * sin(pi * n / total)
        # In millionths, as platforms differ in the last digits of a sine.
        return round(10**6 * ((n * (first + last) + wave) / 2 + after) / self._unit), 10**6


class Mixture:
    """The training stream: `mixture[i]` is the i-th example, whoever asks and in whatever order.

    Replayed examples are spread evenly: any first n examples hold their share of them, rounded down. At a share of
    0.5 that is the paper's strict alternation. The replay buffer is walked in a new order each epoch.

    Args:
        instructions: the alignment instructions.
        replay: the replay buffer; empty for none.
        share: part of the examples that is replayed, at least 0 and below 1; a number, or a schedule.
        seed: sets the order of the replay.
    """

    def __init__(
        self, instructions: InstructionSequence, replay: ReplayBuffer, share: float | ReplaySchedule, seed: int
    ) -> None:
        self.instructions = instructions
        self.replay = replay
        if not len(replay):
            share = 0.0
        self.schedule = share if isinstance(share, ReplaySchedule) else ReplaySchedule(share)
        self._seed = seed

    def replayed(self, count: int) -> int:
        """How many of the first `count` examples are replayed."""
        return self.schedule.replayed(count)

    def __getitem__(self, index: int) -> Instruction:
        before = self.replayed(index)
        if self.replayed(index + 1) > before:
            return self.replay.walk(before, self._seed)
        return self.instructions[index - before]
