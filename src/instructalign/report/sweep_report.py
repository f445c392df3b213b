"""Builds the report on a sweep: its configurations side by side, what they trade, curves over what varies."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from instructalign.evaluation.continual_metrics import STAGED, correlate_gains
from instructalign.evaluation.gains import FORGETTING, GAIN
from instructalign.evaluation.run_comparison import Baselines
from instructalign.evaluation.score_table import BITS, GROUPS, headline, is_base, is_baseline, is_in_bits
from instructalign.files import format_bytes, read_object
from instructalign.report.number_format import decimals, in_unit, interval_text, signed
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
    render,
    text_column,
)
from instructalign.report.report_facts import block_of, hyperparameters, task_titles
from instructalign.report.report_tables import (
    gains_table,
    group_columns,
    main_table,
    score_cell,
    shade_of,
    stage_cell,
    stage_column,
    title_and_name,
    unique,
)
from instructalign.report.run_report import BuiltReport
from instructalign.report.sections_results import transfer
from instructalign.report.sweep_results import SweepAxis, SweepResults, read_sweep
from instructalign.types import Score

_MAX_STRATEGIES = 3  # strategies' costs of a cell


def build_sweep_report(folder: Path) -> BuiltReport:
    """Reads a sweep's folder and renders its report.

    Raises:
        DataError: a file in it cannot be read.
    """
    sweep = read_sweep(folder)
    configs = [folder / "cells" / run.folder / "config.yaml" for run in sweep.runs[:1]]
    first = [read_object(path, yaml.safe_load) for path in configs]
    sweep = replace(sweep, title=task_titles(first, str))
    sections = [section for make in _SECTIONS if (section := make(sweep)) is not None]
    title = f"Sweep of {len(sweep.cells)} configurations"
    seeds = unique(run.seed for run in sweep.runs)
    axes = [f"{axis.name}: {len(axis.labels)} values" for axis in sweep.axes]
    axes.append(f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "one seed")
    page, markdown = render(title, " · ".join(axes), sections)
    runs = [{"name": run.cell, "seed": run.seed, "folder": run.folder, "at": dict(run.at)} for run in sweep.runs]
    failed = [{key: cell[key] for key in ("name", "seed", "folder", "error")} for cell in sweep.failed]
    return BuiltReport(
        page=page,
        markdown=markdown,
        about={"runs": runs, "failed": failed},
        rows=list(sweep.rows),
        sentences=_sentences(sweep),
        table=_scores_table(sweep),
        sections=sections,
        hyperparameters={
            run.cell: _hyperparameters(config, sweep) for run, config in zip(sweep.runs[:1], first, strict=True)
        },
    )


def _hyperparameters(config: Mapping[str, Any], sweep: SweepResults) -> dict[str, str]:
    """Those of a cell, without the keys by which the cells differ."""
    return {key: text for key, text in hyperparameters(config).items() if key not in sweep.runs[0].at}


def _result(sweep: SweepResults) -> Section:
    blocks: list[Block] = [Paragraph(text, lead=i == 0) for i, text in enumerate(_sentences(sweep))]
    blocks.append(_scores_table(sweep))
    if gains := gains_table(_sorted_rows(sweep), sweep.title):
        gains = replace(gains, caption=gains.caption + _about_seeds(sweep))
        blocks.append(Fold("Change against the base", (gains,)))
    return Section("Result", "result", blocks)


def _sentences(sweep: SweepResults) -> list[str]:
    """The best configuration of each task, and what failed or is missing."""
    sentences = []
    for task in sweep.tasks:
        points = sweep.points(task)
        if not points:
            continue
        best = sweep.ranked(task)[0]
        if sweep.all_tie(task):
            where = f"{sweep.title(task)}: all" if len(sweep.tasks) > 1 else "All"
            numbers = _trade_off_numbers(sweep, task, best)
            sentences.append(f"{where} {len(points)} configurations tie ({numbers}): none is best.")
            continue
        loss, gain = points[best]
        start = f"{sweep.title(task)}: the best" if len(sweep.tasks) > 1 else "The best"
        sentence = (
            f"{start} trade-off is {best} ({_trade_off_numbers(sweep, task, best)}){_certainty(sweep, task)}. "
        )
        sentence += f"{len(sweep.front(task))} of {len(points)} configurations are on the Pareto front."
        if gain <= loss:
            sentence += " No configuration gains more than it forgets: by this measure, the base itself is best."
        sentences.append(sentence)
    if count := len(sweep.failed):
        sentences.append(f"{count} {'run' if count == 1 else 'runs'} failed; the errors are listed at the end.")
    if count := sweep.missing:
        sentences.append(
            f"{count} {'run is' if count == 1 else 'runs are'} not finished; rerun the command to resume."
        )
    return sentences


def unit_of(sweep: SweepResults, task: str) -> str:
    """What the scores of a task are shown in."""
    return "bits per byte" if headline(sweep.rows, task) == BITS else "points"


def _trade_off_numbers(sweep: SweepResults, task: str, cell: str) -> str:
    """What a cell gained and forgot, and where it or its base is not above the baselines."""
    loss, gain = sweep.points(task)[cell]
    digits = 3 if unit_of(sweep, task) != "points" else decimals((gain, loss))
    baselines = Baselines([row for row in sweep.rows if is_baseline(row.run)])
    metric = headline(sweep.rows, task)
    after = sweep.rows.get(cell, task, metric, "L2")
    before = sweep.rows.get(sweep.base_of(cell), task, metric, "L1")
    gained, lost = f"gain on L2 {signed(gain, digits)}", f"forgetting on L1 {signed(loss, digits)}"
    separator = ","
    if after is not None and not baselines.are_below(after):
        gained, separator = f"{gained}, not above the baselines", ";"
    if before is not None and not baselines.are_below(before):
        lost += ", where the base was not above the baselines"
    return f"{gained}{separator} {lost}"


def _certainty(sweep: SweepResults, task: str) -> str:
    """Whether the best is significantly better than the others: the end of a sentence, empty where it is alone."""
    best, *others = [cell for cell in sweep.ranked(task) if cell in sweep.points(task)]
    if not others:
        return ""
    if max(len(sweep.of(cell)) for cell in (best, *others)) == 1:
        return "; one seed cannot tell whether it is better than the others"
    found = sweep.best.get(task)
    known = found.minus.values() if found is not None and found.name == best else ()
    compared = [some for each in known if (some := [each[group] for group in ("L1", "L2") if group in each])]
    if not compared:
        return "; it could not be compared with the others over seeds and items"
    same = sum(not any(each.excludes_zero for each in some) for some in compared)
    if len(compared) == 1:
        differ = "the other does not differ" if same else "the other differs"
    elif same:
        differ = f"{same} of the {len(compared)} others do not differ"
    else:
        differ = f"all {len(compared)} others differ"
    left = f" ({len(others) - len(compared)} not compared)" if len(compared) < len(others) else ""
    return f"; {differ} significantly from it on L2 or L1 over seeds and items{left}"


def _sorted_rows(sweep: SweepResults) -> list[Score]:
    """The rows with the cells in the order of their rank on the first task, bases first, baselines last."""
    place = {cell: i for i, cell in enumerate(sweep.ranked(sweep.tasks[0]))} if sweep.tasks else {}
    ranked = sorted((row for row in sweep.rows if row.run in place), key=lambda row: place[row.run])
    bases = [row for row in sweep.rows if is_base(row.run)]
    return [*bases, *ranked, *(row for row in sweep.rows if is_baseline(row.run))]


def _scores_table(sweep: SweepResults) -> ReportTable:
    """The main table, with the cells on the Pareto front in bold."""
    table = main_table(_sorted_rows(sweep), (), sweep.title)
    fronts = {sweep.title(task): sweep.front(task) for task in sweep.tasks}
    lines = []
    for name, *cells in table.rows:
        task = cells[0].text if len(sweep.tasks) > 1 else sweep.title(sweep.tasks[0])
        on_front = name.text in fronts.get(task, ())
        lines.append((replace(name, note="on the Pareto front" if on_front else "", best=on_front), *cells))
    return replace(table, caption=table.caption + _about_seeds(sweep), rows=tuple(lines))


def _about_seeds(sweep: SweepResults) -> str:
    """The end of a caption: what the numbers of several seeds mean."""
    seeds = max((len(sweep.of(cell)) for cell in sweep.cells), default=1)
    if seeds == 1:
        return ""
    return (
        f" Of a configuration: the mean over its seeds (up to {seeds}), with the interval over seeds and items; "
        "of the base: over items."
    )


def _significance(sweep: SweepResults) -> Section | None:
    """The differences between the cell with the best trade-off and the others, by group."""
    tables = []
    for task, best in sweep.best.items():
        groups = [group for group in GROUPS if any(group in some for some in best.minus.values())]
        lines = []
        for other, some in best.minus.items():
            cells = [TableCell(other, foreign=True)]
            for group in groups:
                if (found := some.get(group)) is None:
                    cells.append(TableCell("–"))
                else:
                    scale, digits = (1, 3) if unit_of(sweep, task) != "points" else (100, 1)
                    text = signed(scale * found.value, digits)
                    note = interval_text(found.low, found.high, digits, scale)
                    cells.append(TableCell(text, note, best=found.excludes_zero))
            lines.append(tuple(cells))
        caption = (
            f"{best.name} minus each other configuration on {sweep.title(task)}, in {unit_of(sweep, task)}, "
            "with the 95 % confidence interval over seeds and items; bold where it excludes 0. The intervals are "
            "not corrected for their number: one in twenty misses by chance."
        )
        columns = group_columns(groups, first="Configuration")
        tables.append(ReportTable(caption, tuple(columns), tuple(lines)))
    fold = Fold("The best configuration against each other", tuple(tables), open=True)
    return Section("Significance of the best configuration", "best", (fold,)) if tables else None


def _trade_off(sweep: SweepResults) -> Section | None:
    """Gain on L2 against forgetting on L1: a point per cell, those on the Pareto front numbered and listed."""
    text = (
        "Each point is a configuration, the mean over its seeds, in points of the score. Up is more gain, left "
        "is less forgetting. Numbered points are on the Pareto front: no other gains as much and forgets as "
        "little."
    )
    blocks: list[Block] = [Paragraph(text)]
    for task in sweep.tasks:
        found = sweep.points(task)
        if len(found) < 2:
            continue
        marks = {cell: str(number) for number, cell in enumerate(sweep.front(task), start=1)}
        points = [
            PlotPoint(c, *at, group="L2" if c in marks else "", mark=marks.get(c, "")) for c, at in found.items()
        ]
        unit = unit_of(sweep, task)
        x, y = f"forgetting on L1, {unit}", f"gain on L2, {unit}"
        plot = scatter(f"Gain and forgetting, {sweep.title(task)}", points, x=x, y=y, best=("low", "high"))
        rows = tuple(
            (
                TableCell(f"{mark}  {cell}", foreign=True),
                *(TableCell(signed(value)) for value in found[cell][::-1]),
            )
            for cell, mark in marks.items()
        )
        columns = (text_column("On the Pareto front"), TableColumn("Gain", "L2"), TableColumn("Forgetting", "L1"))
        blocks.append(Panels((plot, ReportTable(sweep.title(task), columns, rows)) if rows else (plot,)))
    return Section("Plasticity–stability trade-off", "trade-off", blocks) if len(blocks) > 1 else None


def _curves(sweep: SweepResults) -> Section | None:
    """Scores over the axes whose values are numbers, a panel for each place on the other axes."""
    blocks: list[Block] = []
    for axis in sweep.axes:
        if axis.numbers is None:
            continue
        found = [
            (title, lines)
            for task in sweep.tasks
            for title, lines in _lines_over(sweep, axis, task)
            if any(len(line.x) > 1 for line in lines)
        ]
        edges = [edge for _, lines in found for line in lines for edge in (*line.y, *line.low, *line.high)]
        if not edges:
            continue
        low, high = max(-5.0, min(edges)), min(105.0, max(edges))
        pad = 0.05 * (high - low or 10)
        ticks = [short_number(number) for number in sorted(axis.numbers)]
        panels = tuple(
            line_plot(title, lines, x=axis.name, limits=(low - pad, high + pad), ticks=ticks)
            for title, lines in found
        )
        blocks.append(Panels(panels, f"Score by the value of {axis.name}; band: the interval, as in the table."))
    return Section("Curves", "curves", blocks) if blocks else None


def short_number(number: float) -> str:
    """A number as short as it can be: 100 000 is 100k."""
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= size:
            return f"{number / size:.3g}{letter}"
    return f"{number:g}"


def _lines_over(sweep: SweepResults, axis: SweepAxis, task: str) -> Iterator[tuple[str, list[PlotLine]]]:
    """For each place on the other axes: its name, and a line for each group."""
    others = [other for other in sweep.axes if other is not axis]
    values = [label for _, label in sorted(zip(axis.numbers or (), axis.labels, strict=True))]
    metric = headline(sweep.rows, task)
    for labels in product(*(other.labels for other in others)):
        rest = dict(zip((other.name for other in others), labels, strict=True))
        cells = [sweep.cell_at({**rest, axis.name: value}) for value in values]
        lines = []
        for group, word in GROUPS.items():
            found = [(x, cell and sweep.rows.get(cell, task, metric, group)) for x, cell in enumerate(cells)]
            known = [(x, row) for x, row in found if row]
            bounds = [
                (in_unit(r, r.low), in_unit(r, r.high))
                for _, r in known
                if r.low is not None and r.high is not None
            ]
            low, high = zip(*bounds, strict=True) if bounds and len(bounds) == len(known) else ((), ())
            if known:
                x, y = [x for x, _ in known], [in_unit(row) for _, row in known]
                lines.append(PlotLine(f"{group} {word}", x, y, low, high, group=group, strong=True))
        if lines:
            title = ", ".join(rest.values()) or sweep.title(task)
            yield f"{title}, {sweep.title(task)}" if rest and len(sweep.tasks) > 1 else title, lines


def _interaction(sweep: SweepResults) -> Section | None:
    """Two axes against each other: the gain on L2 and the forgetting of every pair of values."""
    if len(sweep.axes) != 2:
        return None
    down, across = sorted(sweep.axes, key=lambda axis: -len(axis.labels))
    blocks: list[Block] = []
    for task in sweep.tasks:
        for metric, group, words, sign in (
            (GAIN, "L2", "Gain on L2", 1),
            (FORGETTING, "L1", "Forgetting on L1", -1),
        ):
            lines = []
            for label in down.labels:
                line = [TableCell(label, foreign=True)]
                for other in across.labels:
                    cell = sweep.cell_at({down.name: label, across.name: other})
                    row = sweep.rows.get(cell, task, metric, group) if cell else None
                    shade = shade_of(sign * (60 if is_in_bits(row) else 100) * row.value) if row else 0.0
                    line.append(replace(score_cell(row, change=True), shade=shade))
                lines.append(tuple(line))
            columns = (text_column(down.name), *map(TableColumn, across.labels))
            blocks.append(
                ReportTable(f"{words} in {unit_of(sweep, task)}, {sweep.title(task)}.", columns, tuple(lines))
            )
    return Section("Grid of both axes", "grid", blocks) if blocks else None


def _carried_over(sweep: SweepResults) -> Section | None:
    """Whether gains on the related languages follow those on the new ones, over all cells."""
    return transfer(sweep.rows, correlate_gains(sweep.rows), "configurations and tasks", brief, sweep.title)


def brief(cell: str) -> str:
    """`replay.size=50, training.steps=4` as `size=50, steps=4`, which has room beside a point."""
    return re.sub(r"[\w.]+\.(?=\w+=)", "", cell)


def _languages(sweep: SweepResults) -> Section | None:
    """Cells down, languages across: the score and its change against the base."""
    blocks: list[Block] = []
    for task in sweep.tasks:
        metric = headline(sweep.rows, task)
        groups = {r.language: r.group for r in sweep.rows if (r.task, r.metric) == (task, metric) and r.language}
        lines = []
        for name in sweep.ranked(task):
            line = [TableCell(name, foreign=True)]
            for code, group in groups.items():
                score, gain = (sweep.rows.get(name, task, each, group, code) for each in (metric, GAIN))
                change = (60 if is_in_bits(gain) else 100) * gain.value if score and gain else None
                note = signed(in_unit(gain), 3 if is_in_bits(gain) else 1) if score and gain else ""
                line.append(replace(score_cell(score), note=note, shade=shade_of(change or 0.0)))
            lines.append(tuple(line))
        columns = (
            text_column("Configuration"),
            *(TableColumn(code, group=group) for code, group in groups.items()),
        )
        what = "Score × 100" if unit_of(sweep, task) == "points" else "Bits per byte"
        where = title_and_name(task, sweep.title)
        caption = f"{what} on {where} by language; below it, and as colour, the gain over the base."
        if groups:
            blocks.append(ReportTable(caption, columns, tuple(lines)))
    return Section("Scores by language", "languages", blocks) if blocks else None


def _stages(sweep: SweepResults) -> Section | None:
    """ACC, BWT, FWT and forgetting of the cells with stages."""
    staged = sweep.rows.select(group=STAGED)
    metrics = staged.unique("metric")
    blocks: list[Block] = []
    for task in staged.unique("task"):
        lines = tuple(
            (
                TableCell(cell, foreign=True),
                *(stage_cell(staged.get(cell, task, metric, STAGED)) for metric in metrics),
            )
            for cell in staged.unique("run")
        )
        columns = (text_column("Configuration"), *map(stage_column, metrics))
        blocks.append(ReportTable(f"Over the stages, {sweep.title(task)}, in points.", columns, lines))
    return Section("Accuracy by stage", "stages", blocks) if blocks else None


def _costs(sweep: SweepResults) -> Section | None:
    """What the cells cost: seconds, and the memory of strategies."""
    lines = []
    for cell in sweep.ranked(sweep.tasks[0]) if sweep.tasks else sweep.cells:
        runs = sweep.of(cell)
        seconds = [block_of(run.record, "timings").get("training_seconds") for run in runs]
        known = [float(value) for value in seconds if value is not None]
        memory = unique(
            f"{name} {format_bytes(float(cost['memory']))}"
            for run in runs
            for name, cost in block_of(run.record, "strategies").items()
            if isinstance(cost, dict) and cost.get("memory")
        )
        texts = (f"{fmean(known):.0f}" if known else "–", f"{fmean(run.seconds for run in runs):.0f}")
        strategies = "; ".join(memory[:_MAX_STRATEGIES])
        lines.append((TableCell(cell, foreign=True), *map(TableCell, texts), TableCell(strategies)))
    columns = (
        text_column("Configuration"),
        TableColumn("Training", "seconds"),
        TableColumn("Total", "seconds"),
        text_column("Strategies", "memory beside the model", wide=True),
    )
    caption = (
        "Means over seeds, on a machine that may have done other work. A resumed run counts its last stretch of "
        "training; one that shares a model counts that model's."
    )
    table = ReportTable(caption, columns, tuple(lines))
    return Section("Cost", "costs", (Fold("Seconds and memory", (table,)),))


def _failed(sweep: SweepResults) -> Section | None:
    """The runs that failed, with their errors."""
    rows = tuple((TableCell(c["folder"], foreign=True), TableCell(c["error"], foreign=True)) for c in sweep.failed)
    columns = (text_column("Run", wide=True), text_column("Error", wide=True))
    table = ReportTable("Rerun the same command to try them again.", columns, rows)
    return Section("Failed runs", "failed", (table,)) if rows else None


_SECTIONS: Sequence[Callable[[SweepResults], Section | None]] = (
    _result,
    _significance,
    _trade_off,
    _curves,
    _interaction,
    _carried_over,
    _languages,
    _stages,
    _costs,
    _failed,
)
