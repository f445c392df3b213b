"""The report's tables of scores: runs by group, languages by run, seeds, prompts, tests, stages, confusion.

Numbers are in points with one decimal, with two significant digits where all of a column are below a point.
Everywhere, `title` is the title of a task, from its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from instructalign.evaluation.continual_metrics import continual_scores
from instructalign.evaluation.gains import FORGETTING, GAIN
from instructalign.evaluation.run_comparison import OVER_PROMPTS, PROMPT_SD, SEED_SD, Baselines
from instructalign.evaluation.score_table import (
    BITS,
    GROUPS,
    ScoreTable,
    headline,
    is_base,
    is_baseline,
    is_in_bits,
)
from instructalign.report.number_format import (
    NBSP,
    as_points,
    decimals,
    in_unit,
    interval_text,
    is_small,
    p_text,
    precision,
    signed,
)
from instructalign.report.rendering import ReportTable, TableCell, TableColumn, text_column
from instructalign.types import Prediction, Score

_METRIC_NAMES = {
    "f1_weighted": "Weighted F1",
    "f1_macro": "Macro F1",
    "f1_micro": "Micro F1",
    "accuracy": "Accuracy",
    "acc": "Accuracy",
    "acc_norm": "Accuracy, length-normalised",
    "exact_match": "Exact match",
    "token_f1": "Token F1",
    "chrf": "chrF++",
    "chrf2": "chrF",
    "token_probability": "Probability of the answers' tokens",
    BITS: "Bits per byte",
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
_SIGNIFICANT = 0.05  # the p-value below which the heat map marks a change
_FULL_SHADE = 30.0  # points of change at which a cell has its full colour
_STAGE_HEADS = {
    "stages_average": ("ACC", "mean over all stages' languages at the end"),
    "stages_backward": ("BWT", "change by later stages"),
    "stages_forward": ("FWT", "above chance before their own stage"),
    "stages_forgetting": ("Forgetting", "below their best"),
}

T = TypeVar("T", bound=Hashable)


# -- cells and headings ------------------------------------------------------------------------------------


def score_cell(
    row: Score | None,
    *,
    small: bool = False,
    change: bool = False,
    best: bool = False,
    deviation: Score | None = None,
    notes: Iterable[str] = (),
) -> TableCell:
    """A number with its interval below it, and with a standard deviation and other notes; a dash for None.

    Args:
        row: the score.
        small: whether all numbers of the column are below a point.
        change: whether it is a change, which has a sign.
        best: whether it is bold.
        deviation: the standard deviation, over prompts or seeds.
        notes: more lines below.
    """
    if row is None:
        return TableCell("–")
    digits = precision(row, small)
    text = signed(in_unit(row), digits)
    spread = f"SD{NBSP}{signed(in_unit(row, deviation.value), digits).removeprefix('+')}" if deviation else ""
    interval = interval_text(row.low, row.high, digits, in_unit(row, 1))
    lines = [interval, spread, *notes]
    text = text if change else text.removeprefix("+")
    return TableCell(text, "\n".join(filter(None, lines)), best=best)


def shade_of(change: float) -> float:
    """How strongly a change in points colours a cell, -1 to 1."""
    return float(max(-1.0, min(1.0, change / _FULL_SHADE)))


def group_columns(names: Iterable[str], several_tasks: bool = False, first: str = "Run") -> list[TableColumn]:
    """Headings: the run, the task where there are several, then language groups and forgetting."""
    columns = [text_column(first), *([text_column("Task")] if several_tasks else [])]
    for name in names:
        forgetting = name == FORGETTING
        columns.append(
            TableColumn("Forgetting", "L1 lost") if forgetting else TableColumn(name, GROUPS[name], group=name)
        )
    return columns


def _small_columns(found: Mapping[tuple[str, ...], Score]) -> set[tuple[str, ...]]:
    """The columns whose numbers are all below a point; a key is a row's name followed by its column."""
    large = {key[1:] for key, row in found.items() if not is_small(row) and not is_in_bits(row)}
    return {key[1:] for key in found} - large


# -- results -----------------------------------------------------------------------------------------------


