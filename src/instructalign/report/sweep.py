"""The report on a sweep: its cells beside each other, what they trade, and curves over what varies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from instructalign.evaluation.correlation import correlate_gains
from instructalign.records import Score
from instructalign.report.assemble import Assembled
from instructalign.report.cells import Axis, Sweep, find, read_sweep, summary
from instructalign.report.content import Block, Cell, Column, Fold, Panels, Paragraph, Section, Table
from instructalign.report.markdown import render_markdown
from instructalign.report.page import render_page
from instructalign.report.plots import signed
from instructalign.report.tables import (
    BASELINES,
    FORGETTING,
    FULL_SHADE,
    GAIN,
    GROUPS,
    gains_table,
    headline,
    interval,
    is_base,
    main_table,
    unique,
)
from instructalign.report.xy import Point, Series, lines, pareto_front, scatter

NAMED = 12  # points up to which each has its name beside it


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sections are made from: the sweep, and the summary of its rows over seeds."""

    sweep: Sweep
    rows: Sequence[Score]

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return unique(row.task for row in self.rows if row.group in GROUPS)

    def points(self, task: str) -> dict[str, tuple[float, float]]:
        """Forgetting on L1 and gain on L2 of every cell that has both, in points."""
        found = {}
        for cell in self.sweep.cells:
            loss, gain = (find(self.rows, cell, task, *what) for what in ((FORGETTING, "L1"), (GAIN, "L2")))
            if loss is not None and gain is not None:
                found[cell] = (100 * loss.value, 100 * gain.value)
        return found

    def front(self, task: str) -> list[str]:
        """The cells that no other beats in both, least forgetting first."""
        points = self.points(task)
        names = list(points)
        return [names[i] for i in pareto_front(list(points.values()), ("low", "high"))]

    def ranked(self, task: str) -> list[str]:
        """The cells by gain on L2 less forgetting on L1, best first; those without come last."""
        points = self.points(task)
        return sorted(
            self.sweep.cells, key=lambda cell: points[cell][0] - points[cell][1] if cell in points else 1e9
        )


def assemble_sweep(folder: Path) -> Assembled:
    """Reads a sweep's folder and renders its report.

    Raises:
        DataError: a file in it cannot be read.
    """
    sweep = read_sweep(folder)
    facts = Facts(sweep, summary(sweep))
    sections = [section for make in SECTIONS if (section := make(facts)) is not None]
    title = f"Sweep of {len(sweep.cells)} cells"
    seeds = unique(run.seed for run in sweep.runs)
    several = f"seeds {', '.join(map(str, seeds))}" if len(seeds) > 1 else "one seed"
    subtitle = " · ".join([*(f"{axis.name}: {len(axis.labels)} values" for axis in sweep.axes), several])
    runs = [{"name": run.cell, "seed": run.seed, "folder": run.folder, "at": dict(run.at)} for run in sweep.runs]
    failed = [{key: cell[key] for key in ("name", "seed", "folder", "error")} for cell in sweep.failed]
    return Assembled(
        page=render_page(title, subtitle, sections),
        markdown=render_markdown(title, subtitle, sections),
        about={"runs": runs, "failed": failed},
        rows=list(facts.rows),
        sentences=_sentences(facts),
        table=_scores(facts),
    )


def _result(facts: Facts) -> Section:
    said: list[Block] = [Paragraph(text, lead=i == 0) for i, text in enumerate(_sentences(facts))]
    blocks = [*said, _scores(facts)]
    if gains := gains_table(_sorted(facts)):
        blocks.append(Fold("Change against the base", (replace(gains, caption=_about(facts, gains.caption)),)))
    return Section("Result", "result", blocks)


def _sentences(facts: Facts) -> list[str]:
    said = []
    for task in facts.tasks:
        points = facts.points(task)
        if not points:
            continue
        best = facts.ranked(task)[0]
        loss, gain = points[best]
        about = f"{task}: the" if len(facts.tasks) > 1 else "The"
        said.append(
            f"{about} best balance has {best} (gain on L2 {signed(gain)}, forgetting on L1 {signed(loss)}). "
            f"{len(facts.front(task))} of {len(points)} cells stand on the Pareto front of the two."
        )
    if facts.sweep.failed:
        count = len(facts.sweep.failed)
        said.append(f"{count} {'run' if count == 1 else 'runs'} failed; the errors stand at the end.")
    if facts.sweep.missing:
        count = facts.sweep.missing
        said.append(f"{count} {'run is' if count == 1 else 'runs are'} not finished; the same command goes on.")
    return said


