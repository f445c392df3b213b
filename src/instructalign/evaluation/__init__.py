"""From a model to scores: tasks, label likelihoods, predictions, intervals, comparison of two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instructalign.evaluation.tasks import Task, load_task, task_names

if TYPE_CHECKING:
    from instructalign.evaluation.significance import correlate_gains
    from instructalign.evaluation.zero_shot import compare, evaluate

__all__ = ["Task", "compare", "correlate_gains", "evaluate", "load_task", "task_names"]


def __getattr__(name: str) -> Any:
    # What needs torch is imported when it is used, so that the command line starts fast.
    if name in ("compare", "evaluate"):
        from instructalign.evaluation import zero_shot

        return getattr(zero_shot, name)
    if name == "correlate_gains":
        from instructalign.evaluation.significance import correlate_gains

        return correlate_gains
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