def main_table(
    rows: Iterable[Score], best: Collection[tuple[str, str, str]] = (), title: Callable[[str], str] = str
) -> ReportTable:
    """The table that answers the question: one row per run; the language groups and forgetting as columns.

    Columns without a number are left out; with several tasks, the second column has the task.

    Args:
        rows: scores as in `report.json`, in the order in which the runs are shown.
        best: (run, task, column) of the cells that a paired test supports as the best of their column.
    """
    rows = list(rows)
    tasks = unique(row.task for row in rows if not row.language and row.group in GROUPS)
    metrics = {task: headline(rows, task) for task in tasks}
    found: dict[tuple[str, ...], Score] = {}
    for row in rows:
        column = FORGETTING if row.metric == FORGETTING else row.group
        if (
            not row.language
            and row.metric in (FORGETTING, metrics.get(row.task))
            and column in (*GROUPS, FORGETTING)
        ):
            found[row.run, row.task, column] = row
    shown = [name for name in (*GROUPS, FORGETTING) if any(column == name for _, _, column in found)]
    small = _small_columns(found)
    lines, kinds = [], []
    for task in tasks:
        for run in unique(run for run, other, _ in found if other == task):
            line = [TableCell(run, foreign=True), *([TableCell(title(task))] if len(tasks) > 1 else [])]
            line += [
                score_cell(found.get((run, task, c)), small=(task, c) in small, best=(run, task, c) in best)
                for c in shown
            ]
            lines.append(tuple(line))
            kinds.append("quiet" if is_baseline(run) else "")
    columns = group_columns(shown, len(tasks) > 1)
    metrics = {title(task): metric for task, metric in metrics.items()}
    return ReportTable(_main_caption(found, metrics, bool(best)), tuple(columns), tuple(lines), tuple(kinds))


def _main_caption(found: Mapping[tuple[str, ...], Score], metrics: Mapping[str, str], bold: bool) -> str:
    if not found:
        return "Nothing was scored yet: evaluation.tasks names what is, heldout_translation for example."
    parts = [f"{metric_names(metrics)}, mean over prompts and the languages of a group"]
    counts = {group: {row.n for row in found.values() if row.group == group and row.n} for group in GROUPS}
    sizes = [
        f"{group} {min(some)}" + (f" to {max(some)}" if len(some) > 1 else "")
        for group, some in counts.items()
        if some
    ]
    if sizes:
        parts.append(f"test items: {', '.join(sizes)}")
    if any(row.low is not None for row in found.values()):
        parts.append("below each number, its 95 % confidence interval")
    if bold:
        above = (
            ", and its own interval above the baselines" if any(is_baseline(run) for run, _, _ in found) else ""
        )
        parts.append(
            f"bold: better than every other row of the task, with a paired interval that excludes 0{above}"
        )
    return f"{'; '.join(parts)}."


def bits_table(scores: ScoreTable, title: Callable[[str], str] = str) -> ReportTable | None:
    """Bits per byte of the answers to held-out instructions, whose first metric is another; None without any."""
    rows = [row for row in scores if row.metric == BITS and headline(scores, row.task) != BITS]
    return main_table(rows, (), title) if rows else None


def gains_table(rows: Iterable[Score], title: Callable[[str], str] = str) -> ReportTable | None:
    """Adapted minus base model, one row per run, with paired intervals; None where nothing was compared."""
    rows = [row for row in rows if not row.language and row.group in GROUPS]
    found = {(row.run, row.task, row.group): row for row in rows if row.metric == GAIN}
    tests = {(row.run, row.task, row.group): row for row in rows if row.metric == "gain_p_holm"}
    if not found:
        return None
    several = len({task for _, task, _ in found}) > 1
    groups = [group for group in GROUPS if any(key[2] == group for key in found)]
    small = _small_columns({(*key,): row for key, row in found.items()})
    lines = []
    for run, task in unique((run, task) for run, task, _ in found):
        cells = [
            score_cell(
                found.get((run, task, group)),
                small=(task, group) in small,
                change=True,
                notes=[p_text(test)] if (test := tests.get((run, task, group))) else (),
            )
            for group in groups
        ]
        lines.append((TableCell(run, foreign=True), *([TableCell(title(task))] if several else []), *cells))
    caption = (
        "Adapted minus base model, in points, with the 95 % confidence interval of the paired bootstrap over items"
    )
    if any(is_in_bits(row) for row in found.values()):
        of_text = ", ".join(unique(title(task) for (_, task, _), row in found.items() if is_in_bits(row)))
        caption += f" (of {of_text}: bits per byte saved)"
    caption += " and p by approximate randomisation, corrected for the groups (Holm)." if tests else "."
    return ReportTable(caption, tuple(group_columns(groups, several, first="Change")), tuple(lines))


