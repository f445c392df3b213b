"""Checks of evaluation tasks, prompts and templates against the languages of the configuration."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from instructalign.config import Config
from instructalign.data import Corpus, ItemText
from instructalign.doctor.findings import Findings, first_few
from instructalign.evaluation.lm_eval_tasks import HarnessPlan
from instructalign.evaluation.task_selection import (
    HeldOutInstructions,
    TaskPlan,
    TextPlan,
    TranslationDirection,
    plan_heldout,
    select_tasks,
)
from instructalign.evaluation.tasks import Generation, HeldOutTask, load_task
from instructalign.evaluation.translation import longest_stretch
from instructalign.instructions import load_templates, worded
from instructalign.mixture import ReplayBuffer

_PURPOSES = {
    "L1": ("known", "forgetting"),
    "L2": ("new", "learning"),
    "L3": ("related", "transfer"),
}


@dataclass(frozen=True, slots=True)
class TaskPart:
    """One task as this configuration evaluates it.

    Attributes:
        task: its name.
        prompts: by id, the language of each of its prompts.
        items: by language, how many items there are.
        lacking: languages of the configuration that the task does not have.
        absent: by language, why its data cannot be read.
        questions: by language, how many prompts the model gets.
        read, written: by language, the characters that the model reads, and those that it writes at most; empty
            for tasks of lm-evaluation-harness.
        answered: by language, the tokens that it writes at most where a task says how many.
    """

    task: str
    prompts: dict[str, str]
    items: dict[str, int]
    lacking: tuple[str, ...]
    absent: dict[str, str]
    questions: dict[str, int] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)
    written: dict[str, int] = field(default_factory=dict)
    answered: dict[str, int] = field(default_factory=dict)


def examine_tasks(
    config: Config, heldout: Corpus | None, replay: ReplayBuffer | None
) -> tuple[tuple[TaskPart, ...], list[ItemText], Findings]:
    """Reads every task, and checks that all groups of languages are tested.

    Args:
        config: the run's configuration.
        heldout: the held-out rows, and `replay` the replay data, that held-out tasks are made from; None if they
            could not be read.

    Returns:
        The tasks that can be read, the texts of their items, and the findings.
    """
    findings = Findings("tasks")
    parts: list[TaskPart] = []
    texts: list[ItemText] = []
    for name in config.evaluation.tasks:
        advice = "Change evaluation.tasks, .prompts, .languages or .data accordingly."
        if read := findings.attempt(advice, partial(_read, config, name, heldout, replay)):
            parts.append(read[0])
            texts += read[1]
    # All instruction-tuned models are taken to read English.
    readable = {"eng", *config.languages.known}
    templates = findings.attempt(
        "Change instructions.templates or instructions.objectives accordingly.",
        lambda: load_templates(config.instructions.templates, worded(config.instructions.objectives)),
    )
    for language in sorted({each.language for some in (templates or {}).values() for each in some} - readable):
        findings.warn(
            f"Instructions are worded in {language}, which is not among the known languages.",
            f"Choose other sets with instructions.templates, or add {language} to languages.known.",
        )
    if not config.evaluation.tasks:
        findings.warn(
            "Nothing is evaluated.",
            "Add tasks to evaluation.tasks: heldout_translation has the sentences that are held out; "
            "`instructalign tasks ls` lists the others.",
        )
    elif parts:
        _judge(config, parts, readable, findings)
    return tuple(parts), texts, findings


def _read(
    config: Config, name: str, rows: Corpus | None, replay: ReplayBuffer | None
) -> tuple[TaskPart, list[ItemText]]:
    """A task with its items, whatever is wrong with the others.

    Raises:
        InstructAlignError: the task, its data or a prompt is wrong.
    """
    task = load_task(name)
    named = config.evaluation.languages
    wanted = named or [code for codes in config.languages.groups.values() for code in codes]
    items: dict[str, int] = {}
    if isinstance(task, HeldOutTask):
        kept = plan_heldout(config, task, rows=rows, replay=replay.heldout if replay else None)
        for heldout in kept:
            if isinstance(heldout, TranslationDirection):
                items[heldout.source] = len(heldout.items)
            else:
                of_plan = heldout.texts if isinstance(heldout, TextPlan) else heldout.instructions
                for code, some in of_plan.items():
                    items[code] = items.get(code, 0) + len(some)
        asked = {id: task.prompts[id].language for id in task.choose_prompts(config.evaluation.prompts)}
        lacking = tuple(code for code in wanted if code not in items)
        return TaskPart(task.name, asked, items, lacking, {}, *_workload(kept)), []
    languages = [code for code in named if code in task.languages] if named else None
    evaluation = config.evaluation.model_copy(update={"tasks": [name], "languages": languages or named})
    selection = select_tasks(config.model_copy(update={"evaluation": evaluation}))
    absent: dict[str, str] = {}
    plans: list[TaskPlan[Any]] = [*selection.classification, *selection.generation]
    if plans:
        plan = plans[0]
        prompts, absent = plan.prompts, dict(plan.left_out)
        items = {language: len(some) for language, some in plan.items.items()}
    elif selection.texts:
        prompts, absent = [], dict(selection.texts[0].left_out)
        items = {language: len(some) for language, some in selection.texts[0].texts.items()}
    elif selection.harness:
        items = selection.harness[0].items
        without = tuple(code for code in wanted if code not in items)
        return TaskPart(task.name, {}, items, without, {}), list(selection.item_texts())
    else:
        prompts = selection.translation[0].prompts
        items = {direction.source: len(direction.items) for direction in selection.translation}
    lacking = tuple(code for code in wanted if code not in task.languages)
    prompt_languages = {id: task.prompts[id].language for id in prompts}
    work = _workload([*plans, *selection.texts, *selection.translation])
    return TaskPart(task.name, prompt_languages, items, lacking, absent, *work), list(selection.item_texts())


def _workload(
    plans: Sequence[TaskPlan[Any] | TextPlan | HeldOutInstructions | TranslationDirection | HarnessPlan],
) -> tuple[dict[str, int], dict[str, int], dict[str, int], dict[str, int]]:
    """By language: prompts, characters that a model reads, and characters and tokens that it writes at most."""
    questions: Counter[str] = Counter()
    read: Counter[str] = Counter()
    written: Counter[str] = Counter()
    answered: Counter[str] = Counter()

    def ask(language: str, texts: Iterable[str]) -> None:
        questions[language] += 1
        read[language] += sum(map(len, texts))

    for plan in plans:
        if isinstance(plan, TaskPlan):
            for language, prompt, item in plan.questions():
                asked = plan.task.fill(prompt, item, plan.examples.get(language, ()))
                if isinstance(plan.task, Generation):
                    ask(language, (asked,))
                    answered[language] += plan.task.tokens
                else:
                    ask(language, (asked, *plan.task.words(prompt, item).values()))
        elif isinstance(plan, HeldOutInstructions):
            for language, _, made in plan.questions():
                ask(language, (made.prompt, made.answer))
        elif isinstance(plan, TextPlan):
            for language, some in plan.texts.items():
                read[language] += sum(len(text) for _, text in some)
        elif isinstance(plan, TranslationDirection):
            pairs = list(zip(plan.texts, plan.references, strict=True))
            stretch = longest_stretch((len(text), len(reference)) for text, reference in pairs)
            for prompt in plan.prompts:
                for text in plan.texts:
                    ask(plan.source, (plan.format_prompt(prompt, text),))
                    written[plan.target] += round(stretch * len(text))
    return dict(questions), dict(read), dict(written), dict(answered)


def _judge(config: Config, parts: list[TaskPart], readable: set[str], findings: Findings) -> None:
    tested = {code for part in parts for code in part.items}
    without_data = {code for part in parts for code in part.absent}  # reported with the task below
    for group, codes in config.languages.groups.items():
        kind, purpose = _PURPOSES[group]
        untested = [code for code in codes if code not in tested | without_data]
        if untested and len(untested) == len(codes):
            findings.warn(
                f"No task has items in a {kind} language ({first_few(codes)}): {purpose} will not be measured.",
                f"Add a task under evaluation.tasks that has one, or change languages.{kind}.",
            )
        elif untested:
            findings.warn(
                f"No task has items in {first_few(untested)}.",
                f"Add a task under evaluation.tasks, or remove them from languages.{kind}.",
            )
    nowhere = [code for code in config.evaluation.languages or [] if all(code in part.lacking for part in parts)]
    if nowhere:
        findings.problem(
            f"evaluation.languages names {first_few(nowhere)}, which no task has.",
            "Remove them, or add a task that has them under evaluation.tasks.",
        )
    for part in parts:
        if part.absent:
            findings.warn(
                f"{part.task} is left out in {first_few(list(part.absent))}: {next(iter(part.absent.values()))}.",
                "Put the files under evaluation.data, or restrict evaluation.languages to those with data.",
            )
    unread: dict[str, list[str]] = {}
    for part in parts:
        for prompt, language in part.prompts.items():
            if language not in readable:
                unread.setdefault(language, []).append(f"{part.task}/{prompt}")
    for language, prompts in unread.items():
        findings.warn(
            f"Prompts are in {language}, which is not among the known languages: {first_few(prompts)}.",
            f"Choose others with evaluation.prompts, or add {language} to languages.known.",
        )
    if not findings:
        findings.ok(
            f"{sum(len(part.items) for part in parts)} test sets, {len(tested)} languages, all groups tested."
        )
