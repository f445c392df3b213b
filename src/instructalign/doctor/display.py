"""A diagnosis as a few small tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instructalign.doctor.check_costs import CostPart
from instructalign.doctor.diagnosis import Diagnosis
from instructalign.doctor.findings import listed, percent
from instructalign.files import format_bytes


@dataclass(frozen=True, slots=True)
class Shown:
    """A table; its first column is text, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def tables(diagnosis: Diagnosis) -> Iterator[Shown]:
    """The tables that have something to say."""
    languages = list(_languages(diagnosis))
    if languages:
        heading = ["language", "group", "rows", "per word", "per char", "relative", "bytes", "unknown", "lost"]
        yield Shown("languages: rows to train on; tokens, and what the tokenizer loses", heading, languages)
    if diagnosis.lengths and diagnosis.mixture:
        heading = ["examples", "rows", "tokens", "loss", "median", "90 %", "99 %", "longest", "prompts", "answers"]
        yield Shown(
            "mixture: shares; tokens per example; prompts and answers cut", heading, list(_objectives(diagnosis))
        )
    if diagnosis.tasks:
        rows = [
            [part.task, str(len(part.prompts)), str(len(part.items)), str(max(part.items.values()))]
            for part in diagnosis.tasks
        ]
        yield Shown("evaluation", ["task", "prompts", "languages", "items each"], rows)
    if diagnosis.contamination and diagnosis.contamination.leaked:
        rows = [
            [
                f"{each.task} ({each.language}) in {each.where}",
                *(f"{count:,}" for count in (each.size, each.items, each.exact, each.near, each.id)),
            ]
            for each in diagnosis.contamination.leaked
        ]
        yield Shown("test items in the training data", ["test set", "items", "found", "exact", "near", "id"], rows)


def lines(diagnosis: Diagnosis) -> Iterator[str]:
    """What is not a table: the filters and the costs."""
    if diagnosis.corpus:
        part = diagnosis.corpus
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in part.dropped.items()) or "none"
        texts = ", ".join(f"{name} {count:,}" for name, count in part.filtered.items()) or "none"
        yield f"dropped rows: {reasons}; texts taken out by filters: {texts}"
    if diagnosis.costs:
        yield from _costs(diagnosis.costs)


def _languages(diagnosis: Diagnosis) -> Iterator[list[str]]:
    rows = diagnosis.corpus.sentences if diagnosis.corpus else {}
    for each in diagnosis.tokenizer:
        cost = each.premium or each.relative
        yield [
            each.language,
            each.group,
            f"{rows[each.language]:,}" if each.language in rows else "-",
            f"{each.per_word:.2f}",
            f"{each.per_character:.2f}",
            f"{cost:.2f}" if cost else "-",
            percent(each.bytes),
            percent(each.unknown),
            percent(each.lost),
        ]


def _objectives(diagnosis: Diagnosis) -> Iterator[list[str]]:
    if not (diagnosis.lengths and diagnosis.mixture):
        return
    for lengths, share in zip(diagnosis.lengths.by_objective, diagnosis.mixture.shares, strict=True):
        yield [
            lengths.kind,
            *(percent(part) for part in (share.rows, share.tokens, share.loss_tokens)),
            *(str(tokens) for tokens in (lengths.median, lengths.p90, lengths.p99, lengths.longest)),
            *(percent(cut / lengths.examples) for cut in (lengths.prompts_cut, lengths.answers_cut)),
        ]


def _costs(part: CostPart) -> Iterator[str]:
    trained = "" if part.trained == part.parameters else f", {part.trained:,} of them trained"
    parts = listed([f"{what} {format_bytes(count)}" for what, count in part.memory.items()])
    there = f" of {format_bytes(part.available)} ({part.device})" if part.available else ""
    yield f"parameters: {part.parameters:,}{trained}"
    yield f"memory: about {format_bytes(sum(part.memory.values()))}{there}: {parts}"
    yield f"disk: {format_bytes(part.disk)} of {format_bytes(part.free)} free"
    time = f"{part.operations:.2g} floating-point operations for {part.tokens:,} tokens"
    if part.seconds is not None and part.tokens_per_second is not None:
        time += f"; at {part.tokens_per_second:,.0f} tokens/s, measured here, {duration(part.seconds)}"
    yield f"time: {time}"


def duration(seconds: float) -> str:
    """A time as people read it, in its two largest units."""
    minutes, hours = seconds / 60, seconds / 3600
    if hours >= 48:
        return f"{hours / 24:.1f} days"
    if minutes >= 90:
        return f"{hours:.1f} hours"
    return f"{minutes:.0f} minutes" if minutes >= 2 else f"{seconds:.0f} seconds"
