"""All checks of `instructalign doctor` in order, and what they found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from instructalign.config import Config, Entry, ReplayConfig
from instructalign.data import Corpus
from instructalign.doctor.check_contamination import LeakPart, examine_leaks
from instructalign.doctor.check_corpus import CorpusPart, examine_corpus, examine_likeness
from instructalign.doctor.check_costs import CostPart, examine_costs
from instructalign.doctor.check_lengths import LengthPart, Sampled, examine_lengths, take_sample
from instructalign.doctor.check_replay import MixturePart, examine_mixture
from instructalign.doctor.check_tasks import TaskPart, examine_tasks
from instructalign.doctor.check_tokenizer import LanguageTokens, examine_tokenizer
from instructalign.doctor.findings import Finding, Findings
from instructalign.errors import ModelError
from instructalign.instructions import InstructionStream
from instructalign.mixture import Mixture, ReplayBuffer, load_replay
from instructalign.mixture.training_data import build_instructions, build_mixture
from instructalign.progress import Progress, silent
from instructalign.training.models import load_codec
from instructalign.training.tokenization import Codec


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What an examination found. A section that could not be looked at is None or empty; a finding says why.

    Attributes:
        corpus: the corpora and what the filters leave of them.
        tokenizer: what the tokenizer makes of each language.
        lengths: the lengths of examples against `training.max_length`.
        mixture: shares and repeats.
        contamination: test items in the training data.
        tasks: the evaluation tasks.
        costs: memory, disk and time.
        findings: what all this means, section by section.
    """

    corpus: CorpusPart | None
    tokenizer: tuple[LanguageTokens, ...]
    lengths: LengthPart | None
    mixture: MixturePart | None
    contamination: LeakPart | None
    tasks: tuple[TaskPart, ...]
    costs: CostPart | None
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many findings keep the run from starting, or make its result worthless."""
        return sum(finding.level == "problem" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings make the run worse or dearer than it need be."""
        return sum(finding.level == "warning" for finding in self.findings)

    @property
    def ready(self) -> bool:
        """Whether nothing keeps the run from starting."""
        return self.problems == 0

    @property
    def verdict(self) -> str:
        """`ready to train`, or how many problems and warnings there are."""
        warnings = f"{self.warnings} warning{'' if self.warnings == 1 else 's'}"
        if not self.ready:
            return f"{self.problems} problem{'' if self.problems == 1 else 's'}, {warnings}"
        return f"ready to train ({warnings})" if self.warnings else "ready to train"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON would have it, with the verdict first."""
        return {"verdict": self.verdict, "ready": self.ready, **asdict(self)}


LOOKED_AT = 32
"""Examples that a model writes for a first look, where it writes its own past data."""

SCANNED = 20_000
"""Examples of a streamed replay source that are looked at, where it does not take more to choose from."""


def examine(
    config: Config, *, sample: int = 2000, out: str | Path = ".", progress: Progress = silent
) -> Diagnosis:
    """Looks at everything that would go wrong in a run, without training.

    What cannot be read is a finding, not an error; the sections that need it are then left out.

    Args:
        config: the run's configuration.
        sample: how many examples of the training stream, and texts of each language, to look at.
        out: a folder on the disk that runs are written to.
        progress: told what is under way.
    """
    findings: list[Finding] = []

    def keep(found: Findings) -> None:
        findings.extend(each for each in found if each.found not in {said.found for said in findings})

    progress("reading the corpora", 0, 0, "")
    corpus, corpus_part, found = examine_corpus(config, sample)
    keep(found)
    progress("reading the tasks", 0, 0, "")
    tasks, items, about_tasks = examine_tasks(config.model_copy(update={"replay": _scanned(config)}))
    keep(examine_likeness(corpus, items))
    progress("reading past data", 0, 0, "")
    about_stream = Findings("mixture")
    replay = about_stream.attempt(
        "Change replay.source.",
        lambda: load_replay(_scanned(config), config.seed, config.model, made=LOOKED_AT, progress=progress),
    )
    corpus, replay, contamination, about_leaks = examine_leaks(
        corpus, replay, items, config.contamination, progress
    )
    about_model = Findings("model")
    codec = about_model.attempt("Check model.base, the network and your access.", lambda: _load_codec(config))
    keep(about_model)
    tokens: tuple[LanguageTokens, ...] = ()
    lengths = shares = costs = None
    if codec is not None:
        progress("trying the tokenizer", 0, 0, "")
        tokens, found = examine_tokenizer(codec.tokenizer, config.languages, corpus, items, sample)
        keep(found)
    progress("making instructions", 0, 0, "")
    stream, mixture = _lay(config, corpus, replay, codec, about_stream)
    taken = _take(config, mixture, codec, sample, about_stream)
    keep(about_stream)
    if codec and corpus and stream and mixture and taken:
        context = None if codec.encoder_decoder else codec.context  # of T5 it is no limit
        lengths, found = examine_lengths(config, taken, codec.encoder_decoder, context)
        keep(found)
        shares, found = examine_mixture(config, mixture, len(corpus), stream.epoch, taken, codec.encoder_decoder)
        keep(found)
    keep(about_leaks)
    keep(about_tasks)
    if codec is not None:
        progress("estimating costs", 0, 0, "")
        costs, found = examine_costs(config, codec, mixture, taken, Path(out))
        keep(found)
    return Diagnosis(corpus_part, tokens, lengths, shares, contamination, tasks, costs, tuple(findings))


def _load_codec(config: Config) -> Codec:
    """The base's way with texts.

    Raises:
        ModelError: it cannot be loaded, or needs a package that is not installed.
    """
    try:
        return load_codec(config.model)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the tokenizer of {config.model.base} needs a package: {reason}") from None


def _scanned(config: Config) -> ReplayConfig | None:
    """The replay sources; of a streamed one only the beginning, which shows as much without hours of download."""
    replay = config.replay
    if replay is None:
        return None
    enough = max(SCANNED, 2 * (replay.size + replay.heldout))

    def begin(source: Entry) -> Entry:
        if "scan" not in source.options:
            return source
        options = {**source.options, "scan": min(enough, source.options["scan"] or enough)}
        return source.model_copy(update={"options": options})

    return replay.model_copy(update={"source": [begin(source) for source in replay.sources]})


def _lay(
    config: Config, corpus: Corpus | None, replay: ReplayBuffer | None, codec: Codec | None, findings: Findings
) -> tuple[InstructionStream | None, Mixture | None]:
    """The new instructions and the training stream, as far as there is what they are made of."""
    if corpus is None:
        return None, None
    stream = findings.attempt(
        "Change instructions, languages or corpora as it says.", lambda: build_instructions(config, corpus)
    )
    if stream is None or replay is None or codec is None:
        return stream, None
    return stream, build_mixture(config, stream, replay)


def _take(
    config: Config, mixture: Mixture | None, codec: Codec | None, sample: int, findings: Findings
) -> Sequence[Sampled]:
    """The first examples of the stream as tokens; none where something is missing."""
    if mixture is None or codec is None:
        return ()
    taken = findings.attempt(
        "Change instructions.objectives as it says.", lambda: take_sample(config, mixture, codec, sample)
    )
    return taken or ()
