"""All checks of `instructalign doctor` in order, and what they found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from instructalign.config import Config, ReplayConfig
from instructalign.config_file import ConfigSource, load_config
from instructalign.doctor.check_contamination import ContaminationPart, examine_contamination
from instructalign.doctor.check_corpus import CorpusPart, check_column_languages, examine_corpus
from instructalign.doctor.check_examples import (
    LengthPart,
    MixturePart,
    SampledExample,
    examine_lengths,
    examine_mixture,
    sample_examples,
)
from instructalign.doctor.check_tasks import TaskPart, examine_tasks
from instructalign.doctor.check_tokenizer import LanguageTokens, examine_extension, examine_tokenizer
from instructalign.doctor.findings import Finding, Findings
from instructalign.doctor.gpu_cards import GpuCards, gpu_cards
from instructalign.doctor.resource_estimates import CostPart, examine_costs, tokens_of_tasks
from instructalign.errors import ModelError
from instructalign.files import collected_notices
from instructalign.licences import base_licence, licence_problems, model_sources
from instructalign.mixture import ReplayBuffer, load_replay
from instructalign.mixture.replay_buffer import keep_apart
from instructalign.mixture.training_data import build_instructions, build_mixture, load_taught, prepare_corpus
from instructalign.notebooks import default_progress, html_table
from instructalign.pipeline import config_problems, stage_config
from instructalign.progress import Progress
from instructalign.training.models import load_codec
from instructalign.training.preflight import check_machine, check_monitors, check_plain_text, check_templates
from instructalign.training.tokenization import Codec
from instructalign.training.vocabulary import extend_tokenizer

_SELF_WRITTEN = 16  # examples that a model writes for the doctor: a real one takes a minute on a processor
_STREAMED = 20_000  # examples read of a streamed replay source, unless the run chooses from more


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the doctor found. A section that could not be checked is None or empty; a finding gives the reason.

    Attributes:
        corpus: the corpora after filtering.
        tokenizer: fertility and losses by language.
        lengths: the lengths of examples compared with `training.max_length`.
        mixture: shares, epochs and repeats.
        contamination: test items in the training data.
        tasks: the evaluation tasks.
        costs: memory, disk and time.
        findings: the results of all checks, section by section.
    """

    corpus: CorpusPart | None
    tokenizer: tuple[LanguageTokens, ...]
    lengths: LengthPart | None
    mixture: MixturePart | None
    contamination: ContaminationPart | None
    tasks: tuple[TaskPart, ...]
    costs: CostPart | None
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> int:
        """How many findings keep the run from starting, or make its result worthless."""
        return sum(finding.level == "problem" for finding in self.findings)

    @property
    def warnings(self) -> int:
        """How many findings make the run worse or more expensive than necessary."""
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

    def _repr_html_(self) -> str:
        rows = [[each.level, each.about, f"{each.found}\n{each.advice}".strip()] for each in self.findings]
        return html_table(["", "about", "found"], rows, self.verdict)

    def to_dict(self) -> dict[str, Any]:
        """All of it as for JSON, with the verdict first."""
        return {"verdict": self.verdict, "ready": self.ready, **asdict(self)}


def examine(
    config: ConfigSource,
    *,
    sample: int = 2000,
    out: str | Path = ".",
    gpu: str | None = None,
    progress: Progress | None = None,
) -> Diagnosis:
    """Checks everything that would go wrong in a run, without training.

    What cannot be read is a finding, not an error; the sections that need it are then left out.

    Args:
        config: the run's configuration, or its file, or what that holds as dictionaries.
        sample: how many examples of the training stream, and texts of each language, to look at.
        out: a folder on the disk that runs are written to.
        gpu: cards to compute memory and time for, as `h100` or `8xh100`, in place of measuring on this machine.
        progress: called with the name of each step.

    Raises:
        ConfigError: there is no card of that name in the table.
    """
    config, progress = load_config(config), progress or default_progress()
    cards = gpu_cards(gpu) if gpu else None
    with collected_notices() as notices:
        diagnosis = _examine(config, sample, out, cards, progress)
    about_files = Findings("files")
    for found, advice in notices:
        if advice:
            about_files.warn(found, advice)
        else:
            about_files.ok(found)
    return replace(diagnosis, findings=(*about_files, *diagnosis.findings))


