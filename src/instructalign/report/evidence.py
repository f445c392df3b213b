"""The tables that say how sure a number is: tests by language, other prompts, other seeds; and its other names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from instructalign.evaluation.comparison import OVER_PROMPTS, PROMPT_SD, SEED_SD, Baselines
from instructalign.evaluation.continual_metrics import continual_scores
from instructalign.evaluation.paired_tests import FORGETTING, GAIN
from instructalign.evaluation.score_table import GROUPS, headline
from instructalign.report.number_format import NBSP, as_points, is_small, p_text, precision, signed
from instructalign.report.rendering import ReportTable, TableCell, TableColumn, text_column
from instructalign.report.tables import by_group, interval, name_of, names_of, points, unique
from instructalign.types import Score


class Rows:
    """Scores by (run, task, metric, group, language)."""

    def __init__(self, rows: Sequence[Score]) -> None:
        self._rows = {(row.run, row.task, row.metric, row.group, row.language): row for row in rows}

    def get(self, run: str, task: str, metric: str, group: str, language: str = "") -> Score | None:
        """A score; None where there is none."""
        return self._rows.get((run, task, metric, group, language))


def seeds_table(
    rows: Sequence[Score], bases: Sequence[Score], best: Collection[tuple[str, str, str]], count: int
) -> ReportTable | None:
    """Runs over their seeds: the mean, its interval over seeds and items, and the deviation between seeds.

    Args:
        rows: what `levels.seed_rows` made.
        bases: the scores of the models that they started from.
        best: (run, task, column) of the cells that are better than all others of their column.
        count: the fewest seeds of a row.
    """
    if not rows:
        return None
    found = Rows([*bases, *rows])
    tasks = unique(row.task for row in rows)
    columns = [
        text_column("Run"),
        *([text_column("Task")] if len(tasks) > 1 else []),
    ]
    columns += [TableColumn(group, word, group=group) for group, word in GROUPS.items()] + [
        TableColumn("Forgetting", "L1 lost")
    ]
    lines = []
    for task in tasks:
        places = [*((headline(rows, task), group, group) for group in GROUPS), (FORGETTING, "L1", FORGETTING)]
        runs = unique(row.run for row in (*bases, *rows) if row.task == task)
        small = {
            column: all(is_small(row) for run in runs if (row := found.get(run, task, metric, group)))
            for metric, group, column in places
        }
        for run in runs:
            cells = [
                _over_seeds(found, run, task, metric, group, (run, task, column) in best, small[column])
                for metric, group, column in places
            ]
            lines.append((TableCell(run, foreign=True), *([TableCell(task)] if len(tasks) > 1 else []), *cells))
    few = " Two seeds say little about their spread, and the intervals are as wide as that." if count == 2 else ""
    caption = (
        f"{names_of({task: headline(rows, task) for task in tasks})} × 100 over seeds: the mean; below it, its "
        "95 % interval over seeds and items (of the base, over items), and the standard deviation (SD) of the "
        f"seeds.{few}"
    )
    if best:
        caption += (
            " Bold: better than every other row of the task, with such an interval that excludes 0, and above "
            "guessing."
        )
    return ReportTable(caption, tuple(columns), tuple(lines))


def _over_seeds(found: Rows, run: str, task: str, metric: str, group: str, best: bool, small: bool) -> TableCell:
    row, deviation = found.get(run, task, metric, group), found.get(run, task, metric + SEED_SD, group)
    if row is None:
        return TableCell("–")
    digits = precision(row, small)
    spread = f"SD{NBSP}{as_points(deviation.value, digits)}" if deviation else ""
    return TableCell(points(row, digits), "\n".join(filter(None, (interval(row, digits), spread))), best=best)


def prompts_table(
    rows: Sequence[Score], task: str, runs: Sequence[str], gains: Sequence[str]
) -> ReportTable | None:
    """What other prompts would do, by run and group: to the score, and to the gain over the base.

    Args:
        rows: with those that `levels.prompt_rows` made.
        task: which task's.
        runs: the models' names.
        gains: of those, the ones that have a base.
    """
    found = Rows(rows)
    metric = headline(rows, task)
    places = [*((run, metric) for run in runs), *((run, GAIN) for run in gains)]
    known = [
        (what, group, row)
        for run, what in places
        for group in GROUPS
        if (row := found.get(run, task, what + OVER_PROMPTS, group))
    ]
    large = {(what, group) for what, group, row in known if not is_small(row)}
    lines = []
    for run, what in places:
        cells = [_over_prompts(found, run, task, what, group, (what, group) not in large) for group in GROUPS]
        if any(cell.text != "–" for cell in cells):
            lines.append((TableCell(run, "change" if what == GAIN else "score", foreign=True), *cells))
    if not lines:
        return None
    columns = (
        text_column("Run"),
        *(TableColumn(group, word, group=group) for group, word in GROUPS.items()),
    )
    caption = (
        f"{name_of(metric)} × 100 on {task}, and its change against the base: below it, the 95 % interval over "
        "prompts and items, and the standard deviation (SD) of the prompts at hand."
    )
    return ReportTable(caption, columns, tuple(lines))


def _over_prompts(found: Rows, run: str, task: str, metric: str, group: str, small: bool) -> TableCell:
    row, deviation = (
        found.get(run, task, metric + OVER_PROMPTS, group),
        found.get(run, task, metric + PROMPT_SD, group),
    )
    if row is None:
        return TableCell("–")
    digits = precision(row, small)
    spread = f"SD{NBSP}{as_points(deviation.value, digits)}" if deviation else ""
    text = signed(100 * row.value, digits) if metric == GAIN else points(row, digits)
    return TableCell(text, "\n".join(filter(None, (interval(row, digits), spread))))


def tests_table(
    rows: Sequence[Score], task: str, runs: Sequence[str], label: Callable[[str], str]
) -> ReportTable | None:
    """Languages down, runs across: the change against the base with its interval and its p-values."""
    found = Rows(rows)
    languages = by_group(
        (row.language, row.group) for row in rows if row.task == task and row.metric == "gain_p" and row.language
    )
    if not languages:
        return None
    small = {
        run: all(
            is_small(row) for code, group in languages.items() if (row := found.get(run, task, GAIN, group, code))
        )
        for run in runs
    }
    lines = []
    for language, group in languages.items():
        cells = []
        for run in runs:
            gain, p, corrected = (
                found.get(run, task, metric, group, language) for metric in (GAIN, "gain_p", "gain_p_holm")
            )
            if gain is None or p is None or corrected is None:
                cells.append(TableCell("–"))
            else:
                digits = precision(gain, small[run])
                tests = f"{p_text(p)}\nHolm {p_text(corrected)[2:]}"
                cells.append(TableCell(signed(100 * gain.value, digits), f"{interval(gain, digits)}\n{tests}"))
        lines.append((TableCell(label(language), GROUPS.get(group, ""), foreign=True), *cells))
    columns = (text_column("Language"), *(TableColumn(run) for run in runs))
    caption = (
        f"Change against the base on {task}, in points: the paired 95 % interval, p (two-sided, approximate "
        f"randomisation over items), and p corrected for {len(languages)} languages (Holm)."
    )
    return ReportTable(caption, columns, tuple(lines), tuple(languages.values()))


def continual_table(
    rows: Sequence[Score], baselines: Baselines, bases: Sequence[tuple[str, str]]
) -> ReportTable | None:
    """The result in the terms of continual learning: L1 is the first thing learned, L2 the second.

    Args:
        rows: scores as in `report.json`.
        baselines: the random and majority baselines.
        bases: (run, its base).
    """
    found = Rows(rows)
    lines = []
    for task in unique(row.task for row in rows if row.metric == GAIN):
        metric = headline(rows, task)
        for run, base in bases:
            scores = [[found.get(name, task, metric, group) for group in ("L1", "L2")] for name in (base, run)]
            drawn = [baselines.value_for(row, ("random",)) for row in scores[1] if row]
            guess = [value for value in drawn if value is not None]
            if len(guess) < 2 or None in scores[0]:
                continue
            matrix = [guess, *([row.value for row in line if row] for line in scores)]
            told = continual_scores(matrix, guess)
            numbers = (told.average, told.backward, told.forward, told.forgetting)
            cells = [
                TableCell(as_points(number) if place in (0, 3) else signed(100 * number))
                for place, number in enumerate(numbers)
                if number is not None
            ]
            lines.append((TableCell(run, task, foreign=True), *cells))
    if not lines:
        return None
    columns = (
        text_column("Run"),
        TableColumn("Average", "accuracy, ACC"),
        TableColumn("Backward", "transfer, BWT"),
        TableColumn("Forward", "transfer, FWT"),
        TableColumn("Forgetting"),
    )
    caption = (
        "In points, with L1 as the first task and L2 as the second. ACC: mean of both in the end. BWT: change of "
        "L1 by learning L2. FWT: the base on L2, above the random baseline (Lopez-Paz and Ranzato 2017). "
        "Forgetting: best of L1 less its end (Chaudhry et al. 2018)."
    )
    return ReportTable(caption, columns, tuple(lines))
