"""The section on translations: every metric by direction and language, which are left out and why, and samples."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, zip_longest

from instructalign.evaluation.comparison import models_of
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.mt_metrics import refusal
from instructalign.evaluation.predictions import Translated
from instructalign.report.number_format import shorten
from instructalign.report.outcome import LONGEST, SHOWN, Facts
from instructalign.report.rendering import (
    Block,
    Fold,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    text_column,
)
from instructalign.report.tables import by_group, interval, name_of, points, unique
from instructalign.types import Score

QUALITY = ("chrf", "bleu", "spbleu", "comet")
FAULTS = ("off_target", "off_target_reference", "wrong_script", "copied", "empty", "unfinished")


def translations(facts: Facts) -> Section | None:
    """Scores and samples of what the models translate, a fold for each model."""
    blocks: list[Block] = []
    for model in models_of(facts.runs):
        if model.translations:
            inner = [*_scores(facts, model), _samples(facts, model)]
            blocks.append(Fold(model.name, tuple(inner), open=not blocks))
    if not blocks:
        return None
    said = [Paragraph(sentence) for sentence in _silences(facts)]
    return Section("Translations", "translations", (*said, *blocks))


def _scores(facts: Facts, model: ModelResults) -> Iterator[Block]:
    for title in model.translations:
        rows = [row for row in model.scores if row.task == title and row.language]
        for metrics, caption in (
            (QUALITY, f"{title}: quality × 100, higher is better, with 95 % intervals."),
            (FAULTS, f"{title}: percent of the translations, lower is better, with 95 % intervals."),
        ):
            having = [metric for metric in metrics if any(row.metric == metric for row in rows)]
            if not having:
                continue
            found = {(row.language, row.metric): row for row in rows}
            groups = by_group((row.language, row.group) for row in rows)
            lines = tuple(
                (
                    TableCell(facts.label(code), foreign=True),
                    *(_cell(found.get((code, metric))) for metric in having),
                )
                for code in groups
            )
            columns = (
                text_column("Language"),
                *(TableColumn(name_of(metric)) for metric in having),
            )
            yield ReportTable(caption, columns, lines, tuple(groups.values()))


def _cell(row: Score | None) -> TableCell:
    return TableCell("–") if row is None else TableCell(points(row), interval(row))


def _silences(facts: Facts) -> list[str]:
    """Which metrics say nothing about which languages, and why."""
    found = [row for model in models_of(facts.runs) for row in model.scores if row.task in model.translations]
    targets = unique(
        record.target
        for model in models_of(facts.runs)
        for by_language in model.translations.values()
        for records in by_language.values()
        for record in records[:1]
    )
    reasons: dict[tuple[str, str], list[str]] = {}
    for metric in QUALITY:
        if metric != "bleu" and not any(row.metric == metric for row in found):
            continue
        for code in targets:
            if reason := refusal(metric, code):
                reasons.setdefault((metric, reason), []).append(facts.label(code))
    return [
        f"{name_of(metric)} is left out for {', '.join(names)}: {reason}."
        for (metric, reason), names in reasons.items()
    ]


def _samples(facts: Facts, model: ModelResults) -> ReportTable:
    """The first translations of every direction in turn."""
    directions = [
        [record for record in records if record.prompt == records[0].prompt]
        for by_language in model.translations.values()
        for records in by_language.values()
    ]
    turns: list[Translated] = [
        record for record in chain.from_iterable(zip_longest(*directions)) if record is not None
    ]
    columns = tuple(text_column(title, wide=True) for title in ("Source", "Translation", "Reference"))
    rows = tuple(
        (
            TableCell(shorten(record.text, LONGEST), _direction(facts, record), foreign=True),
            TableCell(shorten(record.translation, LONGEST), foreign=True),
            TableCell(shorten(record.reference, LONGEST), foreign=True),
        )
        for record in turns[: max(SHOWN, len(directions))]
    )
    return ReportTable("The first translations of every direction in turn.", columns, rows)


def _direction(facts: Facts, record: Translated) -> str:
    return f"{facts.label(record.source)} → {facts.label(record.target)}"
