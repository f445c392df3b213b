"""The replay buffer: which examples of the replay data are replayed, by strata, and which are held out."""

from __future__ import annotations

import heapq
import inspect
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, TypeVar

from instructalign.config import Entry, ModelConfig, ReplayConfig, SelectConfig
from instructalign.data.contamination import (
    IN_TEST_SET,
    Contamination,
    ContaminationCheck,
    check_texts,
    refuse_contamination,
)
from instructalign.data.filters import reject_line
from instructalign.errors import DataError
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.plugins import REPLAY_SOURCES
from instructalign.progress import Progress, silent
from instructalign.randomness import Draws, digest_key, permuted
from instructalign.types import Counts, Instruction

logger = logging.getLogger(__name__)

T = TypeVar("T")

STRATA: dict[str, Callable[[Instruction], str]] = {
    "task": lambda example: example.template,
    "language": lambda example: example.target or example.source,
    "length": lambda example: f"<{1 << _characters(example).bit_length()}",
}
"""The stratum of an example: its task, its language, or the next power of two above its length in characters."""

INSTRUCTION_DATA = "instruction_data"
"""What examples of that block have as their objective."""

_HELDOUT_KEY = digest_key(0, "past held out")


@dataclass(frozen=True, slots=True)
class ReplayBuffer:
    """The replay examples chosen for a run.

    Attributes:
        examples: the examples; the first n are the buffer of size n.
        sources: by source, how many examples it held, how many were chosen (`kept`), how many could not be used
            and why.
        origins: by example, its source and its stratum, which is empty without strata.
        heldout: examples that are never replayed, in an order of their own: the first n are those that
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
        """By stratum, how many were chosen, the largest first; empty without strata."""
        counts = Counter(stratum for _, stratum in self.origins)
        return {} if set(counts) == {""} else dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def without(self, unwanted: Callable[[Instruction], bool], reason: str) -> ReplayBuffer:
        """The buffer without unwanted examples, which count as dropped for the reason."""
        stay = [number for number, each in enumerate(self.examples) if not unwanted(each)]
        sources = {name: replace(counts, dropped=dict(counts.dropped)) for name, counts in self.sources.items()}
        for number in sorted({*range(len(self))} - {*stay}):
            counts = sources[self.origins[number][0]]
            counts.kept -= 1
            counts.drop(reason)
        examples = tuple(self.examples[number] for number in stay)
        origins = tuple(self.origins[number] for number in stay)
        return replace(self, examples=examples, sources=sources, origins=origins)

    def walk(self, index: int, seed: int) -> Instruction:
        """Example `index` of an endless walk: all examples, then all again in a new order."""
        return self.examples[permuted(index, len(self.examples), seed, "replay order")]


def load_replay(
    config: ReplayConfig | None,
    seed: int,
    model: ModelConfig | None = None,
    *,
    made: int | None = None,
    progress: Progress = silent,
    rejects: Path | None = None,
    key: str = "replay",
) -> ReplayBuffer:
    """Reads a run's replay sources, holds out `heldout` of their examples and chooses `size` of the others.

    What is held out depends on the sources alone: it is the same for any seed and size, 0 included. Sources take
    turns by their weights; where one runs out, the others continue.

    Args:
        config: the sources, and how to choose from them.
        seed: decides which examples are chosen.
        model: the model to be trained, for sources that let it write.
        made: how many examples such a source may write at most, for a first look.
        progress: reports long steps.
        rejects: a file of rejects, to whose end what the sources drop is written (`filter.rejects`).
        key: the block of the configuration, for errors.

    Raises:
        DataError: a source cannot be read, holds nothing usable or fewer examples than are to be held out, or does
            not name the strata.
    """
    if config is None or config.size + config.heldout == 0:
        return ReplayBuffer()
    sources = config.sources
    weights = [source.weight for source in sources]
    quotas = apportion(config.size, weights, [config.size] * len(sources))
    heldout_turns = apportion(config.heldout, weights, [config.heldout] * len(sources))
    counts = [Counts() for _ in sources]
    holdouts = [Holdout(heldout_turns.count(number)) for number in range(len(sources))]
    labels = [source.label or source.name for source in sources]
    names = [
        label if labels.count(label) == 1 else f"{label} {labels[: number + 1].count(label)}"
        for number, label in enumerate(labels)
    ]
    chosen = []
    for number, source in enumerate(sources):
        heldout = heldout_turns.count(number)
        quota = max(1, quotas.count(number) + heldout)
        request = ReplayRequest(quota if made is None else min(quota, made), seed, counts[number], model, progress)
        with rejects.open("ab") if rejects else nullcontext() as file:
            if file is not None:
                counts[number].reject = partial(_write_reject, file, f"{key} {names[number]}")
            examples = open_source(source, request)
            some = choose(examples, config.size, seed, config.select, counts[number], number, holdouts[number])
            counts[number].reject = None
        options = ", ".join(f"{key} {value}" for key, value in source.options.items() if value is not None)
        what = f"the {key} source {names[number]} ({options})"
        if len(holdouts[number]) < heldout:
            raise DataError(
                f"{key}.heldout takes {heldout} different examples of {what}, but only {len(holdouts[number])} "
                f"are usable. Lower {key}.heldout, or the weight of the source."
            )
        if config.size and not some:
            beyond = f" beyond the {heldout} that {key}.heldout takes" if heldout else ""
            advice = "Check its path and columns"
            if source.name == "self":
                advice = "The model cannot write its own examples: give others, from a file or the Hub"
            raise DataError(
                f"{what} holds no usable example{beyond}; dropped: {counts[number].dropped or 'none'}. {advice}, "
                f"or set {key}.size to 0."
            )
        chosen.append(some)
    if config.heldout:  # what one source holds out is not replayed from another that has it as well
        for number, some in enumerate(chosen):
            chosen[number] = [pair for pair in some if not any(pair[0] in holdout for holdout in holdouts)]
            if removed := len(some) - len(chosen[number]):
                counts[number].drop("held out", removed)
    turns = apportion(config.size, weights, [len(some) for some in chosen])
    for number, each in enumerate(counts):
        each.kept = turns.count(number)
    parties = [[(name, *pair) for pair in some] for name, some in zip(names, chosen, strict=True)]
    taken = list(take_turns(parties, turns))
    buffer = ReplayBuffer(
        tuple(example for _, example, _ in taken),
        dict(zip(names, counts, strict=True)),
        tuple((name, stratum) for name, _, stratum in taken),
        tuple(take_turns([holdout.examples for holdout in holdouts], heldout_turns)),
    )
    if len(buffer) < config.size:
        logger.warning("%s.size is %d, but there are only %d usable examples", key, config.size, len(buffer))
    return buffer


def _write_reject(file: IO[bytes], source: str, reason: str, count: int, what: Mapping[str, Any]) -> None:
    if reason != "held out":  # which are evaluated
        file.write(reject_line(source, reason, count, what))


def open_source(source: Entry, request: ReplayRequest) -> Iterable[Instruction]:
    """A source's examples; one that takes an argument beside its options is given the request."""
    read = REPLAY_SOURCES.get(source.name)
    takes = [each for each in inspect.signature(read).parameters.values() if each.kind is not each.KEYWORD_ONLY]
    examples: Iterable[Instruction] = read(request, **source.options) if takes else read(**source.options)
    if source.languages:  # instruction data, which is in one language and is nothing to replay
        [code] = source.languages
        return (replace(each, objective=INSTRUCTION_DATA, source="", target=code) for each in examples)
    return examples


