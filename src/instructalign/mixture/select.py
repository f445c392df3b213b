"""Which past examples are chosen: at random, from strata, by length; a smaller choice is part of a larger one."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from instructalign.config import SelectConfig
from instructalign.errors import DataError
from instructalign.mixture.heldout import Apart, Numbered, flaw_of
from instructalign.randomness import Draws, digest_key
from instructalign.records import Counts, Instruction

T = TypeVar("T")
Ranked = tuple[int, int, int, Instruction]  # length as the order wants it, random key, position, example

STRATA: dict[str, Callable[[Instruction], str]] = {
    "task": lambda example: example.template,
    "language": lambda example: example.target or example.source,
    "length": lambda example: f"<{1 << _characters(example).bit_length()}",
}
"""The stratum of an example: its task, its language, or the power of two that its length lies below."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a source gives, best first.

    Attributes:
        examples: in the order in which they are taken: the first n are the choice of size n.
        strata: by example, the stratum it stands for; all empty where there are none.
    """

    examples: Sequence[Instruction]
    strata: Sequence[str]


def choose(
    examples: Iterable[Instruction],
    size: int,
    seed: int,
    config: SelectConfig,
    counts: Counts,
    source: int = 0,
    apart: Apart | None = None,
) -> Chosen:
    """Chooses up to `size` examples in one pass, keeping no more than that of each stratum in memory.

    Each example has a key from the seed and its position; the smallest keys of a stratum win, or the longest or
    shortest examples. The strata take turns (`apportion`), so that a smaller choice is the beginning of every
    larger one by the same seed, and runs over `size` compare like with like.

    Args:
        examples: of one source.
        size: how many.
        seed: sets the keys.
        config: says strata and order.
        counts: told what was read and what cannot be used.
        source: the number of the source, which sets its keys apart.
        apart: takes the examples that are held out before anything is chosen.

    Raises:
        DataError: no example names what the strata go by.
    """
    best: dict[str, list[Ranked]] = {}
    sizes: dict[str, int] = {}
    numbered: Iterable[Numbered] = enumerate(examples)
    if apart is not None:
        numbered = apart.pass_on(numbered, counts)
    for stratum, ranked in _ranked(numbered, seed, config, counts, source):
        sizes[stratum] = sizes.get(stratum, 0) + 1
        heap = best.setdefault(stratum, [])
        # A heap's top is its smallest, so what is least wanted must come first: everything is negated.
        entry = (-ranked[0], -ranked[1], -ranked[2], ranked[3])
        if len(heap) < size:
            heapq.heappush(heap, entry)
        elif heap and entry[:3] > heap[0][:3]:
            heapq.heapreplace(heap, entry)
    if config.by and set(best) == {""}:
        raise DataError(
            f"replay.select.by is {config.by}, but none of the {sizes['']} examples of the source names one. Name "
            f"the field that does with replay.source.{config.by}, or choose otherwise (replay.select.by: length)."
        )
    names = sorted(best, key=lambda name: (len(name), name))
    ordered = {stratum: sorted(best[stratum], key=lambda entry: entry[:3], reverse=True) for stratum in names}
    weights = [float(sizes[stratum]) if config.counts == "proportional" else 1.0 for stratum in ordered]
    turns = apportion(size, weights, [len(entries) for entries in ordered.values()])
    taken = list(take_turns([[(entry[3], name) for entry in ordered[name]] for name in ordered], turns))
    return Chosen([example for example, _ in taken], [stratum for _, stratum in taken])


def _ranked(
    examples: Iterable[Numbered], seed: int, config: SelectConfig, counts: Counts, source: int
) -> Iterator[tuple[str, Ranked]]:
    """The usable examples with their strata and ranks; the smaller the rank, the sooner taken."""
    key = digest_key(seed, "replay selection", *([source] if source else []))
    sign = {"random": 0, "longest": -1, "shortest": 1}[config.order]
    for position, example in examples:
        counts.read += 1
        if flaw := flaw_of(example):
            counts.drop(flaw)
        else:
            stratum = STRATA[config.by](example) if config.by else ""
            yield stratum, (sign * _characters(example), Draws(key, position).bits(), position, example)


def _characters(example: Instruction) -> int:
    return len(example.prompt) + len(example.answer)


def apportion(seats: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """Gives seats to parties one after another, so that at any time they stand in proportion to the weights.

    The method of Webster and Sainte-Laguë (Balinski and Young 1982, "Fair Representation"): the next seat goes
    to the highest weight / (2 seats + 1), the first of equals. A party never loses a seat where there are more,
    which the method of largest remainders does not promise.

    Args:
        seats: how many to give.
        weights: above 0.
        most: how many each can take; the others go on without those that are full.

    Returns:
        The number of the party, by seat; fewer than `seats` where all are full.
    """
    queue = [(1 / weight, number, 0) for number, weight in enumerate(weights) if most[number]]
    heapq.heapify(queue)
    given: list[int] = []
    while queue and len(given) < seats:
        _, number, held = heapq.heappop(queue)
        given.append(number)
        if held + 1 < most[number]:
            heapq.heappush(queue, ((2 * held + 3) / weights[number], number, held + 1))
    return given


def take_turns(parties: Sequence[Sequence[T]], turns: Iterable[int]) -> Iterator[T]:
    """The members of each party, as its turns come."""
    members = [iter(party) for party in parties]
    for number in turns:
        yield next(members[number])


def tally(strata: Iterable[str]) -> Mapping[str, int]:
    """How many examples each stratum gave, the largest first."""
    counts: dict[str, int] = {}
    for stratum in strata:
        counts[stratum] = counts.get(stratum, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