def seeds_table(
    rows: Sequence[Score],
    bases: Sequence[Score],
    best: Collection[tuple[str, str, str]],
    count: int,
    title: Callable[[str], str] = str,
) -> ReportTable | None:
    """Runs over their seeds: the mean, its interval over seeds and items, and the deviation between seeds.

    Args:
        rows: the scores over seeds.
        bases: the scores of the models that they started from.
        best: (run, task, column) of the cells that are better than all others of their column.
        count: the smallest number of seeds of a row.
    """
    if not rows:
        return None
    table = ScoreTable([*bases, *rows])
    tasks = unique(row.task for row in rows)
    several = len(tasks) > 1
    places = {task: {group: (headline(rows, task), group) for group in GROUPS} for task in tasks}
    for columns in places.values():
        columns[FORGETTING] = (FORGETTING, "L1")
    keys = [(run, task) for task in tasks for run in unique(row.run for row in table if row.task == task)]
    found = {
        (run, task, column): row
        for run, task in keys
        for column, place in places[task].items()
        if (row := table.get(run, task, *place))
    }
    small = _small_columns({(*key,): row for key, row in found.items()})
    lines = []
    for run, task in keys:
        cells = [
            score_cell(
                found.get((run, task, column)),
                small=(task, column) in small,
                best=(run, task, column) in best,
                deviation=table.get(run, task, metric + SEED_SD, group),
            )
            for column, (metric, group) in places[task].items()
        ]
        lines.append((TableCell(run, foreign=True), *([TableCell(title(task))] if several else []), *cells))
    caption = (
        f"{metric_names({title(task): headline(rows, task) for task in tasks})}, mean over seeds; below it, the "
        "95 % confidence interval over seeds and items (of the base model: over items) and the standard "
        "deviation (SD) over seeds."
    )
    if count == 2:
        caption += " Two seeds say little about their spread, hence the wide intervals."
    if best:
        caption += (
            " Bold: better than every other row of the task, with such an interval that excludes 0, and above "
        )
        caption += "the baselines."
    return ReportTable(caption, tuple(group_columns((*GROUPS, FORGETTING), several)), tuple(lines))


def prompts_table(
    scores: ScoreTable,
    task: str,
    runs: Sequence[str],
    gains: Sequence[str],
    title: Callable[[str], str] = str,
) -> ReportTable | None:
    """The uncertainty over prompts, by run and group: of the score, and of the gain over the base.

    Args:
        scores: with those over prompts.
        task: which task's.
        runs: the models' names.
        gains: of those, the ones that have a base.
    """
    metric = headline(scores, task)
    places = [*((run, metric) for run in runs), *((run, GAIN) for run in gains)]
    found = {
        (run, what, group): row
        for run, what in places
        for group in GROUPS
        if (row := scores.get(run, task, what + OVER_PROMPTS, group))
    }
    small = _small_columns({(*key,): row for key, row in found.items()})
    lines = []
    for run, what in places:
        cells = [
            score_cell(
                found.get((run, what, group)),
                small=(what, group) in small,
                change=what == GAIN,
                deviation=scores.get(run, task, what + PROMPT_SD, group),
            )
            for group in GROUPS
        ]
        if any((run, what, group) in found for group in GROUPS):
            lines.append((TableCell(run, "change" if what == GAIN else "score", foreign=True), *cells))
    caption = (
        f"{metric_name(metric)} × 100 on {title(task)}, and its change against the base; below it, the 95 % "
        "confidence interval over prompts and items and the standard deviation (SD) over the prompts used."
    )
    return ReportTable(caption, tuple(group_columns(GROUPS)), tuple(lines)) if lines else None


