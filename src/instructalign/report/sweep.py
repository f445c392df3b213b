"""The report on a sweep: its cells beside each other, what they trade, and curves over what varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from instructalign.evaluation.comparison import Baselines
from instructalign.evaluation.score_table import headline, is_base, is_baseline
from instructalign.report import sweep_parts as parts
from instructalign.report.assemble import Assembled
from instructalign.report.number_format import decimals, signed
from instructalign.report.plots import PlotPoint, scatter
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
from instructalign.report.sweep_best import against_best, how_sure
from instructalign.report.sweep_results import SweepResults, read_sweep
from instructalign.report.tables import gains_table, main_table, unique
from instructalign.types import Score

_NONE_BETTER = " No cell gains more than it forgets: by that the base, left as it is, is best."


def assemble_sweep(folder: Path) -> Assembled:
    """Reads a sweep's folder and renders its report.

    Raises:
        DataError: a file in it cannot be read.
    """
    sweep = read_sweep(folder)
    sections = [section for make in SECTIONS if (section := make(sweep)) is not None]
    title = f"Sweep of {len(sweep.cells)} cells"
    seeds = unique(run.seed for run in sweep.runs)
    several = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "one seed"
    subtitle = " · ".join([*(f"{axis.name}: {len(axis.labels)} values" for axis in sweep.axes), several])
    runs = [{"name": run.cell, "seed": run.seed, "folder": run.folder, "at": dict(run.at)} for run in sweep.runs]
    failed = [{key: cell[key] for key in ("name", "seed", "folder", "error")} for cell in sweep.failed]
    page, markdown = render(title, subtitle, sections)
    return Assembled(
        page=page,
        markdown=markdown,
        about={"runs": runs, "failed": failed},
        rows=list(sweep.rows),
        sentences=_sentences(sweep),
        table=_scores(sweep),
    )


def _result(sweep: SweepResults) -> Section:
    said: list[Block] = [Paragraph(text, lead=i == 0) for i, text in enumerate(_sentences(sweep))]
    blocks = [*said, _scores(sweep)]
    if gains := gains_table(_sorted(sweep)):
        blocks.append(Fold("Change against the base", (replace(gains, caption=_about(sweep, gains.caption)),)))
    return Section("Result", "result", blocks)


def _sentences(sweep: SweepResults) -> list[str]:
    said = []
    for task in sweep.tasks:
        points = sweep.points(task)
        if not points:
            continue
        best = sweep.ranked(task)[0]
        loss, gain = points[best]
        about = f"{task}: the" if len(sweep.tasks) > 1 else "The"
        said.append(
            f"{about} best balance has {best} ({_numbers(sweep, task, best)}){how_sure(sweep, task)}. "
            f"{len(sweep.front(task))} of {len(points)} cells stand on the Pareto front of the two."
            + (_NONE_BETTER if gain <= loss else "")
        )
    if sweep.failed:
        count = len(sweep.failed)
        said.append(f"{count} {'run' if count == 1 else 'runs'} failed; the errors stand at the end.")
    if sweep.missing:
        count = sweep.missing
        said.append(f"{count} {'run is' if count == 1 else 'runs are'} not finished; the same command goes on.")
    return said


def _numbers(sweep: SweepResults, task: str, cell: str) -> str:
    """What a cell gained and forgot, and where guessing would do as well."""
    loss, gain = sweep.points(task)[cell]
    digits = decimals((gain, loss))
    gained, lost = f"gain on L2 {signed(gain, digits)}", f"forgetting on L1 {signed(loss, digits)}"
    baselines = Baselines([row for row in sweep.rows if is_baseline(row.run)])
    metric = headline(sweep.rows, task)
    after = sweep.rows.get(cell, task, metric, "L2")
    before = sweep.rows.get(sweep.base_of(cell), task, metric, "L1")
    if after is not None and not baselines.are_below(after):
        gained += ", not above guessing;"
    if before is not None and not baselines.are_below(before):
        lost += ", where the base was no better than guessing"
    return f"{gained} {lost}" if gained.endswith(";") else f"{gained}, {lost}"


def _sorted(sweep: SweepResults) -> list[Score]:
    """The rows with the cells in the order of their rank on the first task, bases first, baselines last."""
    place = {cell: i for i, cell in enumerate(sweep.ranked(sweep.tasks[0]))} if sweep.tasks else {}
    ranked = sorted((row for row in sweep.rows if row.run in place), key=lambda row: place[row.run])
    bases = [row for row in sweep.rows if is_base(row.run)]
    return [*bases, *ranked, *(row for row in sweep.rows if is_baseline(row.run))]


def _scores(sweep: SweepResults) -> ReportTable:
    table = main_table(_sorted(sweep))
    fronts = {task: set(sweep.front(task)) for task in sweep.tasks}
    several = len(sweep.tasks) > 1

    def marked(line: tuple[TableCell, ...]) -> tuple[TableCell, ...]:
        task = line[1].text if several else sweep.tasks[0]
        front = line[0].text in fronts.get(task, ())
        return (replace(line[0], note="on the Pareto front" if front else "", best=front), *line[1:])

    return replace(table, caption=_about(sweep, table.caption), rows=tuple(map(marked, table.rows)))


def _about(sweep: SweepResults, caption: str) -> str:
    """What stands above a table, with what the numbers of several seeds mean."""
    seeds = max((len(sweep.of(cell)) for cell in sweep.cells), default=1)
    if seeds == 1:
        return caption
    return (
        f"{caption} Of a cell: the mean over its seeds (up to {seeds}), with the interval over seeds and items; "
        "of the base: over items."
    )


def _trade(sweep: SweepResults) -> Section | None:
    blocks: list[Block] = []
    for task in sweep.tasks:
        points = sweep.points(task)
        if len(points) < 2:
            continue
        front = sweep.front(task)
        marks = {cell: str(number) for number, cell in enumerate(front, start=1)}
        places = [
            PlotPoint(cell, *points[cell], group="L2" if cell in marks else "", mark=marks.get(cell, ""))
            for cell in points
        ]
        rows = tuple(
            (TableCell(f"{marks[cell]}  {cell}", foreign=True), TableCell(signed(gain)), TableCell(signed(loss)))
            for cell in front
            for loss, gain in [points[cell]]
        )
        heads = (
            text_column("On the Pareto front"),
            TableColumn("Gain", "L2"),
            TableColumn("Forgetting", "L1"),
        )
        plot = scatter(
            f"Gain and forgetting, {task}",
            places,
            x="forgetting on L1, points",
            y="gain on L2, points",
            best=("low", "high"),
        )
        blocks.append(Panels((plot, ReportTable(task, heads, rows))))
    if not blocks:
        return None
    text = (
        "A point is a cell, the mean over its seeds, in points of the score. Up is more gain, left is less "
        "forgetting; those with a number stand on the Pareto front: no other gains as much and forgets as little."
    )
    return Section("What is gained for what is forgotten", "trade-off", (Paragraph(text), *blocks))


SECTIONS: Sequence[Callable[[SweepResults], Section | None]] = (
    _result,
    against_best,
    _trade,
    parts.curves,
    parts.matrices,
    parts.carried_over,
    parts.languages,
    parts.stages,
    parts.costs,
    parts.failed,
)
