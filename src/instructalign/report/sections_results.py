"""The sections on what came out: scores, trade-off, transfer, prompts, stages, confusion, items, translations,
answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import TypeVar

from instructalign.evaluation.bootstrap import percentile_interval
from instructalign.evaluation.continual_metrics import StageMatrix
from instructalign.evaluation.gains import FORGETTING, GAIN
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.mt_metrics import refusal
from instructalign.evaluation.prediction_changes import PredictionChange, most_changed
from instructalign.evaluation.predictions import OpenAnswer, Translated
from instructalign.evaluation.run_comparison import models_of
from instructalign.evaluation.score_table import BITS, GROUPS, headline, is_in_bits
from instructalign.report.number_format import in_unit, interval_text, shorten
from instructalign.report.plots import LanguageChange, PlotPoint, dumbbells, scatter
from instructalign.report.rendering import (
    Block,
    Fold,
    Panels,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    text_column,
)
from instructalign.report.report_facts import ReportFacts, block_of
from instructalign.report.report_tables import (
    bits_table,
    by_group,
    confusion_table,
    continual_table,
    gains_table,
    heat_map,
    main_table,
    metric_name,
    prompts_table,
    score_cell,
    seeds_table,
    shade_of,
    significance_table,
    stage_cell,
    stage_column,
    unique,
)
from instructalign.report.summary import contaminated, correlation_sentence, incomparable, summary
from instructalign.types import Score

_MAX_ITEMS = 10  # items whose prediction changed most, each way; translations of a model
_MAX_TEXT = 280  # characters shown of an item's text
_MAX_OPEN = 2  # confusion matrices that are open: those of a base and of the model adapted from it
_MAX_NAMED = 12  # points up to which each has its name beside it
_MAX_MARK = 40  # characters of such a name
_FEWEST_POINTS = 3  # below this a correlation says nothing
_QUALITY = ("chrf", "bleu", "spbleu", "comet")
_ANSWERS = ("exact_match", "token_f1", "chrf")
_FAULTS = ("off_target", "off_target_reference", "wrong_script", "copied", "empty", "unfinished")


def result(facts: ReportFacts) -> Section | None:
    """The answer: sentences, and the main table."""
    if not facts.scores:
        return None
    blocks: list[Block] = [Paragraph(text, lead=i == 0, name=run) for i, (run, text) in enumerate(summary(facts))]
    blocks += map(Paragraph, [*incomparable(facts.runs, facts.title), *facts.refused, *contaminated(facts)])
    starts = set(facts.bases.values())
    fewest = min((len(group.seeds) for group in facts.seeds), default=0)
    over = seeds_table(
        facts.over_seeds, [r for r in facts.scores if r.run in starts], facts.best, fewest, facts.title
    )
    # A single seed is no result beside several: the bold cells are those of the table over seeds.
    tables = [main_table([*facts.scores, *facts.baselines.rows], () if over else facts.best, facts.title)]
    tables += [gains] if (gains := gains_table(facts.scores, facts.title)) else []
    tables += [bits] if (bits := bits_table(facts.scores, facts.title)) else []
    blocks += [over, Fold("Each run by itself", tuple(tables))] if over else tables
    if continual := continual_table(facts.scores, facts.baselines, list(facts.bases.items()), facts.title):
        blocks.append(Fold("Metrics of continual learning", (continual,)))
    return Section("Result", "result", blocks)


def confidence(facts: ReportFacts) -> Section | None:
    """How far the confidence of `instructalign translate` can be trusted, by run and direction."""
    rows = []
    for run in facts.runs:
        for name, found in block_of(run.record, "translation_confidence").items():
            source, target = name.split("-")
            direction = f"{facts.label(source)} → {facts.label(target)}"
            numbers = [f"{found['pairs']:,}", f"{100 * found['good']:.1f}", f"{100 * found['error']:.1f}"]
            rows.append((TableCell(run.name, foreign=True), TableCell(direction), *map(TableCell, numbers)))
    caption = (
        "Confidence of translations, calibrated on held-out pairs: the share of them with chrF++ 50 or more, and "
        "the mean difference between the confidence and that share, × 100."
    )
    heads = (
        text_column("Run"),
        text_column("Direction"),
        *map(TableColumn, ("Pairs", "Good", "Calibration error")),
    )
    return Section("Confidence", "confidence", [ReportTable(caption, heads, tuple(rows))]) if rows else None


def stages(facts: ReportFacts) -> Section | None:
    """What each stage of a run learned, kept and lost."""
    text = (
        "Rows: the base model, and the model after each stage. Columns: the languages of each stage, and the "
        "known and related ones. Bold: a stage's languages right after that stage. Colour: the change against "
        "the base."
    )
    blocks: list[Block] = [Paragraph(text)]
    for matrix in facts.stages:
        name = f"{matrix.run}, {facts.title(matrix.task)}"
        columns = [
            TableColumn(p, GROUPS.get(p, "taught"), group=p if p in GROUPS else "L2") for p in matrix.columns
        ]
        caption = f"{name}: score × 100, with its 95 % confidence interval over items."
        blocks.append(ReportTable(caption, (text_column("Model"), *columns), tuple(_stage_rows(matrix))))
        scores = matrix.rows()
        caption = (
            f"{name}, in points, with the 95 % confidence interval over items (Lopez-Paz and Ranzato 2017; "
            "forgetting: Chaudhry et al. 2018)."
        )
        heads = (text_column(""), *(stage_column(row.metric) for row in scores))
        blocks.append(ReportTable(caption, heads, ((TableCell("stages"), *map(stage_cell, scores)),)))
    return Section("Accuracy by stage", "stages", blocks) if facts.stages else None


def _stage_rows(matrix: StageMatrix) -> Iterator[tuple[TableCell, ...]]:
    """A row per model: its scores on the languages of every place."""
    for number, name in enumerate(matrix.models):
        cells = []
        for place in range(len(matrix.columns)):
            resampled = matrix.scores[number, place]
            value, before = resampled[0], matrix.scores[0, place, 0]
            just_taught = number > 0 and matrix.own[number - 1] == place
            cells.append(
                TableCell(
                    f"{100 * value:.1f}",
                    interval_text(*percentile_interval(resampled)),
                    best=just_taught,
                    shade=shade_of(100 * (value - before)),
                )
            )
        yield TableCell(name), *cells


def by_language(facts: ReportFacts) -> Section | None:
    """Before and after by language: a panel for each run and task; those of one metric share their axis."""
    found: list[tuple[str, str, list[LanguageChange]]] = []
    for task in facts.tasks:
        metric = headline(facts.scores, task)
        for run in facts.runs:
            before, after = (
                {s.language: s for s in model.scores if (s.task, s.metric) == (task, metric) and s.language}
                for model in (run.base or ModelResults(""), run.adapted or ModelResults(""))
            )
            changes = []
            for code, group in by_group((code, after[code].group) for code in before if code in after).items():
                old, new = before[code], after[code]
                low, high = (None if bound is None else in_unit(new, bound) for bound in (new.low, new.high))
                changes.append(LanguageChange(facts.label(code), group, in_unit(old), in_unit(new), low, high))
            if changes:
                found.append(
                    (run.name if len(facts.tasks) == 1 else f"{run.name}, {facts.title(task)}", metric, changes)
                )
    limits = {}
    for metric in unique(metric for _, metric, _ in found):
        some = [change for _, other, changes in found if other == metric for change in changes]
        edges = [edge for c in some for edge in (c.before, c.after, c.low, c.high) if edge is not None]
        pad = 0.06 * (max(edges) - min(edges) or (1 if metric == BITS else 10))
        limits[metric] = (min(edges) - pad, max(edges) + pad)
    text = (
        "Ring: base model. Dot: adapted model. Band: 95 % confidence interval of the adapted model's score. "
        "Right: the change, in points or in bits per byte."
    )
    figures = [
        dumbbells(title, changes, limits[metric], 3 if metric == BITS else None)
        for title, metric, changes in found
    ]
    panels = Panels(tuple(figures), text)
    return Section("Before and after, by language", "languages", (panels,)) if found else None


def heat(facts: ReportFacts) -> Section | None:
    """Languages by run, a table for each task."""
    blocks: list[Block] = []
    for task in facts.tasks:
        if table := heat_map(facts.scores, task, facts.label, facts.title):
            blocks.append(table)
        if tests := significance_table(facts.scores, task, list(facts.bases), facts.label, facts.title):
            blocks.append(Fold(f"Every change on {facts.title(task)} with its test", (tests,)))
    return Section("Scores by language and run", "heat-map", blocks) if blocks else None


def trade_off(facts: ReportFacts) -> Section | None:
    """Gain on L2 against forgetting on L1: a point for each run, a plot for each task."""
    panels = []
    for task in facts.tasks:
        points = [
            PlotPoint(run, in_unit(loss), in_unit(gain), "L2")
            for run in facts.bases
            if (loss := facts.scores.get(run, task, FORGETTING, "L1"))
            and (gain := facts.scores.get(run, task, GAIN, "L2"))
        ]
        if len(points) > 1:
            unit = "bits per byte" if headline(facts.scores, task) == BITS else "points"
            title, x, y = (
                f"Gain and forgetting, {facts.title(task)}",
                f"forgetting on L1, {unit}",
                f"gain on L2, {unit}",
            )
            panels.append(scatter(title, points, x=x, y=y, best=("low", "high")))
    text = "Up is more gain, left is less forgetting. Dashed: the Pareto front, which no run beats on both."
    section = Section("Plasticity–stability trade-off", "trade-off", (Panels(tuple(panels), text),))
    return section if panels else None


def carried_over(facts: ReportFacts) -> Section | None:
    """Whether gains on the related languages follow those on the new ones."""
    correlation = [row for row in facts.scores if row.group == "L2-L3"]
    return transfer(facts.scores, correlation, "runs and tasks", str, facts.title)


def transfer(
    scores: Iterable[Score],
    correlation: Sequence[Score],
    units: str,
    brief: Callable[[str], str],
    title: Callable[[str], str],
) -> Section | None:
    """Gains on L3 against those on L2, with their correlation; None where there are too few.

    Args:
        scores: with the gains.
        correlation: the rows of their correlation. It counts gains in the same units only, as the plot does.
        units: what a point is, in the plural.
        brief: shortens the name of a run, so that it has room beside its point.
        title: the title of a task, from its name.
    """
    counted = correlation[0].task.split(",") if correlation else []
    gains = {
        (row.run, row.task, row.group): 100 * row.value
        for row in scores
        if row.metric == GAIN
        and not row.language
        and (not counted or row.task in counted)
        and not is_in_bits(row)  # of another unit
    }
    pairs = [(run, task) for run, task, group in gains if group == "L2" and (run, task, "L3") in gains]
    if len(pairs) < _FEWEST_POINTS:
        return None
    plotted = []
    for run, task in pairs:
        name = run if len({task for _, task in pairs}) == 1 else f"{run}, {title(task)}"
        at = (gains[run, task, "L2"], gains[run, task, "L3"])
        plotted.append(
            PlotPoint(name, *at, mark=shorten(brief(name), _MAX_MARK) if len(pairs) <= _MAX_NAMED else "")
        )
    sentence = correlation_sentence(correlation, units)
    heading, x, y = "Gain on L3 against gain on L2", "gain on L2, points", "gain on L3, points"
    text = [Paragraph(sentence)] if sentence else []
    panel = Panels((scatter(heading, plotted, x=x, y=y, note=sentence),))
    return Section("Transfer to related languages", "carried-over", (*text, panel))


def prompts(facts: ReportFacts) -> Section | None:
    """How scores and gains would vary with other prompts of the same kind."""
    models = [model.name for model in models_of(facts.runs)]
    tables = [prompts_table(facts.scores, task, models, list(facts.bases), facts.title) for task in facts.tasks]
    text = (
        "Elsewhere, intervals are over items, for the prompts used. Here the prompts count as a sample of "
        "similar ones: where the interval of a change excludes 0, it holds for those too. Few prompts make it "
        "wide."
    )
    blocks: list[Block] = [Paragraph(text), *(table for table in tables if table is not None)]
    return Section("Prompt sensitivity", "prompts", blocks) if len(blocks) > 1 else None


def confusion(facts: ReportFacts) -> Section | None:
    """Confusion matrices by model and group; open where there are only two models."""
    folds: list[Fold] = []
    for task in facts.tasks:
        groups: dict[str, list[str]] = {}
        for code, group in by_group(
            (r.language, r.group) for r in facts.scores if r.task == task and r.language
        ).items():
            groups.setdefault(group, []).append(code)
        for model in models_of(facts.runs):
            predictions = model.predictions.get(task, ())
            tables = [
                confusion_table(
                    f"{group} {GROUPS.get(group, '')}".strip(), [p for p in predictions if p.language in codes]
                )
                for group, codes in groups.items()
            ]
            panels = tuple(table for table in tables if table is not None)
            if panels:
                title = model.name if len(facts.tasks) == 1 else f"{model.name}, {facts.title(task)}"
                folds.append(Fold(title, (Panels(panels),)))
    text = "Percent of the items with a gold label (rows) that were given each label (columns), over all prompts."
    blocks: list[Block] = [Paragraph(text), *(replace(fold, open=len(folds) <= _MAX_OPEN) for fold in folds)]
    return Section("Confusion matrices", "confusion", blocks) if folds else None


def changed_items(facts: ReportFacts) -> Section | None:
    """The items whose prediction changed most, each way."""
    blocks: list[Block] = []
    for run in facts.runs:
        if run.base is None or run.adapted is None:
            continue
        before, after = (chain.from_iterable(model.predictions.values()) for model in (run.base, run.adapted))
        gained, lost = most_changed(before, after, _MAX_ITEMS)
        tables = [
            _changes_table(facts, title, changes)
            for title, changes in (("Towards the gold label", gained), ("Away from the gold label", lost))
            if changes
        ]
        if tables:
            blocks.append(Fold(run.name, tuple(tables)))
    text = (
        f"The {_MAX_ITEMS} test items each way whose gold label changed most in probability against the base, "
        "averaged over prompts."
    )
    return Section("Items with the largest changes", "items", (Paragraph(text), *blocks)) if blocks else None


def _changes_table(facts: ReportFacts, title: str, changes: Iterable[PredictionChange]) -> ReportTable:
    columns = (
        text_column("Item", wide=True),
        text_column("Gold"),
        text_column("Predicted", "before → after"),
        TableColumn("P(gold)", "%, before → after"),
    )
    rows = []
    for change in changes:
        text = facts.text(change.task, change.language, change.item)
        notes = [facts.title(change.task) if len(facts.tasks) > 1 else "", f"item {change.item}" if text else ""]
        note = ", ".join(filter(None, [*notes, facts.label(change.language)]))
        rows.append(
            (
                TableCell(shorten(text or change.item, _MAX_TEXT), note, foreign=True),
                TableCell(change.gold, foreign=True),
                TableCell(f"{change.predicted_before} → {change.predicted_after}", foreign=True),
                TableCell(f"{100 * change.before:.0f} → {100 * change.after:.0f}"),
            )
        )
    return ReportTable(title, columns, tuple(rows))


def translations(facts: ReportFacts) -> Section | None:
    """Scores and samples of each model's translations, and which metrics are left out for which languages."""
    models = [model for model in models_of(facts.runs) if model.translations]
    folds: list[Block] = []
    for model in models:
        samples = [_translation_samples(facts, model)] if facts.with_texts else []
        blocks = (*_translation_tables(facts, model), *samples)
        folds.append(Fold(model.name, blocks, open=not folds))
    reasons: dict[tuple[str, str], list[str]] = {}
    targets = unique(
        records[0].target
        for model in models
        for by_language in model.translations.values()
        for records in by_language.values()
    )
    scored = {row.metric for model in models for row in model.scores if row.task in model.translations}
    for metric in _QUALITY:
        for code in targets if metric in scored or metric == "bleu" else ():
            if reason := refusal(metric, code):
                reasons.setdefault((metric, reason), []).append(facts.label(code))
    text = [
        Paragraph(f"{metric_name(metric)} is left out for {', '.join(names)}: {reason}.")
        for (metric, reason), names in reasons.items()
    ]
    return Section("Translations", "translations", (*text, *folds)) if folds else None


