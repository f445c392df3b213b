"""Which tasks a configuration evaluates, in which languages, on which items: read once, then handed on.

`select_tasks` reads the test data. Evaluation of the base and of the adapted model, the contamination check and
doctor all use its result. What held-out instructions ask depends on the training data's split, so that they are
made apart, by `plan_heldout`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

from instructalign.config import Config
from instructalign.data import Corpus, ItemText
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.comet import find_command
from instructalign.evaluation.lm_eval_tasks import HarnessPlan, check_room, plan_harness
from instructalign.evaluation.predictions import prediction_file
from instructalign.evaluation.task_items import absent, aligned_sentences, choose_items, read_items, read_texts
from instructalign.evaluation.tasks import (
    AnyTask,
    Generation,
    HarnessTask,
    HeldOutTask,
    ItemTask,
    PlainText,
    Task,
    Translation,
    load_task,
)
from instructalign.files import text_hash
from instructalign.instructions import load_templates, worded
from instructalign.languages import canonical, name_in
from instructalign.mixture import load_replay
from instructalign.mixture.replay_buffer import INSTRUCTION_DATA
from instructalign.mixture.training_data import heldout_instructions, prepare_corpus
from instructalign.plugins import OBJECTIVES
from instructalign.randomness import digest_key
from instructalign.types import Counts, Instruction, Item

log = logging.getLogger(__name__)

HELDOUT_PROMPT = "stream"
"""The prompt id of held-out instructions, each of which has its own wording."""


T = TypeVar("T", Task, Generation)


@dataclass(frozen=True, slots=True)
class TaskPlan(Generic[T]):
    """The questions of one task with items, to be classified or answered in the model's own words.

    Attributes:
        task: the task.
        prompts: ids of the prompts.
        items: the items by language.
        left_out: by language, why it is not evaluated.
        examples: by language, the solved items that are shown before each question (`evaluation.shots`).
        dropped: by language, how many items have nothing to ask about, by reason.
        rejects: those items, as a file of rejects has them.
    """

    task: T
    prompts: list[str]
    items: Mapping[str, list[Item]]
    left_out: Mapping[str, str]
    examples: Mapping[str, list[Item]] = field(default_factory=dict)
    dropped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    rejects: Sequence[Mapping[str, Any]] = ()

    @property
    def name(self) -> str:
        """What manifests, files and scores call it."""
        return self.task.name

    def paths(self, folder: Path) -> list[Path]:
        """The files of its predictions, one per language."""
        return [prediction_file(folder, self.name, language) for language in self.items]

    def questions(self) -> list[tuple[str, str, Item]]:
        """Language, prompt and item of every question, in the order of the files."""
        return [
            (language, prompt, item)
            for language, items in self.items.items()
            for prompt in self.prompts
            for item in items
        ]

    def digest(self) -> str:
        """A hash of the questions."""
        items = {language: [_record(item) for item in some] for language, some in self.items.items()}
        asked: list[Any] = [self.task.digest(), self.prompts, items]
        if self.examples:
            asked.append({language: [_record(item) for item in some] for language, some in self.examples.items()})
        return text_hash(asked)

    def item_texts(self) -> Iterator[ItemText]:
        """The texts of all items, for the contamination check."""
        for language, items in self.items.items():
            for item in items:
                for text in item.fields.values():
                    yield ItemText(self.name, item.id, language, text)


def _record(item: Item) -> dict[str, Any]:
    record = asdict(item)
    for name in ("options", "references"):
        if not record[name]:
            del record[name]
    return record


@dataclass(frozen=True, slots=True)
class TranslationDirection:
    """Sentences to translate from one language into another.

    Attributes:
        task: the task.
        prompts: ids of the prompts.
        source, target: codes of the languages.
        items: ids of the sentences, the numbers of their lines.
        texts: the sentences in the source language.
        references: the same sentences in the target language.
        names: names of languages by code, from the configuration.
    """

    task: Translation
    prompts: list[str]
    source: str
    target: str
    items: list[str]
    texts: list[str]
    references: list[str]
    names: Mapping[str, str]

    @property
    def language(self) -> str:
        """The language that is not the pivot."""
        return self.source if self.target == self.task.pivot else self.target

    @property
    def title(self) -> str:
        """What scores call the task in this direction."""
        into = self.target == self.task.pivot
        return f"{self.task.name}/{'into' if into else 'from'}-{self.task.pivot}"

    @property
    def name(self) -> str:
        """What the manifest calls it: the file of its translations."""
        return f"{self.task.name}.{self.source}-{self.target}.jsonl"

    def paths(self, folder: Path) -> list[Path]:
        """The file of its translations."""
        return [folder / self.name]

    def digest(self) -> str:
        """A hash of the questions."""
        return text_hash([self.task.digest(), self.prompts, self.source, self.items, self.texts, dict(self.names)])

    def format_prompt(self, prompt: str, text: str) -> str:
        """The prompt for a sentence."""
        wording = self.task.prompts[prompt]
        names = {
            slot: self.names.get(code) or name_in(code, wording.language)
            for slot, code in (("source", self.source), ("target", self.target))
        }
        return wording.prompt.format(text=text, **names)


def _plain(made: Instruction) -> dict[str, Any]:
    """An instruction for a hash; without turns it is as before there were any."""
    return {name: value for name, value in asdict(made).items() if name != "turns" or value}


@dataclass(frozen=True, slots=True)
class HeldOutInstructions:
    """Instructions kept out of training: of one objective, or of the replay data.

    Attributes:
        name: what scores call them: the task's name and the objective's.
        instructions: by language, the number in the stream and the instruction.
        labels: for a closed question, by template, the word of each label; empty for an open one.
        by_template: whether the instructions of each template are scored alone as well.
    """

    name: str
    instructions: Mapping[str, Sequence[tuple[int, Instruction]]]
    labels: Mapping[str, Mapping[str, str]]
    by_template: bool = False

    def paths(self, folder: Path) -> list[Path]:
        """The files of its answers, one per language."""
        return [prediction_file(folder, self.name, language) for language in self.instructions]

    def digest(self) -> str:
        """A hash of the questions."""
        by_language = {
            code: [[number, _plain(made)] for number, made in some] for code, some in self.instructions.items()
        }
        return text_hash([self.name, by_language, {name: dict(words) for name, words in self.labels.items()}])

    def questions(self) -> list[tuple[str, int, Instruction]]:
        """Language, number and instruction of every question, in the order of the files."""
        return [(code, number, made) for code, some in self.instructions.items() for number, made in some]


@dataclass(frozen=True, slots=True)
class TextPlan:
    """Plain texts whose bits per byte are measured.

    Attributes:
        name: what scores call them.
        split: for the signature.
        texts: by language, the id and the text of each.
        left_out: by language, why it is not evaluated.
    """

    name: str
    split: str
    texts: Mapping[str, Sequence[tuple[str, str]]]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def paths(self, folder: Path) -> list[Path]:
        """The files of its likelihoods, one per language."""
        return [prediction_file(folder, self.name, language) for language in self.texts]

    def digest(self) -> str:
        """A hash of the texts."""
        return text_hash([self.name, {code: [list(each) for each in some] for code, some in self.texts.items()}])

    def item_texts(self) -> Iterator[ItemText]:
        """The texts, for the contamination check."""
        for language, some in self.texts.items():
            for item, text in some:
                yield ItemText(self.name, item, language, text)


HeldOutQuestions = HeldOutInstructions | TranslationDirection | TextPlan
"""What a model is asked about what a configuration keeps out of training."""


@dataclass(frozen=True, slots=True)
class TaskSelection:
    """All that a configuration evaluates.

    Attributes:
        classification: the classification tasks with their items.
        translation: the directions of the translation tasks.
        heldout_tasks: the tasks on instructions or sentences that are kept out of training.
        heldout: the questions of `heldout_tasks`; None until they are planned (`plan_heldout`).
        texts: the tasks on plain text.
        harness: the tasks of lm-evaluation-harness with their items.
        generation: the tasks whose answers the model writes, with their items.
    """

    classification: list[TaskPlan[Task]]
    translation: list[TranslationDirection] = field(default_factory=list)
    heldout_tasks: list[HeldOutTask] = field(default_factory=list)
    heldout: list[HeldOutQuestions] | None = None
    texts: list[TextPlan] = field(default_factory=list)
    harness: list[HarnessPlan] = field(default_factory=list)
    generation: list[TaskPlan[Generation]] = field(default_factory=list)

    def item_texts(self) -> Iterator[ItemText]:
        """Every text of every test item, for the contamination check.

        A sentence of a translation task is there once per language: each language is translated from.
        """
        plans: list[TaskPlan[Any] | TextPlan | HarnessPlan] = [*self.classification, *self.texts, *self.harness]
        for plan in [*plans, *self.generation]:
            yield from plan.item_texts()
        seen = set()
        for direction in self.translation:
            if (direction.task.name, direction.source) not in seen:
                seen.add((direction.task.name, direction.source))
                for id, text in zip(direction.items, direction.texts, strict=True):
                    yield ItemText(direction.task.name, id, direction.source, text)


def select_tasks(config: Config) -> TaskSelection:
    """Reads the tasks that a configuration names, with their test data.

    A task is read in those of its languages that `languages` lists, or that `evaluation.languages` names.
    A language without data is left out with a warning, unless it was named.

    Raises:
        ConfigError: no task is named, or COMET is configured and its command is missing.
        UnknownNameError: there is no such task or prompt.
        DataError: test data are missing or wrong.
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
    return TaskSelection(
        [plan_task(config, task) for task in tasks if isinstance(task, Task)],
        [each for task in tasks if isinstance(task, Translation) for each in plan_directions(config, task)],
        [task for task in tasks if isinstance(task, HeldOutTask)],
        texts=[plan_texts(config, task) for task in tasks if isinstance(task, PlainText)],
        harness=[
            plan_harness(config, task, _languages(config)) for task in tasks if isinstance(task, HarnessTask)
        ],
        generation=[plan_task(config, task) for task in tasks if isinstance(task, Generation)],
    )


