"""The sections that say what came out: scores, changes, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from instructalign.records import Prediction, Score
from instructalign.report.collect import Evaluated, Run, evaluated
from instructalign.report.content import Block, Cell, Column, Fold, Panels, Paragraph, Section, Table
from instructalign.report.items import Shift, confusion, most_changed
from instructalign.report.leaks import spoilt
from instructalign.report.lifelong import Course, section
from instructalign.report.plots import Change, dumbbells, shorten
from instructalign.report.tables import (
    GAIN,
    GROUPS,
    by_group,
    gains_table,
    headline,
    heat_map,
    main_table,
    unique,
)
from instructalign.report.words import verdicts
from instructalign.report.xy import Point, scatter

SAID = 6  # sentences of the result at most; the tables have the rest
SHOWN = 10  # items whose prediction changed most, each way
LONGEST = 280  # characters shown of an item's text
FEWEST_POINTS = 3  # below this a correlation says nothing


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sections are made from.

    Attributes:
        runs: the run folders.
        rows: all scores and paired gains, as in `report.json`.
        baselines: what guessing would score.
        best: (run, task, column) of the cells that a paired test supports as best.
        label: the name of a language, from its code.
        text: the text of a test item, from task, language and item; empty where unknown.
        correlation: the correlation of L2 and L3 gains in words; empty where there is none.
        refused: why a run could not be compared with its base, a sentence each.
        courses: the runs in several stages.
    """

    runs: Sequence[Run]
    rows: Sequence[Score]
    best: frozenset[tuple[str, str, str]]
    label: Callable[[str], str]
    text: Callable[[str, str, str], str]
    correlation: str = ""
    baselines: Sequence[Score] = ()
    refused: Sequence[str] = ()
    courses: Sequence[Course] = ()

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return unique(row.task for row in self.rows if row.language or row.group in GROUPS)


def result(facts: Facts) -> Section | None:
    """The answer: a sentence, and the main table."""
    if not facts.rows:
        return None
    said = [Paragraph(text, lead=i == 0, name=run) for i, (run, text) in enumerate(verdicts(facts.rows)[:SAID])]
    said += [Paragraph(sentence) for sentence in (*facts.refused, *spoilt(facts.runs, facts.label))]
    blocks: list[Block] = [*said, main_table([*facts.rows, *facts.baselines], facts.best)]
    if gains := gains_table(facts.rows):
        blocks.append(gains)
    return Section("Result", "result", blocks)


def stages(facts: Facts) -> Section | None:
    """What each stage of a run in several of them learned, kept and lost."""
    return section(facts.courses)


def by_language(facts: Facts) -> Section | None:
    """Before and after by language: a panel for each run and task."""
    found: list[tuple[str, list[Change]]] = []
    for task in facts.tasks:
        for run in facts.runs:
            changes = _changes(facts, run, task)
            if changes:
                found.append((run.name if len(facts.tasks) == 1 else f"{run.name}, {task}", changes))
    if not found:
        return None
    everything = [c for _, changes in found for c in changes]
    edges = [edge for c in everything for edge in (c.before, c.after, c.low, c.high) if edge is not None]
    pad = 0.06 * (max(edges) - min(edges) or 10)
    limits = (min(edges) - pad, max(edges) + pad)
    text = "Ring: base. Dot: after training. Band: 95 % interval of the score after. Right: the change in points."
    panels = Panels(tuple(dumbbells(title, changes, limits) for title, changes in found), text)
    return Section("Before and after, by language", "languages", (panels,))


def _changes(facts: Facts, run: Run, task: str) -> list[Change]:
    if run.base is None or run.adapted is None:
        return []
    metric = headline(facts.rows, task)
    before = {s.language: s for s in run.base.scores if s.task == task and s.metric == metric and s.language}
    after = {s.language: s for s in run.adapted.scores if s.task == task and s.metric == metric and s.language}
    both = by_group((code, after[code].group) for code in before if code in after)
    return [
        Change(
            facts.label(code),
            group,
            100 * before[code].value,
            100 * after[code].value,
            _scaled(after[code].low),
            _scaled(after[code].high),
        )
        for code, group in both.items()
    ]


def _scaled(value: float | None) -> float | None:
    return None if value is None else 100 * value


def heat(facts: Facts) -> Section | None:
    """Languages against runs, a table for each task."""
    found = (heat_map(facts.rows, task, facts.label) for task in facts.tasks)
    blocks = [table for table in found if table is not None]
    return Section("Languages and runs", "heat-map", blocks) if blocks else None


