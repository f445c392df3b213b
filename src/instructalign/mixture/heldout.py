"""Past examples that are never replayed, so that a run can measure what it forgot of its past data itself."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator
from hashlib import blake2b

from instructalign.randomness import digest_key
from instructalign.records import Counts, Instruction

KEY = digest_key(0, "past held out")
Numbered = tuple[int, Instruction]  # position in its source, example


def flaw_of(example: Instruction) -> str:
    """Why a past example cannot be used; empty if it can."""
    if not example.prompt.strip():
        return "empty prompt"
    return "" if example.answer.strip() else "empty answer"


class Apart:
    """Takes the examples to hold out from those of a source, in one pass and with no more than these in memory.

    Each example has a key from its text alone; those with the smallest keys are held out. So they are the same
    whatever is chosen of the others, and for every seed: they are a test set. Fewer of them are the first of more.
    Every copy of one is held out with it: instruction data holds many, and what is replayed would be remembered.

    Args:
        size: how many different examples.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[int, list[Numbered]] = {}  # by key, the example and its copies
        self._largest: list[int] = []  # a heap of the keys, turned so that the largest lies on top

    def pass_on(self, examples: Iterable[Numbered], counts: Counts) -> Iterator[Numbered]:
        """The other examples, with their positions, in an order of its own.

        Args:
            examples: of one source.
            counts: told at the end what was read of those held out.
        """
        for position, example in examples:
            if not self._size or flaw_of(example):
                yield position, example
                continue
            key = self.key(example)
            if key in self._held:
                self._held[key].append((position, example))
            elif len(self._held) < self._size:
                heapq.heappush(self._largest, -key)
                self._held[key] = [(position, example)]
            elif key < -self._largest[0]:
                yield from self._held.pop(-heapq.heapreplace(self._largest, -key))
                self._held[key] = [(position, example)]
            else:
                yield position, example
        if taken := sum(map(len, self._held.values())):
            counts.read += taken
            counts.drop("held out", taken)

    def key(self, example: Instruction) -> int:
        """The rank of an example among all: the smallest are held out."""
        text = f"{example.prompt}\x1f{example.answer}".encode(errors="surrogatepass")
        return int.from_bytes(blake2b(text, digest_size=16, key=KEY).digest(), "big")

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, example: Instruction) -> bool:
        return self.key(example) in self._held

    @property
    def examples(self) -> list[Instruction]:
        """What is held out, by key; of copies the first."""
        return [min(self._held[key], key=lambda each: each[0])[1] for key in sorted(self._held)]
