"""The replay buffer: which examples are chosen, by strata, and which are held out."""

from __future__ import annotations

import heapq
import inspect
import logging
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import TypeVar

from instructalign.config import Entry, ModelConfig, ReplayConfig, SelectConfig
from instructalign.data.contamination import DROPPED, Contamination, Guard, check_texts, describe, refuse
from instructalign.errors import DataError
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.plugins import REPLAY_SOURCES
from instructalign.progress import Progress, silent
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.types import Counts, Instruction

logger = logging.getLogger(__name__)

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


WRITTEN = ("self", "carried")
"""Sources that come from the model itself: there is nothing to look at before it is loaded."""


@dataclass(frozen=True, slots=True)
class ReplayBuffer:
    """The past examples chosen for a run.

    Attributes:
        examples: the examples; the first n are the buffer of size n.
        sources: by source, how many examples it held, how many were chosen (`kept`), how many could not be used
            and why.
        origins: by example, its source and its stratum, empty where none was asked for.
        heldout: past examples that are never replayed, in an order of their own: the first n are those that
            `replay.heldout: n` holds out.
    """

    examples: Sequence[Instruction] = ()
    sources: Mapping[str, Counts] = field(default_factory=dict)
    origins: Sequence[tuple[str, str]] = ()
    heldout: Sequence[Instruction] = ()

    def __len__(self) -> int:
        return len(self.examples)

    @property
    def counts(self) -> Counts:
        """The counts of all sources together."""
        total = Counts()
        for counts in self.sources.values():
            total.add(counts)
        return total

    @property
    def strata(self) -> Mapping[str, int]:
        """By stratum, how many were chosen; empty where none were asked for."""
        counts = tally(stratum for _, stratum in self.origins)
        return {} if set(counts) == {""} else counts

    def without(self, rows: Container[str], reason: str) -> ReplayBuffer:
        """The buffer without the examples of these rows, which count as dropped for the reason."""
        stay = [number for number, each in enumerate(self.examples) if each.row not in rows]
        sources = {name: replace(counts, dropped=dict(counts.dropped)) for name, counts in self.sources.items()}
        for number in sorted({*range(len(self))} - {*stay}):
            counts = sources[self.origins[number][0]]
            counts.kept -= 1
            counts.drop(reason)
        examples = tuple(self.examples[number] for number in stay)
        origins = tuple(self.origins[number] for number in stay)
        return replace(self, examples=examples, sources=sources, origins=origins)

    def place(self, index: int, seed: int) -> int:
        """The number of the index-th example of an endless walk: all examples, then all again in a new order."""
        return permuted(index, len(self.examples), seed, "replay order")

    def walk(self, index: int, seed: int) -> Instruction:
        """The index-th example of the walk."""
        return self.examples[self.place(index, seed)]


def load_replay(
    config: ReplayConfig | None,
    seed: int,
    model: ModelConfig | None = None,
    *,
    made: int | None = None,
    report: Progress = silent,
) -> ReplayBuffer:
    """Reads a run's replay sources, holds `heldout` of their examples out and chooses `size` of the others.

    What is held out depends on the sources alone, and stays the same for any seed and size, 0 included.

    Args:
        config: the sources, and how to choose from them.
        seed: decides which examples are chosen.
        model: the model that is going to be trained, for sources that let it write.
        made: how many examples such a source may give at most, for a first look.
        report: told how far a long step is.

    Raises:
        DataError: a source cannot be read, holds nothing usable or less than is to be held out, or names no
            strata.
    """
    if config is None or config.size + config.heldout == 0:
        return ReplayBuffer()
    names = _names(config.sources)
    weights = [source.weight for source in config.sources]
    wanted = tally(map(str, apportion(config.size, weights, [config.size] * len(weights))))
    turns = apportion(config.heldout, weights, [config.heldout] * len(weights))
    apart = [Apart(turns.count(number)) for number in range(len(names))]
    counts = [Counts() for _ in names]
    chosen = []
    for number, source in enumerate(config.sources):
        quota = max(1, wanted.get(str(number), 0) + turns.count(number))
        asked = ReplayRequest(quota if made is None else min(quota, made), seed, counts[number], model, report)
        examples = _open(source, asked)
        chosen.append(choose(examples, config.size, seed, config.select, counts[number], number, apart[number]))
        what = f"the replay source {names[number]} ({_shown(source)})"
        _check_enough(what, config.size, chosen[number], turns.count(number), apart[number], counts[number])
    chosen = [_without(each, apart, some) for each, some in zip(chosen, counts, strict=True)]
    buffer = _join(config.size, weights, names, chosen, counts)
    buffer = replace(buffer, heldout=tuple(take_turns([each.examples for each in apart], turns)))
    if len(buffer) < config.size:
        logger.warning("replay.size is %d, but there are only %d usable examples", config.size, len(buffer))
    return buffer


