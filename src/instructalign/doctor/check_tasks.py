"""Evaluation tasks, prompts and templates against the languages of the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from instructalign.config import Config
from instructalign.data import ItemText
from instructalign.doctor.findings import Findings, listed
from instructalign.evaluation.task_selection import TaskSelection, plan_heldout, select_tasks
from instructalign.evaluation.tasks import HeldOutTask, Task, Translation, load_task
from instructalign.instructions import load_templates

PURPOSE = {
    "L1": ("known", "forgetting"),
    "L2": ("new", "what is learned"),
    "L3": ("related", "what carries over"),
}


@dataclass(frozen=True, slots=True)
class TaskPart:
    """One task as this configuration asks it.

    Attributes:
        task: its name.
        prompts: by id, the language of each of its prompts.
        items: by language, how many items there are.
        lacking: languages of the configuration that the task does not have.
        absent: by language, why its data cannot be read.
    """

    task: str
    prompts: dict[str, str]
    items: dict[str, int]
    lacking: tuple[str, ...]
    absent: dict[str, str]


def examine_tasks(config: Config) -> tuple[tuple[TaskPart, ...], list[ItemText], Findings]:
    """Reads every task, and looks whether the groups of languages are all tested.

    Returns:
        The tasks that can be read, the texts of their items, and what was found.
    """
    findings = Findings("tasks")
    parts: list[TaskPart] = []
    texts: list[ItemText] = []
    for name in config.evaluation.tasks:
        read = findings.attempt(
            "Change evaluation.tasks, .prompts, .languages or .data as it says.",
            partial(_read, config, name),
        )
        if read is not None:
            parts.append(read[0])
            texts += read[1]
    _judge_templates(config, findings)
    if not config.evaluation.tasks:
        findings.warn(
            "Nothing is evaluated.", "Name tasks under evaluation.tasks; `instructalign tasks ls` lists them."
        )
    elif parts:
        _judge(config, parts, findings)
    return tuple(parts), texts, findings


def _read(config: Config, name: str) -> tuple[TaskPart, list[ItemText]]:
    """A task with its items, whatever is wrong with the others.

    Raises:
        InstructAlignError: the task, its data or a prompt is wrong.
    """
    task = load_task(name)
    if isinstance(task, HeldOutTask):
        return _heldout(config, task), []
    named = config.evaluation.languages
    languages = [code for code in named if code in task.languages] if named else None
    alone = config.model_copy(
        update={
            "evaluation": config.evaluation.model_copy(update={"tasks": [name], "languages": languages or named})
        }
    )
    wanted = named or [code for codes in config.languages.groups.values() for code in codes]
    lacking = tuple(code for code in wanted if code not in task.languages)
    return _selected(task, select_tasks(alone), lacking)


def _heldout(config: Config, task: HeldOutTask) -> TaskPart:
    items: dict[str, int] = {}
    for plan in plan_heldout(config, task):
        for code, some in plan.instructions.items():
            items[code] = items.get(code, 0) + len(some)
    wanted = config.evaluation.languages or [code for codes in config.languages.groups.values() for code in codes]
    return TaskPart(task.name, {}, items, tuple(code for code in wanted if code not in items), {})


def _selected(
    task: Task | Translation, selection: TaskSelection, lacking: tuple[str, ...]
) -> tuple[TaskPart, list[ItemText]]:
    if selection.classification:
        plan = selection.classification[0]
        prompts, left_out = plan.prompts, dict(plan.left_out)
        items = {language: len(some) for language, some in plan.items.items()}
    else:
        prompts, left_out = selection.translation[0].prompts, {}
        items = {direction.source: len(direction.items) for direction in selection.translation}
    spoken = {id: task.prompts[id].language for id in prompts}
    return TaskPart(task.name, spoken, items, lacking, left_out), list(selection.item_texts())


def _judge(config: Config, parts: list[TaskPart], findings: Findings) -> None:
    tested = {code for part in parts for code in part.items}
    without_data = {code for part in parts for code in part.absent}  # said of the task below
    for group, codes in config.languages.groups.items():
        kind, purpose = PURPOSE[group]
        untested = [code for code in codes if code not in tested | without_data]
        if not untested:
            continue
        if len(untested) == len(codes):
            findings.warn(
                f"No task has items in a {kind} language ({listed(codes)}): {purpose} will not be seen.",
                f"Add a task under evaluation.tasks that has one, or change languages.{kind}.",
            )
        else:
            findings.warn(
                f"No task has items in {listed(untested)}.",
                f"Add a task under evaluation.tasks, or take them out of languages.{kind}.",
            )
    nowhere = [code for code in config.evaluation.languages or [] if all(code in part.lacking for part in parts)]
    if nowhere:
        findings.problem(
            f"evaluation.languages names {listed(nowhere)}, which no task has.",
            "Take them out, or add a task that has them under evaluation.tasks.",
        )
    for part in parts:
        if part.absent:
            findings.warn(
                f"{part.task} is left out in {listed(list(part.absent))}: {next(iter(part.absent.values()))}.",
                "Put the files under evaluation.data, or name the languages wanted in evaluation.languages.",
            )
    _judge_prompts(config, parts, findings)
    if not findings:
        findings.ok(
            f"{sum(len(part.items) for part in parts)} test sets, {len(tested)} languages, all groups tested."
        )


def _judge_prompts(config: Config, parts: list[TaskPart], findings: Findings) -> None:
    strange: dict[str, list[str]] = {}
    for part in parts:
        for prompt, language in part.prompts.items():
            if not _is_known(config, language):
                strange.setdefault(language, []).append(f"{part.task}/{prompt}")
    for language, prompts in strange.items():
        findings.warn(
            f"Prompts are in {language}, which is not among the known languages: {listed(prompts)}.",
            f"Choose others with evaluation.prompts, or add {language} to languages.known.",
        )


def _judge_templates(config: Config, findings: Findings) -> None:
    templates = findings.attempt(
        "Change instructions.templates or instructions.objectives as it says.",
        lambda: load_templates(config.instructions.templates, config.instructions.objectives),
    )
    strange = {each.language for some in (templates or {}).values() for each in some}
    for language in sorted(strange):
        if not _is_known(config, language):
            findings.warn(
                f"Instructions are worded in {language}, which is not among the known languages.",
                f"Choose other sets with instructions.templates, or add {language} to languages.known.",
            )


def _is_known(config: Config, language: str) -> bool:
    """Whether a model can be expected to read a prompt; all instruction-tuned ones read English."""
    return language == "eng" or language in config.languages.known
