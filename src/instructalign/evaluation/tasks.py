"""Evaluation tasks: their YAML files, prompts, labels and languages."""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError, field_validator, model_validator

from instructalign.config import Strict
from instructalign.config_file import MultipleProblems, UniqueKeys, explain_all, not_yaml
from instructalign.errors import ConfigError, UnknownNameError, nearest, suggest
from instructalign.files import text_hash
from instructalign.languages import LanguageCode, language_code
from instructalign.plugins import CorpusEntry, HubSourceEntry, TaskSourceEntry
from instructalign.types import Item

if TYPE_CHECKING:
    from typing_extensions import Self

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
_PACKAGE = files("instructalign.evaluation")
_SHIPPED = _PACKAGE / "tasks"


def _language_names(value: Any) -> Any:
    """The languages of a task file as names by code: given so, as a list of codes, or as the name of a set."""
    if isinstance(value, str):
        sets = [entry.name[: -len(".yaml")] for entry in (_PACKAGE / "languages").iterdir()]
        if value not in sets:
            raise ValueError(f"unknown set of languages {value!r}. {suggest(value, sets)}")
        value = yaml.safe_load((_PACKAGE / "languages" / f"{value}.yaml").read_text(encoding="utf-8"))
    if isinstance(value, list):
        value = {code: code for code in value}
    if not isinstance(value, Mapping):
        return value
    return {language_code(str(code)): str(name) for code, name in value.items()}


TaskLanguages = Annotated[dict[str, str], BeforeValidator(_language_names)]


class Prompt(Strict):
    """One wording of the question.

    Attributes:
        language: code of the language it is written in, which is also that of the label words.
        prompt: the wording, with a slot in braces for each text of an item, and `{options}` for its options.
        answers: of a task with options, what is put to the model after the prompt: their texts or their letters.
        option: how `{options}` writes each of them, one per line.
    """

    language: LanguageCode
    prompt: Annotated[str, Field(min_length=1)]
    answers: Literal["texts", "letters"] = "texts"
    option: str = "{letter}. {text}"

    @field_validator("prompt")
    @classmethod
    def _plain_slots(cls, value: str) -> str:
        try:
            parts = list(string.Formatter().parse(value))
        except ValueError as error:
            raise ValueError(f"{error}; write {{{{ and }}}} for braces that are no slot") from None
        for _, slot, spec, conversion in parts:
            if slot is not None and (spec or conversion):
                raise ValueError(f"a slot is a name in braces and nothing else, as {{{slot}}}")
        return value

    @cached_property
    def slots(self) -> frozenset[str]:
        """The names in braces."""
        return frozenset(name for _, name, _, _ in string.Formatter().parse(self.prompt) if name is not None)


def _text_labels(value: Any) -> Any:
    # YAML reads a bare 1 or yes as a number or a boolean; data files hold text.
    if not isinstance(value, Mapping):
        return value
    for label in value:
        if isinstance(label, bool):
            raise ValueError(f'put the label in quotation marks: YAML reads it as {label}, not as "yes" or "no"')
    return {str(label): words for label, words in value.items()}


Fields = dict[str, str | Annotated[list[str], Field(min_length=1)]]
Labels = Annotated[dict[str, str | dict[str, str]], Field(min_length=2), BeforeValidator(_text_labels)]
Words = dict[str, Labels]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
"""The names of an item's options, in their order."""

_PROMPT_DEFAULTS = {"answers": "texts", "option": "{letter}. {text}"}


class _NamedTask(Strict):
    """What all tasks have in common.

    Attributes:
        name: its name in configurations.
        title: its name in reports.
        source: where the data come from: paper and repository.
        licence: the data's licence.
    """

    name: Name
    title: str = ""
    source: str = ""
    licence: str = ""