def check_sources(config: ReplayConfig | None) -> None:
    """Reads every source up to its first example; those that the model writes are left alone.

    Raises:
        DataError: a source cannot be read, lacks a field, or holds nothing.
    """
    if config is None or config.size + config.heldout == 0:
        return
    for name, source in zip(_names(config.sources), config.sources, strict=True):
        counts = Counts()
        if source.name not in WRITTEN and next(iter(_open(source, ReplayRequest(1, counts=counts))), None) is None:
            dropped = counts.dropped or "none"
            raise DataError(f"the replay source {name} ({_shown(source)}) holds no example; dropped: {dropped}.")


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
    kept = buffer.without(found.rows, DROPPED)
    if not len(kept):
        raise DataError(f"all {len(buffer)} examples to replay give test items away:\n{describe(found)}")
    found.dropped = len(buffer) - len(kept)
    return kept, found


def _join(
    size: int, weights: Sequence[float], names: Sequence[str], chosen: Sequence[Chosen], counts: Sequence[Counts]
) -> ReplayBuffer:
    """The sources' examples in turns by their weights; where one runs out the others go on."""
    turns = apportion(size, weights, [len(each.examples) for each in chosen])
    for number, each in enumerate(counts):
        each.kept = turns.count(number)
    pairs = [
        [(example, (name, stratum)) for example, stratum in zip(each.examples, each.strata, strict=True)]
        for name, each in zip(names, chosen, strict=True)
    ]
    taken = list(take_turns(pairs, turns))
    examples, origins = tuple(example for example, _ in taken), tuple(origin for _, origin in taken)
    return ReplayBuffer(examples, dict(zip(names, counts, strict=True)), origins)


def _check_enough(what: str, size: int, chosen: Chosen, heldout: int, apart: Apart, counts: Counts) -> None:
    """Raises a DataError where a source does not give what is to be held out of it, and something to replay."""
    if len(apart) < heldout:
        raise DataError(
            f"replay.heldout takes {heldout} different examples of {what}, and it holds {len(apart)} that are "
            "usable. Lower replay.heldout, or the weight of the source."
        )
    if size and not chosen.examples:
        beyond = f" beyond the {heldout} that replay.heldout takes" if heldout else ""
        raise DataError(
            f"{what} holds no usable example{beyond}; dropped: {counts.dropped or 'none'}. Check its path and "
            "columns, or set replay.size to 0."
        )


def _without(chosen: Chosen, apart: Sequence[Apart], counts: Counts) -> Chosen:
    """What a source gives, without what is held out of another one that has it as well."""
    if not any(map(len, apart)):
        return chosen
    pairs = zip(chosen.examples, chosen.strata, strict=True)
    stay = [(example, stratum) for example, stratum in pairs if not any(example in each for each in apart)]
    if gone := len(chosen.examples) - len(stay):
        counts.drop("held out", gone)
    return Chosen([example for example, _ in stay], [stratum for _, stratum in stay])


def _open(source: Entry, asked: ReplayRequest) -> Iterable[Instruction]:
    """A source's examples; one that takes an argument beside its options is told what is asked."""
    read = REPLAY_SOURCES.get(source.name)
    takes = [each for each in inspect.signature(read).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    examples: Iterable[Instruction] = read(asked, **source.options) if takes else read(**source.options)
    return examples


def _names(sources: Sequence[Entry]) -> list[str]:
    """What the record calls the sources: by their label or format, numbered where that is not enough."""
    plain = [source.label or source.name for source in sources]
    return [
        name if plain.count(name) == 1 else f"{name} {plain[: number + 1].count(name)}"
        for number, name in enumerate(plain)
    ]


def _shown(source: Entry) -> str:
    return ", ".join(f"{key} {value}" for key, value in source.options.items() if value is not None)
