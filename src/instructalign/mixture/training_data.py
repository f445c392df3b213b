"""From a configuration to the training stream: the first three stages in order."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.data import Corpus, Guard, read_corpora
from instructalign.data.contamination import MUCH, Contamination, guard_corpus, leaked, record
from instructalign.errors import ConfigError, DataError
from instructalign.files import text_hash
from instructalign.instructions import InstructionStream
from instructalign.mixture.mixture import Mixture, ReplaySchedule
from instructalign.mixture.replay import ReplayBuffer, guard_replay, load_replay
from instructalign.progress import Progress, silent

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Data:
    """Everything that a run trains on and checks itself with.

    Attributes:
        corpus: the rows trained on.
        heldout: the rows kept apart, by sentence id.
        instructions: alignment instructions made of `corpus`.
        replay: the chosen past examples.
        mixture: the training stream.
        contamination: what was found of test items in `corpus` and `replay`, and done about it, as it stands
            in the run's record.
    """

    corpus: Corpus
    heldout: Corpus
    instructions: InstructionStream
    replay: ReplayBuffer
    mixture: Mixture
    contamination: Mapping[str, Any] = field(default_factory=dict)


def build_data(config: Config, guard: Guard | None = None, progress: Progress = silent) -> Data:
    """Reads the corpora and the replay sources of a configuration and lays the training stream over them.

    Args:
        config: the run's configuration.
        guard: the test items to look for; without, nothing is looked for.
        progress: told how far the looking for test items is, and the writing of past data.

    Raises:
        DataError: a file cannot be read, a language has no text, or the training data holds test items and
            must not; also where the configuration says so and there is no guard.
    """
    corpus, heldout, in_corpora = read_guarded(config, guard, progress)
    instructions = build_instructions(config, corpus)
    guard = guard or Guard()
    past = load_replay(config.replay, config.seed, config.model, report=progress)
    replay, in_replay = guard_replay(past, guard)
    warn_of("replay", in_replay, guard)
    mixture = lay(config, instructions, replay)
    found = record(guard, {"corpora": in_corpora, "replay": in_replay})
    return Data(corpus, heldout, instructions, replay, mixture, found)


def check_guarded(config: Config, guard: Guard | None) -> Guard:
    """The guard, or one that looks for nothing.

    Raises:
        DataError: there is none, and the configuration says that test items are dropped or refused.
    """
    if guard is None and config.contamination in ("drop", "refuse") and config.evaluation.tasks:
        raise DataError(
            f"contamination is {config.contamination}, but no test items were given to look for. Call the "
            "functions of `instructalign` itself (train, preview, generate), which read them."
        )
    return guard or Guard()


def read_guarded(
    config: Config, guard: Guard | None = None, progress: Progress = silent
) -> tuple[Corpus, Corpus, Contamination]:
    """The parallel rows of a configuration, and what was found of test items in those to train on.

    Test items are looked for behind the split, so that another evaluation moves no held-out sentence.

    Raises:
        DataError: as `build_data`.
    """
    guard = check_guarded(config, guard)
    corpus, heldout = read_rows(config)
    corpus, found = guard_corpus(corpus, guard, progress)
    warn_of("corpora", found, guard)
    return corpus, heldout, found


def warn_of(where: str, found: Contamination, guard: Guard) -> None:
    """Says in the log what was found, the worst test sets first: loudly where it spoils a score."""
    if guard.index is None or not found.leaks:
        return
    sets = sorted(leaked(where, found, guard.index), key=lambda each: -each.items / each.size)
    listed = ", ".join(f"{each.task} ({each.language}) {each.items} of {each.size}" for each in sets[:3])
    more = f", and {len(sets) - 3} more sets" if len(sets) > 3 else ""
    done = f"{found.dropped} rows dropped" if found.dropped else "contamination: drop would leave them out"
    loud = any(each.share >= MUCH for each in sets)
    logger.log(
        logging.WARNING if loud else logging.INFO, "test items stand in %s: %s%s (%s)", where, listed, more, done
    )


def lay(config: Config, instructions: InstructionStream, replay: ReplayBuffer) -> Mixture:
    """The training stream of a configuration: its instructions with its replay among them."""
    if config.replay is None or not config.mixes_replay:
        return Mixture(instructions, replay, 0.0, config.seed)
    steps, batch_size = config.training.steps, config.training.batch_size
    share = ReplaySchedule(config.replay.share, config.replay.schedule, steps=steps, batch_size=batch_size)
    return Mixture(instructions, replay, share, config.seed)


def refuse_repeats(config: Config, mixture: Mixture) -> None:
    """Refuses a run that would show a replayed example again where that is not allowed.

    Raises:
        ConfigError: replay.repeat is false, and the run needs more replay examples than there are.
    """
    if config.replay is None or config.replay.repeat or not len(mixture.replay):
        return
    total = config.training.steps * config.training.batch_size
    needed, there = mixture.replayed(total), len(mixture.replay)
    if needed > there:
        short = f" (replay.size asks for {config.replay.size:,})" if there < config.replay.size else ""
        raise ConfigError(
            [
                f"replay.repeat is false, but the run replays {needed:,} of its {total:,} examples and the "
                f"replay buffer holds {there:,}{short}: each would be shown {needed / there:.1f} times. Raise "
                f"replay.size to {needed:,} with a source that holds as many, lower replay.share or "
                "training.steps, or allow repeats"
            ]
        )


def describe_mixture(config: Config, mixture: Mixture) -> dict[str, Any]:
    """The planned mixture as run.json holds it: the share of replay in rows, and how often each is repeated."""
    total = config.training.steps * config.training.batch_size
    replayed, size = mixture.replayed(total), len(mixture.replay)
    described: dict[str, Any] = {
        "replay": round(mixture.schedule.mean(total), 6),
        "shares": {"rows": round(mixture.schedule.mean(total), 6)},
        "size": config.replay.size if config.replay else 0,
        "rows": replayed,
        "repeats": round(replayed / size, 3) if size else 0.0,
    }
    if config.replay and config.replay.schedule and size:
        described["begins"], described["ends"] = mixture.schedule.at(0), mixture.schedule.at(total - 1)
    return described


def read_rows(config: Config) -> tuple[Corpus, Corpus]:
    """The parallel rows of a configuration: those to train on, and those held out by sentence id."""
    rows, heldout = _all_rows(config).split(config.instructions.heldout, config.seed)
    if config.instructions.sentences is not None:
        rows = rows.limit(config.instructions.sentences, config.seed)
    return rows, heldout


_kept: dict[str, Corpus] | None = None
"""The corpus read last in this process, by what it was read from; None where nothing is kept."""


def keep_corpora() -> None:
    """From now on, this process does not read again what it has read last: for runs that share their corpora.

    Files whose size or time has changed are read again.
    """
    global _kept
    _kept = _kept or {}


def _state(option: Any) -> list[tuple[str, int, int]]:
    """Size and time of every file that an option of a corpus names."""
    if isinstance(option, dict):
        return [state for value in option.values() for state in _state(value)]
    if isinstance(option, (list, tuple)):
        return [state for value in option for state in _state(value)]
    if not isinstance(option, Path):
        return []
    files = sorted(option.rglob("*")) if option.is_dir() else [option]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files if path.is_file()]


def _all_rows(config: Config) -> Corpus:
    languages = languages_of(config)
    if _kept is None:
        return read_corpora(config.corpora, languages, config.filter, optional_of(config))
    entries = [entry.model_dump() for entry in config.corpora]
    files = [_state(value) for entry in config.corpora for value in entry.options.values()]
    optional = optional_of(config)
    key = text_hash([entries, languages, optional, config.filter.model_dump(), files])
    if key not in _kept:
        _kept.clear()
        _kept[key] = read_corpora(config.corpora, languages, config.filter, optional)
    return _kept[key]


def languages_of(config: Config) -> list[str]:
    """The languages that are read from the corpora, the known ones first."""
    return list(dict.fromkeys([*config.pivots, *config.targets]))


def optional_of(config: Config) -> list[str]:
    """The languages of which the corpora need not have text: known ones, where no pivots are named."""
    named = config.instructions.pivots is not None
    return [] if named else [code for code in config.languages.known if code not in config.targets]


def build_instructions(config: Config, corpus: Corpus) -> InstructionStream:
    """The alignment instructions that a configuration makes of a corpus."""
    return InstructionStream(corpus, config.instructions, config.languages, config.pivots, config.seed)
