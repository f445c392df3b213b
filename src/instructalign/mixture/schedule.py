"""The interleaving of alignment instructions with replay."""

from __future__ import annotations

from fractions import Fraction
from typing import Protocol

from instructalign.mixture.replay import ReplayBuffer
from instructalign.records import Instruction


class Stream(Protocol):
    """Anything that has an instruction at every position."""

    def __getitem__(self, index: int) -> Instruction: ...


class Mixture:
    """The training stream: `mixture[i]` is the i-th example, whoever asks and in whatever order.

    Replayed examples are spread evenly: any first n examples hold share x n of them, rounded down. At share
    0.5 that is the paper's strict alternation. The replay buffer is walked in a new order each time round.

    Args:
        instructions: the alignment instructions.
        replay: the chosen past examples; empty for none.
        share: part of all examples that is replayed, at least 0 and below 1.
        seed: sets the order of the replay.
    """

    def __init__(self, instructions: Stream, replay: ReplayBuffer, share: float, seed: int) -> None:
        self.instructions = instructions
        self.replay = replay
        self.share = share if len(replay) else 0.0
        self._share = Fraction(str(self.share))
        self._seed = seed

    def replayed(self, count: int) -> int:
        """How many of the first `count` examples are replayed."""
        return count * self._share.numerator // self._share.denominator

    def __getitem__(self, index: int) -> Instruction:
        past = self.replayed(index)
        if self.replayed(index + 1) > past:
            return self.replay.walk(past, self._seed)
        return self.instructions[index - past]
