"""The best cell of a sweep against each of the others: is it better by more than seeds and items explain?"""

from __future__ import annotations

from instructalign.evaluation.score_table import GROUPS
from instructalign.evaluation.variance import Estimate
from instructalign.report.number_format import interval_text, signed
from instructalign.report.rendering import Block, Fold, ReportTable, Section, TableCell, TableColumn, text_column
from instructalign.report.sweep_results import BestCell, SweepResults

CAPTION = (
    "{best} minus each other cell on {task}, in points, with the 95 % interval over seeds and items; marked where "
    "it does not hold 0. Each interval is for itself: of twenty, one misses by chance."
)


def against_best(sweep: SweepResults) -> Section | None:
    """The differences between the cell with the best balance and the others, by group."""
    blocks: list[Block] = [_table(task, best) for task, best in sweep.best.items()]
    if not blocks:
        return None
    return Section(
        "Is the best better?", "best", (Fold("The best cell against each other", tuple(blocks), open=True),)
    )


def how_sure(sweep: SweepResults, task: str) -> str:
    """Whether the best is better by more than chance, as the end of a sentence; empty where it is alone."""
    best, *others = [cell for cell in sweep.ranked(task) if cell in sweep.points(task)]
    compared = sweep.best.get(task)
    if not others:
        return ""
    if max(len(sweep.of(cell)) for cell in (best, *others)) == 1:
        return "; one seed cannot tell whether it is better than the others"
    known = {} if compared is None or compared.name != best else compared.minus
    tried = [[each[group] for group in ("L1", "L2") if group in each] for each in known.values()]
    tried = [some for some in tried if some]
    if not tried:
        return "; it could not be compared with the others over seeds and items"
    same = sum(not any(each.excludes_zero for each in some) for some in tried)
    if len(tried) == 1:
        count = f"the other {'cannot' if same else 'can'}"
    else:
        count = f"{same} of the {len(tried)} others cannot" if same else f"all {len(tried)} others can"
    left = f" ({len(others) - len(tried)} not compared)" if len(tried) < len(others) else ""
    return f"; {count} be told from it on L2 or L1 by seeds and items{left}"


def _table(task: str, best: BestCell) -> ReportTable:
    groups = [group for group in GROUPS if any(group in some for some in best.minus.values())]
    lines = tuple(
        (TableCell(other, foreign=True), *(_cell(some.get(group)) for group in groups))
        for other, some in best.minus.items()
    )
    heads = (
        text_column("Cell"),
        *(TableColumn(group, GROUPS[group], group=group) for group in groups),
    )
    return ReportTable(CAPTION.format(best=best.name, task=task), heads, lines)


def _cell(found: Estimate | None) -> TableCell:
    if found is None:
        return TableCell("–")
    return TableCell(signed(100 * found.value), interval_text(found.low, found.high), best=found.excludes_zero)
