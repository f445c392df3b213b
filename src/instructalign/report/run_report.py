"""Builds the report on one or more runs, without writing it."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructalign.errors import RunFolderError
from instructalign.evaluation.gains import FORGETTING
from instructalign.evaluation.run_comparison import Baselines, baselines_of, compare_runs, models_of
from instructalign.evaluation.score_table import BASE, ScoreTable, headline
from instructalign.report import sections_results, sections_training
from instructalign.report.rendering import ReportTable, Section, render
from instructalign.report.report_facts import (
    ReportFacts,
    block_of,
    hyperparameters,
    item_texts,
    language_names,
    task_titles,
)
from instructalign.report.report_tables import main_table
from instructalign.report.run_results import RunResults, read_runs, read_stages
from instructalign.report.summary import contaminated, incomparable, summary
from instructalign.types import Score

_SECTIONS: Sequence[Callable[[ReportFacts], Section | None]] = (
    sections_results.result,
    sections_results.stages,
    sections_results.by_language,
    sections_results.heat,
    sections_results.trade_off,
    sections_results.carried_over,
    sections_results.prompts,
    sections_training.training,
    sections_training.mixture,
    sections_training.costs,
    sections_results.confusion,
    sections_results.changed_items,
    sections_results.translations,
    sections_results.confidence,
    sections_results.answers,
    sections_training.licences,
    sections_training.contamination,
    sections_training.dropped,
    sections_training.reproducibility,
)


@dataclass(frozen=True, slots=True)
class BuiltReport:
    """A report before it is written.

    Attributes:
        page, markdown: the texts of the files.
        rows: every number.
        sentences: the result in words.
        table: the main table.
        about: the runs that it is about, as `report.json` says them.
        sections: what the texts were rendered from.
        hyperparameters: by run, value by key path.
    """

    page: str
    markdown: str
    rows: list[Score]
    sentences: list[str]
    table: ReportTable
    about: dict[str, Any]
    sections: Sequence[Section]
    hyperparameters: Mapping[str, Mapping[str, str]]


def build_run_report(folders: Sequence[Path], *, with_texts: bool = True) -> BuiltReport:
    """Reads run folders, compares the runs and renders the report.

    Args:
        folders: the runs' folders.
        with_texts: whether it shows sentences of the corpora and test sets.

    Raises:
        RunFolderError, DataError: as `read_runs` does; nothing was evaluated or trained in any of the runs.
    """
    runs = read_runs(folders)
    rounds = int(block_of(runs[0].config, "evaluation").get("bootstrap", 1000))
    compared = compare_runs(runs, rounds, int(runs[0].config.get("seed", 0)))
    label = language_names(runs)
    stages = [matrix for run in runs for matrix in read_stages(run, label)]
    rows = [row for model in models_of(runs) for row in model.scores] + compared.rows
    rows += [score for matrix in stages for score in matrix.rows()]
    empty = [_how_to_start(run) for run in runs if not _has_begun(run)]
    if len(empty) == len(runs) and not rows:
        raise RunFolderError("\n".join(empty))
    baselines = baselines_of(runs, compared.seeds)
    facts = ReportFacts(
        runs=runs,
        scores=ScoreTable(rows),
        label=label,
        title=task_titles([run.config for run in runs], label),
        text=item_texts(runs) if with_texts else lambda *_: "",
        baselines=baselines,
        best=_above_baselines(compared.best, rows + compared.over_seeds, baselines),
        refused=[*compared.refused, *empty],
        stages=stages,
        seeds=compared.seeds,
        over_seeds=ScoreTable(compared.over_seeds),
        with_texts=with_texts,
    )
    sections = [section for make in _SECTIONS if (section := make(facts)) is not None]
    title = runs[0].name if len(runs) == 1 else f"Comparison of {len(runs)} runs"
    page, markdown = render(title, _subtitle(runs[0], label), sections)
    names = [{"run": run.name, "folder": run.folder.name, "base": run.base and run.base.name} for run in runs]
    verdicts = [f"{run} {text}" for run, text in summary(facts)]
    return BuiltReport(
        page=page,
        markdown=markdown,
        rows=[*rows, *compared.over_seeds, *baselines.rows],
        sentences=[*verdicts, *incomparable(runs, facts.title), *contaminated(facts)],
        table=main_table([*rows, *baselines.rows], facts.best, facts.title),
        about={"runs": names},
        sections=sections,
        hyperparameters={run.name: hyperparameters(run.config) for run in runs if run.config},
    )


def _has_begun(run: RunResults) -> bool:
    """Whether a run has anything of its own to report; its base may be another run's."""
    evaluated_base = (run.folder / "evaluation" / BASE / "scores.json").exists()
    return bool(evaluated_base or run.adapted or run.log or run.record.get("timings"))


def _how_to_start(run: RunResults) -> str:
    """That a run has nothing to report yet, and the command that starts or resumes it."""
    command = run.record.get("command")
    if not isinstance(command, list):
        config = str(run.folder / "config.yaml") if run.config_text else "CONFIG"
        command = ["instructalign", "run", config, "--out", str(run.folder)]
    return (
        f"{run.folder} has nothing to report yet: no model was evaluated and nothing was trained. "
        f"To start or resume it: {shlex.join(map(str, command))}"
    )


def _above_baselines(
    best: Collection[tuple[str, str, str]], rows: Sequence[Score], baselines: Baselines
) -> frozenset[tuple[str, str, str]]:
    """Of the best cells of their columns, those that are above the baselines.

    Where nothing was known, least forgetting is no merit: forgetting is judged by L1.
    """
    metrics = {task: headline(rows, task) for _, task, _ in best}
    not_above = {
        (row.run, row.task, row.group)
        for row in rows
        if not row.language and row.metric == metrics.get(row.task) and not baselines.are_below(row)
    }
    return frozenset(
        (run, task, column)
        for run, task, column in best
        if (run, task, "L1" if column == FORGETTING else column) not in not_above
    )


def _subtitle(run: RunResults, label: Callable[[str], str]) -> str:
    """The base model and the languages, in a line."""
    base = str(block_of(run.config, "model").get("base", ""))
    parts = [Path(base).name if Path(base).is_absolute() else base]
    for key in ("known", "new", "related"):
        if codes := block_of(run.config, "languages").get(key):
            parts.append(f"{key}: {', '.join(label(str(code)) for code in codes)}")
    return " · ".join(filter(None, parts))