class ItemTask(_NamedTask):
    """What tasks with items have in common.

    Attributes:
        split: which part of the data is read, for the signature of scores.
        data: the reader of files under `evaluation.data` (see `task_sources`), with its options.
        hub: the same data on the Hugging Face Hub, used if the folder has none of its files.
        gated: whether the Hub gives the data only to users who have accepted its terms.
        validation: the reader of validation items, for choices that must not be made on test items.
        examples, hub_examples: the readers of the items that `evaluation.shots` shows solved before the question;
            by default those of `validation`.
        fields: the column for `label`, for `id` (by default items are numbered) and for each slot of the prompts.
            Several columns are joined: the parts of an id by `-`, texts by line ends.
        words_for: by field, words by prompt language that stand for its values, as `because` for a question about
            a cause.
        edits: what is changed in a field, or in `options`, so that sentences can be joined: `drop_last` leaves out
            the final punctuation, `lower_first` makes the first letter small.
        languages: by code, the name of the language in the data's paths or columns; or the name of a set
            of languages (`flores200`).
        prompts: by id, the wordings.
    """

    split: str = "test"
    data: TaskSourceEntry
    hub: HubSourceEntry | None = None
    gated: bool = False
    validation: TaskSourceEntry | None = None
    examples: TaskSourceEntry | None = None
    hub_examples: HubSourceEntry | None = None
    fields: Fields
    languages: Annotated[TaskLanguages, Field(min_length=1)]
    words_for: Words = Field(default_factory=dict)
    edits: dict[str, Literal["drop_last", "lower_first"]] = Field(default_factory=dict)
    prompts: Annotated[dict[Name, Prompt], Field(min_length=1)]

    @property
    def texts(self) -> list[str]:
        """The names of an item's texts, which are the slots of the prompts."""
        return _texts(self.fields)

    def words(self, prompt: str, item: Item | None = None) -> dict[str, str]:
        """By label, what is put to the model after a prompt; none where it writes the answer itself."""
        return {}

    def solution(self, prompt: str, item: Item) -> str:
        """The right answer to an item, as a solved example shows it."""
        raise NotImplementedError

    def fill(self, prompt: str, item: Item, examples: Sequence[Item] = ()) -> str:
        """A prompt with an item's texts in its slots, after solved examples; a blank line follows each."""
        wording = self.prompts[prompt]
        texts = {
            name: _word(words[text], wording.language) if (words := self.words_for.get(name)) and text else text
            for name, text in item.fields.items()
        }
        if "options" in wording.slots:
            lettered = zip(LETTERS, item.options, strict=False)
            texts["options"] = "\n".join(wording.option.format(letter=a, text=text) for a, text in lettered)
        solved = [f"{self.fill(prompt, each)} {self.solution(prompt, each)}\n\n" for each in examples]
        return "".join(solved) + wording.prompt.format_map(texts)

    def choose_prompts(self, names: list[str] | None) -> list[str]:
        """The prompts to use, in the task's order: all, or those named.

        Raises:
            UnknownNameError: the task has no prompt of that name.
        """
        return _chosen(self.name, self.prompts, names)

    def on_validation(self) -> Self:
        """The task on its validation items, where it has some."""
        if self.validation is None:
            return self
        return self.model_copy(
            update={"data": self.validation, "hub": None, "validation": None, "split": "validation"}
        )

    def on_examples(self) -> Self | None:
        """The task on the items that may be shown as solved examples; None where it has none."""
        if self.examples is None and self.hub_examples is None:
            return None if self.validation is None else self.on_validation()
        data = self.data if self.examples is None else self.examples
        return self.model_copy(update={"data": data, "hub": self.hub_examples})

    def digest(self) -> str:
        """A hash of everything that determines the questions."""
        found = self.model_dump(
            mode="json", exclude={"title", "source", "licence", "data", "hub", "gated", "validation", "metric"}
        )
        # Keys that came later count where they are set, so that older evaluations stay what they were.
        for key in ("options", "answer", "words_for", "edits", "examples", "hub_examples"):
            if found.get(key) in (None, "text", {}) or key in ("examples", "hub_examples"):
                found.pop(key, None)
        for prompt in found["prompts"].values():
            for key, value in _PROMPT_DEFAULTS.items():
                if prompt[key] == value:
                    del prompt[key]
        return text_hash(found)