def _may_have(config: Config, task: AnyTask, language: str) -> bool:
    """Whether a task can have items in a language, as far as is known before its data are read."""
    if isinstance(task, HeldOutTask):
        if task.kind == INSTRUCTION_DATA:
            return config.instruction_data is not None and language in config.instruction_data.sources
        return task.kind != "replay" or language in config.languages.known
    if isinstance(task, HarnessTask) and not task.languages:
        return True
    return language in task.languages


def _languages(config: Config) -> list[str]:
    """The languages to evaluate: those named, else all of the configuration."""
    return config.evaluation.languages or [code for codes in config.languages.groups.values() for code in codes]


def _present_languages(
    config: Config, task: Task | Generation | PlainText | Translation, but: str = ""
) -> tuple[list[str], dict[str, str]]:
    """The languages in which a task has data; and those of the configuration in which it has none, and why.

    Raises:
        DataError: a language that `evaluation.languages` names has no data, or no language has.
    """
    settings = config.evaluation
    present: list[str] = []
    left_out: dict[str, str] = {}
    for language in _languages(config):
        if language not in task.languages or language == but:
            continue
        reason = absent(task, settings.data, language)
        if reason and settings.languages:
            raise DataError(f"{task.name} in {language}, requested by evaluation.languages: {reason}.")
        if reason:
            left_out[language] = reason
            log.warning("%s leaves out %s: %s", task.name, language, reason)
        else:
            present.append(language)
    if not present:
        reasons = "; ".join(left_out.values()) or f"the task has only {', '.join(task.languages)}"
        home = f" The data set is published at {task.source}." if left_out and task.source else ""
        raise DataError(f"{task.name} has no data for the languages of this configuration: {reasons}.{home}")
    return present, left_out


