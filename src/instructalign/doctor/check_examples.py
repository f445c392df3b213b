"""Checks of the training stream: lengths against `training.max_length`, the mixture's shares and repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from instructalign.config import Config
from instructalign.doctor.findings import Findings, first_few, percent
from instructalign.mixture import Mixture
from instructalign.mixture.training_data import CHARACTERS, refuse_repeats
from instructalign.training.batching import ExampleEncoder
from instructalign.training.tokenization import Codec, loss_tokens

_TRUNCATED, _MANY_TRUNCATED = 0.01, 0.2  # share of examples: for a warning; of answers, for a problem
_NO_LIMIT = 1 << 60

_MANY_REPEATS = 10
"""Repeats of a replay example above which a warning is due.

A small model memorised examples shown 19 times, and forgot the task they are from; twice was enough
(docs/results/nusantara-longer.md). The paper's r = 1 000 makes 800, at a learning rate a hundred times lower.
"""
_LOW_LOSS_SHARE = 0.1  # replay's share of the loss tokens, relative to its share of the examples


@dataclass(frozen=True, slots=True)
class SampledExample:
    """The length of one example, in tokens.

    Attributes:
        kind: its objective, or `replay`.
        prompt, answer: lengths before truncation, the answer with its end token.
        kept_prompt, kept_answer: lengths after truncation to `training.max_length`.
        truncated: what was truncated, in the words of `ExampleEncoder`.
    """

    kind: str
    prompt: int
    answer: int
    kept_prompt: int
    kept_answer: int
    truncated: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ObjectiveLengths:
    """The lengths of one objective's examples.

    Attributes:
        kind: the objective, or `replay`.
        examples: how many were sampled.
        median, p90, p99, longest: tokens of prompt and answer together, before truncation.
        prompts_truncated, answers_truncated: how many examples lose part of their prompt, of their answer.
    """

    kind: str
    examples: int
    median: int
    p90: int
    p99: int
    longest: int
    prompts_truncated: int
    answers_truncated: int


@dataclass(frozen=True, slots=True)
class LengthPart:
    """Lengths against the limit.

    Attributes:
        max_length: the limit, `training.max_length`.
        enough: the smallest limit that would truncate less than 1 % of the examples.
        by_objective: the lengths of each objective's examples.
    """

    max_length: int
    enough: int
    by_objective: tuple[ObjectiveLengths, ...]


@dataclass(frozen=True, slots=True)
class ObjectiveShare:
    """The share of one objective, or of replay, in the sampled examples.

    Attributes:
        kind: the objective, or `replay`.
        rows, tokens, loss_tokens: its share of the examples, of their tokens, of the tokens that carry the loss.
    """

    kind: str
    rows: float
    tokens: float
    loss_tokens: float


@dataclass(frozen=True, slots=True)
class MixturePart:
    """What a run of this length shows the model.

    Attributes:
        examples: how many the whole run takes.
        epoch: new instructions that it takes to visit every row in every direction.
        epochs: how many epochs of new instructions the run has.
        replayed: how many replay examples there are.
        repeats: how often each of them is shown.
        shares: by objective, over the sampled examples.
    """

    examples: int
    epoch: int
    epochs: float
    replayed: int
    repeats: float
    shares: tuple[ObjectiveShare, ...]


def sample_examples(config: Config, mixture: Mixture, codec: Codec, sample: int) -> list[SampledExample]:
    """The lengths of the first examples of the training stream.

    Raises:
        DataError: an objective does not apply to the corpus.
    """
    whole, limited = ExampleEncoder(codec, _NO_LIMIT), ExampleEncoder(codec, config.training.max_length)
    sampled = []
    for index in range(min(sample, config.training.steps * config.training.batch_size)):
        instruction = mixture[index]
        full, kept = whole(instruction), limited(instruction)
        sampled.append(
            SampledExample(
                kind=full.kind,
                prompt=len(full.prompt),
                answer=0 if full.truncated else len(full.answer),
                kept_prompt=len(kept.prompt),
                kept_answer=len(kept.answer),
                truncated=kept.truncated,
            )
        )
    return sampled


def examine_lengths(
    config: Config, sampled: Sequence[SampledExample], encoder_decoder: bool, context: int | None = None
) -> tuple[LengthPart, Findings]:
    """Compares the lengths of examples with the limit, by objective.

    Args:
        config: the run's configuration.
        sampled: the examples.
        encoder_decoder: whether the limit holds for prompt and answer each, not for both together.
        context: the model's maximum number of tokens, beyond which no limit is advised.
    """
    needs = [max(each.prompt, each.answer) if encoder_decoder else each.prompt + each.answer for each in sampled]
    by_objective = []
    for kind in _kinds(sampled):
        of_kind = [each for each in sampled if each.kind == kind]
        lengths = [each.prompt + each.answer for each in of_kind]
        by_objective.append(
            ObjectiveLengths(
                kind=kind,
                examples=len(of_kind),
                median=percentile(lengths, 0.5),
                p90=percentile(lengths, 0.9),
                p99=percentile(lengths, 0.99),
                longest=max(lengths),
                prompts_truncated=sum("prompt truncated" in each.truncated for each in of_kind),
                answers_truncated=sum("answer truncated" in each.truncated for each in of_kind),
            )
        )
    limit, enough = config.training.max_length, smallest_limit(needs)
    findings = Findings("lengths")
    if empty := sum("answer without tokens" in each.truncated for each in sampled):
        findings.problem(
            f"{empty} of {len(sampled)} examples have an answer without tokens.",
            "Look at them with `instructalign preview`; the tokenizer of model.base drops these answers.",
        )
    if context is None or enough <= context:
        advice = (
            f"Raise training.max_length from {limit} to {enough}, which truncates less than 1 %, or exclude long "
            "texts with filter.length."
        )
    else:
        most = (
            f"Raise training.max_length to {context}, the model's maximum, and"
            if limit < context
            else "The model's maximum is reached:"
        )
        advice = f"{most} exclude long texts with filter.length, since 99 % of the examples need {enough}."
    for what, shares in (
        ("answers", {each.kind: each.answers_truncated / each.examples for each in by_objective}),
        ("prompts", {each.kind: each.prompts_truncated / each.examples for each in by_objective}),
    ):
        if worst := {kind: share for kind, share in shares.items() if share >= _TRUNCATED}:
            named = first_few([f"{kind} {percent(share)}" for kind, share in worst.items()])
            if "lm" in worst:
                needed = percentile(
                    [need for need, each in zip(needs, sampled, strict=True) if each.kind == "lm"], 0.99
                )
                usual = config.instructions.objectives["lm"].options["characters"] or CHARACTERS * limit
                shorter = max(20, 10 * (usual * limit // needed // 10))
                advice = f"Set instructions.objectives.lm.characters to {shorter}: passages end sooner. {advice}"
            severe = what == "answers" and max(worst.values()) >= _MANY_TRUNCATED
            findings.warn(f"Share of {what} truncated at {limit} tokens: {named}.", advice, severe=severe)
    if not findings:
        findings.ok(f"Examples fit into {limit} tokens; {enough} would be enough for 99 % of them.")
    return LengthPart(limit, enough, tuple(by_objective)), findings


def smallest_limit(needs: Sequence[int], truncated: float = _TRUNCATED) -> int:
    """The smallest limit that less than this share of the lengths exceed."""
    return sorted(needs)[len(needs) - ceil(truncated * len(needs))]


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest of the values that this share of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def examine_mixture(
    config: Config,
    mixture: Mixture,
    rows: int,
    epoch: int,
    sampled: Sequence[SampledExample],
    encoder_decoder: bool,
) -> tuple[MixturePart, Findings]:
    """Computes shares, epochs and repeats.

    Args:
        config: the run's configuration.
        mixture: the training stream.
        rows: how many rows there are to train on.
        epoch: new instructions in an epoch.
        sampled: the first examples of the stream.
        encoder_decoder: what kind of model it is.
    """
    replay, size = config.replay, len(mixture.replay)
    # Of self-written replay data only the first few exist yet.
    partial = replay is not None and any(source.name == "self" for source in replay.sources)
    if size and partial and replay:
        size = replay.size
    total = config.training.steps * config.training.batch_size
    replayed = mixture.replayed(total)
    on_prompt = config.training.loss_on == "all" and not encoder_decoder
    counts: dict[str, list[int]] = {kind: [0, 0, 0] for kind in _kinds(sampled)}
    for each in sampled:
        kept = each.kept_prompt, each.kept_answer
        for place, count in enumerate((1, sum(kept), loss_tokens(*kept, on_prompt, encoder_decoder))):
            counts[each.kind][place] += count
    totals = [max(1, sum(column)) for column in zip(*counts.values(), strict=True)]
    part = MixturePart(
        examples=total,
        epoch=epoch,
        epochs=(total - replayed) / epoch,
        replayed=size,
        repeats=replayed / size if size else 0.0,
        shares=tuple(
            ObjectiveShare(kind, *(count / total for count, total in zip(column, totals, strict=True)))
            for kind, column in counts.items()
        ),
    )
    findings = Findings("mixture")
    if replay and not replay.repeat and replayed > size and not partial:
        findings.attempt("Change replay accordingly.", lambda: refuse_repeats(config, mixture))
    others = [name for name in config.training.strategy if name not in ("none", "replay")]
    wanted = replay.size if replay else 0
    if "none" in config.training.strategy:
        findings.ok("No replay, because of training.strategy: none; expect forgetting.")
    elif others and not config.mixes_replay:
        findings.ok(f"No replay; against forgetting: {', '.join(others)}.")
    elif not wanted:
        findings.warn(
            "No replay: the model will forget what it knew.",
            "Set replay.source and replay.size, or training.strategy: none if that is intended.",
        )
    elif part.replayed < wanted:
        findings.warn(
            f"The replay source has {part.replayed:,} usable examples, fewer than replay.size ({wanted:,}).",
            "Lower replay.size, or give a larger replay.source.",
        )
    new = total - replayed
    if new < rows:
        findings.warn(
            f"The run ends after {new:,} new instructions, less than the {rows:,} rows of the corpus.",
            f"Raise training.steps from {config.training.steps:,} to at least "
            f"{ceil(config.training.steps * rows / max(1, new)):,}, or give fewer rows under corpora.",
        )
    if part.repeats > _MANY_REPEATS:
        findings.warn(
            f"Each replay example is repeated {part.repeats:,.0f} times and may be memorised.",
            "Raise replay.size if the source has more; replay.heldout and the task past_instructions show whether "
            "the model only memorises.",
        )
    share = next((each for each in part.shares if each.kind == "replay"), None)
    if share is not None and replay is not None and share.loss_tokens < _LOW_LOSS_SHARE * share.rows:
        findings.warn(
            f"Replay has {percent(share.rows)} of the examples but {percent(share.loss_tokens)} of the tokens "
            "that carry the loss.",
            "Raise replay.share, or replay examples with longer answers (replay.select.order: longest).",
        )
    steps = ceil(config.training.steps / part.epochs) if part.epochs else 0
    seen = f"{part.epochs:.1f} epochs of new instructions, of {steps:,} steps each"
    if not findings:
        seen += f"; each of {part.replayed:,} replay examples is shown {part.repeats:.1f} times"
    findings.ok(f"{seen}.")
    return part, findings


def _kinds(sampled: Sequence[SampledExample]) -> list[str]:
    """The objectives in the sample, replay last."""
    return sorted({each.kind for each in sampled}, key=lambda kind: (kind == "replay", kind))
