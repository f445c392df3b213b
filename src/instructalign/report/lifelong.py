"""Runs in several stages: the accuracy matrix, and what the continual-learning literature reads off it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from instructalign.evaluation.bootstrap import Bootstrap, interval
from instructalign.evaluation.continual_metrics import Continual, continual_scores
from instructalign.files import read_object
from instructalign.report.collect import Evaluated, Run, read_evaluated
from instructalign.report.compare import outcomes_of
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
from instructalign.report.tables import FULL_SHADE, GROUPS, headline, unique
from instructalign.report.tables import interval as bounds
from instructalign.types import Score

STAGES = "stages"
GROUP = "stages"  # the group that the scores of a whole course are rows of
PREFIX = "stages_"  # of their metrics
WORDS = {
    "average": ("ACC", "mean of all stages' languages in the end"),
    "backward": ("BWT", "how much later stages changed them"),
    "forward": ("FWT", "how far above chance they stood before their own stage"),
    "forgetting": ("Forgetting", "below the best that they ever were"),
}

Matrix = NDArray[np.float64]
"""[1 + rounds, stages + 1, places]: the mean score on the languages of each place, on the items and every draw."""


@dataclass(frozen=True, slots=True)
class Course:
    """One run's stages on one task.

    Attributes:
        run: the run's name.
        task, metric: what was measured.
        models: what the rows are called: `base`, and each stage by its languages.
        places: what the columns are called: L1, each stage's languages, L3.
        matrix: the scores.
        own: the columns that are stages, in order.
        chance: by stage, what guessing scores on its languages.
        items: how many items are behind a row.
    """

    run: str
    task: str
    metric: str
    models: tuple[str, ...]
    places: tuple[str, ...]
    matrix: Matrix
    own: tuple[int, ...]
    chance: tuple[float, ...]
    items: int

    def scores(self) -> list[Score]:
        """ACC, BWT, FWT and forgetting, with intervals over items."""
        draws = [continual_scores(matrix[:, list(self.own)], self.chance) for matrix in self.matrix]
        sign = {"task": self.task, "stages": list(self.models[1:]), "metric": self.metric}
        found = []
        for each in fields(Continual):
            values = [getattr(draw, each.name) for draw in draws]
            if values[0] is not None:
                low, high = interval(np.array(values, dtype=np.float64))
                name = f"{PREFIX}{each.name}"
                found.append(Score(self.run, self.task, "", GROUP, name, values[0], low, high, self.items, sign))
        return found


def courses(runs: Sequence[Run], label: Callable[[str], str]) -> list[Course]:
    """The courses of the runs that have stages.

    Args:
        runs: the runs.
        label: the name of a language, from its code.
    """
    found = []
    for run in runs:
        names = run.record.get("stages") or []
        folders = [run.folder / STAGES / str(name) for name in names]
        models = [read_evaluated(folder / "evaluation" / "adapted", folder.name) for folder in folders]
        reached = [model for model in models if model is not None]
        if run.base is None or len(reached) < 2:
            continue
        taught = [_languages(folder) for folder in folders[: len(reached)]]
        for task in unique(score.task for score in run.base.scores):
            if course := _course(run, run.base, reached, taught, task, label):
                found.append(course)
    return found


def _languages(folder: Path) -> list[str]:
    """The codes that a stage taught, from its configuration."""
    config = read_object(folder / "config.yaml", yaml.safe_load)
    return list((config.get("instructions") or {}).get("targets") or [])


def _course(
    run: Run,
    base: Evaluated,
    reached: Sequence[Evaluated],
    taught: Sequence[Sequence[str]],
    task: str,
    label: Callable[[str], str],
) -> Course | None:
    """One run on one task; None where a stage has no language in the task, or a model was not asked all of it."""
    metric = headline(base.scores, task)
    models = [base, *reached]
    outcomes = [{outcome.language: outcome for outcome in outcomes_of(model).get(task, ())} for model in models]
    groups = {row.language: row.group for row in base.scores if row.language and row.task == task}
    columns = {
        "L1": [code for code, group in groups.items() if group == "L1"],
        **{", ".join(map(label, codes)): [code for code in codes if code in groups] for codes in taught},
        "L3": [code for code, group in groups.items() if group == "L3"],
    }
    places = {name: codes for name, codes in columns.items() if codes}
    own = [", ".join(map(label, codes)) for codes in taught]
    if not all(name in places for name in own) or any(set(groups) - set(each) for each in outcomes):
        return None
    settings = run.config.get("evaluation") or {}
    bootstrap = Bootstrap(int(settings.get("bootstrap", 1000)), int(run.config.get("seed", 0)))
    values = [{code: bootstrap.values(each[code], metric) for code in groups} for each in outcomes]
    matrix = np.array([[np.mean([by[c] for c in codes], axis=0) for codes in places.values()] for by in values])
    guess = {row.language: row.value for row in base.baselines if (row.run, row.metric) == ("random", metric)}
    return Course(
        run.name,
        task,
        metric,
        ("base", *(f"after {name}" for name in own)),
        tuple(places),
        np.moveaxis(matrix, -1, 0),
        tuple(list(places).index(name) for name in own),
        tuple(float(np.mean([guess.get(code, 0.0) for code in places[name]])) for name in own),
        sum(len(outcome.items) for outcome in outcomes[0].values()),
    )


def section(found: Sequence[Course]) -> Section | None:
    """The matrices, and the scores of each course."""
    if not found:
        return None
    text = (
        "Rows: the base, and the model after each stage. Columns: the languages of each stage, and those known "
        "and related. Bold: a stage's languages just after they were taught. Colour: the change against the base."
    )
    blocks: list[Block] = [Paragraph(text)]
    for course in found:
        blocks += [_matrix(course), _summary(course)]
    return Section("Stage by stage", "stages", blocks)


def _matrix(course: Course) -> ReportTable:
    rows = []
    for number, name in enumerate(course.models):
        cells = [TableCell(name)]
        for place in range(len(course.places)):
            draws = 100 * course.matrix[:, number, place]
            change = draws[0] - 100 * course.matrix[0, 0, place]
            low, high = interval(draws)
            note = "" if low is None or high is None else f"{low:.1f}–{high:.1f}"
            just = number > 0 and course.own[number - 1] == place
            cells.append(TableCell(f"{draws[0]:.1f}", note, best=just, shade=_shade(change)))
        rows.append(tuple(cells))
    heads = [
        TableColumn(name, GROUPS.get(name, "taught"), group=name if name in GROUPS else "L2")
        for name in course.places
    ]
    return ReportTable(
        f"{course.run}, {course.task}: score × 100, with its 95 % interval over items.",
        (text_column("Model"), *heads),
        tuple(rows),
    )


def _shade(change: float) -> float:
    return float(max(-1.0, min(1.0, change / FULL_SHADE)))


def _summary(course: Course) -> ReportTable:
    scores = course.scores()
    heads = tuple(column_of(row.metric) for row in scores)
    caption = (
        f"{course.run}, {course.task}, in points, with the 95 % interval over items (Lopez-Paz and Ranzato 2017; "
        "forgetting: Chaudhry et al. 2018)."
    )
    return ReportTable(caption, (text_column(""), *heads), ((TableCell("stages"), *map(cell_of, scores)),))


def column_of(metric: str) -> TableColumn:
    """The head over a score of the whole course."""
    return TableColumn(*WORDS[metric.removeprefix(PREFIX)])


def cell_of(score: Score) -> TableCell:
    """Such a score with its interval: ACC is a level, the others are changes and have a sign."""
    level = score.metric == f"{PREFIX}average"
    return TableCell(as_points(score.value) if level else signed(100 * score.value), bounds(score))
