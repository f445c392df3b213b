"""Zero-shot accuracy on a few items during training, so that forgetting shows when it happens."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from statistics import fmean
from typing import Any

from instructalign.config import Config
from instructalign.evaluation.classification import predict
from instructalign.evaluation.task_selection import plan_task, probe_tasks
from instructalign.training.models import LoadedModel

AccuracyMonitor = Callable[[Any], dict[str, float]]
"""Gives a model's accuracy: `probe`, and `probe/L1` and `probe/L2`."""


def make_accuracy_monitor(config: Config) -> Callable[[LoadedModel], AccuracyMonitor] | None:
    """Makes the monitor of a run's `training.probe`, once there is a model; None where there is no such block.

    The items are the validation items of a task, else some of its test items. Known (L1) and new (L2) languages
    have equal weight, whatever their number of items: `probe` is the mean of `probe/L1` and `probe/L2`.

    Raises:
        ConfigError: no task has items for it, or early stopping would select the model on test items.
    """
    settings = config.training.probe
    if settings is None:
        return None
    tasks = probe_tasks(config)
    evaluation = config.evaluation.model_copy(update={"items": settings.items, "languages": None})
    few = config.model_copy(
        update={"evaluation": evaluation, "languages": config.languages.model_copy(update={"related": []})}
    )
    plans = [plan_task(few, task.on_validation()) for task in tasks]

    def measure(loaded: LoadedModel) -> dict[str, float]:
        correct: defaultdict[str, list[bool]] = defaultdict(list)
        for plan in plans:
            for prediction in predict(loaded, plan, few):
                group = config.languages.group_of(prediction.language)
                correct[group].append(prediction.predicted == prediction.gold)
        by_group = {f"probe/{group}": fmean(some) for group, some in sorted(correct.items())}
        return {"probe": fmean(by_group.values()), **by_group}

    return lambda loaded: lambda model: measure(replace(loaded, model=model))