def check_replay(
    buffer: ReplayBuffer, check: ContaminationCheck, what: str = "replay examples"
) -> tuple[ReplayBuffer, Contamination]:
    """Looks for test items in the chosen examples, and acts on what was found.

    Raises:
        DataError: something was found and the action is `refuse`, or every example would be dropped.
    """
    if check.index is None:
        return buffer, Contamination()
    found = check_texts(((each.row, (each.prompt, each.answer)) for each in buffer.examples), check.index)
    refuse_contamination(found, check.action, f"{len(found.rows)} of the {what}")
    if not found.overlaps or check.action != "drop":
        return buffer, found
    kept = buffer.without(lambda each: each.row in found.rows, IN_TEST_SET)
    if not len(kept):
        raise DataError(f"all {len(buffer)} {what} overlap with test items:\n{found.describe()}")
    found.dropped = len(buffer) - len(kept)
    return kept, found


def keep_apart(replay: ReplayBuffer, taught: ReplayBuffer) -> tuple[ReplayBuffer, ReplayBuffer]:
    """Replay examples and instruction data, neither with an example that the other holds out; counted as dropped.

    Raises:
        DataError: nothing is left of one of them.
    """
    blocks = {"replay": replay, INSTRUCTION_DATA: taught}
    for (name, buffer), (other, holding) in zip(blocks.items(), [*blocks.items()][::-1], strict=True):
        if held := {_text_key(each) for each in holding.heldout}:
            kept = buffer.without(lambda each: _text_key(each) in held, f"held out by {other}")
            if len(buffer) and not len(kept):
                raise DataError(
                    f"all {len(buffer):,} examples of {name} are among the {len(held):,} that {other}.heldout "
                    f"takes. Lower {other}.heldout, or give {name} other data."
                )
            blocks[name] = kept
    return blocks["replay"], blocks[INSTRUCTION_DATA]


