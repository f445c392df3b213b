"""What the sections of a report on runs are made from: the runs, their scores, and names and texts to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from instructalign.config import DATA_KEYS
from instructalign.errors import InstructAlignError
from instructalign.evaluation.continual_metrics import StageMatrix
from instructalign.evaluation.run_comparison import Baselines, SeedGroup
from instructalign.evaluation.score_table import GROUPS, ScoreTable
from instructalign.evaluation.task_items import read_items, source_of
from instructalign.evaluation.tasks import AnyTask, Task, load_task, task_names
from instructalign.languages import english_name
from instructalign.report.report_tables import unique
from instructalign.report.run_results import RunResults
from instructalign.run_folder import NEUTRAL_KEYS


@dataclass(frozen=True, slots=True)
class ReportFacts:
    """What the sections are made from.

    Attributes:
        runs: the run folders.
        scores: all scores and paired gains, as in `report.json`.
        label: the name of a language, from its code.
        title: the title of a task, or of a part of one, from its name.
        text: the text of a test item, from task, language and item; empty where unknown.
        baselines: the random and majority baselines.
        best: (run, task, column) of the cells that a paired test supports as best.
        refused: why a run could not be compared with its base, a sentence each.
        stages: the accuracy matrices of the runs with several stages.
        seeds: the runs that differ only in the seed.
        over_seeds: the scores of those over seeds and items.
        with_texts: whether sentences of corpora and test sets are shown.
    """

    runs: Sequence[RunResults]
    scores: ScoreTable
    label: Callable[[str], str] = str
    title: Callable[[str], str] = str
    text: Callable[[str, str, str], str] = lambda *_: ""
    baselines: Baselines = field(default_factory=Baselines)
    best: frozenset[tuple[str, str, str]] = frozenset()
    refused: Sequence[str] = ()
    stages: Sequence[StageMatrix] = ()
    seeds: Sequence[SeedGroup] = ()
    over_seeds: ScoreTable = field(default_factory=ScoreTable)
    with_texts: bool = True

    @property
    def bases(self) -> dict[str, str]:
        """The names of the adapted models' bases, by the adapted models' names."""
        return {run.adapted.name: run.base.name for run in self.runs if run.adapted and run.base}

    @property
    def tasks(self) -> list[str]:
        """The tasks that were scored."""
        return unique(row.task for row in self.scores if row.language or row.group in GROUPS)


def block_of(metadata: Mapping[str, Any], *keys: str) -> Mapping[str, Any]:
    """A nested block of a run's metadata or configuration; empty where there is none."""
    for key in keys:
        inner = metadata.get(key)
        metadata = inner if isinstance(inner, Mapping) else {}
    return metadata


def hyperparameters(config: Mapping[str, Any]) -> dict[str, str]:
    """What a run's configuration sets, by key path, without names of files and what no number depends on."""

    def leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                if key not in (*DATA_KEYS, *NEUTRAL_KEYS.get(path, ()), "path", "files", "folder"):
                    yield from leaves(inner, f"{path}.{key}" if path else str(key))
        elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
            for number, inner in enumerate(value):
                yield from leaves(inner, f"{path}.{number}")
        elif value is not None:
            names = [str(each) for each in (value if isinstance(value, list) else [value])]
            shown = (Path(name).name if Path(name).is_absolute() else name for name in names)
            yield path, "defaults" if value == {} else ", ".join(shown)

    blocks = ["seed", "model", "languages", "corpora", "filter", "instructions"]
    blocks += ["replay", "instruction_data", "training"]
    return dict(leaves({key: config[key] for key in blocks if key in config}, ""))


def language_names(runs: Sequence[RunResults]) -> Callable[[str], str]:
    """Gives languages the names that the configurations have for them, or their English ones."""
    named = {
        str(code): str(name)
        for run in reversed(runs)
        for code, name in block_of(run.config, "languages", "names").items()
    }

    @cache
    def name(code: str) -> str:
        try:
            return named.get(code) or english_name(code)
        except InstructAlignError:
            return code

    return name


def _tasks_of(config: Mapping[str, Any]) -> Iterator[AnyTask]:
    """A configuration's tasks, but those whose files are gone."""
    for name in block_of(config, "evaluation").get("tasks") or []:
        with suppress(InstructAlignError):
            yield load_task(str(name))


def task_titles(configs: Iterable[Mapping[str, Any]], label: Callable[[str], str]) -> Callable[[str], str]:
    """Gives tasks, and parts of tasks, the titles that the tasks' files have, or their names where there are none.

    Args:
        configs: the runs' configurations.
        label: the name of a language, from its code.
    """
    titles = {task.name: task.title or task.name for config in configs for task in _tasks_of(config)}
    several = Counter(titles.values())

    @cache
    def title(name: str) -> str:
        task, _, part = name.partition("/")
        text = titles.get(task) or (load_task(task).title if task in task_names() else "") or task
        if several[text] > 1:  # a copy of a task that kept its title
            text = f"{text} ({task})"
        side, _, pivot = part.partition("-")
        if side in ("from", "into") and pivot:
            return f"{text} {side} {label(pivot)}"
        return f"{text}, {part}" if part else text

    return title


def item_texts(runs: Sequence[RunResults]) -> Callable[[str, str, str], str]:
    """Finds the texts of test items where the tasks' data are still there; an empty text where not."""
    tasks: dict[str, tuple[Task, Path]] = {}
    for run in reversed(runs):
        data = Path(str(block_of(run.config, "evaluation").get("data") or ""))
        tasks |= {task.name: (task, data) for task in _tasks_of(run.config) if isinstance(task, Task)}

    @cache
    def texts(task: str, language: str) -> Mapping[str, str]:
        if task not in tasks or language not in tasks[task][0].languages:
            return {}
        try:
            if source_of(*tasks[task]) is not tasks[task][0].data:
                return {}  # a report makes no requests
            items = read_items(tasks[task][0], language, tasks[task][1])
        except InstructAlignError:
            return {}
        return {item.id: " / ".join(item.fields.values()) for item in items}

    return lambda task, language, item: texts(task, language).get(item, "")