def _sorted(facts: Facts) -> list[Score]:
    """The rows with the cells in the order of their rank on the first task, bases first, baselines last."""
    place = {cell: i for i, cell in enumerate(facts.ranked(facts.tasks[0]))} if facts.tasks else {}
    ranked = sorted((row for row in facts.rows if row.run in place), key=lambda row: place[row.run])
    bases = [row for row in facts.rows if is_base(row.run)]
    return [*bases, *ranked, *(row for row in facts.rows if row.run in BASELINES)]


def _scores(facts: Facts) -> Table:
    table = main_table(_sorted(facts))
    fronts = {task: set(facts.front(task)) for task in facts.tasks}
    several = len(facts.tasks) > 1

    def marked(line: tuple[Cell, ...]) -> tuple[Cell, ...]:
        task = line[1].text if several else facts.tasks[0]
        front = line[0].text in fronts.get(task, ())
        return (replace(line[0], note="on the Pareto front" if front else "", best=front), *line[1:])

    return replace(table, caption=_about(facts, table.caption), rows=tuple(map(marked, table.rows)))


def _about(facts: Facts, caption: str) -> str:
    """What stands above a table, with what the numbers of several seeds mean."""
    seeds = max((len(facts.sweep.of(cell)) for cell in facts.sweep.cells), default=1)
    if seeds == 1:
        return caption
    return (
        f"{caption} Of a cell: the mean over its seeds (up to {seeds}) and the 95 % interval of that mean by "
        "Student's t; of the base: over items."
    )


def _trade(facts: Facts) -> Section | None:
    blocks: list[Block] = []
    for task in facts.tasks:
        points = facts.points(task)
        if len(points) < 2:
            continue
        front = facts.front(task)
        marks = {cell: str(number) for number, cell in enumerate(front, start=1)}
        places = [
            Point(cell, *points[cell], group="L2" if cell in marks else "", mark=marks.get(cell, ""))
            for cell in points
        ]
        rows = tuple(
            (Cell(f"{marks[cell]}  {cell}", foreign=True), Cell(signed(gain)), Cell(signed(loss)))
            for cell in front
            for loss, gain in [points[cell]]
        )
        heads = (Column("On the Pareto front", numeric=False), Column("Gain", "L2"), Column("Forgetting", "L1"))
        plot = scatter(
            f"Gain and forgetting, {task}",
            places,
            x="forgetting on L1, points",
            y="gain on L2, points",
            best=("low", "high"),
        )
        blocks.append(Panels((plot, Table(task, heads, rows))))
    if not blocks:
        return None
    text = (
        "A point is a cell, the mean over its seeds, in points of the score. Up is more gain, left is less "
        "forgetting; those with a number stand on the Pareto front: no other gains as much and forgets as little."
    )
    return Section("What is gained for what is forgotten", "trade-off", (Paragraph(text), *blocks))


