"""The sections that say what came out: scores, changes, mistakes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from instructalign.evaluation.comparison import Baselines, SeedGroup, models_of
from instructalign.evaluation.continual_metrics import StageMatrix
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import GROUPS, headline
from instructalign.report.asked import asked_differently
from instructalign.report.evidence import continual_table, seeds_table, tests_table
from instructalign.report.items import Shift, confusion, most_changed
from instructalign.report.leaks import spoilt
from instructalign.report.lifelong import section
from instructalign.report.number_format import shorten
from instructalign.report.plots import LanguageChange, dumbbells
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
from instructalign.report.run_results import RunResults
from instructalign.report.tables import by_group, gains_table, heat_map, main_table, unique
from instructalign.report.words import verdicts
from instructalign.types import Prediction, Score

SAID = 6  # sentences of the result at most; the tables have the rest
SHOWN = 10  # items whose prediction changed most, each way
PAIR = 2  # confusion matrices that are open: a base and what became of it
LONGEST = 280  # characters shown of an item's text


@dataclass(frozen=True, slots=True)
class Facts:
    """What the sections are made from.

    Attributes:
        runs: the run folders.
        rows: all scores and paired gains, as in `report.json`.
        baselines: the random and majority baselines.
        best: (run, task, column) of the cells that a paired test supports as best.
        label: the name of a language, from its code.
        text: the text of a test item, from task, language and item; empty where unknown.
        correlation: the correlation of L2 and L3 gains in words; empty where there is none.
        refused: why a run could not be compared with its base, a sentence each.
        stage_matrices: the accuracy matrices of runs in several stages.
        seeds: the runs that differ in nothing but the seed.
        over_seeds: the scores of those over seeds and items.
    """

    runs: Sequence[RunResults]
    rows: Sequence[Score]
    best: frozenset[tuple[str, str, str]]
    label: Callable[[str], str]
    text: Callable[[str, str, str], str]
    correlation: str = ""
    baselines: Baselines = field(default_factory=Baselines)
    refused: Sequence[str] = ()
    stage_matrices: Sequence[StageMatrix] = ()
    seeds: Sequence[SeedGroup] = ()
    over_seeds: Sequence[Score] = ()

    @property
    def bases(self) -> list[tuple[str, str]]:
        """The adapted models' names with those of their bases."""
        return [(run.adapted.name, run.base.name) for run in self.runs if run.adapted and run.base]

    def said(self) -> list[tuple[str, str]]:
        """The result in words, runs of several seeds together."""
        together = {run.name for group in self.seeds for run in group.runs} if self.over_seeds else set()
        alone = [row for row in self.rows if row.run not in together]
        starts = dict(self.bases)
        starts |= {g.name: g.runs[0].base.name for g in self.seeds if g.runs[0].base}
        bases = [row for row in self.rows if row.run in starts.values()]
        over = verdicts([*bases, *self.over_seeds], self.baselines, starts)
        return [*over, *verdicts(alone, self.baselines, starts)][:SAID]

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return unique(row.task for row in self.rows if row.language or row.group in GROUPS)


def result(facts: Facts) -> Section | None:
    """The answer: a sentence, and the main table."""
    if not facts.rows:
        return None
    said = [Paragraph(text, lead=i == 0, name=run) for i, (run, text) in enumerate(facts.said())]
    told = (*asked_differently(facts.runs), *facts.refused, *spoilt(facts.runs, facts.label))
    said += [Paragraph(sentence) for sentence in told]
    gains = gains_table(facts.rows)
    blocks: list[Block] = [*said]
    if over := _seeds(facts):
        # A single seed is no result beside several: what is best stands in the table over seeds.
        plain = main_table([*facts.rows, *facts.baselines.rows])
        blocks += [over, Fold("Each run by itself", (plain, *([gains] if gains else ())))]
    else:
        blocks += [main_table([*facts.rows, *facts.baselines.rows], facts.best), *([gains] if gains else ())]
    if continual := continual_table(facts.rows, facts.baselines, facts.bases):
        blocks.append(Fold("In the terms of continual learning", (continual,)))
    return Section("Result", "result", blocks)


def stages(facts: Facts) -> Section | None:
    """What each stage of a run in several of them learned, kept and lost."""
    return section(facts.stage_matrices)


def _seeds(facts: Facts) -> ReportTable | None:
    """The table over seeds, with the models that the runs started from."""
    starts = {base for _, base in facts.bases}
    bases = [row for row in facts.rows if row.run in starts]
    return seeds_table(facts.over_seeds, bases, facts.best, min((len(g.seeds) for g in facts.seeds), default=0))