def answers(facts: ReportFacts) -> Section | None:
    """Scores and samples of what each model wrote as its answers to open questions."""
    folds: list[Block] = []
    for model in (model for model in models_of(facts.runs) if model.written):
        tables = [
            table
            for task in model.written
            for table in _score_tables(
                facts, model, task, ((_ANSWERS, f"{facts.title(task)}: × 100, higher is better"),)
            )
        ]
        by_language = [some for found in model.written.values() for some in found.values()]
        rows = [
            (
                # The end of a long text: the question comes after its passage.
                TableCell(
                    each.text[-_MAX_TEXT:], f"{facts.title(each.task)}, {facts.label(each.language)}", foreign=True
                ),
                TableCell(shorten(each.answer, _MAX_TEXT), foreign=True),
                TableCell(shorten(" / ".join(each.references), _MAX_TEXT), foreign=True),
            )
            for each in _in_turn(by_language)
        ]
        columns = tuple(text_column(title, wide=True) for title in ("Question", "Answer", "Right answers"))
        samples = ReportTable("The first answers in every language in turn.", columns, tuple(rows))
        folds.append(Fold(model.name, (*tables, samples), open=not folds))
    return Section("Answers in the model's own words", "answers", tuple(folds)) if folds else None


R = TypeVar("R", Translated, OpenAnswer)