class Task(ItemTask):
    """A classification task.

    Attributes:
        options: the columns of each item's own options, or one column with a list of them; None where all items
            have the same `labels`.
        answer: how the label names the right option: by its text, its index (from 0), its number (from 1) or its
            letter.
        metric: the one that is shown first and compared; of tasks with options it is accuracy.
        labels: by label in the data, its word by prompt language; or one word for all prompt languages.
    """

    labels: Labels | None = None
    options: str | Annotated[list[str], Field(min_length=2)] | None = None
    answer: Literal["text", "index", "number", "letter"] = "text"
    metric: Literal["accuracy", "f1_micro", "f1_macro", "f1_weighted"] | None = None

    @model_validator(mode="after")
    def _agree(self) -> Task:
        problems = list(disagreements(self.fields, self.labels, self.prompts, self.options is not None))
        problems += [*_option_problems(self), *_item_problems(self)]
        if problems:
            raise MultipleProblems(problems)
        return self

    def words(self, prompt: str, item: Item | None = None) -> dict[str, str]:
        """By label, in the task's order, its word (the verbaliser) under a prompt; of options, an item's own."""
        wording = self.prompts[prompt]
        if self.labels is not None:
            return {label: _word(words, wording.language) for label, words in self.labels.items()}
        options = () if item is None else item.options
        letters = LETTERS[: len(options)]
        return dict(zip(letters, letters if wording.answers == "letters" else options, strict=True))

    def solution(self, prompt: str, item: Item) -> str:
        """The word of an item's label."""
        return self.words(prompt, item)[item.label]


class Generation(ItemTask):
    """A task whose answers the model writes: open questions, summaries, problems with a number as the answer.

    Attributes:
        kind: `generation`, which tells it from a classification task.
        references: the columns of an item's right answers, or one column with an answer or a list of them; of
            several, the one that an answer is nearest to counts.
        stop: the strings that end an answer; white space before its first word does not.
        tokens: the maximum length of an answer.
        metric: the one that is shown first and compared (`open_answers.ANSWER_METRICS`); all are reported.
    """

    kind: Literal["generation"]
    references: str | Annotated[list[str], Field(min_length=1)]
    stop: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1, default=["\n"])]
    tokens: Annotated[int, Field(ge=1)] = 64
    metric: Literal["exact_match", "token_f1", "chrf"] = "token_f1"

    @model_validator(mode="after")
    def _agree(self) -> Generation:
        problems = [*_item_problems(self)]
        if "label" in self.fields:
            problems.append("fields.label: a task of generation has references instead")
        if not self.texts:
            problems.append("fields: needs at least one text, for example question: question")
        for name, prompt in self.prompts.items():
            problems += _slot_problems(f"prompts.{name}.prompt", prompt, self.texts, before="answer")
        if problems:
            raise MultipleProblems(problems)
        return self

    def solution(self, prompt: str, item: Item) -> str:
        """The first of an item's right answers."""
        return item.references[0]


class _LinesOfText(_NamedTask):
    """What tasks on texts without labels have in common: where the texts are read, one a line or record."""

    split: str = "test"
    path: str
    hub: HubSourceEntry | None = None
    gated: bool = False