def continual_table(
    scores: ScoreTable,
    baselines: Baselines,
    bases: Sequence[tuple[str, str]],
    title: Callable[[str], str] = str,
) -> ReportTable | None:
    """The metrics of continual learning, with L1 as the first task and L2 as the second.

    Args:
        scores: as in `report.json`.
        baselines: the random baseline.
        bases: (run, its base).
    """
    lines = []
    for task in unique(row.task for row in scores if row.metric == GAIN):
        metric = headline(scores, task)
        for run, base in bases:
            matrix = [[scores.get(name, task, metric, group) for group in ("L1", "L2")] for name in (base, run)]
            found = [baselines.value_for(row, ("random",)) for row in matrix[1] if row]
            random = [value for value in found if value is not None]
            if len(random) < 2 or None in matrix[0]:
                continue
            metrics = continual_scores([random, *([row.value for row in line if row] for line in matrix)], random)
            cells = [
                TableCell(signed(100 * number) if has_sign else as_points(number))
                for number, has_sign in (
                    (metrics.average, False),
                    (metrics.backward, True),
                    (metrics.forward, True),
                    (metrics.forgetting, False),
                )
                if number is not None
            ]
            lines.append((TableCell(run, title(task), foreign=True), *cells))
    columns = (
        text_column("Run"),
        TableColumn("Average", "accuracy, ACC"),
        TableColumn("Backward", "transfer, BWT"),
        TableColumn("Forward", "transfer, FWT"),
        TableColumn("Forgetting"),
    )
    caption = (
        "In points, with L1 as the first task and L2 as the second. ACC: mean of both at the end. BWT: change of "
        "L1 by learning L2. FWT: the base model on L2, above chance (Lopez-Paz and Ranzato 2017). Forgetting: "
        "best of L1 minus its end (Chaudhry et al. 2018)."
    )
    return ReportTable(caption, columns, tuple(lines)) if lines else None


# -- by language -------------------------------------------------------------------------------------------


def heat_map(
    scores: ScoreTable, task: str, label: Callable[[str], str], title: Callable[[str], str] = str
) -> ReportTable | None:
    """Languages by run, coloured by the change against the base; None where no score is by language.

    Args:
        scores: as in `report.json`.
        task: which task's.
        label: the name of a language, from its code.
    """
    metric = headline(scores, task)
    found = {(r.language, r.run): r for r in scores if r.task == task and r.metric == metric and r.language}
    if not found:
        return None
    significant = {
        (row.language, row.run)
        for row in scores
        if row.task == task and row.metric == "gain_p_holm" and row.language and row.value < _SIGNIFICANT
    }
    languages = by_group((row.language, row.group) for row in found.values())
    runs = unique(run for _, run in found)
    digits = 3 if metric == BITS else decimals(100 * row.value for row in found.values())
    lines = []
    for code, group in languages.items():
        base = next((found[code, run] for run in runs if (code, run) in found and is_base(run)), None)
        line = [TableCell(label(code), GROUPS.get(group, ""), foreign=True)]
        for run in runs:
            row = found.get((code, run))
            if row is None or base is None or is_base(run):
                line.append(TableCell(signed(in_unit(row), digits).removeprefix("+") if row else "–"))
            else:
                change = in_unit(row) - in_unit(base)
                # The colour shows what is better: fewer bits, more points. A bit is shaded as 60 points.
                shade = shade_of(-60 * change if metric == BITS else change)
                note = signed(change, digits) + "*" * ((code, run) in significant)
                line.append(TableCell(signed(in_unit(row), digits).removeprefix("+"), note, shade=shade))
        lines.append(tuple(line))
    caption = (
        f"{metric_names({task: metric})} on {title_and_name(task, title)} by language; below it, and as colour, "
        "the change against the base."
    )
    if significant:
        caption += f" A star: p < {_SIGNIFICANT} after correction for the number of languages (Holm)."
    columns = (text_column("Language"), *map(TableColumn, runs))
    return ReportTable(caption, columns, tuple(lines), tuple(languages.values()))