def _in_turn(sets: Sequence[Sequence[R]]) -> list[R]:
    """The first records of several sets in turn, those under the first prompt."""
    first = [[record for record in records if record.prompt == records[0].prompt] for records in sets]
    turns = [record for record in chain.from_iterable(zip_longest(*first)) if record is not None]
    return turns[: max(_MAX_ITEMS, len(sets))]


def _translation_tables(facts: ReportFacts, model: ModelResults) -> Iterator[ReportTable]:
    for task in model.translations:
        title = facts.title(task)
        quality = _QUALITY, f"{title}: quality × 100, higher is better"
        faults = _FAULTS, f"{title}: percent of the translations, lower is better"
        yield from _score_tables(facts, model, task, (quality, faults))


def _score_tables(
    facts: ReportFacts, model: ModelResults, task: str, kinds: Sequence[tuple[Sequence[str], str]]
) -> Iterator[ReportTable]:
    """A table of a task's scores by language for each kind of metrics, given with its caption."""
    found = {(r.language, r.metric): r for r in model.scores if r.task == task and r.language}
    groups = by_group((row.language, row.group) for row in found.values())
    for metrics, caption in kinds:
        shown = [metric for metric in metrics if any(metric == other for _, other in found)]
        lines = tuple(
            (TableCell(facts.label(code), foreign=True), *(score_cell(found.get((code, m))) for m in shown))
            for code in groups
        )
        columns = (text_column("Language"), *(TableColumn(metric_name(metric)) for metric in shown))
        if shown:
            caption += ", with 95 % confidence intervals."
            yield ReportTable(caption, columns, lines, tuple(groups.values()))


def _translation_samples(facts: ReportFacts, model: ModelResults) -> ReportTable:
    """The first translations of every direction in turn."""
    directions = [records for by_language in model.translations.values() for records in by_language.values()]
    columns = tuple(text_column(title, wide=True) for title in ("Source", "Translation", "Reference"))
    rows = []
    for record in _in_turn(directions):
        texts = [shorten(text, _MAX_TEXT) for text in (record.text, record.translation, record.reference)]
        source, *others = (TableCell(text, foreign=True) for text in texts)
        direction = f"{facts.label(record.source)} → {facts.label(record.target)}"
        rows.append((replace(source, note=direction), *others))
    return ReportTable("The first translations of every direction in turn.", columns, tuple(rows))
