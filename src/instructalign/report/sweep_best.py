"""The best cell of a sweep against each of the others: is it better by more than seeds and items explain?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np

from instructalign.evaluation.levels import Draws, Spread, over_levels
from instructalign.evaluation.significance import Bootstrap
from instructalign.records import Score
from instructalign.report.cells import CELLS
from instructalign.report.content import Block, Cell, Column, Fold, Section, Table
from instructalign.report.plots import signed
from instructalign.report.seeds import Outcomes, bootstrap_of, outcomes_in
from instructalign.report.sweep_parts import Facts
from instructalign.report.tables import GROUPS, groups_of, headline, interval

CAPTION = (
    "{best} minus each other cell on {task}, in points, with the 95 % interval over seeds and items; marked where "
    "it does not hold 0. Each interval is for itself: of twenty, one misses by chance."
)


def against_best(facts: Facts) -> Section | None:
    """The differences between the cell with the best balance and the others, by group.

    Only cells with several seeds and with their predictions at hand are compared, on the languages and items that
    all of them answered.
    """
    folders = {
        cell: [facts.sweep.folder / CELLS / run.folder for run in facts.sweep.of(cell)]
        for cell in facts.sweep.cells
        if len(facts.sweep.of(cell)) > 1
    }
    bootstrap = bootstrap_of(next(iter(folders.values()))[0]) if len(folders) > 1 else None
    if bootstrap is None:
        return None
    answers = {
        cell: [outcomes_in(folder / "evaluation" / "adapted") for folder in some] for cell, some in folders.items()
    }
    answers = {cell: runs for cell, runs in answers.items() if all(runs)}
    blocks: list[Block] = []
    for task in facts.tasks:
        ranked = [cell for cell in facts.ranked(task) if cell in answers]
        if len(ranked) < 2:
            continue
        draws = {cell: _draws(facts, task, answers[cell], bootstrap) for cell in ranked}
        if draws[ranked[0]]:  # of open questions no items are read here
            blocks.append(_table(task, ranked, draws))
    if not blocks:
        return None
    return Section(
        "Is the best better?", "best", (Fold("The best cell against each other", tuple(blocks), open=True),)
    )


def _table(task: str, ranked: Sequence[str], draws: Mapping[str, Mapping[str, tuple[Draws, int]]]) -> Table:
    best, *others = ranked
    groups = [group for group in GROUPS if group in draws[best]]
    lines = tuple(
        (Cell(other, foreign=True), *map(partial(_difference, draws[best], draws[other]), groups))
        for other in others
    )
    heads = (Column("Cell", numeric=False), *(Column(group, GROUPS[group], group=group) for group in groups))
    return Table(CAPTION.format(best=best, task=task), heads, lines)


def _difference(best: Mapping[str, tuple[Draws, int]], other: Mapping[str, tuple[Draws, int]], group: str) -> Cell:
    if group not in other or best[group][0].shape[1] != other[group][0].shape[1]:
        return Cell("–")
    (ours, items), (theirs, _) = best[group], other[group]
    found = over_levels(ours, items, minus=theirs, bounds=(-1, 1))
    return Cell(signed(100 * found.value), interval(_as_score(found)), best=not _holds_zero(found))


def _holds_zero(found: Spread) -> bool:
    return found.low is None or found.high is None or found.low <= 0 <= found.high


def _as_score(found: Spread) -> Score:
    return Score("", "", "", "", "", found.value, found.low, found.high, 0, "")


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
