"""A share of tokens as a number of rows: how many of the first n examples are replayed, worked out beforehand."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple, Protocol

from instructalign.errors import DataError
from instructalign.mixture.replay import ReplayBuffer
from instructalign.mixture.replay_share import Share
from instructalign.types import Instruction

Unit = Literal["rows", "tokens", "loss_tokens"]

BLOCK = 64
"""Examples over which the rows of replay are spread evenly; at the end of each the share of tokens is right."""

_AT_ONCE = 256  # new instructions measured together


class Lengths(NamedTuple):
    """An example's length as the model gets it, after cutting.

    Attributes:
        tokens: of prompt and answer together, padding not counted.
        loss_tokens: those of them that the loss counts.
    """

    tokens: int
    loss_tokens: int


Measure = Callable[[Sequence[Instruction]], list[Lengths]]
"""Gives the lengths of examples."""


class Stream(Protocol):
    """Anything that has an instruction at every position."""

    def __getitem__(self, index: int) -> Instruction: ...


@dataclass(slots=True)
class _State:
    """Where the planning stands: examples of both kinds, all tokens, those due to replay, those it still lacks."""

    past: int = 0
    new: int = 0
    tokens: int = 0
    due: float = 0.0
    owed: float = 0.0


class Balance:
    """The number of replayed examples among the first n, such that replay has its share of the tokens.

    Lengths differ from example to example, so that number has no formula. It is counted once, in order: of each
    example of t tokens the planned share of t is owed to replay, and whichever kind of example leaves the
    smaller debt is next. So the tokens never stand further from the plan than one example's length. What is
    kept are the counts at the end of each block, a few bytes for each block; from them any position
    follows at once, in any process, and a run that is gone on with reads them from its folder.

    Args:
        share: the planned share.
        unit: of which tokens.
        instructions: the alignment instructions, as the training meets them.
        replay: the chosen past examples.
        seed: sets the order of the replay.
        measure: gives the lengths of examples.

    Raises:
        DataError: no past example has a token of that unit.
    """

    def __init__(
        self,
        share: Share,
        unit: Unit,
        instructions: Stream,
        replay: ReplayBuffer,
        seed: int,
        measure: Measure,
    ) -> None:
        self._share = share
        self._unit = unit
        self._instructions = instructions
        self._measure = measure
        self._size, self._seed = len(replay), seed
        self._past = [getattr(each, unit) for each in measure(replay.examples)]
        if not any(self._past):
            raise DataError(
                f"replay.share_of is {unit}, but none of the {self._size} replayed examples has any: their "
                "answers were cut, or have no tokens. Raise training.max_length, or look at them with "
                "`instructalign preview`."
            )
        self._replay = replay
        self._counts = [0]
        self._state = _State()
        self._ahead: deque[int] = deque()

    def replayed(self, count: int) -> int:
        """How many of the first `count` examples are replayed; plans as far as that if it is not yet done."""
        block, within = divmod(count, BLOCK)
        first = self._until(block)
        return first if not within else first + within * (self._until(block + 1) - first) // BLOCK

    def mean(self, count: int) -> float:
        """The planned share of all tokens as far as was planned, at least of the first `count` examples.

        Where the share changes it is not its mean over the examples: long examples count more.
        """
        self._until(-(-count // BLOCK))
        return self._state.due / max(1, self._state.tokens)

    def plan(self, count: int) -> dict[str, Any]:
        """The plan for at least the first `count` examples, as `restore` takes it."""
        self._until(-(-count // BLOCK))
        return {"counts": self._counts, "state": asdict(self._state)}

    def restore(self, plan: dict[str, Any]) -> None:
        """Takes over a plan made before, of the same stream."""
        self._counts = list(plan["counts"])
        self._state = _State(**plan["state"])
        self._ahead.clear()

    def _until(self, block: int) -> int:
        while len(self._counts) <= block:
            self._add_block()
        return self._counts[block]

    def _add_block(self) -> None:
        state = self._state
        begin = BLOCK * (len(self._counts) - 1)
        for index in range(begin, begin + BLOCK):
            share = self._share.at(index)
            past, new = self._past[self._replay.place(state.past, self._seed)], self._next_new()
            with_past, with_new = state.owed - (1 - share) * past, state.owed + share * new
            if abs(with_past) < abs(with_new):
                length, state.owed = past, with_past
                state.past += 1
            else:
                length, state.owed = new, with_new
                state.new += 1
                self._ahead.popleft()
            state.tokens += length
            state.due += share * length
        self._counts.append(state.past)

    def _next_new(self) -> int:
        """The length of the first new instruction that is not yet placed."""
        if not self._ahead:
            some = [self._instructions[k] for k in range(self._state.new, self._state.new + _AT_ONCE)]
            self._ahead.extend(getattr(each, self._unit) for each in self._measure(some))
        return self._ahead[0]
