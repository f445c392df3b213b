"""Which tasks are evaluated in which languages, and the test items of a configuration."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from instructalign.config import Config
from instructalign.data import ItemText
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.items import absent, read_items
from instructalign.evaluation.tasks import HeldOut, Task, Translation, load_task
from instructalign.files import text_hash
from instructalign.types import Item

if TYPE_CHECKING:
    from instructalign.evaluation.translation import Direction

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a model on one task.

    Attributes:
        task: the task.
        prompts: ids of the prompts.
        items: the items by language.
        left_out: by language, why it is not evaluated.
    """

    task: Task
    prompts: list[str]
    items: Mapping[str, list[Item]]
    left_out: Mapping[str, str]

    def asked(self) -> list[tuple[str, str, Item]]:
        """Language, prompt and item of every question, in the order of the files."""
        return [
            (language, prompt, item)
            for language, items in self.items.items()
            for prompt in self.prompts
            for item in items
        ]

    def digest(self) -> str:
        """A hash of the questions."""
        items = {language: [asdict(item) for item in some] for language, some in self.items.items()}
        return text_hash([self.task.digest(), self.prompts, items])


def plan_tasks(config: Config) -> tuple[list[Plan], list[Translation]]:
    """Reads the tasks that a configuration names: classification tasks with their items, and translations.

    A task is read in those of its languages that stand in `languages`, or that `evaluation.languages` names.
    A language without data is left out and said so, unless it was named.

    Raises:
        ConfigError: no task is named.
        UnknownNameError: there is no such task or prompt.
        DataError: data that was asked for is missing or wrong.
    """
    settings = config.evaluation
    if not settings.tasks:
        raise ConfigError(["evaluation.tasks: names no task to evaluate"])
    tasks = [load_task(name) for name in settings.tasks]
    for language in settings.languages or []:
        if not any(_may_have(config, task, language) for task in tasks):
            raise DataError(
                f"evaluation.languages: {language} is in none of the tasks: "
                f"{', '.join(task.name for task in tasks)}."
            )
    return (
        [plan_task(config, task) for task in tasks if isinstance(task, Task)],
        [task for task in tasks if isinstance(task, Translation)],
    )


def _may_have(config: Config, task: Task | Translation | HeldOut, language: str) -> bool:
    """Whether a task can have items in a language, as far as can be said before its data are read."""
    if isinstance(task, HeldOut):
        return task.kind == "instructions" or language in config.languages.known
    return language in task.languages


def missing_past(config: Config) -> str:
    """What a task of past instructions lacks in a configuration; empty if nothing."""
    heldout = config.replay.heldout if config.replay else 0
    if heldout >= 2:
        return ""
    have = f"replay.heldout is {heldout}" if config.replay else "there is no replay block"
    return (
        f"asks past examples that are not replayed, and {have}. Set replay.heldout to at least 2, better 300, "
        "beside a replay.source"
    )


def heldout_tasks(config: Config) -> list[HeldOut]:
    """The tasks of a configuration that ask instructions which it keeps out of training."""
    tasks = map(load_task, config.evaluation.tasks)
    return [task for task in tasks if isinstance(task, HeldOut)]


def plan_task(config: Config, task: Task) -> Plan:
    """What a configuration asks on one classification task; see `plan_tasks`."""
    settings = config.evaluation
    wanted = settings.languages or [code for codes in config.languages.groups.values() for code in codes]
    items, left_out = {}, {}
    for language in wanted:
        if language not in task.languages:
            continue
        reason = absent(task, settings.data, language)
        if reason and settings.languages:
            raise DataError(f"{task.name} in {language}, which evaluation.languages asks for: {reason}.")
        if reason:
            left_out[language] = reason
            log.warning("%s leaves out %s: %s", task.name, language, reason)
        else:
            items[language] = read_items(task, language, settings.data, settings.items)
    if not items:
        reasons = "; ".join(left_out.values()) or f"the task has only {', '.join(task.languages)}"
        home = f" The set is at home at {task.source}." if left_out and task.source else ""
        raise DataError(f"{task.name} has no data for the languages of this configuration: {reasons}.{home}")
    return Plan(task, task.choose_prompts(settings.prompts), items, left_out)


def item_texts(config: Config) -> list[ItemText]:
    """Every text of every item that a configuration evaluates on.

    Raises:
        InstructAlignError: a task or its data cannot be read.
    """
    plans, translations = plan_tasks(config)
    texts = [text for plan in plans for text in texts_of_plan(plan)]
    if translations:
        from instructalign.evaluation.translation import plan_directions

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
