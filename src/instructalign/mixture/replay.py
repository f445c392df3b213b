"""The replay buffer: past instruction data that is shown again so that it is not forgotten."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from instructalign.config import Entry, ModelConfig, ReplayConfig
from instructalign.corpora.contamination import DROPPED, Contamination, Guard, check_texts, describe, refuse
from instructalign.errors import DataError
from instructalign.mixture.heldout import Apart
from instructalign.mixture.select import Chosen, apportion, choose, take_turns, tally
from instructalign.mixture.sources import Asked
from instructalign.progress import Progress, silent
from instructalign.randomness import permuted
from instructalign.records import Counts, Instruction
from instructalign.registry import REPLAY_SOURCES

logger = logging.getLogger(__name__)

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
        asked = Asked(quota if made is None else min(quota, made), seed, counts[number], model, report)
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
        if source.name not in WRITTEN and next(iter(_open(source, Asked(1, counts=counts))), None) is None:
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


def _open(source: Entry, asked: Asked) -> Iterable[Instruction]:
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
