"""The interleaving of alignment instructions with replay."""

from __future__ import annotations

from instructalign.mixture.replay import ReplayBuffer
from instructalign.mixture.replay_share import Share, constant
from instructalign.mixture.token_shares import Balance, Measure, Stream, Unit
from instructalign.types import Instruction


class Mixture:
    """The training stream: `mixture[i]` is the i-th example, whoever asks and in whatever order.

    Replayed examples are spread evenly: any first n examples hold the planned share of them, rounded down. At
    share 0.5 of rows that is the paper's strict alternation. The replay buffer is walked in a new order each
    time round.

    Args:
        instructions: the alignment instructions.
        replay: the chosen past examples; empty for none.
        share: part of the training that is replayed, at least 0 and below 1; a number, or a `Share` that
            changes in its course.
        seed: sets the order of the replay.
        unit: what the share is one of: `rows` (examples), `tokens`, or `loss_tokens`.
        measure: gives the lengths of examples; needed where the share is one of tokens.

    Raises:
        DataError: the share is one of tokens, and no past example has any.
    """

    def __init__(
        self,
        instructions: Stream,
        replay: ReplayBuffer,
        share: float | Share,
        seed: int,
        *,
        unit: Unit = "rows",
        measure: Measure | None = None,
    ) -> None:
        planned = share if isinstance(share, Share) else constant(share)
        self.instructions = instructions
        self.replay = replay
        self.share = planned if len(replay) else constant(0)
        self.unit = unit
        self.balance: Balance | None = None
        self._seed = seed
        if unit != "rows" and len(replay):
            if measure is None:
                raise TypeError(f"a share of {unit} needs a measure of lengths")
            self.balance = Balance(self.share, unit, instructions, replay, seed, measure)

    def replayed(self, count: int) -> int:
        """How many of the first `count` examples are replayed."""
        return self.balance.replayed(count) if self.balance else self.share.whole(count)

    def mean(self, count: int) -> float:
        """The planned share of replay in the first `count` examples, in its unit."""
        return self.balance.mean(count) if self.balance else self.share.mean(count)

    def __getitem__(self, index: int) -> Instruction:
        past = self.replayed(index)
        if self.replayed(index + 1) > past:
            return self.replay.walk(past, self._seed)
        return self.instructions[index - past]
