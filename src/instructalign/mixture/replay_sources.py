"""Where replay data come from: JSON lines on disk, or a dataset on the Hub."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from instructalign.config import ModelConfig
from instructalign.data.readers import field_names, field_of, files_in, read_hub, read_json
from instructalign.errors import DataError, found, suggest
from instructalign.files import notice
from instructalign.mixture.conversations import (
    UnusableTurnError,
    answers_of,
    as_plain_text,
    conversation_of,
    conversations_of_tree,
    flaw_of,
    form_of,
    known_forms,
    mixed_forms,
)
from instructalign.progress import Progress, silent
from instructalign.types import Counts, Instruction, Turn


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What a replay source is given beside its options, if its function takes a positional argument.

    Attributes:
        wanted: how many examples the run takes from it if all are usable; for sources that make them.
        seed: the run's seed.
        counts: for what the source leaves out: `read` and `dropped` of the examples that it does not yield.
        model: the model that is going to be trained; None where there is none.
        progress: called during long steps.
    """

    wanted: int = 0
    seed: int = 0
    counts: Counts = field(default_factory=Counts)
    model: ModelConfig | None = None
    progress: Progress = silent


def read_jsonl_examples(
    request: ReplayRequest | None = None,
    *,
    path: Path,
    prompt: str = "inputs",
    answer: str = "targets",
    task: str = "task",
    language: str = "lang",
    id: str | None = None,
    languages: list[str] | None = None,
    tasks: list[str] | None = None,
    without_tasks: list[str] | None = None,
) -> Iterator[Instruction]:
    """Replay examples from JSON lines or a JSON array: a file, or every `*.jsonl` (else `*.json`) of a folder.

    Args:
        request: where the examples in other languages, or of other tasks, are counted.
        path: the file or folder.
        prompt, answer: the fields of question and answer (the defaults are P3's and xP3's); dots lead into
            nested objects. Where records have not these but a common form, it is read without them: `messages`,
            ShareGPT's `conversations`, Alpaca's instruction, input and output, prompt and completion, prompt and
            chosen, OASST's messages; of many turns, each of the assistant's is an example.
        task, language: fields of the example's task and language, kept where they exist.
        id: field of the record's id, where records of one id, in sources of several languages, are translations
            of one another (`instruction_data.crosslingual`).
        languages: only examples whose language field is one of these.
        tasks, without_tasks: only examples whose task field is one of these, or none of these (to leave out those
            that the model is going to be tested on).

    Raises:
        DataError: a file is missing, a line is not JSON, or a field is missing; the message names file and line.
    """
    fields, chosen = (prompt, answer, task, language, id), _Chosen(languages, tasks, without_tasks)
    for file in files_in(path, "jsonl", "json"):
        yield from _examples(read_json(file), partial("{}:{}".format, file), fields, chosen, request)
    chosen.check_names(path)


def read_hub_examples(
    request: ReplayRequest | None = None,
    *,
    name: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    data_files: str | list[str] | None = None,
    prompt: str = "inputs",
    answer: str = "targets",
    task: str = "task",
    language: str = "lang",
    id: str | None = None,
    languages: list[str] | None = None,
    tasks: list[str] | None = None,
    without_tasks: list[str] | None = None,
    scan: int | None = 200_000,
    streaming: bool = True,
) -> Iterator[Instruction]:
    """Replay examples from a Hub dataset such as xP3.

    Args:
        request: where the examples in other languages, or of other tasks, are counted.
        name: the dataset, a local folder in the Hub's layout, or a file type (`json`, `parquet`) whose
            files `data_files` names. xP3 needs the last: its repository has a loading script, which
            `datasets` refuses, but its files can be read as they are.
        subset: the dataset's configuration.
        split, revision, data_files: as in `datasets.load_dataset`.
        prompt, answer: the columns of question and answer (the defaults are P3's and xP3's); dots lead into
            nested objects.
        task, language: columns of the example's task and language, kept where they exist.
        id: column of the record's id, where records of one id, in sources of several languages, are translations
            of one another (`instruction_data.crosslingual`).
        languages: only examples whose language column is one of these.
        tasks, without_tasks: only examples whose task column is one of these, or none of these.
        scan: how many examples to choose from, since xP3's English part alone has tens of millions: of a set
            that is streamed, the same number from each file; null for all, in one pass.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the dataset cannot be loaded, or a field is missing.
    """
    advice = "or download it and use format: jsonl with its path."
    options: dict[str, Any] = {"split": split, "revision": revision, "data_files": data_files}
    records = read_hub(name, subset, advice, some=scan, streaming=streaming, **options)
    fields, chosen = (prompt, answer, task, language, id), _Chosen(languages, tasks, without_tasks)
    yield from _examples(records, lambda n: f"{name} ({split}, row {n - 1})", fields, chosen, request)
    chosen.check_names(name)