class Translation(_LinesOfText):
    """A translation task, from and into one language.

    Attributes:
        kind: `translation`, which tells it from a classification task.
        split: as in `Task`.
        path: the file of sentences under `evaluation.data`, with `{name}` in place of the language's name; one
            sentence per line, the same in every language.
        hub: the same sentences on the Hugging Face Hub, used if the folder has none of the files; with the columns
            `id` and `text`, or others by `rename`.
        corpus: instead of files of sentences, a parallel corpus in any format that training reads; its paths are
            relative to `evaluation.data`.
        gated: as in `Task`.
        pivot: the language that all are translated from and into.
        languages: as in `Task`.
        prompts: by id, the wordings, with the slot `{text}`, and `{source}` and `{target}` for the languages'
            names.
        tokens: the maximum length of a translation; less where `translation.translation_limits` says so.
    """

    kind: Literal["translation"]
    path: str = ""
    corpus: CorpusEntry | None = None
    pivot: str
    languages: Annotated[TaskLanguages, Field(min_length=2)]
    prompts: Annotated[dict[Name, Prompt], Field(min_length=1)]
    tokens: Annotated[int, Field(ge=1)] = 256

    @model_validator(mode="after")
    def _agree(self) -> Translation:
        problems = [] if self.pivot in self.languages else [f"pivot: {self.pivot!r} is not among the languages"]
        if bool(self.path) == (self.corpus is not None):
            problems.append("path: give either path, a file of sentences for each language, or corpus")
        if problems := [*problems, *_translation_problems(self.prompts), *_place_problems(self)]:
            raise MultipleProblems(problems)
        return self

    def choose_prompts(self, names: list[str] | None) -> list[str]:
        """As `Task.choose_prompts`."""
        return _chosen(self.name, self.prompts, names)

    def digest(self) -> str:
        """A hash of everything that determines the questions."""
        return text_hash(
            self.model_dump(mode="json", exclude={"title", "source", "licence", "path", "hub", "gated", "corpus"})
        )


class PlainText(_LinesOfText):
    """Plain text whose bits per byte are measured: it needs no labels, and any language has some.

    Attributes:
        kind: `text`, which tells it from a classification task.
        split: as in `Task`.
        path: the file under `evaluation.data`, with `{name}` in place of the language's name; a text per line.
        hub, gated: as in `Translation`.
        languages: as in `Task`.
    """

    kind: Literal["text"]
    languages: Annotated[TaskLanguages, Field(min_length=1)]

    @model_validator(mode="after")
    def _agree(self) -> PlainText:
        if problems := [*_place_problems(self)]:
            raise MultipleProblems(problems)
        return self

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """None: the model reads the text and nothing else."""
        return {}


class HeldOutTask(_NamedTask):
    """Instructions or sentences that a configuration keeps out of training.

    Attributes:
        kind: `instructions`: alignment instructions from the sentences that `instructions.heldout` holds out;
            `translations`: these sentences, to translate from and into each pivot; `sentences`: the same, as plain
            text; `replay`: the replay examples that `replay.heldout` holds out; `instruction_data`: the examples
            that `instruction_data.heldout` holds out.
        items: the maximum per language, of an objective or of the replay data.
        prompts, tokens: of `translations`, as in `Translation`; the others have the configuration's wordings.
    """

    kind: Literal["instructions", "translations", "sentences", "replay", "instruction_data"]
    items: Annotated[int, Field(ge=2)] = 200
    prompts: dict[Name, Prompt] = Field(default_factory=dict)
    tokens: Annotated[int, Field(ge=1)] = 256

    @property
    def languages(self) -> Mapping[str, str]:
        """None of its own: those that the configuration aligns, or its known ones."""
        return {}

    @model_validator(mode="after")
    def _agree(self) -> HeldOutTask:
        if self.kind != "translations":
            problems = ["prompts: only a task of translations has some"] if self.prompts else []
        else:
            problems = [*_translation_problems(self.prompts)] if self.prompts else ["prompts: missing"]
        if problems:
            raise MultipleProblems(problems)
        return self

    def choose_prompts(self, names: list[str] | None) -> list[str]:
        """As `Task.choose_prompts`; those of a task without prompts are none."""
        return _chosen(self.name, self.prompts, names) if self.prompts else []


class HarnessTask(_NamedTask):
    """Tasks that lm-evaluation-harness defines, one of its tasks or groups for each language.

    Attributes:
        kind: `lm-eval`.
        task: what the harness calls it, with `{name}` in place of the language's name where `languages` has some;
            otherwise `{language}` stands for the language, or the language is at the name's end.
        languages: as in `Task`; found by the names of the harness's tasks where none are given.
        shots: number of few-shot examples; the task's own number if None.
        include: a folder under `evaluation.data` with task files for the harness, beside those that it ships.
    """

    kind: Literal["lm-eval"]
    task: Annotated[str, Field(min_length=1)]
    languages: TaskLanguages = Field(default_factory=dict)
    shots: Annotated[int, Field(ge=0)] | None = None
    include: Path | None = None

    @model_validator(mode="after")
    def _agree(self) -> HarnessTask:
        slots = ["name"] if self.languages else ["language"]
        for _, slot, _, _ in string.Formatter().parse(self.task):
            if slot is not None and slot not in slots:
                raise ValueError(f"task: unknown slot {{{slot}}}. Available: {{{slots[0]}}}")
        if len(self.languages) > 1 and "{name}" not in self.task:
            raise ValueError("task: with several languages it needs {name}, one of the harness's tasks for each")
        return self

    @property
    def prompts(self) -> Mapping[str, Prompt]:
        """None of its own: the wordings are the harness's."""
        return {}

    def choose_prompts(self, names: list[str] | None) -> list[str]:
        """None, whatever others a configuration names."""
        return []