def _keep_reject(
    rejects: list[Mapping[str, Any]], where: str, reason: str, count: int, what: Mapping[str, Any]
) -> None:
    rejects.append({"filter": reason, "corpus": where, **what})


def plan_task(config: Config, task: T) -> TaskPlan[T]:
    """The questions of one task with items under a configuration; see `select_tasks`."""
    settings = config.evaluation
    if isinstance(task, Generation):
        check_room(config, task.name, task.tokens, "tokens")
    present, left_out = _present_languages(config, task)
    items, examples, dropped, rejects = {}, {}, {}, list[Mapping[str, Any]]()
    for language in present:
        counts = Counts(reject=partial(_keep_reject, rejects, f"{task.name} ({language})"))
        tested = read_items(task, language, settings.data, counts=counts)
        kept = choose_items([item.id for item in tested], settings.items)
        items[language] = [item for item in tested if item.id in kept]
        if settings.shots:
            examples[language] = choose_examples(config, task, language, tested)
        if counts.dropped:
            dropped[language] = counts.dropped
    return TaskPlan(task, task.choose_prompts(settings.prompts), items, left_out, examples, dropped, rejects)


def choose_examples(config: Config, task: Task | Generation, language: str, tested: Sequence[Item]) -> list[Item]:
    """The solved items that are shown before each question: `evaluation.shots` of them, drawn by the seed.

    None of the task's items in this language, `tested`, is among them.

    Raises:
        ConfigError: the task has no items for it.
        DataError: it has too few, or they cannot be read.
    """
    shots, source = config.evaluation.shots, task.on_examples()
    if source is None:
        raise ConfigError([missing_examples(task)])
    everything = read_items(source, language, config.evaluation.data)
    questions = {tuple(item.fields.values()) for item in tested}
    found = [item for item in everything if tuple(item.fields.values()) not in questions]
    if len(found) < len(everything):
        same, of = len(everything) - len(found), len(everything)
        log.warning("%s in %s: %d of %d examples are test items, and not shown", task.name, language, same, of)
    if len(found) < shots:
        raise DataError(
            f"{task.name} in {language} has {len(found)} items to show as examples that are not tested; "
            f"evaluation.shots is {shots}."
        )
    return sorted(found, key=lambda item: digest_key(config.seed, "shots", item.id))[:shots]


