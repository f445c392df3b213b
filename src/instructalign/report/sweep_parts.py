"""The sections of the report on a sweep that stand below its result."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from instructalign.evaluation.continual_metrics import STAGED, correlate_gains
from instructalign.evaluation.paired_tests import FORGETTING, GAIN
from instructalign.evaluation.score_table import GROUPS, headline
from instructalign.report.lifelong import cell_of, column_of
from instructalign.report.number_format import signed
from instructalign.report.plots import PlotLine, PlotPoint, line_plot, scatter
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
from instructalign.report.sweep_results import SweepAxis, SweepResults
from instructalign.report.tables import FULL_SHADE, interval, unique
from instructalign.types import Score

SHOWN = 3  # strategies' costs of a cell at most
NAMED = 12  # points up to which each has its name beside it


def curves(sweep: SweepResults) -> Section | None:
    """Scores over the axes whose values are numbers, a panel for each place on the other axes."""
    blocks: list[Block] = []
    for axis in sweep.axes:
        if axis.numbers is None:
            continue
        found = [
            (title, series)
            for task in sweep.tasks
            for title, series in _series(sweep, axis, task)
            if any(len(line.x) > 1 for line in series)
        ]
        edges = [edge for _, series in found for line in series for edge in (*line.y, *line.low, *line.high)]
        if not edges:
            continue
        low, high = max(-5.0, min(edges)), min(105.0, max(edges))
        pad = 0.05 * (high - low or 10)
        ticks = [tick(number) for number in sorted(axis.numbers)]
        panels = tuple(
            line_plot(title, series, x=axis.name, limits=(low - pad, high + pad), ticks=ticks)
            for title, series in found
        )
        blocks.append(Panels(panels, f"Score by the value of {axis.name}; band: the interval, as in the table."))
    return Section("Curves", "curves", blocks) if blocks else None


def tick(number: float) -> str:
    """A number as short as it can be: 100 000 is 100k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def _series(sweep: SweepResults, axis: SweepAxis, task: str) -> list[tuple[str, list[PlotLine]]]:
    """For each place on the other axes: its name, and a line for each group."""
    others = [other for other in sweep.axes if other is not axis]
    values = [label for _, label in sorted(zip(axis.numbers or (), axis.labels, strict=True))]
    metric = headline(sweep.rows, task)
    found = []
    for labels in product(*(other.labels for other in others)):
        rest = dict(zip((other.name for other in others), labels, strict=True))
        cells = [sweep.cell_at({**rest, axis.name: value}) for value in values]
        series = []
        for group, word in GROUPS.items():
            rows = [(x, cell and sweep.rows.get(cell, task, metric, group)) for x, cell in enumerate(cells)]
            if known := [(x, row) for x, row in rows if row]:
                series.append(_line(f"{group} {word}", group, known))
        if series:
            title = ", ".join(rest.values()) or task
            found.append((f"{title}, {task}" if rest and len(sweep.tasks) > 1 else title, series))
    return found


def _line(label: str, group: str, points: Sequence[tuple[int, Score]]) -> PlotLine:
    rows = [row for _, row in points]
    bounds = [(100 * row.low, 100 * row.high) for row in rows if row.low is not None and row.high is not None]
    low, high = zip(*bounds, strict=True) if len(bounds) == len(rows) else ((), ())
    return PlotLine(
        label, [x for x, _ in points], [100 * row.value for row in rows], low, high, group=group, strong=True
    )


def matrices(sweep: SweepResults) -> Section | None:
    """Two axes against each other: the gain on L2 and the forgetting of every pair of values."""
    if len(sweep.axes) != 2:
        return None
    rows, columns = sweep.axes
    if len(rows.labels) < len(columns.labels):
        rows, columns = columns, rows
    blocks: list[Block] = []
    for task in sweep.tasks:
        for metric, group, words, sign in (
            (GAIN, "L2", "Gain on L2", 1),
            (FORGETTING, "L1", "Forgetting on L1", -1),
        ):
            lines = tuple(
                (
                    TableCell(label, foreign=True),
                    *(
                        _place(sweep, task, metric, group, sign, {rows.name: label, columns.name: c})
                        for c in columns.labels
                    ),
                )
                for label in rows.labels
            )
            heads = (text_column(rows.name), *(TableColumn(label) for label in columns.labels))
            blocks.append(ReportTable(f"{words} in points, {task}.", heads, lines))
    return Section("One axis against the other", "grid", blocks) if blocks else None


def _place(sweep: SweepResults, task: str, metric: str, group: str, sign: int, at: dict[str, str]) -> TableCell:
    cell = sweep.cell_at(at)
    row = sweep.rows.get(cell, task, metric, group) if cell else None
    if row is None:
        return TableCell("–")
    shade = max(-1.0, min(1.0, sign * 100 * row.value / FULL_SHADE))
    return TableCell(signed(100 * row.value), interval(row), shade=shade)


def brief(cell: str) -> str:
    """`replay.size=50, training.steps=4` as `size=50, steps=4`, which has room beside a point."""
    return re.sub(r"[\w.]+\.(?=\w+=)", "", cell)


