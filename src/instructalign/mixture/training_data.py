"""From a configuration to the training stream: everything that a run trains on, prepared once and handed on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.data import ContaminationCheck, Corpus, check_corpus, read_corpora
from instructalign.data.contamination import (
    SEVERE_SHARE,
    Contamination,
    contaminated_sets,
    contamination_metadata,
)
from instructalign.errors import ConfigError, DataError
from instructalign.files import text_hash
from instructalign.instructions import InstructionStream
from instructalign.instructions.stream import has_text_for
from instructalign.mixture.crosslingual_questions import ask_across_languages, count_crosslingual
from instructalign.mixture.mixture import InstructionSequence, Mixture, ReplaySchedule
from instructalign.mixture.replay_buffer import (
    INSTRUCTION_DATA,
    ReplayBuffer,
    check_replay,
    keep_apart,
    load_replay,
)
from instructalign.plugins import OBJECTIVES, paths_in
from instructalign.progress import Progress, silent

logger = logging.getLogger(__name__)

CHARACTERS = 2
"""Characters of a passage for each token of training.max_length: few enough for most tokenizers and languages."""


@dataclass(frozen=True, slots=True)
class TrainingData:
    """Everything that a run trains on and validates with.

    Attributes:
        corpus: the rows to train on.
        heldout: the rows held out, by sentence id.
        instructions: alignment instructions made of `corpus`.
        replay: the replay buffer.
        mixture: the training stream.
        contamination: what was found of test items in `corpus` and `replay`, and done about it, for run.json.
        taught: instruction data in the languages to learn.
    """

    corpus: Corpus
    heldout: Corpus
    instructions: InstructionStream
    replay: ReplayBuffer
    mixture: Mixture
    contamination: Mapping[str, Any] = field(default_factory=dict)
    taught: ReplayBuffer = field(default_factory=ReplayBuffer)


def prepare_data(
    config: Config,
    check: ContaminationCheck | None = None,
    progress: Progress = silent,
    cache: CorpusCache | None = None,
) -> TrainingData:
    """Prepares the data of a run: corpora, the instructions made of them, replay buffer, and their mixture.

    Args:
        config: the run's configuration.
        check: the test items to look for; without, nothing is looked for.
        progress: reports rows checked for test items, and replay examples written.
        cache: keeps the corpora for the next run of this process.

    Raises:
        DataError: a file cannot be read, a language has no text, or the training data contain test items and must
            not; also where the configuration says so and there is no check.
    """
    if check is None and config.contamination in ("drop", "refuse") and config.evaluation.tasks:
        raise DataError(
            f"contamination is {config.contamination}, but no test items were given to look for. Call the "
            "functions of `instructalign` itself (train, preview, generate), which read them."
        )
    check = check or ContaminationCheck()
    corpus, heldout, in_corpora = prepare_corpus(config, check, progress, cache)
    instructions = build_instructions(config, corpus)
    replay = load_replay(
        config.replay, config.seed, config.model, progress=progress, rejects=config.filter.rejects
    )
    taught = load_taught(config, progress=progress, rejects=config.filter.rejects)
    replay, taught = keep_apart(replay, taught)
    replay, in_replay = check_replay(replay, check)
    log_contamination("replay", in_replay, check)
    found = {"corpora": in_corpora, "replay": in_replay}
    if len(taught):
        taught, found[INSTRUCTION_DATA] = check_replay(taught, check, "instruction data")
        log_contamination(INSTRUCTION_DATA, found[INSTRUCTION_DATA], check)
    metadata = contamination_metadata(check, found)
    mixture = build_mixture(config, instructions, replay, taught)
    return TrainingData(corpus, heldout, instructions, replay, mixture, metadata, taught)


def load_taught(config: Config, progress: Progress = silent, rejects: Path | None = None) -> ReplayBuffer:
    """The instruction data of a configuration, chosen as replay data is, some of it asked in another language.

    Raises:
        DataError: as `load_replay` and `ask_across_languages`.
    """
    taught = load_replay(
        config.taught_data, config.seed, config.model, progress=progress, rejects=rejects, key=INSTRUCTION_DATA
    )
    held = {each.id for each in taught.heldout if each.id}
    if held:
        taught = taught.without(lambda each: each.id in held, "translation of what is held out")
    return ask_across_languages(config, taught)


def prepare_corpus(
    config: Config,
    check: ContaminationCheck | None = None,
    progress: Progress = silent,
    cache: CorpusCache | None = None,
) -> tuple[Corpus, Corpus, Contamination]:
    """The parallel rows of a configuration: read, cleaned, deduplicated, split and checked for test items.

    Test items are looked for after the split, so that another evaluation moves no held-out sentence.

    Returns:
        The rows to train on, the rows held out by sentence id, and the test items found among the former.

    Raises:
        DataError: as `prepare_data`.
    """
    corpus, heldout = _read(config, cache).split(config.instructions.heldout, config.seed)
    if config.instructions.sentences is not None:
        corpus = corpus.limit(config.instructions.sentences, config.seed)
    check = check or ContaminationCheck()
    corpus, found = check_corpus(corpus, check, progress)
    log_contamination("corpora", found, check)
    return corpus, heldout, found


def build_instructions(config: Config, corpus: Corpus) -> InstructionStream:
    """The instructions that a configuration makes of a corpus."""
    length = CHARACTERS * config.training.max_length
    return InstructionStream(corpus, config.instructions, config.languages, config.pivots, config.seed, length)


def heldout_instructions(config: Config, heldout: Corpus) -> InstructionStream | None:
    """The instructions of held-out rows: by the objectives that have text among them; None where none has."""
    settings = config.instructions
    usable = {name: entry for name, entry in settings.objectives.items() if has_text_for(name, heldout)}
    if not usable:
        return None
    if usable != settings.objectives:
        settings = settings.model_copy(update={"objectives": usable, "schedule": None})
    least = 2 - any(getattr(OBJECTIVES.get(name), "monolingual", False) for name in usable)
    there = {code for row in heldout if len(row.texts) >= least for code in row.texts}
    if not there.issuperset(config.targets):
        targets = [code for code in config.targets if code in there]
        settings = settings.model_copy(update={"targets": targets})
    return build_instructions(config.model_copy(update={"instructions": settings}), heldout)


def build_mixture(
    config: Config, instructions: InstructionStream, replay: ReplayBuffer, taught: ReplayBuffer | None = None
) -> Mixture:
    """The training stream of a configuration: its instructions, with instruction data and replay among them."""
    if config.instruction_data and taught:
        new = Mixture(instructions, taught, config.instruction_data.share, config.seed)
        return _with_replay(config, new, replay)
    return _with_replay(config, instructions, replay)


def _with_replay(config: Config, instructions: InstructionSequence, replay: ReplayBuffer) -> Mixture:
    if config.replay is None or not config.mixes_replay:
        return Mixture(instructions, replay, 0.0, config.seed)
    steps, batch_size = config.training.steps, config.training.batch_size
    share = ReplaySchedule(config.replay.share, config.replay.schedule, steps=steps, batch_size=batch_size)
    return Mixture(instructions, replay, share, config.seed)


def refuse_repeats(config: Config, mixture: Mixture) -> None:
    """Refuses a run that would repeat a replay example where that is not allowed.

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
    """The planned mixture as run.json has it: the share of replay, and how often an example is repeated."""
    total = config.training.steps * config.training.batch_size
    replayed, size = mixture.replayed(total), len(mixture.replay)
    described: dict[str, Any] = {
        "replay": round(mixture.schedule.mean(total), 6),
        "shares": {"rows": round(mixture.schedule.mean(total), 6)},
        "size": config.replay.size if config.replay else 0,
        "rows": replayed,
        "repeats": round(replayed / size, 3) if size else 0.0,
    }
    if isinstance(mixture.instructions, Mixture):
        taught, data = mixture.instructions.replayed(total - replayed), mixture.instructions.replay
        described[INSTRUCTION_DATA] = {
            "share": round(taught / total, 6),
            "size": len(data),
            "rows": taught,
            "repeats": round(taught / len(data), 3),
        }
        if config.instruction_data and config.instruction_data.crosslingual:
            rows = count_crosslingual(data, taught, config.seed)
            across = {"share": round(sum(rows.values()) / taught, 6) if taught else 0.0, "rows": rows}
            described[INSTRUCTION_DATA]["crosslingual"] = {"asked": config.instruction_data.crosslingual, **across}
    if config.replay and config.replay.schedule and size:
        described["begins"], described["ends"] = mixture.schedule.at(0), mixture.schedule.at(total - 1)
    return described


