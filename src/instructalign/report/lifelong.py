"""Runs in several stages: the accuracy matrix, and what the continual-learning literature reads off it."""

from __future__ import annotations

from collections.abc import Sequence

from instructalign.evaluation.bootstrap import percentile_interval
from instructalign.evaluation.continual_metrics import StageMatrix
from instructalign.evaluation.score_table import GROUPS
from instructalign.report.number_format import as_points, signed
from instructalign.report.rendering import (
    Block,
    Paragraph,
    ReportTable,
    Section,
    TableCell,
    TableColumn,
    text_column,
)
from instructalign.report.tables import FULL_SHADE
from instructalign.report.tables import interval as bounds
from instructalign.types import Score

WORDS = {
    "average": ("ACC", "mean of all stages' languages in the end"),
    "backward": ("BWT", "how much later stages changed them"),
    "forward": ("FWT", "how far above chance they stood before their own stage"),
    "forgetting": ("Forgetting", "below the best that they ever were"),
}


def section(found: Sequence[StageMatrix]) -> Section | None:
    """The matrices, and the scores of each."""
    if not found:
        return None
    text = (
        "Rows: the base, and the model after each stage. Columns: the languages of each stage, and those known "
        "and related. Bold: a stage's languages just after they were taught. Colour: the change against the base."
    )
    blocks: list[Block] = [Paragraph(text)]
    for matrix in found:
        blocks += [_matrix(matrix), _summary(matrix)]
    return Section("Stage by stage", "stages", blocks)


def _matrix(matrix: StageMatrix) -> ReportTable:
    rows = []
    for number, name in enumerate(matrix.models):
        cells = [TableCell(name)]
        for place in range(len(matrix.columns)):
            draws = 100 * matrix.scores[number, place]
            change = draws[0] - 100 * matrix.scores[0, place, 0]
            low, high = percentile_interval(draws)
            note = "" if low is None or high is None else f"{low:.1f}–{high:.1f}"
            just = number > 0 and matrix.own[number - 1] == place
            cells.append(TableCell(f"{draws[0]:.1f}", note, best=just, shade=_shade(change)))
        rows.append(tuple(cells))
    heads = [
        TableColumn(name, GROUPS.get(name, "taught"), group=name if name in GROUPS else "L2")
        for name in matrix.columns
    ]
    return ReportTable(
        f"{matrix.run}, {matrix.task}: score × 100, with its 95 % interval over items.",
        (text_column("Model"), *heads),
        tuple(rows),
    )


def _shade(change: float) -> float:
    return float(max(-1.0, min(1.0, change / FULL_SHADE)))


def _summary(matrix: StageMatrix) -> ReportTable:
    scores = matrix.rows()
    heads = tuple(column_of(row.metric) for row in scores)
    caption = (
        f"{matrix.run}, {matrix.task}, in points, with the 95 % interval over items (Lopez-Paz and Ranzato 2017; "
        "forgetting: Chaudhry et al. 2018)."
    )
    return ReportTable(caption, (text_column(""), *heads), ((TableCell("stages"), *map(cell_of, scores)),))


def column_of(metric: str) -> TableColumn:
    """The head over a score of all stages."""
    return TableColumn(*WORDS[metric.removeprefix("stages_")])


def cell_of(score: Score) -> TableCell:
    """Such a score with its interval: ACC is a level, the others are changes and have a sign."""
    level = score.metric == "stages_average"
    return TableCell(as_points(score.value) if level else signed(100 * score.value), bounds(score))
