"""The tables of scores: runs against groups, and languages against runs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TypeVar

from instructalign.evaluation.paired_tests import FORGETTING, GAIN, GAIN_P_HOLM
from instructalign.evaluation.score_table import GROUPS, headline, is_base, is_baseline
from instructalign.report.number_format import (
    as_points,
    decimals,
    interval_text,
    is_small,
    p_text,
    precision,
    signed,
)
from instructalign.report.rendering import ReportTable, TableCell, TableColumn, text_column
from instructalign.types import Score

METRIC_WORDS = {
    "f1_weighted": "Weighted F1",
    "f1_macro": "Macro F1",
    "f1_micro": "Micro F1",
    "accuracy": "Accuracy",
    "chrf": "chrF++",
    "token_probability": "Probability of the answers' tokens",
    "bleu": "BLEU",
    "spbleu": "spBLEU",
    "comet": "COMET",
    "copied": "Copied",
    "off_target": "Off target",
    "off_target_reference": "Off target, references",
    "wrong_script": "Wrong script",
    "empty": "Empty",
    "unfinished": "Unfinished",
}
SURE = 0.05  # the level below which a p-value counts
FULL_SHADE = 30.0  # points of change at which a cell of the heat map has its full colour

T = TypeVar("T")


def main_table(rows: Sequence[Score], best: Collection[tuple[str, str, str]] = ()) -> ReportTable:
    """The table that answers the question: a row a run, the groups and forgetting across.

    Args:
        rows: scores as in `report.json`, in the order in which the runs are to stand.
        best: (run, task, column) of the cells that a paired test puts before all others of their column.

    Returns:
        The table as data: numbers in points with one decimal (more where all of a column and task are below a
        point), intervals as notes. Columns without a number are left out; a column for the task stands second
        where there are several.
    """
    tasks = unique(row.task for row in rows if not row.language and row.group in GROUPS)
    metrics = {task: headline(rows, task) for task in tasks}
    rows = [row for row in rows if row.task in metrics and _column(row, metrics[row.task])]
    cells = {(row.run, row.task, _column(row, metrics[row.task])): row for row in rows}
    shown = [name for name in (*GROUPS, FORGETTING) if any(key[2] == name for key in cells)]
    columns = [text_column("Run")]
    if len(tasks) > 1:
        columns.append(text_column("Task"))
    columns += [TableColumn(name, GROUPS[name], group=name) for name in shown if name in GROUPS]
    columns += [TableColumn("Forgetting", "L1 lost")] if FORGETTING in shown else []
    small = {key[1:] for key in cells} - {key[1:] for key, row in cells.items() if not is_small(row)}
    lines, kinds = [], []
    for task in tasks:
        for run in unique(row.run for row in rows if row.task == task):
            line = [TableCell(run, foreign=True), *([TableCell(task)] if len(tasks) > 1 else [])]
            for name in shown:
                line.append(
                    _number(cells.get((run, task, name)), (run, task, name) in best, (task, name) in small)
                )
            lines.append(tuple(line))
            kinds.append("quiet" if is_baseline(run) else "")
    return ReportTable(_caption(rows, metrics, bool(best)), tuple(columns), tuple(lines), tuple(kinds))


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low} to {high}"


def gains_table(rows: Sequence[Score]) -> ReportTable | None:
    """What training changed, a row a run, with the paired intervals; None where nothing was compared."""
    found = {
        (row.run, row.task, row.group): row
        for row in rows
        if row.metric == GAIN and not row.language and row.group in GROUPS
    }
    if not found:
        return None
    several = len({task for _, task, _ in found}) > 1
    groups = [group for group in GROUPS if any(key[2] == group for key in found)]
    tests = {(row.run, row.task, row.group): row for row in rows if row.metric == GAIN_P_HOLM and not row.language}
    small = {key[1:] for key in found} - {key[1:] for key, row in found.items() if not is_small(row)}
    lines = []
    for run, task in unique((run, task) for run, task, _ in found):
        keys = [(run, task, group) for group in groups]
        cells = [_change(found.get(key), tests.get(key), key[1:] in small) for key in keys]
        lines.append((TableCell(run, foreign=True), *([TableCell(task)] if several else []), *cells))
    columns = [text_column("Change"), *([text_column("Task")] if several else [])]
    columns += [TableColumn(group, GROUPS[group], group=group) for group in groups]
    caption = "After training minus base, in points, with the 95 % interval of the paired bootstrap over items"
    caption += " and p by approximate randomisation, corrected for the groups (Holm)." if tests else "."
    return ReportTable(caption, tuple(columns), tuple(lines))


def _change(row: Score | None, test: Score | None, small: bool) -> TableCell:
    if row is None:
        return TableCell("–")
    digits = precision(row, small)
    notes = (interval(row, digits), p_text(test) if test else "")
    return TableCell(signed(100 * row.value, digits), "\n".join(filter(None, notes)))


def name_of(metric: str) -> str:
    """What people call a metric."""
    return METRIC_WORDS.get(metric, metric)


def names_of(metrics: Mapping[str, str]) -> str:
    """What people call the metrics of tasks, with the tasks that have each where they differ."""
    tasks = {metric: [task for task in metrics if metrics[task] == metric] for metric in metrics.values()}
    several = len(tasks) > 1
    return " / ".join(name_of(each) + f" ({', '.join(tasks[each])})" * several for each in tasks)


def _column(row: Score, metric: str) -> str:
    """The main table's column that a score stands in; empty for none."""
    if row.language:
        return ""
    if row.metric == FORGETTING:
        return FORGETTING
    return row.group if row.metric == metric and row.group in GROUPS else ""