def significance_table(
    scores: ScoreTable,
    task: str,
    runs: Sequence[str],
    label: Callable[[str], str],
    title: Callable[[str], str] = str,
) -> ReportTable | None:
    """Languages by run: the change against the base with its interval and its p-values."""
    tested = [row for row in scores if row.task == task and row.metric == "gain_p" and row.language]
    languages = by_group((row.language, row.group) for row in tested)
    found = {
        (code, run): row
        for run in runs
        for code, group in languages.items()
        if (row := scores.get(run, task, GAIN, group, code))
    }
    small = _small_columns({(*key,): row for key, row in found.items()})
    lines = []
    for code, group in languages.items():
        cells = []
        for run in runs:
            p, corrected = (scores.get(run, task, metric, group, code) for metric in ("gain_p", "gain_p_holm"))
            gain = found.get((code, run)) if p and corrected else None
            notes = [p_text(p), f"Holm {p_text(corrected)[2:]}"] if p and corrected else ()
            cells.append(score_cell(gain, small=(run,) in small, change=True, notes=notes))
        lines.append((TableCell(label(code), GROUPS.get(group, ""), foreign=True), *cells))
    unit = "bits per byte saved" if any(is_in_bits(row) for row in found.values()) else "points"
    caption = (
        f"Change against the base on {title(task)}, in {unit}: the paired 95 % confidence interval, p (two-sided, "
        f"approximate randomisation over items), and p corrected for {len(languages)} tests (Holm)."
    )
    columns = (text_column("Language"), *map(TableColumn, runs))
    return ReportTable(caption, columns, tuple(lines), tuple(languages.values())) if lines else None


def confusion_table(title: str, predictions: Sequence[Prediction]) -> ReportTable | None:
    """Gold labels by predicted ones, in percent of a row; None without predictions."""
    if not predictions:
        return None
    scored = [label for p in predictions for label in p.scores]
    labels = unique([*scored, *(p.gold for p in predictions), *(p.predicted for p in predictions)])
    counts = Counter((p.gold, p.predicted) for p in predictions)
    lines = []
    for gold in labels:
        total = sum(counts[gold, predicted] for predicted in labels)
        shares = {predicted: counts[gold, predicted] / total for predicted in labels} if total else {}
        cells = [
            TableCell(f"{100 * share:.0f}", shade=share if predicted == gold else -share)
            for predicted, share in shares.items()
        ]
        if cells:
            lines.append((TableCell(gold, foreign=True), *cells))
    return ReportTable(title, (text_column("Gold"), *map(TableColumn, labels)), tuple(lines))


# -- stages ------------------------------------------------------------------------------------------------


def stage_column(metric: str) -> TableColumn:
    """The heading over a metric of all stages together."""
    return TableColumn(*_STAGE_HEADS[metric])


def stage_cell(score: Score | None) -> TableCell:
    """Such a metric with its interval: ACC is a level, the others are changes and have a sign."""
    return score_cell(score, change=score is not None and score.metric != "stages_average")


# -- names and order ---------------------------------------------------------------------------------------


def title_and_name(task: str, title: Callable[[str], str]) -> str:
    """A task's title with the name that it has in configurations and in `report.json`."""
    return task if title(task) == task else f"{title(task)} ({task})"


def metric_name(metric: str) -> str:
    """The usual name of a metric."""
    return _METRIC_NAMES.get(metric, metric)


def metric_names(metrics: Mapping[str, str]) -> str:
    """The names of tasks' metrics with their unit, followed by the tasks that have each where they differ."""
    tasks = {metric: [task for task in metrics if metrics[task] == metric] for metric in metrics.values()}
    several = len(tasks) > 1
    names = {each: metric_name(each) + f" ({', '.join(tasks[each])})" * several for each in tasks}
    if BITS in names:
        names[BITS] = f"{metric_name(BITS)} ({', '.join(tasks[BITS]) + '; ' if several else ''}lower is better)"
    parts = [" / ".join(name for each, name in names.items() if each != BITS)]
    parts = [f"{parts[0]} × 100"] if parts[0] else []
    return "; ".join([*parts, *([names[BITS]] if BITS in names else [])])


def by_group(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Languages with their groups, in the order L1, L2, L3, others, and as found within a group."""
    order = {group: place for place, group in enumerate(GROUPS)}
    return dict(sorted(dict(pairs).items(), key=lambda pair: order.get(pair[1], len(order))))


def unique(values: Iterable[T]) -> list[T]:
    """The values without repetitions, in their order."""
    return list(dict.fromkeys(values))