def _examine(
    config: Config, sample: int, out: str | Path, cards: GpuCards | None, progress: Progress
) -> Diagnosis:
    # A run writes the file of rejects; the doctor writes nothing.
    config = config.model_copy(update={"filter": config.filter.model_copy(update={"rejects": None})})
    findings: list[Finding] = []

    def keep(found: Findings) -> None:
        for each in found:
            said = each.found.rstrip(".")
            if not any(said in earlier.found or earlier.found.rstrip(".") in said for earlier in findings):
                findings.append(each)

    about_config = Findings("configuration")
    if not config.has_training:
        about_config.warn(
            "There is no training block: lengths, memory and time are those of the defaults and "
            f"{config.training.steps:,} steps.",
            "`generate`, `preview` and `evaluate` do without; for `train` and `run`, add training: {steps: …}.",
        )
    sources = model_sources(config.to_dict(), base_licence(config.model.base))
    for problem in licence_problems(sources) if any(source.stated for source in sources) else ():
        about_config.warn(problem, "It does not keep the run from starting; settle it before you share the model.")
    for error in config_problems(config):
        for problem in error.problems:
            about_config.problem(problem, "Change this key, or install what it needs.")
    if cards is None:
        about_config.attempt(
            "Change training.precision, or run where there is a GPU.", lambda: check_machine(config)
        )
    progress("reading the corpora", 0, 0, "")
    corpus, heldout, corpus_part, found = examine_corpus(config, sample)
    keep(found)
    progress("reading the replay data", 0, 0, "")
    replay_config = _beginning(config)
    about_stream = Findings("mixture")
    replay = about_stream.attempt(
        "Change replay.source.",
        lambda: load_replay(replay_config, config.seed, config.model, made=_SELF_WRITTEN, progress=progress),
    )
    taught = about_stream.attempt("Change instruction_data.", partial(load_taught, config))
    if replay is not None and taught is not None:
        apart = about_stream.attempt("Change replay or instruction_data.", partial(keep_apart, replay, taught))
        replay, taught = apart or (replay, taught)
    progress("reading the tasks", 0, 0, "")
    tasks, items, about_tasks = examine_tasks(config.model_copy(update={"replay": replay_config}), heldout, replay)
    keep(check_column_languages(corpus, items))
    corpus, replay, taught, contamination, about_contamination = examine_contamination(
        corpus, replay, items, config.contamination, progress, taught
    )
    about_model = Findings("model")
    codec = about_model.attempt("Check model.base, the network and your access.", lambda: _load_codec(config))
    for note in codec.chat.notes if codec is not None and codec.chat else ():
        about_model.ok(note)
    keep(about_model)
    if heldout is not None:
        advice = "Raise instructions.heldout, or leave the key out."
        about_stream.attempt(advice, partial(check_monitors, config, heldout))
    tokens: tuple[LanguageTokens, ...] = ()
    if codec is not None:
        advice = "Raise training.max_length, or choose others under instructions.templates."
        about_stream.attempt(advice, partial(check_templates, config, codec))
        about_stream.attempt("Change instructions.objectives.", partial(check_plain_text, config, codec))
        progress("measuring the tokenizer", 0, 0, "")
        tokens, found = examine_tokenizer(codec.tokenizer, config.languages, corpus, items, sample)
        keep(found)
        if config.model.vocabulary and corpus is not None and heldout is not None and replay is not None:
            progress("learning new pieces", 0, 0, "")
            extend = partial(
                extend_tokenizer, codec.tokenizer, config, corpus, heldout, replay, taught or ReplayBuffer()
            )
            about_pieces = Findings("vocabulary")
            if extension := about_pieces.attempt("Change model.vocabulary.", extend):
                about_pieces = examine_extension(extension, config.languages.new)
                codec = replace(codec, tokenizer=extension.tokenizer)
            keep(about_pieces)
    progress("building the instruction stream", 0, 0, "")
    stream = mixture = lengths = shares = costs = None
    sampled: Sequence[SampledExample] = ()
    if corpus is not None:
        advice = "Change instructions, languages or corpora accordingly."
        stream = about_stream.attempt(advice, partial(build_instructions, config, corpus))
        for number, codes in enumerate(config.stages or ()):  # each is a run of its own
            advice = f"Change stage {number + 1} of stages ({', '.join(codes)}), or what it needs of the corpora."
            about_stream.attempt(advice, partial(_build_alone, stage_config(config, number, None)))
    if stream is not None and replay is not None and codec is not None:
        mixture = build_mixture(config, stream, replay, taught)
        take = partial(sample_examples, config, mixture, codec, sample)
        sampled = about_stream.attempt("Change instructions.objectives accordingly.", take) or ()
    keep(about_stream)
    if codec and corpus and stream and mixture and sampled:
        context = None if codec.encoder_decoder else codec.context  # of T5 it is no limit
        lengths, found = examine_lengths(config, sampled, codec.encoder_decoder, context)
        keep(found)
        shares, found = examine_mixture(config, mixture, len(corpus), stream.epoch, sampled, codec.encoder_decoder)
        keep(found)
    keep(about_contamination)
    keep(about_tasks)
    if codec is not None:
        progress("estimating memory, disk and time", 0, 0, "")
        evaluation = tokens_of_tasks(tasks, tokens, len(codec.pair("", "")[0]))
        costs, found = examine_costs(config, codec, mixture, sampled, Path(out), evaluation, cards)
        keep(found)
    keep(about_config)  # last: what a section has found with its data is not said again
    return Diagnosis(corpus_part, tokens, lengths, shares, contamination, tasks, costs, tuple(findings))


def _build_alone(config: Config) -> None:
    build_instructions(config, prepare_corpus(config)[0])


def _load_codec(config: Config) -> Codec:
    """The base's tokenizer.

    Raises:
        ModelError: it cannot be loaded, or needs a package that is not installed.
    """
    try:
        return load_codec(config.model)
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"the tokenizer of {config.model.base} needs a package: {reason}") from None


def _beginning(config: Config) -> ReplayConfig | None:
    """The replay sources; of a streamed one only the beginning, which is enough and saves hours of download."""
    replay = config.replay
    if replay is None:
        return None
    enough = max(_STREAMED, 2 * (replay.size + replay.heldout))
    sources = []
    for source in replay.sources:
        if "scan" in source.options:
            options = {**source.options, "scan": min(enough, source.options["scan"] or enough)}
            source = source.model_copy(update={"options": options})
        sources.append(source)
    return replay.model_copy(update={"source": sources})
