"""From a configuration to the training stream: the first three stages in order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from instructalign.config import Config
from instructalign.corpora import Corpus, read_corpora
from instructalign.instructions import InstructionStream
from instructalign.instructions import generate as instructions_of
from instructalign.mixture.replay import ReplayBuffer, load_replay
from instructalign.mixture.schedule import Mixture
from instructalign.records import Instruction


@dataclass(frozen=True, slots=True)
class Data:
    """Everything that a run trains on and checks itself with.

    Attributes:
        corpus: the rows trained on.
        heldout: the rows kept apart, by sentence id.
        instructions: alignment instructions made of `corpus`.
        replay: the chosen past examples.
        mixture: the training stream.
    """

    corpus: Corpus
    heldout: Corpus
    instructions: InstructionStream
    replay: ReplayBuffer
    mixture: Mixture


def build_data(config: Config) -> Data:
    """Reads the corpora and the replay source of a configuration and lays the training stream over them.

    Raises:
        DataError: a file cannot be read, or a language has no text.
    """
    corpus, heldout = read_rows(config)
    instructions = build_instructions(config, corpus)
    replay = load_replay(config.replay, config.seed)
    mixture = Mixture(instructions, replay, config.replay_share, config.seed)
    return Data(corpus, heldout, instructions, replay, mixture)


def read_rows(config: Config) -> tuple[Corpus, Corpus]:
    """The parallel rows of a configuration: those to train on, and those held out by sentence id."""
    languages = list(dict.fromkeys([*config.pivots, *config.targets]))
    rows = read_corpora(config.corpora, languages, config.filter)
    return rows.split(config.instructions.heldout, config.seed)


def build_instructions(config: Config, corpus: Corpus) -> InstructionStream:
    """The alignment instructions that a configuration makes of a corpus."""
    return InstructionStream(corpus, config.instructions, config.languages, config.pivots, config.seed)


def generate(config: Config, count: int, start: int = 0) -> Iterator[Instruction]:
    """Alignment instructions of a configuration, without replay: `start` … `start + count - 1` of its stream.

    The same configuration gives the same instructions; fewer of them are the beginning of more.

    Raises:
        DataError: a corpus cannot be read, or a language has no text.
    """
    corpus, _ = read_rows(config)
    return instructions_of(build_instructions(config, corpus), count, start)