def log_contamination(where: str, found: Contamination, check: ContaminationCheck) -> None:
    """Logs what was found, the worst test sets first: as a warning where it spoils a score."""
    if check.index is None or not found.overlaps:
        return
    sets = sorted(contaminated_sets(where, found, check.index), key=lambda each: -each.items / each.size)
    listed = ", ".join(f"{each.task} ({each.language}) {each.items} of {each.size}" for each in sets[:3])
    more = f", and {len(sets) - 3} more sets" if len(sets) > 3 else ""
    done = f"{found.dropped} rows dropped" if found.dropped else "contamination: drop would leave them out"
    severe = any(each.share >= SEVERE_SHARE for each in sets)
    logger.log(
        logging.WARNING if severe else logging.INFO,
        "contamination: test items found in %s: %s%s (%s)",
        where,
        listed,
        more,
        done,
    )


def corpus_languages(config: Config) -> list[str]:
    """The languages that are read from the corpora, the known ones first."""
    return list(dict.fromkeys([*config.pivots, *config.targets]))


def optional_languages(config: Config) -> list[str]:
    """The languages of which the corpora need not have text: known ones, where no pivots are named."""
    named = config.instructions.pivots is not None
    return [] if named else [code for code in config.languages.known if code not in config.targets]


class CorpusCache:
    """Keeps the corpus read last, for runs of one process that share their corpora, as the runs of a sweep do.

    It is read again where a file has changed in size or time, or the configuration reads it otherwise.
    """

    def __init__(self) -> None:
        self._key = ""
        self._corpus: Corpus | None = None

    def read(self, config: Config) -> Corpus:
        """The corpora of a configuration, cleaned and without duplicates, before the split."""
        entries = [entry.model_dump() for entry in config.corpora]
        languages = [corpus_languages(config), optional_languages(config)]
        key = text_hash([entries, languages, config.filter.model_dump(), corpus_files(config)])
        if self._corpus is None or key != self._key:
            self._corpus = None  # let go of the one before first: the memory has room for one
            self._corpus, self._key = _read(config), key
        return self._corpus


def _read(config: Config, cache: CorpusCache | None = None) -> Corpus:
    if cache is not None:
        return cache.read(config)
    return read_corpora(config.corpora, corpus_languages(config), config.filter, optional_languages(config))


def corpus_files(config: Config) -> list[tuple[str, int, int]]:
    """Name, size and time of every file that the corpora of a configuration name."""
    files = []
    for path in paths_in([entry.options for entry in config.corpora]):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                files.append((str(file), file.stat().st_size, file.stat().st_mtime_ns))
    return files
