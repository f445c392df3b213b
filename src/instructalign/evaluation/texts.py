"""The texts of test items, by which they are found among training data."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from instructalign.config import Config
from instructalign.corpora import ItemText
from instructalign.evaluation.plan import Plan, plan_tasks

if TYPE_CHECKING:
    from instructalign.evaluation.translate import Direction


def item_texts(config: Config) -> list[ItemText]:
    """Every text of every item that a configuration evaluates on.

    Raises:
        InstructAlignError: a task or its data cannot be read.
    """
    plans, translations = plan_tasks(config)
    texts = [text for plan in plans for text in texts_of_plan(plan)]
    if translations:
        from instructalign.evaluation.translate import plan_directions  # which imports torch

        for task in translations:
            texts += texts_of_directions(plan_directions(config, task))
    return texts


def texts_of_plan(plan: Plan) -> Iterator[ItemText]:
    """The texts of a classification task."""
    for language, items in plan.items.items():
        for item in items:
            for text in item.fields.values():
                yield ItemText(plan.task.name, item.id, language, text)


def texts_of_directions(directions: Sequence[Direction]) -> Iterator[ItemText]:
    """The texts of a translation task, each language once: every one is translated from."""
    seen = set()
    for direction in directions:
        if direction.source not in seen:
            seen.add(direction.source)
            for id, text in zip(direction.items, direction.texts, strict=True):
                yield ItemText(direction.task.name, id, direction.source, text)
