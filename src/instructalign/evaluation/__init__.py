"""From a model to scores: tasks, label likelihoods, predictions, intervals, comparison of models."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from instructalign.evaluation.tasks import Task, Translation, load_task, task_names

if TYPE_CHECKING:
    from instructalign.evaluation.continual_metrics import continual_scores, correlate_gains
    from instructalign.evaluation.lm_eval_export import export_lm_eval
    from instructalign.evaluation.runner import evaluate
    from instructalign.evaluation.scores import score_predictions

_HOMES = {
    "continual_scores": "continual_metrics",
    "correlate_gains": "continual_metrics",
    "evaluate": "runner",
    "export_lm_eval": "lm_eval_export",
    "score_predictions": "scores",
}

__all__ = [
    "Task",
    "Translation",
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
