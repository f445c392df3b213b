"""The best cell of a sweep against each of the others: is it better by more than seeds and items explain?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.variance import Draws, Spread, over_levels
from instructalign.report.cells import CELLS
from instructalign.report.number_format import signed
from instructalign.report.rendering import Block, Fold, ReportTable, Section, TableCell, TableColumn, text_column
from instructalign.report.seeds import Outcomes, bootstrap_of, outcomes_in
from instructalign.report.sweep_facts import Against, Facts
from instructalign.report.tables import GROUPS, groups_of, headline, interval
from instructalign.types import Score

CAPTION = (
    "{best} minus each other cell on {task}, in points, with the 95 % interval over seeds and items; marked where "
    "it does not hold 0. Each interval is for itself: of twenty, one misses by chance."
)


def differences(facts: Facts) -> dict[str, Against]:
    """The best cell of each task minus the others, by group.

    Only cells with several seeds and with their predictions at hand are compared, on the languages and items that
    all of them answered; a task without any is left out.
    """
    folders = {
        cell: [facts.sweep.folder / CELLS / run.folder for run in facts.sweep.of(cell)]
        for cell in facts.sweep.cells
        if len(facts.sweep.of(cell)) > 1
    }
    bootstrap = bootstrap_of(next(iter(folders.values()))[0]) if len(folders) > 1 else None
    if bootstrap is None:
        return {}
    answers = {
        cell: [outcomes_in(folder / "evaluation" / "adapted") for folder in some] for cell, some in folders.items()
    }
    answers = {cell: runs for cell, runs in answers.items() if all(runs)}
    found = {}
    for task in facts.tasks:
        ranked = [cell for cell in facts.ranked(task) if cell in answers]
        if len(ranked) < 2:
            continue
        best, *others = [_draws(facts, task, answers[cell], bootstrap) for cell in ranked]
        if best:  # of open questions no items are read here
            some = {cell: _minus(best, other) for cell, other in zip(ranked[1:], others, strict=True)}
            found[task] = Against(ranked[0], some)
    return found


def against_best(facts: Facts) -> Section | None:
    """The differences between the cell with the best balance and the others, by group."""
    blocks: list[Block] = [_table(task, against) for task, against in facts.against.items()]
    if not blocks:
        return None
    return Section(
        "Is the best better?", "best", (Fold("The best cell against each other", tuple(blocks), open=True),)
    )


def how_sure(facts: Facts, task: str) -> str:
    """Whether the best is better by more than chance, as the end of a sentence; empty where it is alone."""
    best, *others = [cell for cell in facts.ranked(task) if cell in facts.points(task)]
    against = facts.against.get(task)
    if not others:
        return ""
    if max(len(facts.sweep.of(cell)) for cell in (best, *others)) == 1:
        return "; one seed cannot tell whether it is better than the others"
    known = {} if against is None or against.best != best else against.others
    tried = [[each[group] for group in ("L1", "L2") if group in each] for each in known.values()]
    tried = [some for some in tried if some]
    if not tried:
        return "; it could not be compared with the others over seeds and items"
    same = sum(all(map(_holds_zero, some)) for some in tried)
    if len(tried) == 1:
        count = f"the other {'cannot' if same else 'can'}"
    else:
        count = f"{same} of the {len(tried)} others cannot" if same else f"all {len(tried)} others can"
    left = f" ({len(others) - len(tried)} not compared)" if len(tried) < len(others) else ""
    return f"; {count} be told from it on L2 or L1 by seeds and items{left}"


def _table(task: str, against: Against) -> ReportTable:
    groups = [group for group in GROUPS if any(group in some for some in against.others.values())]
    lines = tuple(
        (TableCell(other, foreign=True), *(_cell(some.get(group)) for group in groups))
        for other, some in against.others.items()
    )
    heads = (
        text_column("Cell"),
        *(TableColumn(group, GROUPS[group], group=group) for group in groups),
    )
    return ReportTable(CAPTION.format(best=against.best, task=task), heads, lines)


def _minus(best: Mapping[str, tuple[Draws, int]], other: Mapping[str, tuple[Draws, int]]) -> dict[str, Spread]:
    return {
        group: over_levels(ours, items, minus=other[group][0], bounds=(-1, 1))
        for group, (ours, items) in best.items()
        if group in other and ours.shape[1] == other[group][0].shape[1]
    }


def _cell(found: Spread | None) -> TableCell:
    if found is None:
        return TableCell("–")
    return TableCell(signed(100 * found.value), interval(_as_score(found)), best=not _holds_zero(found))


def _holds_zero(found: Spread) -> bool:
    return found.low is None or found.high is None or found.low <= 0 <= found.high


def _as_score(found: Spread) -> Score:
    return Score("", "", "", "", "", found.value, found.low, found.high)


def _draws(
    facts: Facts, task: str, answers: Sequence[Outcomes], bootstrap: Bootstrap
) -> dict[str, tuple[Draws, int]]:
    """By group, the scores of a cell by seed and draw, means over languages; and how many items they are on."""
    metric = headline(facts.rows, task)
    found = {}
    for group, codes in groups_of(facts.rows, task).items():
        some = [code for code in codes if all((task, code) in each for each in answers)]
        if some:
            scores = [[bootstrap.values(each[task, code], metric) for code in some] for each in answers]
            items = min(len(answers[0][task, code].items) for code in some)
            found[group] = np.mean(scores, axis=1), items
    return found