def carried_over(facts: Facts) -> Section | None:
    """Whether gains on the related languages follow those on the new ones."""
    gains = {
        (row.run, row.task, row.group): 100 * row.value
        for row in facts.rows
        if row.metric == GAIN and not row.language
    }
    points = [
        Point(run if len(facts.tasks) == 1 else f"{run}, {task}", gains[run, task, "L2"], gains[run, task, "L3"])
        for run, task, group in gains
        if group == "L2" and (run, task, "L3") in gains
    ]
    if len(points) < FEWEST_POINTS:
        return None
    said = [Paragraph(facts.correlation)] if facts.correlation else []
    title, x, y = "Gain on L3 against gain on L2", "gain on L2, points", "gain on L3, points"
    panel = Panels((scatter(title, points, x=x, y=y, note=facts.correlation),))
    return Section("Do related languages follow?", "carried-over", (*said, panel))


def mistakes(facts: Facts) -> Section | None:
    """Confusion matrices: a row of panels, one for each group, for each model."""
    blocks: list[Block] = []
    for task in facts.tasks:
        for model in evaluated(facts.runs):
            panels = []
            for group, codes in _codes_by_group(facts, task).items():
                chosen = [p for p in model.predictions.get(task, ()) if p.language in codes]
                table = confusion(f"{group} {GROUPS.get(group, '')}".strip(), chosen)
                panels += [table] if table else []
            if panels:
                title = model.name if len(facts.tasks) == 1 else f"{model.name}, {task}"
                blocks.append(Fold(title, (Panels(tuple(panels)),), open=not blocks))
    if not blocks:
        return None
    text = "Percent of the items with a label (rows) that were given each label (columns), over all prompts."
    return Section("What is taken for what", "confusion", (Paragraph(text), *blocks))


def _codes_by_group(facts: Facts, task: str) -> dict[str, set[str]]:
    groups: dict[str, set[str]] = {}
    for code, group in by_group(
        (r.language, r.group) for r in facts.rows if r.task == task and r.language
    ).items():
        groups.setdefault(group, set()).add(code)
    return groups


def changed_items(facts: Facts) -> Section | None:
    """The items whose prediction changed most, each way."""
    blocks: list[Block] = []
    for run in facts.runs:
        if run.base is None or run.adapted is None:
            continue
        gained, lost = most_changed(_all(run.base), _all(run.adapted), SHOWN)
        tables = [
            _shift_table(facts, title, shifts)
            for title, shifts in (("Towards the right label", gained), ("Away from the right label", lost))
            if shifts
        ]
        if tables:
            blocks.append(Fold(run.name, tuple(tables), open=not blocks))
    if not blocks:
        return None
    text = (
        f"The {SHOWN} test items each way whose right label changed most in probability against the base, "
        "averaged over prompts."
    )
    return Section("Items that changed most", "items", (Paragraph(text), *blocks))


def _all(model: Evaluated) -> list[Prediction]:
    return list(chain.from_iterable(model.predictions.values()))


def _shift_table(facts: Facts, title: str, shifts: Sequence[Shift]) -> Table:
    columns = (
        Column("Item", numeric=False, wide=True),
        Column("Right", numeric=False),
        Column("Chosen", "before → after", numeric=False),
        Column("P(right)", "%, before → after"),
    )
    rows = tuple(
        (
            Cell(shorten(_item_text(facts, s) or s.item, LONGEST), _item_note(facts, s), foreign=True),
            Cell(s.gold, foreign=True),
            Cell(f"{s.predicted_before} → {s.predicted_after}", foreign=True),
            Cell(f"{100 * s.before:.0f} → {100 * s.after:.0f}"),
        )
        for s in shifts
    )
    return Table(title, columns, rows)


def _item_text(facts: Facts, shift: Shift) -> str:
    return facts.text(shift.task, shift.language, shift.item)


def _item_note(facts: Facts, shift: Shift) -> str:
    parts = [shift.task if len(facts.tasks) > 1 else "", f"item {shift.item}" if _item_text(facts, shift) else ""]
    return ", ".join(filter(None, [*parts, facts.label(shift.language)]))


def translations(facts: Facts) -> Section | None:
    """Samples of what the models translate."""
    blocks: list[Block] = []
    for model in evaluated(facts.runs):
        if model.translations:
            titles = ("Source", "Translation", "Reference")
            columns = tuple(Column(title, numeric=False, wide=True) for title in titles)
            rows = tuple(
                (
                    Cell(str(s.get("text", "")), _direction(facts, s), foreign=True),
                    Cell(str(s.get("translation", "")), foreign=True),
                    Cell(str(s.get("reference", "")), foreign=True),
                )
                for s in model.translations[:SHOWN]
            )
            blocks.append(Fold(model.name, (Table("First translations", columns, rows),), open=not blocks))
    return Section("Translation samples", "translations", blocks) if blocks else None


def _direction(facts: Facts, sample: Mapping[str, Any]) -> str:
    codes = [str(sample.get(key, "")) for key in ("source", "target")]
    return " → ".join(facts.label(code) for code in codes if code)
