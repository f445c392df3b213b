"""Zero-shot accuracy on a few items while a model trains, so that forgetting shows when it happens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from instructalign.config import Config
from instructalign.errors import ConfigError
from instructalign.evaluation.classification import predict
from instructalign.evaluation.task_selection import TaskPlan, plan_task
from instructalign.evaluation.tasks import Task, load_task
from instructalign.training.models import LoadedModel

Probe = Callable[[Any], dict[str, float]]


def make_probe(config: Config) -> Callable[[LoadedModel], Probe] | None:
    """What a run's `training.probe` measures, once there is a model; None where it asks for none.

    The items are those that a task has for validation, else some of its test. Known (L1) and new (L2) languages
    count alike, whatever their number of items: `probe` is the mean of `probe/L1` and `probe/L2`.

    Raises:
        ConfigError: there is nothing to probe with, or training would be ended by what the test says.
    """
    settings = config.training.probe
    if settings is None:
        return None
    tasks = [task for name in config.evaluation.tasks if isinstance(task := load_task(name), Task)]
    if not tasks:
        raise ConfigError(["training.probe: evaluation.tasks names no classification task to take items from"])
    stopping = config.training.early_stopping
    tested = [task.name for task in tasks if task.validation is None]
    if stopping and stopping.on == "probe" and tested:
        raise ConfigError(
            [
                f"training.early_stopping is on probe, but {', '.join(tested)} has no items for validation: the "
                "model would be chosen by its test. Give the task file a validation block, or stop on heldout"
            ]
        )
    few = config.model_copy(
        update={
            "evaluation": config.evaluation.model_copy(update={"items": settings.items, "languages": None}),
            "languages": config.languages.model_copy(update={"related": []}),
        }
    )
    plans = [plan_task(few, _validation(task)) for task in tasks]
    return lambda loaded: lambda model: _measure(replace(loaded, model=model), plans, few)


def _validation(task: Task) -> Task:
    """A task on its validation items, where it has some."""
    if task.validation is None:
        return task
    return task.model_copy(
        update={"data": task.validation, "hub": None, "validation": None, "split": "validation"}
    )


def _measure(loaded: LoadedModel, plans: Sequence[TaskPlan], config: Config) -> dict[str, float]:
    right: defaultdict[str, list[bool]] = defaultdict(list)
    for plan in plans:
        for answer in predict(loaded, plan, config):
            right[config.languages.group_of(answer.language)].append(answer.predicted == answer.gold)
    by_group = {f"probe/{group}": fmean(some) for group, some in sorted(right.items())}
    return {"probe": fmean(by_group.values()), **by_group}