def missing_examples(task: ItemTask) -> str:
    """That a task has no items to show as solved examples."""
    return (
        f"evaluation.shots: {task.name} names no items to show as examples. Give its task file a block examples, "
        "with a split that is not tested, or set shots to 0"
    )


def plan_texts(config: Config, task: PlainText) -> TextPlan:
    """The texts of one task under a configuration; languages as in `plan_task`.

    Raises:
        DataError: a language that `evaluation.languages` names has no data, or no language has, or a file is
            empty.
    """
    settings = config.evaluation
    present, left_out = _present_languages(config, task)
    texts = {language: read_texts(task, language, settings.data, settings.items) for language in present}
    return TextPlan(task.name, task.split, texts, left_out)


def plan_directions(config: Config, task: Translation) -> list[TranslationDirection]:
    """The directions of a translation task under a configuration.

    Every language of the configuration that the task has is translated from and into the pivot. One without
    data is left out with a warning, unless `evaluation.languages` names it.

    Raises:
        DataError: a language that `evaluation.languages` names has no data, or no language has.
        ConfigError: COMET is configured and its command is missing, which is better known before translating.
    """
    settings = config.evaluation
    if settings.comet is not None:
        find_command(settings.comet)
    directions: list[TranslationDirection] = []
    for language in _present_languages(config, task, but=task.pivot)[0]:
        pairs = aligned_sentences(task, language, settings.data)
        directions += _both_ways(config, task, language, pairs, settings.items)
    return directions


def _both_ways(
    config: Config, task: Translation, language: str, pairs: Mapping[str, tuple[str, str]], limit: int | None
) -> Iterator[TranslationDirection]:
    """From a task's pivot and into it: pairs of sentences by id, the pivot's first."""
    kept = choose_items([*pairs], limit)
    ids = [id for id in pairs if id in kept]
    here, there = [pairs[id][0] for id in ids], [pairs[id][1] for id in ids]
    prompts, names = task.choose_prompts(config.evaluation.prompts), config.languages.names
    yield TranslationDirection(task, prompts, task.pivot, language, ids, here, there, names)
    yield TranslationDirection(task, prompts, language, task.pivot, ids, there, here, names)