def _curves(facts: Facts) -> Section | None:
    blocks: list[Block] = []
    for axis in facts.sweep.axes:
        if axis.numbers is None:
            continue
        found = [
            (title, series)
            for task in facts.tasks
            for title, series in _series(facts, axis, task)
            if any(len(line.x) > 1 for line in series)
        ]
        edges = [edge for _, series in found for line in series for edge in (*line.y, *line.low, *line.high)]
        if not edges:
            continue
        low, high = max(-5.0, min(edges)), min(105.0, max(edges))
        pad = 0.05 * (high - low or 10)
        ticks = [tick(number) for number in sorted(axis.numbers)]
        panels = tuple(
            lines(title, series, x=axis.name, limits=(low - pad, high + pad), ticks=ticks)
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


def _series(facts: Facts, axis: Axis, task: str) -> list[tuple[str, list[Series]]]:
    """For each place on the other axes: its name, and a line for each group."""
    others = [other for other in facts.sweep.axes if other is not axis]
    values = [label for _, label in sorted(zip(axis.numbers or (), axis.labels, strict=True))]
    metric = headline(facts.rows, task)
    found = []
    for labels in product(*(other.labels for other in others)):
        rest = dict(zip((other.name for other in others), labels, strict=True))
        cells = [facts.sweep.cell_at({**rest, axis.name: value}) for value in values]
        series = []
        for group, word in GROUPS.items():
            rows = [(x, cell and find(facts.rows, cell, task, metric, group)) for x, cell in enumerate(cells)]
            if known := [(x, row) for x, row in rows if row]:
                series.append(_line(f"{group} {word}", group, known))
        if series:
            title = ", ".join(rest.values()) or task
            found.append((f"{title}, {task}" if rest and len(facts.tasks) > 1 else title, series))
    return found


def _line(label: str, group: str, points: Sequence[tuple[int, Score]]) -> Series:
    rows = [row for _, row in points]
    bounds = [(100 * row.low, 100 * row.high) for row in rows if row.low is not None and row.high is not None]
    low, high = zip(*bounds, strict=True) if len(bounds) == len(rows) else ((), ())
    return Series(
        label, [x for x, _ in points], [100 * row.value for row in rows], low, high, group=group, strong=True
    )


def _matrices(facts: Facts) -> Section | None:
    """Two axes against each other: the gain on L2 and the forgetting of every pair of values."""
    if len(facts.sweep.axes) != 2:
        return None
    rows, columns = facts.sweep.axes
    if len(rows.labels) < len(columns.labels):
        rows, columns = columns, rows
    blocks: list[Block] = []
    for task in facts.tasks:
        for metric, group, words, sign in (
            (GAIN, "L2", "Gain on L2", 1),
            (FORGETTING, "L1", "Forgetting on L1", -1),
        ):
            lines = tuple(
                (
                    Cell(label, foreign=True),
                    *(
                        _place(facts, task, metric, group, sign, {rows.name: label, columns.name: c})
                        for c in columns.labels
                    ),
                )
                for label in rows.labels
            )
            heads = (Column(rows.name, numeric=False), *(Column(label) for label in columns.labels))
            blocks.append(Table(f"{words} in points, {task}.", heads, lines))
    return Section("One axis against the other", "grid", blocks) if blocks else None


def _place(facts: Facts, task: str, metric: str, group: str, sign: int, at: dict[str, str]) -> Cell:
    cell = facts.sweep.cell_at(at)
    row = find(facts.rows, cell, task, metric, group) if cell else None
    if row is None:
        return Cell("–")
    shade = max(-1.0, min(1.0, sign * 100 * row.value / FULL_SHADE))
    return Cell(signed(100 * row.value), interval(row), shade=shade)


def _carried_over(facts: Facts) -> Section | None:
    correlation = {row.metric: row for row in correlate_gains(facts.rows)}
    if "pearson" not in correlation:
        return None
    pairs = [
        (row, other)
        for row in facts.rows
        if (row.metric, row.group, row.language) == (GAIN, "L2", "")
        and (other := find(facts.rows, row.run, row.task, GAIN, "L3"))
    ]
    mark = None if len(pairs) <= NAMED else ""
    points = [Point(row.run, 100 * row.value, 100 * other.value, mark=mark) for row, other in pairs]
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


def _languages(facts: Facts) -> Section | None:
    """Cells down, languages across: the change against the base."""
    blocks: list[Block] = []
    for task in facts.tasks:
        metric = headline(facts.rows, task)
        codes = unique(
            row.language for row in facts.rows if row.task == task and row.metric == metric and row.language
        )
        groups = {row.language: row.group for row in facts.rows if row.language}
        found = {
            (row.run, row.metric, row.language): row for row in facts.rows if row.task == task and row.language
        }
        lines = []
        for cell in facts.ranked(task):
            cells = [_language(found.get((cell, metric, code)), found.get((cell, GAIN, code))) for code in codes]
            lines.append((Cell(cell, foreign=True), *cells))
        heads = (Column("Cell", numeric=False), *(Column(code, group=groups[code]) for code in codes))
        text = f"Score × 100 on {task} by language; with it, and as colour, the change against the base."
        if codes:
            blocks.append(Table(text, heads, tuple(lines)))
    return Section("Languages", "languages", blocks) if blocks else None


def _language(score: Score | None, gain: Score | None) -> Cell:
    if score is None:
        return Cell("–")
    text = f"{100 * score.value:.1f}"
    if gain is None:
        return Cell(text)
    return Cell(text, signed(100 * gain.value), shade=max(-1.0, min(1.0, 100 * gain.value / FULL_SHADE)))


def _failed(facts: Facts) -> Section | None:
    if not facts.sweep.failed:
        return None
    rows = tuple((Cell(c["folder"], foreign=True), Cell(c["error"], foreign=True)) for c in facts.sweep.failed)
    heads = (Column("Run", numeric=False, wide=True), Column("Error", numeric=False, wide=True))
    return Section("Failed", "failed", (Table("The same command tries them again.", heads, rows),))


SECTIONS: Sequence[Callable[[Facts], Section | None]] = (
    _result,
    _trade,
    _curves,
    _matrices,
    _carried_over,
    _languages,
    _failed,
)
