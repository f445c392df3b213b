"""Puts a report together from run folders, without writing it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from instructalign.errors import InstructAlignError, RunFolderError
from instructalign.evaluation.comparison import Baselines, baselines_of, compare_runs, models_of
from instructalign.evaluation.paired_tests import FORGETTING
from instructalign.evaluation.score_table import BASE, headline
from instructalign.evaluation.task_items import read_items, source_of
from instructalign.evaluation.tasks import Task, load_task
from instructalign.languages import english_name
from instructalign.report import costs, gains, leaks, making, outcome
from instructalign.report.asked import asked_differently
from instructalign.report.number_format import signed
from instructalign.report.rendering import ReportTable, Section, render
from instructalign.report.run_results import RunResults, bootstrap_of, read_runs, read_stages
from instructalign.report.tables import main_table
from instructalign.report.translations import translations
from instructalign.types import Score

FEW = 6  # points below which resampling them says nothing about their correlation

SECTIONS: Sequence[Callable[[outcome.Facts], Section | None]] = (
    outcome.result,
    outcome.stages,
    outcome.by_language,
    outcome.heat,
    gains.trade_off,
    gains.carried_over,
    gains.prompts,
    making.training,
    making.mixture,
    costs.strategies,
    outcome.mistakes,
    outcome.changed_items,
    translations,
    leaks.contamination,
    making.dropped,
    making.again,
)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A report before it is written: the files' texts, what they are made from, and what of (`about`)."""

    page: str
    markdown: str
    rows: list[Score]
    sentences: list[str]
    table: ReportTable
    about: dict[str, Any]


def assemble(folders: Sequence[Path]) -> Assembled:
    """Reads run folders, compares the runs and renders the report.

    Raises:
        RunFolderError, DataError: as `read_runs` does; nothing was evaluated or trained in any of the runs.
    """
    runs = read_runs(folders)
    bootstrap = bootstrap_of(runs[0].config)
    compared = compare_runs(runs, bootstrap.resamples, bootstrap.seed)
    models = models_of(runs)
    rows = [row for model in models for row in model.scores] + compared.rows
    label = language_names(runs)
    staged = [matrix for run in runs for matrix in read_stages(run, label)]
    rows += [score for matrix in staged for score in matrix.rows()]
    empty = [run for run in runs if not _has_begun(run)]
    if len(empty) == len(runs) and not rows:
        raise RunFolderError("\n".join(map(_how_to_begin, empty)))
    baselines = baselines_of(runs, compared.seeds)
    facts = outcome.Facts(
        runs=runs,
        rows=rows,
        baselines=baselines,
        best=_above_guessing(compared.best, rows + compared.over_seeds, baselines),
        refused=[*compared.refused, *map(_how_to_begin, empty)],
        stage_matrices=staged,
        label=label,
        text=item_texts(runs),
        correlation=_correlation(rows),
        seeds=compared.seeds,
        over_seeds=compared.over_seeds,
    )
    found = [section for make in SECTIONS if (section := make(facts)) is not None]
    title = runs[0].name if len(runs) == 1 else f"Comparison of {len(runs)} runs"
    subtitle = _subtitle(runs[0], facts.label)
    page, markdown = render(title, subtitle, found)
    return Assembled(
        page=page,
        markdown=markdown,
        rows=[*rows, *compared.over_seeds, *baselines.rows],
        sentences=[
            *(f"{run} {text}" for run, text in facts.said()),
            *asked_differently(runs),
            *leaks.spoilt(runs, facts.label),
        ],
        table=main_table([*rows, *baselines.rows], facts.best),
        about={
            "runs": [
                {"run": run.name, "folder": run.folder.name, "base": run.base and run.base.name} for run in runs
            ]
        },
    )


def _has_begun(run: RunResults) -> bool:
    """Whether a run has anything of its own to report; its base may be another run's."""
    evaluated_base = (run.folder / "evaluation" / BASE / "scores.json").exists()
    return bool(evaluated_base or run.adapted or run.log or run.record.get("timings"))