def probe_tasks(config: Config) -> list[Task]:
    """The tasks that `training.probe` takes items from.

    Raises:
        ConfigError: there is none, or early stopping would select the model on test items.
    """
    tasks = [task for name in config.evaluation.tasks if isinstance(task := load_task(name), Task)]
    if not tasks:
        raise ConfigError(["training.probe: evaluation.tasks names no classification task to take items from"])
    stopping = config.training.early_stopping
    tested = [task.name for task in tasks if task.validation is None]
    if stopping and stopping.on == "probe" and tested:
        raise ConfigError(
            [
                f"training.early_stopping is on probe, but {', '.join(tested)} has no validation items: the model "
                "would be selected on its test items. Give the task file a validation block, or stop on heldout"
            ]
        )
    return tasks


def missing_heldout(config: Config, task: HeldOutTask, rows: int | None = None) -> str:
    """What a configuration lacks for a task on what it holds out, for a sentence about it; empty if nothing.

    Args:
        config: the configuration.
        task: the task.
        rows: how many sentences are held out; by default as the configuration says, if it does.
    """
    if task.kind == "replay":
        have = f"replay.heldout is {config.replay.heldout}" if config.replay else "there is no replay block"
        what, key, enough = "replay examples", "replay.heldout", bool(config.replay and config.replay.heldout > 1)
        more = "better 300, beside a replay.source"
    elif task.kind == INSTRUCTION_DATA:
        data = config.instruction_data
        if data and config.taught_data is None:
            codes = ", ".join([*config.languages.known, *config.targets])
            return f"evaluates instruction data, and instruction_data.sources has none in {codes}"
        have = f"instruction_data.heldout is {data.heldout}" if data else "there is no instruction_data block"
        what, key, enough = "instruction data", "instruction_data.heldout", bool(data and data.heldout > 1)
        more = "better 300"
    else:
        rows = config.instructions.heldout if rows is None else rows
        have, what, key, enough = (
            f"there are {rows}",
            "sentences",
            "instructions.heldout",
            rows is None or rows >= 2,
        )
        more = "better 100"
    return "" if enough else f"evaluates held-out {what}, and {have}. Set {key} to at least 2, {more}"


def plan_heldout(
    config: Config,
    task: HeldOutTask,
    *,
    rows: Corpus | None = None,
    replay: Sequence[Instruction] | None = None,
) -> list[HeldOutQuestions]:
    """What a task keeps out of training: replay examples, sentences, or of each objective the first of its stream.

    There are as many of an objective in every language. An instruction counts for the language that is aligned
    with a pivot, whichever way it goes.

    Args:
        config: the configuration.
        task: the task.
        rows: the held-out sentences; read from the corpora if None.
        replay: the held-out replay examples; read from their source if None.

    Raises:
        DataError: fewer than two sentences, or replay examples, are held out, or their source cannot be read.
    """
    settings, limit = config.instructions, min(task.items, config.evaluation.items or task.items)
    of_rows = task.kind not in ("replay", INSTRUCTION_DATA)
    if of_rows and rows is None:
        rows = prepare_corpus(config)[1]
    if lacks := missing_heldout(config, task, None if rows is None else len(rows)):
        raise DataError(f"{task.name} {lacks}.")
    if rows is None or not of_rows:
        return [*_plan_examples(config, task, limit, replay)]
    if task.kind == "translations":
        return [*_plan_heldout_directions(config, task, limit, rows)]
    if task.kind == "sentences":
        return [*_plan_sentences(config, task, limit, rows)]
    codes = [code for code in config.targets if code in (config.evaluation.languages or config.targets)]
    plans: list[HeldOutQuestions] = []
    for name, entry in settings.objectives.items():
        alone = settings.model_copy(update={"objectives": {name: entry}, "schedule": None})
        stream = heldout_instructions(config.model_copy(update={"instructions": alone}), rows)
        if stream is None or name not in worded(settings.objectives):
            continue  # plain text is scored as such, by heldout_text
        chosen: dict[str, list[tuple[int, Instruction]]] = {code: [] for code in codes}
        for number in range(stream.epoch):
            if all(len(some) == limit for some in chosen.values()):
                break
            made = stream[number]
            some = chosen.get(made.target, chosen.get(made.source))
            if some is not None and len(some) < limit:
                some.append((number, made))
        closed = OBJECTIVES.get(name).labels  # type: ignore[attr-defined]
        templates = load_templates(settings.templates, [name])[name] if closed else []
        labels = {each.id: {label: each.answers[label] for label in closed} for each in templates}
        found = {code: some for code, some in chosen.items() if some}
        plans.append(HeldOutInstructions(f"{task.name}-{name}", found, labels))
    return plans