class Holdout:
    """Takes the examples to hold out from those of a source, in one pass and with only these in memory.

    Each example has a key from its text alone; those with the smallest keys are held out. So they are the same
    whatever is chosen of the others, and for every seed: they are a test set. Fewer of them are the first of more.
    Every copy of one is held out with it: instruction data has many, and a replayed copy would be memorised.

    Args:
        size: how many different examples.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._held: dict[int, list[tuple[int, Instruction]]] = {}  # by key: the position and example of each copy
        self._largest: list[int] = []  # a heap of the negated keys, so that the largest key is on top

    def filter(
        self, examples: Iterable[tuple[int, Instruction]], counts: Counts
    ) -> Iterator[tuple[int, Instruction]]:
        """The other examples with their positions, in another order.

        Args:
            examples: position and example, of one source.
            counts: takes the number of those held out, at the end.
        """
        for position, example in examples:
            if not self._size or _flaw(example):
                yield position, example
                continue
            key = _text_key(example)
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

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, example: Instruction) -> bool:
        return _text_key(example) in self._held

    @property
    def examples(self) -> list[Instruction]:
        """What is held out, by key; of copies the first."""
        return [min(self._held[key], key=lambda each: each[0])[1] for key in sorted(self._held)]


def choose(
    examples: Iterable[Instruction],
    size: int,
    seed: int,
    config: SelectConfig,
    counts: Counts,
    source: int = 0,
    holdout: Holdout | None = None,
) -> list[tuple[Instruction, str]]:
    """Chooses up to `size` examples in one pass, keeping only that many of each stratum in memory.

    Each example has a key from the seed and its position; the smallest keys of a stratum are chosen, or the
    longest or shortest examples. The strata take turns (`apportion`), so that a smaller choice is the beginning of
    every larger one with the same seed, and runs that vary `size` are comparable.

    Args:
        examples: of one source.
        size: how many.
        seed: sets the keys.
        config: says strata and order.
        counts: counts what was read and what cannot be used.
        source: the number of the source, which makes its keys different.
        holdout: takes the examples that are held out before anything is chosen.

    Returns:
        Examples with their strata (empty without strata), in the order in which they are taken.

    Raises:
        DataError: no example names its stratum.
    """
    key = digest_key(seed, "replay selection", *([source] if source else []))
    sign = {"random": 0, "longest": -1, "shortest": 1}[config.order]
    best: dict[str, list[tuple[int, int, int, Instruction]]] = {}
    sizes: Counter[str] = Counter()
    numbered: Iterable[tuple[int, Instruction]] = enumerate(examples)
    for position, example in numbered if holdout is None else holdout.filter(numbered, counts):
        counts.read += 1
        if flaw := _flaw(example):
            counts.drop(flaw, row=example.row, fields=[example.prompt, example.answer])
            continue
        stratum = STRATA[config.by](example) if config.by else ""
        sizes[stratum] += 1
        heap = best.setdefault(stratum, [])
        # The top of a heap is its smallest entry, so the rank (length, key, position) is negated: the example that
        # is replaced first is on top.
        entry = (-sign * _characters(example), -Draws(key, position).bits(), -position, example)
        if len(heap) < size:
            heapq.heappush(heap, entry)
        elif heap and entry[:3] > heap[0][:3]:
            heapq.heapreplace(heap, entry)
    if config.by and set(best) == {""}:
        raise DataError(
            f"replay.select.by is {config.by}, but none of the {sizes['']} examples of the source names one. Name "
            f"the field that does with replay.source.{config.by}, or choose by something else "
            "(replay.select.by: length)."
        )
    names = sorted(best, key=lambda name: (len(name), name))
    ordered = [sorted(best[name], key=lambda entry: entry[:3], reverse=True) for name in names]
    weights = [float(sizes[name]) if config.counts == "proportional" else 1.0 for name in names]
    turns = apportion(size, weights, [len(entries) for entries in ordered])
    pairs = [[(entry[3], name) for entry in entries] for name, entries in zip(names, ordered, strict=True)]
    return list(take_turns(pairs, turns))


def apportion(seats: int, weights: Sequence[float], most: Sequence[int]) -> list[int]:
    """Gives seats to parties one after another, so that at any time they are proportional to the weights.

    The method of Webster and Sainte-Laguë (Balinski and Young 1982, "Fair Representation"): the next seat goes
    to the highest weight / (2 seats + 1), the first of equals. A party never loses a seat where there are more,
    which the method of largest remainders does not promise.

    Args:
        seats: how many to give.
        weights: above 0.
        most: how many each can take; the others continue without those that are full.

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


def take_turns(parties: Iterable[Sequence[T]], turns: Iterable[int]) -> Iterator[T]:
    """The members of each party, in the order of the turns."""
    members = [iter(party) for party in parties]
    for number in turns:
        yield next(members[number])


def _characters(example: Instruction) -> int:
    return len(example.prompt) + len(example.answer)


def _flaw(example: Instruction) -> str:
    """Why a replay example cannot be used; empty if it can."""
    if not example.prompt.strip():
        return "empty prompt"
    return "" if example.answer.strip() else "empty answer"


def _text_key(example: Instruction) -> int:
    """The rank of an example by its text; the smallest are held out."""
    text = f"{example.prompt}\x1f{example.answer}".encode(errors="surrogatepass")
    return int.from_bytes(blake2b(text, digest_size=16, key=_HELDOUT_KEY).digest(), "big")