def carried_over(sweep: SweepResults) -> Section | None:
    """Whether gains on the related languages follow those on the new ones, over all cells."""
    correlation = {row.metric: row for row in correlate_gains(sweep.rows)}
    if "pearson" not in correlation:
        return None
    pairs = [
        (row, other)
        for row in sweep.rows
        if (row.metric, row.group, row.language) == (GAIN, "L2", "")
        and (other := sweep.rows.get(row.run, row.task, GAIN, "L3"))
    ]
    named = len(pairs) <= NAMED
    points = [
        PlotPoint(row.run, 100 * row.value, 100 * other.value, mark=brief(row.run) if named else "")
        for row, other in pairs
    ]
    parts = [
        f"{name} {signed(row.value, 2).removeprefix('+')} ({interval_of(row)})"
        for name, row in (("Pearson's r", correlation["pearson"]), ("Spearman's ρ", correlation["spearman"]))
    ]
    note = f"Gains on L2 and L3 over {len(points)} cells and tasks: {', '.join(parts)}."
    plot = scatter(
        "Gain on L3 against gain on L2", points, x="gain on L2, points", y="gain on L3, points", note=note
    )
    panel = Panels((plot,))
    return Section("Do related languages follow?", "carried-over", (Paragraph(note), panel))


def interval_of(row: Score) -> str:
    """The interval of a correlation in words."""
    if row.low is None or row.high is None:
        return "no interval"
    return f"95 % interval {row.low:.2f} to {row.high:.2f}"


def languages(sweep: SweepResults) -> Section | None:
    """Cells down, languages across: the change against the base."""
    blocks: list[Block] = []
    for task in sweep.tasks:
        metric = headline(sweep.rows, task)
        codes = unique(
            row.language for row in sweep.rows if row.task == task and row.metric == metric and row.language
        )
        groups = {row.language: row.group for row in sweep.rows if row.language}
        found = {
            (row.run, row.metric, row.language): row for row in sweep.rows if row.task == task and row.language
        }
        lines = []
        for cell in sweep.ranked(task):
            cells = [_language(found.get((cell, metric, code)), found.get((cell, GAIN, code))) for code in codes]
            lines.append((TableCell(cell, foreign=True), *cells))
        heads = (text_column("Cell"), *(TableColumn(code, group=groups[code]) for code in codes))
        text = f"Score × 100 on {task} by language; with it, and as colour, the change against the base."
        if codes:
            blocks.append(ReportTable(text, heads, tuple(lines)))
    return Section("Languages", "languages", blocks) if blocks else None


def _language(score: Score | None, gain: Score | None) -> TableCell:
    if score is None:
        return TableCell("–")
    text = f"{100 * score.value:.1f}"
    if gain is None:
        return TableCell(text)
    return TableCell(text, signed(100 * gain.value), shade=max(-1.0, min(1.0, 100 * gain.value / FULL_SHADE)))


def stages(sweep: SweepResults) -> Section | None:
    """ACC, BWT, FWT and forgetting of the cells with stages."""
    found = {(row.run, row.metric): row for row in sweep.rows if row.group == STAGED}
    names = unique(metric for _, metric in found)
    if not names:
        return None
    blocks: list[Block] = []
    for task in unique(row.task for row in found.values()):
        lines = []
        for cell in unique(run for run, _ in found):
            rows = [
                next((r for r in sweep.rows if (r.run, r.metric, r.task) == (cell, name, task)), None)
                for name in names
            ]
            lines.append(
                (TableCell(cell, foreign=True), *(cell_of(row) if row else TableCell("–") for row in rows))
            )
        heads = map(column_of, names)
        blocks.append(
            ReportTable(f"Over the stages, {task}, in points.", (text_column("Cell"), *heads), tuple(lines))
        )
    return Section("Stage by stage", "stages", blocks)


def costs(sweep: SweepResults) -> Section | None:
    """What the cells took: seconds, and what strategies added."""
    lines = []
    for cell in sweep.ranked(sweep.tasks[0]) if sweep.tasks else sweep.cells:
        runs = sweep.of(cell)
        training = [(run.record.get("timings") or {}).get("training_seconds") for run in runs]
        known = [float(value) for value in training if value is not None]
        parts = unique(text for run in runs for text in _extra(run.record.get("strategies") or {}))
        whole = fmean(run.seconds for run in runs)
        lines.append(
            (
                TableCell(cell, foreign=True),
                TableCell(f"{fmean(known):.0f}" if known else "–"),
                TableCell(f"{whole:.0f}"),
                TableCell("; ".join(parts[:SHOWN])),
            )
        )
    heads = (
        text_column("Cell"),
        TableColumn("Training", "seconds"),
        TableColumn("All of it", "seconds"),
        text_column("Strategies", "memory beside the model", wide=True),
    )
    text = (
        "Means over seeds, on a machine that did whatever else it did. A run that was stopped counts its last "
        "stretch of training; one that shares a model counts that model's."
    )
    return Section(
        "What it took", "costs", (Fold("Seconds and memory", (ReportTable(text, heads, tuple(lines)),)),)
    )


def _extra(strategies: Mapping[str, Any]) -> Iterator[str]:
    for name, costs in strategies.items():
        if isinstance(costs, Mapping) and costs.get("memory"):
            yield f"{name} {float(costs['memory']) / 1e6:.1f} MB"


def failed(sweep: SweepResults) -> Section | None:
    """The runs that failed, with their errors."""
    if not sweep.failed:
        return None
    rows = tuple((TableCell(c["folder"], foreign=True), TableCell(c["error"], foreign=True)) for c in sweep.failed)
    heads = (text_column("Run", wide=True), text_column("Error", wide=True))
    return Section("Failed", "failed", (ReportTable("The same command tries them again.", heads, rows),))
