"""The mixture: what share each objective and the replay have, and how often things come round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from instructalign.config import Config, ReplayConfig
from instructalign.doctor.check_lengths import Sampled
from instructalign.doctor.findings import Findings, percent
from instructalign.mixture import Mixture
from instructalign.mixture.training_data import refuse_repeats
from instructalign.training.tokenization import loss_tokens

OFTEN = 10
"""Repeats of a replayed example above which a warning is due.

A small model learned by heart what it was shown 19 times, and forgot what that stands for; twice was enough
(docs/results/nusantara-longer.md). The paper's r = 1 000 makes 800, at a learning rate a hundred times lower.
"""
THIN = 0.1  # of the share in rows that replay should have in loss tokens at least


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one objective, or of the replay, in the examples looked at.

    Attributes:
        kind: the objective, or `replay`.
        rows, tokens, loss_tokens: its share in examples, in tokens, in tokens that the loss counts.
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
        epochs: how often the run does so.
        replayed: how many past examples there are to replay.
        repeats: how often each of them is shown.
        shares: by objective, over the examples looked at.
    """

    examples: int
    epoch: int
    epochs: float
    replayed: int
    repeats: float
    shares: tuple[Share, ...]


def examine_mixture(
    config: Config, mixture: Mixture, rows: int, epoch: int, taken: Sequence[Sampled], encoder_decoder: bool
) -> tuple[MixturePart, Findings]:
    """Works out shares and repeats.

    Args:
        config: the run's configuration.
        mixture: the training stream.
        rows: how many rows there are to train on.
        epoch: new instructions in an epoch.
        taken: the first examples of the stream.
        encoder_decoder: what kind of model it is.
    """
    total = config.training.steps * config.training.batch_size
    past = mixture.replayed(total)
    size = len(mixture.replay)
    first_look = config.replay is not None and any(source.name == "self" for source in config.replay.sources)
    if size and first_look and config.replay:
        size = config.replay.size  # the others are not written yet
    part = MixturePart(
        examples=total,
        epoch=epoch,
        epochs=(total - past) / epoch,
        replayed=size,
        repeats=past / size if size else 0.0,
        shares=_shares(taken, config.training.loss_on == "all" and not encoder_decoder, encoder_decoder),
    )
    findings = Findings("mixture")
    if config.replay and not config.replay.repeat and past > size and not first_look:
        findings.attempt("Change replay as it says.", lambda: refuse_repeats(config, mixture))
    _judge(config, part, rows, findings)
    return part, findings


def _shares(taken: Sequence[Sampled], on_prompt: bool, encoder_decoder: bool) -> tuple[Share, ...]:
    counts: dict[str, list[int]] = {}
    for each in taken:
        of_kind = counts.setdefault(each.kind, [0, 0, 0])
        of_kind[0] += 1
        of_kind[1] += each.kept_prompt + each.kept_answer
        of_kind[2] += loss_tokens(each.kept_prompt, each.kept_answer, on_prompt, encoder_decoder)
    totals = [max(1, sum(column)) for column in zip(*counts.values(), strict=True)]
    kinds = sorted(counts, key=lambda kind: (kind == "replay", kind))
    return tuple(
        Share(kind, *(count / total for count, total in zip(counts[kind], totals, strict=True))) for kind in kinds
    )


def _judge(config: Config, part: MixturePart, rows: int, findings: Findings) -> None:
    wanted = config.replay.size if config.replay else 0
    others = [name for name in config.training.strategy if name not in ("none", "replay")]
    if "none" in config.training.strategy:
        findings.ok("No past data is replayed, as training.strategy says: expect forgetting.")
    elif others and not config.mixes_replay:
        findings.ok(f"No past data is replayed; against forgetting stands {', '.join(others)}.")
    elif not wanted:
        findings.warn(
            "No past data is replayed: the model will forget what it knew.",
            "Give replay.source and replay.size, or say so on purpose with training.strategy: none.",
        )
    elif part.replayed < wanted:
        findings.warn(
            f"The replay source holds {part.replayed:,} usable examples, fewer than the {wanted:,} wanted.",
            "Lower replay.size to it, or name a larger replay.source.",
        )
    new = part.epochs * part.epoch
    if new < rows:
        findings.warn(
            f"The run ends after {new:,.0f} new instructions; {rows:,} rows are there to learn from.",
            f"Raise training.steps from {config.training.steps:,} to "
            f"{ceil(config.training.steps * rows / new):,} at least, or give fewer rows under corpora.",
        )
    if part.repeats > OFTEN:
        findings.warn(
            f"Each replayed example is shown {part.repeats:,.0f} times, and may be learned by heart.",
            "Raise replay.size where the source has more; replay.heldout and the task past_instructions show "
            "whether what it stands for is kept.",
        )
    _judge_shares(config.replay, part, findings)
    if not findings:
        findings.ok(
            f"{part.epochs:.1f} epochs of new instructions; each of {part.replayed:,} past examples comes "
            f"{part.repeats:.1f} times."
        )


def _judge_shares(replay: ReplayConfig | None, part: MixturePart, findings: Findings) -> None:
    """Compares the share of replay in rows with its share in the tokens that the loss counts."""
    share = next((each for each in part.shares if each.kind == "replay"), None)
    if share is None or replay is None:
        return
    if share.loss_tokens < THIN * share.rows:
        findings.warn(
            f"Replay has {percent(share.rows)} of the examples but {percent(share.loss_tokens)} of the tokens "
            "that the loss counts.",
            "Raise replay.share, or replay examples with longer answers (replay.select.order: longest).",
        )