def _plan_heldout_directions(
    config: Config, task: HeldOutTask, limit: int, rows: Corpus
) -> Iterator[TranslationDirection]:
    """Held-out sentences to translate between each pivot and each language that is aligned with it.

    A sentence with several translations is there once, with the first of them.

    Raises:
        DataError: no held-out sentence has text in a pivot and in such a language.
    """
    found = False
    for pivot in config.pivots:
        for language in config.targets:
            pairs: dict[str, tuple[str, str]] = {}
            for row in rows:
                if row.texts.get(pivot) and row.texts.get(language):
                    pairs.setdefault(row.id, (row.texts[pivot], row.texts[language]))
            if pivot == language or language not in (config.evaluation.languages or config.targets) or not pairs:
                continue
            found = True
            names = {code: config.languages.names.get(code, code) for code in (pivot, language)}
            between = Translation(
                kind="translation",
                name=task.name,
                split="held-out",
                path=task.kind,
                pivot=pivot,
                languages=names,
                prompts=task.prompts,
                tokens=task.tokens,
            )
            yield from _both_ways(config, between, language, pairs, limit)
    if not found:
        raise DataError(
            f"{task.name} translates held-out sentences between {', '.join(config.pivots)} and "
            f"{', '.join(config.targets)}, and none of the {len(rows)} held out has text in two of them. Raise "
            "instructions.heldout, or change evaluation.languages."
        )


def _plan_sentences(config: Config, task: HeldOutTask, limit: int, rows: Corpus) -> Iterator[TextPlan]:
    """Held-out sentences as plain text, in every language of the configuration that they have.

    A sentence with several translations is there once, with the first of them.
    """
    texts: dict[str, list[tuple[str, str]]] = {}
    for language in _languages(config):
        found: dict[str, str] = {}
        for row in rows:
            if text := row.texts.get(language, "").strip():
                found.setdefault(row.id, text)
        if kept := choose_items([*found], limit):
            texts[language] = [each for each in found.items() if each[0] in kept]
    if texts:
        yield TextPlan(task.name, "held-out", texts)


def _plan_examples(
    config: Config, task: HeldOutTask, limit: int, replay: Sequence[Instruction] | None
) -> Iterator[HeldOutInstructions]:
    """Held-out replay examples, each under its own language if that is known, else under the first one; or
    instruction data, each under the language of its source.
    """
    of_replay = task.kind == "replay"
    source, key = (config.replay, "replay") if of_replay else (config.taught_data, INSTRUCTION_DATA)
    if not of_replay or replay is None:
        settings = source and source.model_copy(update={"size": 0})
        replay = load_replay(settings, config.seed, config.model, key=key).heldout
    known = config.languages.known
    found: dict[str, list[tuple[int, Instruction]]] = {code: [] for code in known if of_replay}
    for number, example in enumerate(replay):
        code = _known_language(example, known) if of_replay else example.target
        some = found.setdefault(code, [])
        if len(some) < limit and code in (config.evaluation.languages or [code]):
            some.append((number, example))
    if found := {code: some for code, some in found.items() if some}:
        yield HeldOutInstructions(task.name, found, {}, by_template=True)


def _known_language(example: Instruction, known: Sequence[str]) -> str:
    named = example.target or example.source
    try:
        code = named if named in known else canonical(named)
    except DataError:
        return known[0]
    return code if code in known else known[0]