@dataclass(frozen=True, slots=True)
class _Chosen:
    """Which examples of a source are taken, by their language and their task; None for all."""

    languages: list[str] | None
    tasks: list[str] | None
    without_tasks: list[str] | None
    seen: set[str] = field(default_factory=set)

    def reason_against(self, task: Any, language: Any) -> str:
        """Why an example is left out; empty where it is not."""
        if self.languages is not None and language not in self.languages:
            return "other language"
        if self.tasks is not None or self.without_tasks is not None:
            self.seen.add(str(task))
        wanted = self.tasks is None or task in self.tasks
        return "" if wanted and task not in (self.without_tasks or ()) else "other task"

    def check_names(self, source: object) -> None:
        """Says which of the tasks no example has, once all are read: a misspelt one would change nothing."""
        for name in [*(self.tasks or ()), *(self.without_tasks or ())]:
            if name not in self.seen:
                found = f"No example of {source} has the task {name!r}, which tasks or without_tasks names."
                notice(found, suggest(name, sorted(self.seen)[:_TASKS_SHOWN]))


_TASKS_SHOWN = 40  # of those that a source has, in a message

_Fields = tuple[str, str, str, str, str | None]
"""The names of question, answer, task, language and id."""
_FIELDS = ("inputs", "targets")
"""The default names of question and answer; where records have others, their form is told by these."""
_FIELDS_OF_FORMS = {
    *(("instruction", answer) for answer in ("output", "response")),
    *(("prompt", answer) for answer in ("completion", "response", "chosen")),
}
"""Names that mean a form, with whatever else belongs to it: Alpaca's `input`, for one."""


def _examples(
    records: Iterable[tuple[int, Mapping[str, Any]]],
    place: Callable[[int], str],
    fields: _Fields,
    chosen: _Chosen,
    request: ReplayRequest | None,
) -> Iterator[Instruction]:
    """The examples in records: one of each, or of a conversation one for each of the assistant's turns.

    Raises:
        DataError: a record has no text in the fields of question and answer and no known form, or another form
            than the first.
    """
    counts = request.counts if request else Counts()
    records = iter(records)
    first = next(records, None)
    if first is None:
        return
    everything = _noting_synthetic(chain([first], records), place)
    form = _form(first[1], fields)
    if form == "tree":
        where = place(first[0]).rpartition(":")[0] or place(first[0])
        for number, record, turns in conversations_of_tree(everything, where, counts):
            yield from _of_turns(turns, record, place(number), fields, chosen, counts, last_only=True)
        return
    for number, record in everything:
        where = place(number)
        if form and form_of(record) == form:
            try:
                turns = conversation_of(record, form, where)
            except DataError as error:  # in the first record, it is the form that is wrong
                if number == first[0] and not isinstance(error, UnusableTurnError):
                    raise
                counts.read += 1
                counts.drop(getattr(error, "reason", "turns are damaged"), row=where, fields=str(error))
                continue
            yield from _of_turns(turns, record, where, fields, chosen, counts)
        elif form or (_form(record, fields) and field_of(record, fields[0]) is None):
            raise mixed_forms(where, form or f"of {fields[0]} and {fields[1]}", record)
        elif example := _example(record, where, fields, chosen, counts, number == first[0]):
            yield example


