"""From a model to scores: tasks, label likelihoods, predictions, intervals, comparison of two models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from instructalign.evaluation.task_files import load_task, task_names
from instructalign.evaluation.tasks import Task, Translation

if TYPE_CHECKING:
    from instructalign.evaluation.continual import continual_scores
    from instructalign.evaluation.correlation import correlate_gains
    from instructalign.evaluation.export import export_lm_eval
    from instructalign.evaluation.results import compare, score_predictions
    from instructalign.evaluation.zero_shot import evaluate

_HOMES = {
    "compare": "results",
    "continual_scores": "continual",
    "correlate_gains": "correlation",
    "evaluate": "zero_shot",
    "export_lm_eval": "export",
    "score_predictions": "results",
}

__all__ = [
    "Task",
    "Translation",
    "compare",
    "continual_scores",
    "correlate_gains",
    "evaluate",
    "export_lm_eval",
    "load_task",
    "score_predictions",
    "task_names",
]


def __getattr__(name: str) -> Any:
    # What needs torch is imported when it is used, so that the command line starts fast.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"instructalign.evaluation.{_HOMES[name]}"), name)
