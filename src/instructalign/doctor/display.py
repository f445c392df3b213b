"""A diagnosis as a few small tables and lines, for the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instructalign.doctor.diagnosis import Diagnosis
from instructalign.doctor.findings import first_few, percent
from instructalign.doctor.gpu_cards import ASSUMED_MFU
from instructalign.doctor.resource_estimates import duration, read_and_written
from instructalign.files import format_bytes


@dataclass(frozen=True, slots=True)
class DiagnosisTable:
    """A table; its first column is text, the others are numbers."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def diagnosis_tables(diagnosis: Diagnosis) -> Iterator[DiagnosisTable]:
    """The tables that are not empty."""
    rows = diagnosis.corpus.sentences if diagnosis.corpus else {}
    languages = []
    for each in diagnosis.tokenizer:
        premium = each.premium or each.relative
        languages.append(
            [
                each.language,
                each.group,
                f"{rows[each.language]:,}" if each.language in rows else "-",
                f"{each.per_word:.2f}",
                f"{each.per_character:.2f}",
                f"{premium:.2f}" if premium else "-",
                *map(percent, (each.bytes, each.unknown, each.lost)),
            ]
        )
    if languages:
        heading = ["language", "group", "rows", "per word", "per char", "premium", "bytes", "unknown", "lost"]
        yield DiagnosisTable("languages: training rows; tokens, and what the tokenizer loses", heading, languages)
    if diagnosis.lengths and diagnosis.mixture:
        heading = ["examples", "rows", "tokens", "loss", "median", "90 %", "99 %", "longest", "prompts", "answers"]
        objectives = [
            [
                of.kind,
                *map(percent, (share.rows, share.tokens, share.loss_tokens)),
                *map(str, (of.median, of.p90, of.p99, of.longest)),
                *(percent(count / of.examples) for count in (of.prompts_truncated, of.answers_truncated)),
            ]
            for of, share in zip(diagnosis.lengths.by_objective, diagnosis.mixture.shares, strict=True)
        ]
        title = "mixture: shares; tokens per example; prompts and answers truncated"
        yield DiagnosisTable(title, heading, objectives)
    if diagnosis.tasks:
        costs = diagnosis.costs
        tokens = {each.task: read_and_written([each]) for each in costs.evaluation} if costs else {}
        tasks = [
            [part.task, *map(str, (len(part.prompts), len(part.items), max(part.items.values())))]
            + [f"{count:,}" for count in tokens.get(part.task, ())]
            for part in diagnosis.tasks
        ]
        heading = ["task", "prompts", "languages", "items each", *(["read", "written"] if tokens else [])]
        title = "evaluation" + ("; tokens of one model: read (about), and written (at most)" if tokens else "")
        yield DiagnosisTable(title, heading, tasks)
    if diagnosis.contamination and diagnosis.contamination.test_sets:
        found = [
            [
                f"{each.task} ({each.language}) in {each.where}",
                *(f"{count:,}" for count in (each.size, each.items, each.exact, each.near, each.id)),
            ]
            for each in diagnosis.contamination.test_sets
        ]
        heading = ["test set", "items", "found", "exact", "near", "id"]
        yield DiagnosisTable("contamination: test items in the training data", heading, found)


def diagnosis_lines(diagnosis: Diagnosis) -> Iterator[str]:
    """What is not a table: the filters and the resources."""
    if diagnosis.corpus:
        part = diagnosis.corpus
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in part.dropped.items()) or "none"
        texts = ", ".join(f"{name} {count:,}" for name, count in part.filtered.items()) or "none"
        yield f"dropped rows: {reasons}; texts removed by filters: {texts}"
    if costs := diagnosis.costs:
        trained = "" if costs.trained == costs.parameters else f", {costs.trained:,} of them trained"
        parts = first_few([f"{what} {format_bytes(count)}" for what, count in costs.memory.items()])
        where = f"each of {costs.gpu}" if costs.gpu else costs.device
        there = f" of {format_bytes(costs.available)} ({where})" if costs.available else ""
        yield f"parameters: {costs.parameters:,}{trained}"
        yield f"memory: about {format_bytes(sum(costs.memory.values()))}{there}: {parts}"
        yield f"disk: {format_bytes(costs.disk)} of {format_bytes(costs.free)} free"
        time = f"{costs.operations:.2g} floating-point operations for {costs.tokens:,} tokens"
        if costs.seconds is not None and costs.tokens_per_second is not None:
            how = f"computed for {ASSUMED_MFU:.0%} of the peak, not measured" if costs.gpu else "measured here"
            time += f"; {duration(costs.seconds)} at {costs.tokens_per_second:,.0f} tokens/s, {how}"
        yield f"time: {time}"
        if costs.evaluation:
            read, written = read_and_written(costs.evaluation)
            line = f"evaluation: about {read:,} tokens read and at most {written:,} written, by each of two models"
            seconds = costs.evaluation_seconds
            yield line + ("" if seconds is None else f"; about {duration(2 * seconds)} for base and adapted model")
        if costs.generated:
            yield f"generation: up to {costs.generated:,} tokens a step, not in this time"