def _noting_synthetic(
    records: Iterable[tuple[int, Mapping[str, Any]]], place: Callable[[int], str]
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The records; where one says that a machine wrote it, as `translate_replay` writes, the user is told once."""
    told = False
    for number, record in records:
        if not told and (codes := record.get("synthetic")):
            told = True
            languages = ", ".join(map(str, codes)) if isinstance(codes, list) else "some languages"
            notice(
                f"{place(number)}: a model wrote its text in {languages} (synthetic).",
                "It is taught what a machine wrote: read some of it, and say so under provenance.",
            )
        yield number, record


def _form(record: Mapping[str, Any], fields: _Fields) -> str:
    """The form by which a source is read; empty where question and answer are the fields that are named."""
    named, form = fields[:2], form_of(record)
    if named in _FIELDS_OF_FORMS:
        return form
    if named == _FIELDS and not any(name in record for name in named):
        return form
    # `prompt: messages` and the like: a list of turns, under a name that the form has
    return form if form == "messages" and not isinstance(field_of(record, named[0]), str) else ""


def _of_turns(
    turns: Sequence[Turn],
    record: Mapping[str, Any],
    where: str,
    fields: _Fields,
    chosen: _Chosen,
    counts: Counts,
    *,
    last_only: bool = False,
) -> Iterator[Instruction]:
    """The examples of a conversation: each of the assistant's turns, or the last, after those before it."""
    task, language = field_of(record, fields[2]), field_of(record, fields[3])
    if flaw := chosen.reason_against(task, language) or flaw_of(turns):
        counts.read += 1
        counts.drop(flaw, row=where, fields=[text for _, text in turns])
        return
    answers = [*answers_of(turns, record)]
    if not answers:
        counts.read += 1
        counts.drop("every answer is excluded (weight: 0)", row=where, fields=[text for _, text in turns])
    for number, (before, answer) in enumerate(answers, start=1):
        if last_only and number < len(answers):
            continue
        yield Instruction(
            prompt=as_plain_text(before),
            answer=answer,
            objective="replay",
            target=str(language or ""),
            row=where.rpartition("/")[2] + (f"#{number}" if len(answers) > 1 and not last_only else ""),
            template=str(task or ""),
            turns=before if len(before) > 1 else (),
            id=_id(record, fields[4], where),
        )


def _example(
    record: Mapping[str, Any],
    where: str,
    fields: _Fields,
    chosen: _Chosen,
    counts: Counts,
    is_first: bool,
) -> Instruction | None:
    """The example in a record; None, and counted, where it has no text, or no chosen language or task."""
    prompt, answer, task, language = (field_of(record, name) for name in fields[:4])
    for key, name, text in zip(("prompt", "answer"), fields[:2], (prompt, answer), strict=True):
        if isinstance(text, str):
            continue
        names = list(field_names(record))
        if name in names and (text is None or not is_first):
            continue
        raise DataError(
            f"{where}: no text in the field {name!r}. {suggest(name, names)} "
            f"Set replay.source.{key} to the right one; or give a form that is known by its fields: "
            f"{known_forms()}."
        )
    unread = "" if isinstance(prompt, str) and isinstance(answer, str) else "not text"
    if reason := unread or chosen.reason_against(task, language):
        counts.read += 1
        counts.drop(reason, row=where, fields=[prompt, answer])
        return None
    return Instruction(
        prompt=prompt.rstrip(),
        answer=answer.strip(),
        objective="replay",
        target=str(language or ""),
        row=where.rpartition("/")[2],
        template=str(task or ""),
        id=_id(record, fields[4], where),
    )


def _id(record: Mapping[str, Any], name: str | None, where: str) -> str:
    """The id of a record, under the name given to it; empty without, or where it is null."""
    value = field_of(record, name) if name else ""
    names = [*field_names(record)] if value is None else []
    if value is None and name in names:
        return ""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        advice = suggest(str(name), names) if value is None else "It must be text or a whole number."
        raise DataError(f"{where}: no id in the field {name!r}, found {found(value)}. {advice}")
    return str(value)