_HARNESS = "lm-eval:"  # begins a task of the harness in `evaluation.tasks`: `lm-eval:belebele`, `lm-eval:piqa@eng`


def _harness_task(text: str) -> HarnessTask:
    """The task that `lm-eval:NAME` or `lm-eval:NAME@LANGUAGE` stands for."""
    task, _, language = text.removeprefix(_HARNESS).partition("@")
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", task.replace("{language}", "")).strip("_-")
    data = {"kind": "lm-eval", "name": name, "task": task}
    return _checked(HarnessTask, data | ({"languages": {language: language}} if language else {}), text)


def disagreements(
    fields: Fields | None, labels: Labels | None, prompts: Mapping[str, Prompt], options: bool = False
) -> Iterator[str]:
    """Contradictions between the parts of a classification task, a sentence each.

    Args:
        fields, labels: as in `Task`; None where they are wrong themselves.
        prompts: those that are valid themselves.
        options: whether items have options of their own.
    """
    texts, languages = _texts(fields or {}), set()
    if fields is not None and not isinstance(fields.get("label", ""), str):
        yield "fields.label: expected the name of one column"
    if fields is not None and "label" not in fields:
        yield "fields.label: missing; it names the column of the labels"
    if fields is not None and not texts:
        yield "fields: needs at least one text, for example text: text"
    for name, prompt in prompts.items():
        if texts:
            yield from _slot_problems(f"prompts.{name}.prompt", prompt, texts, ["options"] if options else [])
        if labels is not None and prompt.language not in languages:
            yield from _word_problems(name, prompt.language, labels)
        languages.add(prompt.language)


def _texts(fields: Fields) -> list[str]:
    return [field for field in fields if field not in ("id", "label")]


def _word(words: str | Mapping[str, str], language: str) -> str:
    return words if isinstance(words, str) else words[language]


def _option_problems(task: Task) -> Iterator[str]:
    """Contradictions about options by item, a sentence each."""
    if (task.options is None) == (task.labels is None):
        yield "labels: give either labels, the same for all items, or options, those of each item"
    if task.options is None and task.answer != "text":
        yield "answer: tells how a label names one of the options, and there are no options"
    if task.options is not None and task.metric not in (None, "accuracy"):
        yield f"metric: {task.metric} needs labels that all items share; with options it is accuracy"
    for name, prompt in task.prompts.items():
        where = f"prompts.{name}"
        try:
            prompt.option.format(letter="A", text="")
        except (KeyError, IndexError, ValueError):
            yield f"{where}.option: {prompt.option!r} may have the slots {{letter}} and {{text}} and nothing else"
        if task.options is not None and prompt.answers == "letters" and "options" not in prompt.slots:
            yield f"{where}.prompt: no slot {{options}}; the model never sees what the letters stand for"


