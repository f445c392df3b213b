"""The replay buffer: past instruction data that is shown again so that it is not forgotten."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from instructalign.config import ReplayConfig
from instructalign.corpora.contamination import DROPPED, Contamination, Guard, check_texts, describe, refuse
from instructalign.errors import DataError
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.records import Counts, Instruction
from instructalign.registry import REPLAY_SOURCES

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReplayBuffer:
    """The past examples chosen for a run.

    Attributes:
        examples: the examples, in the order of their keys.
        counts: how many the source held, how many were chosen, how many could not be used and why.
    """

    examples: Sequence[Instruction] = ()
    counts: Counts = field(default_factory=Counts)

    def __len__(self) -> int:
        return len(self.examples)

    def walk(self, index: int, seed: int) -> Instruction:
        """The index-th example of an endless walk: all examples, then all again in a new order."""
        return self.examples[permuted(index, len(self.examples), seed, "replay order")]


def load_replay(config: ReplayConfig | None, seed: int) -> ReplayBuffer:
    """Reads a run's replay source and chooses `size` of its examples by the seed.

    Raises:
        DataError: the source cannot be read or holds nothing usable.
    """
    if config is None or config.size == 0:
        return ReplayBuffer()
    source = REPLAY_SOURCES.get(config.source.name)
    buffer = select(source(**config.source.options), config.size, seed)
    if not buffer.examples:
        raise DataError(
            f"the replay source ({config.source.name}: {_shown(config.source.options)}) holds no usable example; "
            f"dropped: {buffer.counts.dropped or 'none'}. Check its path and columns, or set replay.size to 0."
        )
    if len(buffer) < config.size:
        logger.warning("replay.size is %d, but the source holds %d usable examples", config.size, len(buffer))
    return buffer


def guard_replay(buffer: ReplayBuffer, guard: Guard) -> tuple[ReplayBuffer, Contamination]:
    """Looks for test items in the chosen past examples, and does what the guard says.

    Raises:
        DataError: something was found and the guard refuses it, or every example would be dropped.
    """
    if guard.index is None:
        return buffer, Contamination()
    found = check_texts(((each.row, (each.prompt, each.answer)) for each in buffer.examples), guard.index)
    if found.leaks and guard.action == "refuse":
        refuse(found, f"{len(found.rows)} of the examples to replay")
    if not found.leaks or guard.action != "drop":
        return buffer, found
    rows = found.rows
    kept = tuple(each for each in buffer.examples if each.row not in rows)
    if not kept:
        raise DataError(f"all {len(buffer)} examples to replay give test items away:\n{describe(found)}")
    found.dropped = len(buffer) - len(kept)
    counts = Counts(buffer.counts.read, len(kept), dict(buffer.counts.dropped))
    counts.drop(DROPPED, found.dropped)
    return ReplayBuffer(kept, counts), found


def select(examples: Iterable[Instruction], size: int, seed: int) -> ReplayBuffer:
    """Chooses `size` examples at random in one pass, keeping no more than that in memory.

    Each example has a key from the seed and its position; the smallest keys win. So a smaller selection is
    part of every larger one by the same seed, and runs over `size` compare like with like.
    """
    counts = Counts()
    key = digest_key(seed, "replay selection")

    def keyed() -> Iterator[tuple[int, int, Instruction]]:
        for position, example in enumerate(examples):
            counts.read += 1
            if not example.prompt.strip():
                counts.drop("empty prompt")
            elif not example.answer.strip():
                counts.drop("empty answer")
            else:
                yield Draws(key, position).bits(), position, example

    chosen = [example for _, _, example in heapq.nsmallest(size, keyed())]
    counts.kept = len(chosen)
    return ReplayBuffer(tuple(chosen), counts)


def _shown(options: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items() if value is not None)