def _number(row: Score | None, best: bool, small: bool) -> TableCell:
    if row is None:
        return TableCell("–")
    digits = precision(row, small)
    return TableCell(points(row, digits), interval(row, digits), best=best)


def _caption(rows: Sequence[Score], metrics: Mapping[str, str], bold: bool) -> str:
    if not rows:
        return "Nothing was scored yet."
    parts = [f"{names_of(metrics)} × 100, mean over prompts and the languages of a group"]
    counts = {group: [row.n for row in rows if row.group == group and row.n] for group in GROUPS}
    sizes = [f"{group} {_span(min(found), max(found))}" for group, found in counts.items() if found]
    if sizes:
        parts.append(f"test items: {', '.join(sizes)}")
    if any(row.low is not None for row in rows):
        parts.append("with each number its 95 % confidence interval")
    if bold:
        guessed = any(is_baseline(row.run) for row in rows)
        parts.append(
            "bold: better than every other row of the task, with a paired interval that excludes 0"
            + ", and with its own interval above guessing" * guessed
        )
    return f"{'; '.join(parts)}."


def heat_map(rows: Sequence[Score], task: str, label: Callable[[str], str]) -> ReportTable | None:
    """Languages down, runs across; a run's cell is coloured by its change against the base.

    Args:
        rows: scores as in `report.json`.
        task: which task's.
        label: the name of a language, from its code.

    Returns:
        The table, or None where no score is by language.
    """
    metric = headline(rows, task)
    found = [row for row in rows if row.task == task and row.metric == metric and row.language]
    by_place = {(row.language, row.run): row for row in found}
    sure = {
        (row.language, row.run)
        for row in rows
        if row.task == task and row.metric == GAIN_P_HOLM and row.language and row.value < SURE
    }
    languages = by_group((row.language, row.group) for row in found)
    runs = unique(row.run for row in found)
    if not languages:
        return None
    digits = decimals(100 * row.value for row in found)
    lines = []
    for language in languages:
        base = next(
            (by_place[language, run] for run in runs if (language, run) in by_place and is_base(run)), None
        )
        line = [TableCell(label(language), GROUPS.get(languages[language], ""), foreign=True)]
        line += [
            _heat(by_place.get((language, run)), None if is_base(run) else base, (language, run) in sure, digits)
            for run in runs
        ]
        lines.append(tuple(line))
    columns = (text_column("Language"), *(TableColumn(run) for run in runs))
    name = METRIC_WORDS.get(metric, metric)
    words = f"{name} × 100 on {task} by language; with it, and as colour, the change against base."
    if sure:
        words += f" A star: p < {SURE} after correction for the number of languages (Holm)."
    return ReportTable(words, columns, tuple(lines), tuple(languages.values()))


def _heat(row: Score | None, base: Score | None, sure: bool, digits: int) -> TableCell:
    if row is None:
        return TableCell("–")
    if base is None:
        return TableCell(points(row, digits))
    change = 100 * (row.value - base.value)
    return TableCell(
        points(row, digits), signed(change, digits) + "*" * sure, shade=max(-1.0, min(1.0, change / FULL_SHADE))
    )


def by_group(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Languages with their groups, in the order L1, L2, L3, others, and as found within a group."""
    order = {group: place for place, group in enumerate(GROUPS)}
    return dict(sorted(dict(pairs).items(), key=lambda pair: order.get(pair[1], len(order))))


def points(row: Score, digits: int = 1) -> str:
    """A score in points: 0.834 → "83.4"."""
    return as_points(row.value, digits)


def interval(row: Score, digits: int = 1) -> str:
    """A score's interval in points, or nothing."""
    return interval_text(row.low, row.high, digits)


def unique(values: Iterable[T]) -> list[T]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))