def _item_problems(task: ItemTask) -> Iterator[str]:
    """Contradictions about words by item, edits, words in braces and places on the Hub, a sentence each."""
    options = isinstance(task, Task) and task.options is not None
    labels = (isinstance(task, Task) and task.labels) or {}
    for name, prompt in task.prompts.items():
        if not options and (prompt.answers != "texts" or prompt.option != _PROMPT_DEFAULTS["option"]):
            yield f"prompts.{name}: answers and option are for tasks with options"
        for field, words in task.words_for.items():
            for value, word in words.items():
                if not isinstance(word, str) and prompt.language not in word:
                    yield f"words_for.{field}.{value}: no word in {prompt.language}, the language of {name!r}"
    for key, names in (("words_for", task.words_for), ("edits", task.edits)):
        known = task.texts + (["options"] if key == "edits" and options else [])
        for field in names:
            if field not in known:
                yield f"{key}.{field}: no such field. {suggest(field, known)}"
    for key, groups in (("labels", {"": labels}), ("words_for", task.words_for)):
        for field, some in groups.items():
            for value, word in some.items():
                for text in [word] if isinstance(word, str) else word.values():
                    if "{" in text and "}" in text:
                        where = ".".join(filter(None, (key, field, value)))
                        yield f"{where}: nothing is put in the place of the braces in {text!r}; write plain words"
    for key, of in (("examples", "data"), ("validation", "data"), ("hub_examples", "hub")):
        if getattr(task, key) is not None and getattr(task, key) == getattr(task, of):
            yield f"{key}: the same as {of}; items that are tested must not be shown or chosen by"
    yield from _place_problems(task)


_PLACES = {"path": ["name"], "config": ["name", "language"], "data_files": ["name", "language"]}
"""The options of readers in which something is put in the place of braces, and what."""
_PLAIN_PLACES = ("dataset", "split", "revision", "pivot", "language_column")


def _place_problems(task: Strict) -> Iterator[str]:
    """Braces in places of data in which nothing is put in their place, a sentence each."""
    given = {"": {"path": getattr(task, "path", None)}}
    for key in ("data", "hub", "validation", "examples", "hub_examples"):
        entry = getattr(task, key, None)
        given[f"{key}."] = {} if entry is None else entry.options
    for key, options in given.items():
        for option in (*_PLACES, *_PLAIN_PLACES):
            value, allowed = options.get(option), _PLACES.get(option, [])
            for slot in re.findall(r"\{(\w*)\}", value) if isinstance(value, str) else ():
                if slot not in allowed:
                    there = (
                        f"only {{{'} and {'.join(allowed)}}} are replaced here"
                        if allowed
                        else "none is replaced here"
                    )
                    yield f"{key}{option}: nothing is put in the place of {{{slot}}} in {value!r}; {there}"


def _slot_problems(
    where: str, prompt: Prompt, texts: list[str], more: Sequence[str] = (), before: str = "label"
) -> Iterator[str]:
    unknown = sorted(prompt.slots - {*texts, *more})
    for slot in unknown:
        yield f"{where}: unknown slot {{{slot}}}. {suggest(slot, [*texts, *more])}"
    meant = {nearest(slot, texts) for slot in unknown}
    for text in texts:
        if text not in prompt.slots | meant:
            yield f"{where}: no slot {{{text}}}; without it the model never sees the item's {text}"
    if prompt.prompt != prompt.prompt.rstrip():
        yield f"{where}: ends with white space; a space before the {before} is added anyway"


def _translation_problems(prompts: Mapping[str, Prompt]) -> Iterator[str]:
    slots = ["text", "source", "target"]
    for name, prompt in prompts.items():
        where = f"prompts.{name}.prompt"
        for slot in sorted(prompt.slots - set(slots)):
            yield f"{where}: unknown slot {{{slot}}}. {suggest(slot, slots)}"
        yield from (f"{where}: no slot {{{slot}}}" for slot in ("text", "target") if slot not in prompt.slots)


def _word_problems(name: str, language: str, labels: Labels) -> Iterator[str]:
    seen: dict[str, str] = {}
    for label, words in labels.items():
        word = words if isinstance(words, str) else words.get(language, "")
        if not word.strip():
            yield f"labels.{label}: no word in {language}, the language of the prompt {name!r}"
        elif word != word.strip():
            yield (
                f"labels.{label}: the word {word!r} in {language} begins or ends with white space; write "
                f"{word.strip()!r}: a space before the label is added anyway"
            )
        elif word in seen:
            yield (
                f"labels.{label}: the word {word!r} in {language} is also that of {seen[word]!r}; "
                "the model could not tell the two apart"
            )
        seen.setdefault(word, label)


