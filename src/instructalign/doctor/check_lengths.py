"""The first examples of the training stream as tokens: their lengths against `training.max_length`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from instructalign.config import Config
from instructalign.doctor.findings import Findings, listed, percent
from instructalign.mixture import Mixture
from instructalign.training.batching import ExampleEncoder
from instructalign.training.tokenization import Codec

CUT = 0.01
"""Share of examples that may be cut without a warning."""
CUT_MUCH = 0.2
_NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Sampled:
    """One example, in tokens.

    Attributes:
        kind: the objective it came from, or `replay`.
        prompt, answer: lengths as written, the answer with its end token.
        kept_prompt, kept_answer: lengths after cutting to `training.max_length`.
        cuts: what was cut, as `ExampleEncoder` says it.
    """

    kind: str
    prompt: int
    answer: int
    kept_prompt: int
    kept_answer: int
    cuts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths of one objective's examples.

    Attributes:
        kind: the objective, or `replay`.
        examples: how many were looked at.
        median, p90, p99, longest: tokens of prompt and answer together, before cutting.
        prompts_cut, answers_cut: how many examples lose part of their prompt, of their answer.
    """

    kind: str
    examples: int
    median: int
    p90: int
    p99: int
    longest: int
    prompts_cut: int
    answers_cut: int


@dataclass(frozen=True, slots=True)
class LengthPart:
    """Lengths against the limit.

    Attributes:
        max_length: the limit, `training.max_length`.
        enough: the smallest limit under which less than 1 % of the examples would be cut.
        by_objective: the lengths of each objective's examples.
    """

    max_length: int
    enough: int
    by_objective: tuple[Lengths, ...]


def take_sample(config: Config, mixture: Mixture, codec: Codec, sample: int) -> list[Sampled]:
    """The first examples of the training stream, in tokens.

    Raises:
        DataError: an objective can make nothing of the corpus.
    """
    whole, cut = ExampleEncoder(codec, _NO_LIMIT), ExampleEncoder(codec, config.training.max_length)
    taken = []
    for index in range(min(sample, config.training.steps * config.training.batch_size)):
        instruction = mixture[index]
        full, kept = whole(instruction), cut(instruction)
        taken.append(
            Sampled(
                kind=full.kind,
                prompt=len(full.prompt),
                answer=0 if full.truncated else len(full.answer),
                kept_prompt=len(kept.prompt),
                kept_answer=len(kept.answer),
                cuts=kept.truncated,
            )
        )
    return taken


def examine_lengths(
    config: Config, taken: Sequence[Sampled], encoder_decoder: bool, context: int | None = None
) -> tuple[LengthPart, Findings]:
    """Compares the lengths of examples with the limit, by objective.

    Args:
        config: the run's configuration.
        taken: the examples.
        encoder_decoder: whether the limit holds for prompt and answer each, not for both together.
        context: how many tokens the model takes at most, beyond which no limit is advised.
    """
    kinds = sorted({each.kind for each in taken}, key=lambda kind: (kind == "replay", kind))
    needs = [max(each.prompt, each.answer) if encoder_decoder else each.prompt + each.answer for each in taken]
    part = LengthPart(
        max_length=config.training.max_length,
        enough=enough_for(needs),
        by_objective=tuple(_lengths(kind, [each for each in taken if each.kind == kind]) for kind in kinds),
    )
    findings = Findings("lengths")
    _judge(part, taken, findings, context)
    return part, findings


def enough_for(needs: Sequence[int], cut: float = CUT) -> int:
    """The smallest limit that less than this share of the lengths exceed."""
    may_be_cut = ceil(cut * len(needs)) - 1
    return sorted(needs)[len(needs) - 1 - may_be_cut]


def percentile(values: Sequence[int], share: float) -> int:
    """The smallest of the values that this share of them do not exceed (nearest rank)."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)]


def _lengths(kind: str, taken: Sequence[Sampled]) -> Lengths:
    lengths = [each.prompt + each.answer for each in taken]
    return Lengths(
        kind=kind,
        examples=len(taken),
        median=percentile(lengths, 0.5),
        p90=percentile(lengths, 0.9),
        p99=percentile(lengths, 0.99),
        longest=max(lengths),
        prompts_cut=sum("prompt truncated" in each.cuts for each in taken),
        answers_cut=sum("answer truncated" in each.cuts for each in taken),
    )


def _judge(part: LengthPart, taken: Sequence[Sampled], findings: Findings, context: int | None) -> None:
    mute = sum("answer without tokens" in each.cuts for each in taken)
    if mute:
        findings.problem(
            f"{mute} of {len(taken)} examples have an answer without tokens.",
            "Look at them with `instructalign preview`; the tokenizer of model.base drops these answers.",
        )
    raised = _advice(part, context)
    for what, counts in (
        ("answers", {each.kind: each.answers_cut / each.examples for each in part.by_objective}),
        ("prompts", {each.kind: each.prompts_cut / each.examples for each in part.by_objective}),
    ):
        worst = {kind: share for kind, share in counts.items() if share >= CUT}
        if not worst:
            continue
        much = what == "answers" and max(worst.values()) >= CUT_MUCH
        note = findings.problem if much else findings.warn
        shares = listed([f"{kind} {percent(share)}" for kind, share in worst.items()])
        note(f"{what.capitalize()} are cut at {part.max_length} tokens: {shares}.", raised)
    if not findings:
        findings.ok(f"Examples fit into {part.max_length} tokens; {part.enough} would do for 99 % of them.")


def _advice(part: LengthPart, context: int | None) -> str:
    if context is None or part.enough <= context:
        raised = f"Raise training.max_length from {part.max_length} to {part.enough}, which cuts less than 1 %"
        return f"{raised}, or keep long texts out with filter.length."
    most = (
        f"Raise training.max_length to {context}, all that the model takes, and"
        if part.max_length < context
        else "The model takes no more:"
    )
    return f"{most} keep long texts out with filter.length, since 99 % of the examples need {part.enough}."