def by_language(facts: Facts) -> Section | None:
    """Before and after by language: a panel for each run and task."""
    found: list[tuple[str, str, list[LanguageChange]]] = []
    for task in facts.tasks:
        for run in facts.runs:
            changes = _changes(facts, run, task)
            if changes:
                title = run.name if len(facts.tasks) == 1 else f"{run.name}, {task}"
                found.append((title, headline(facts.rows, task), changes))
    if not found:
        return None
    limits = {
        metric: _limits([change for _, other, changes in found if other == metric for change in changes])
        for metric in unique(metric for _, metric, _ in found)
    }
    text = "Ring: base. Dot: after training. Band: 95 % interval of the score after. Right: the change in points."
    panels = Panels(tuple(dumbbells(title, changes, limits[metric]) for title, metric, changes in found), text)
    return Section("Before and after, by language", "languages", (panels,))


def _limits(changes: Sequence[LanguageChange]) -> tuple[float, float]:
    """The axis of panels that show one metric."""
    edges = [edge for c in changes for edge in (c.before, c.after, c.low, c.high) if edge is not None]
    pad = 0.06 * (max(edges) - min(edges) or 10)
    return min(edges) - pad, max(edges) + pad


def _changes(facts: Facts, run: RunResults, task: str) -> list[LanguageChange]:
    if run.base is None or run.adapted is None:
        return []
    metric = headline(facts.rows, task)
    before = {s.language: s for s in run.base.scores if s.task == task and s.metric == metric and s.language}
    after = {s.language: s for s in run.adapted.scores if s.task == task and s.metric == metric and s.language}
    both = by_group((code, after[code].group) for code in before if code in after)
    return [
        LanguageChange(
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
    blocks: list[Block] = []
    for task in facts.tasks:
        if table := heat_map(facts.rows, task, facts.label):
            blocks.append(table)
        if tests := tests_table(facts.rows, task, [run for run, _ in facts.bases], facts.label):
            blocks.append(Fold(f"Every change on {task} with its test", (tests,)))
    return Section("Languages and runs", "heat-map", blocks) if blocks else None


def mistakes(facts: Facts) -> Section | None:
    """Confusion matrices: a row of panels, one for each group, for each model; open where there are two models."""
    folds: list[Fold] = []
    for task in facts.tasks:
        for model in models_of(facts.runs):
            panels = []
            for group, codes in _codes_by_group(facts, task).items():
                chosen = [p for p in model.predictions.get(task, ()) if p.language in codes]
                table = confusion(f"{group} {GROUPS.get(group, '')}".strip(), chosen)
                panels += [table] if table else []
            if panels:
                title = model.name if len(facts.tasks) == 1 else f"{model.name}, {task}"
                folds.append(Fold(title, (Panels(tuple(panels)),)))
    if not folds:
        return None
    blocks = [replace(fold, open=len(folds) <= PAIR) for fold in folds]
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
            blocks.append(Fold(run.name, tuple(tables)))
    if not blocks:
        return None
    text = (
        f"The {SHOWN} test items each way whose right label changed most in probability against the base, "
        "averaged over prompts."
    )
    return Section("Items that changed most", "items", (Paragraph(text), *blocks))


def _all(model: ModelResults) -> list[Prediction]:
    return list(chain.from_iterable(model.predictions.values()))


def _shift_table(facts: Facts, title: str, shifts: Sequence[Shift]) -> ReportTable:
    columns = (
        text_column("Item", wide=True),
        text_column("Right"),
        text_column("Chosen", "before → after"),
        TableColumn("P(right)", "%, before → after"),
    )
    rows = tuple(
        (
            TableCell(shorten(_item_text(facts, s) or s.item, LONGEST), _item_note(facts, s), foreign=True),
            TableCell(s.gold, foreign=True),
            TableCell(f"{s.predicted_before} → {s.predicted_after}", foreign=True),
            TableCell(f"{100 * s.before:.0f} → {100 * s.after:.0f}"),
        )
        for s in shifts
    )
    return ReportTable(title, columns, rows)


def _item_text(facts: Facts, shift: Shift) -> str:
    return facts.text(shift.task, shift.language, shift.item)


def _item_note(facts: Facts, shift: Shift) -> str:
    parts = [shift.task if len(facts.tasks) > 1 else "", f"item {shift.item}" if _item_text(facts, shift) else ""]
    return ", ".join(filter(None, [*parts, facts.label(shift.language)]))