def _chosen(task: str, prompts: Mapping[str, Prompt], names: list[str] | None) -> list[str]:
    for name in names or []:
        if name not in prompts:
            raise UnknownNameError(f"prompt of task {task}", name, prompts)
    return [name for name in prompts if names is None or name in names]


_TaskKind = TypeVar("_TaskKind", bound=Strict)


def task_names() -> list[str]:
    """The names of the shipped tasks."""
    return sorted(entry.name[: -len(".yaml")] for entry in _SHIPPED.iterdir() if entry.name.endswith(".yaml"))


AnyTask = Task | Generation | Translation | PlainText | HeldOutTask | HarnessTask
"""Whatever a task file may hold."""

_KINDS: Mapping[str, type[Generation | Translation | PlainText | HeldOutTask | HarnessTask]] = {
    "generation": Generation,
    "translation": Translation,
    "text": PlainText,
    **dict.fromkeys(("instructions", "translations", "sentences", "replay", "instruction_data"), HeldOutTask),
    "lm-eval": HarnessTask,
}


def load_task(name_or_path: str) -> AnyTask:
    """Reads a task: a shipped one by its name, or a user's from a YAML file.

    Raises:
        UnknownNameError: no shipped task has that name.
        ConfigError: the file is missing or wrong; all problems are listed.
    """
    if name_or_path.startswith(_HARNESS):
        return _harness_task(name_or_path)
    if name_or_path.endswith((".yaml", ".yml")):
        return _read_task(Path(name_or_path), name_or_path)
    if name_or_path not in task_names():
        raise UnknownNameError("task", name_or_path, task_names())
    return _shipped_task(name_or_path)


@cache  # a sweep asks for the same few once a cell, and reading YAML is slow
def _shipped_task(name: str) -> AnyTask:
    return _read_task(_SHIPPED / f"{name}.yaml", f"{name}.yaml")


def _read_task(file: Any, where: str) -> AnyTask:
    try:
        data = yaml.load(file.read_text(encoding="utf-8"), Loader=UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(["the file does not exist; give a shipped task or a YAML file"], where) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"the file cannot be read: {error}"], where) from None
    except yaml.YAMLError as error:
        raise ConfigError([not_yaml(error)], where) from None
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind is not None and str(kind) not in _KINDS:
        renamed = "It is called replay." if kind == "past" else ""
        hint = renamed or suggest(str(kind), list(_KINDS))
        raise ConfigError([f"kind: unknown kind {kind!r}. {hint} A classification task has no kind"], where)
    if kind is not None:
        return _checked(_KINDS[str(kind)], data, where)
    return build_task(data, where)


def build_task(data: Any, where: str) -> Task:
    """Checks a task given as nested dictionaries.

    Args:
        data: the keys of a task file.
        where: its name in error messages.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    if not isinstance(data, dict):
        raise ConfigError([f"expected keys such as name: and prompts:, found {type(data).__name__}"], where)
    return _checked(Task, data, where, _contradictions)


def _checked(
    model: type[_TaskKind],
    data: dict[str, Any],
    where: str,
    more: Callable[[dict[str, Any]], Iterable[str]] | None = None,
) -> _TaskKind:
    """A valid task, or all that is wrong with it; `more` finds contradictions between keys that are valid."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = explain_all(error.errors(), model=model)
        if more is not None and any(details["loc"] for details in error.errors()):
            problems += more(data)
    raise ConfigError(problems, where)


def _contradictions(data: Mapping[str, Any]) -> Iterator[str]:
    """Contradictions among those keys of a classification task that are valid themselves."""

    def valid(kind: Any, value: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError:
            return None

    given = data.get("prompts")
    prompts = {
        str(name): prompt
        for name, value in (given.items() if isinstance(given, Mapping) else ())
        if (prompt := valid(Prompt, value)) is not None
    }
    labels = None if "options" in data else valid(Labels, data.get("labels"))
    yield from disagreements(valid(Fields, data.get("fields")), labels, prompts, "options" in data)