def _how_to_begin(run: RunResults) -> str:
    """That a run has nothing to report yet, and the command that goes on with it."""
    command = run.record.get("command")
    if not isinstance(command, list):
        config = str(run.folder / "config.yaml") if run.config_text else "CONFIG"
        command = ["instructalign", "run", config, "--out", str(run.folder)]
    return (
        f"{run.folder} has nothing to report yet: no model was evaluated and nothing was trained. "
        f"Go on with: {shlex.join(map(str, command))}"
    )


def _above_guessing(
    best: Collection[tuple[str, str, str]], rows: Sequence[Score], baselines: Baselines
) -> frozenset[tuple[str, str, str]]:
    """Of the cells that are better than all others of their column, those that are better than guessing too.

    Where nothing was known, least forgetting is no merit: forgetting goes by L1.
    """
    metrics = {task: headline(rows, task) for _, task, _ in best}
    no_better = {
        (row.run, row.task, row.group)
        for row in rows
        if not row.language and row.metric == metrics.get(row.task) and not baselines.are_below(row)
    }
    return frozenset(
        (run, task, column)
        for run, task, column in best
        if (run, task, "L1" if column == FORGETTING else column) not in no_better
    )


def language_names(runs: Sequence[RunResults]) -> Callable[[str], str]:
    """Gives languages the names that the configurations have for them, or their English ones."""
    named = {
        str(code): str(name)
        for run in reversed(runs)
        for code, name in _mapping(_mapping(run.config, "languages"), "names").items()
    }

    @cache
    def name(code: str) -> str:
        try:
            return named.get(code) or english_name(code)
        except InstructAlignError:
            return code

    return name


def item_texts(runs: Sequence[RunResults]) -> Callable[[str, str, str], str]:
    """Finds the texts of test items where the tasks' data are still there; an empty text where not."""
    tasks: dict[str, tuple[Task, Path]] = {}
    for run in reversed(runs):
        settings = _mapping(run.config, "evaluation")
        for name in settings.get("tasks") or []:
            try:
                task = load_task(str(name))
            except InstructAlignError:
                continue
            if isinstance(task, Task):
                tasks[task.name] = (task, Path(str(settings.get("data") or "")))

    @cache
    def texts(task: str, language: str) -> Mapping[str, str]:
        if task not in tasks or language not in tasks[task][0].languages:
            return {}
        try:
            if source_of(*tasks[task]) is not tasks[task][0].data:
                return {}  # a report asks nothing of the network
            items = read_items(tasks[task][0], language, tasks[task][1])
        except InstructAlignError:
            return {}
        return {item.id: " / ".join(item.fields.values()) for item in items}

    return lambda task, language, item: texts(task, language).get(item, "")


def _correlation(rows: Sequence[Score]) -> str:
    """The correlation of L2 and L3 gains in words."""
    found = {row.metric: row for row in rows if row.group == "L2-L3"}
    if "pearson" not in found:
        return ""
    parts = []
    for metric, symbol in (("pearson", "Pearson's r"), ("spearman", "Spearman's ρ")):
        row = found[metric]
        text = f"{symbol} = {signed(row.value, 2).replace('+', '')}"
        if row.n >= FEW and row.low is not None and row.high is not None:
            text += f" (95\u00a0% interval {signed(row.low, 2)} to {signed(row.high, 2)})".replace("+", "")
        parts.append(text)
    count = found["pearson"].n
    doubt = "" if count >= FEW else " So few points allow no interval: a hint at most."
    return f"Gains on L2 and L3: {', '.join(parts)}, over {count} points (runs and tasks).{doubt}"


def _subtitle(run: RunResults, label: Callable[[str], str]) -> str:
    """What the runs are about, in a line."""
    languages = _mapping(run.config, "languages")
    base = str(_mapping(run.config, "model").get("base", ""))
    parts = [Path(base).name if Path(base).is_absolute() else base]
    for key in ("known", "new", "related"):
        names = ", ".join(label(str(code)) for code in languages.get(key) or [])
        parts += [f"{key}: {names}"] if names else []
    return " · ".join(part for part in parts if part)


def _mapping(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = value.get(key)
    return inner if isinstance(inner, Mapping) else {}
