"""The items of a task: where its data are, and reading them."""

from __future__ import annotations

import json
import logging
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any

from instructalign.config import Entry
from instructalign.errors import DataError, suggest
from instructalign.evaluation.task_sources import (
    absent_from_hub,
    align_sentences,
    hub_sentences,
    read_aligned,
    task_file,
)
from instructalign.evaluation.tasks import LETTERS, Generation, ItemTask, PlainText, Task, Translation
from instructalign.files import read_lines
from instructalign.plugins import FORMATS, TASK_SOURCES
from instructalign.types import Counts, Item

log = logging.getLogger(__name__)

_MAX_NAMES = 12  # languages listed with the names of their files


def source_of(task: ItemTask | Translation | PlainText, data: Path) -> Entry | None:
    """Where a task is read from: its files under a folder, or the Hub if the folder has none of them.

    None for the files of a translation task or of plain text, which have no reader of their own.
    """
    if task.hub is None or any(_exists(task, data, code) for code in task.languages):
        return task.data if isinstance(task, ItemTask) else None
    return task.hub


def absent(task: ItemTask | Translation | PlainText, data: Path, language: str) -> str:
    """Why a task cannot be read in a language; empty where it can."""
    if language not in task.languages:
        return f"the task has no {language}; it has: {', '.join(task.languages)}"
    if isinstance(task, Translation) and task.corpus is not None:
        try:
            there = language == task.pivot or any(_corpus_pairs(task.corpus, task.pivot, language, data))
        except DataError as error:
            return str(error).rstrip(".")
        return "" if there else f"the corpus has no sentence in both {task.pivot} and {language}"
    source, name = source_of(task, data), task.languages[language]
    if source is not None and source is task.hub:
        reason = absent_from_hub(language, name, **source.options)
    else:
        reason = "" if _exists(task, data, language) else f"{file_of(task, data, language)} does not exist"
    column = source.options.get("language_column") if source is not None and not reason else None
    # One file or subset for several languages, of which this one may have no row.
    if column and source and not any(TASK_SOURCES.get(source.name)(data, language, name, **source.options)):
        options = {key: value for key, value in source.options.items() if key != "language_column"}
        found = {str(each.get(column)) for each in TASK_SOURCES.get(source.name)(data, language, name, **options)}
        place = source.options.get("path") or source.options["dataset"]
        return f"{place} has no row with {name} in {column}; it has {', '.join(sorted(found)[: _MAX_NAMES * 2])}"
    return reason


def file_of(task: ItemTask | Translation | PlainText, data: Path, language: str) -> Path | None:
    """The file that holds a task in a language; None where it does not come from a file."""
    path = task.data.options.get("path") if isinstance(task, ItemTask) else task.path
    return task_file(data, path, task.languages[language]) if path else None


def aligned_sentences(task: Translation, language: str, data: Path) -> dict[str, tuple[str, str]]:
    """By id, the sentences of a translation task in its pivot language and in another; of lines, by number.

    Raises:
        DataError: a file is missing, the Hub cannot be reached, or the two do not have the same sentences.
    """
    if task.corpus is not None:
        translations: dict[str, tuple[str, str]] = {}
        for id, pair in _corpus_pairs(task.corpus, task.pivot, language, data):
            translations.setdefault(id, pair)  # the first of several
        return translations
    source = source_of(task, data)
    names = task.languages[task.pivot], task.languages[language]
    if source is None:
        pairs = read_aligned(*(task_file(data, task.path, name) for name in names))
    else:
        read = TASK_SOURCES.get(source.name)
        first, second = (
            hub_sentences(read(data, code, name, **source.options), f"{task.name} in {code}: {source.name}")
            for code, name in zip((task.pivot, language), names, strict=True)
        )
        pairs = align_sentences(first, second, f"{task.name}: {task.pivot} and {language}")
    return {str(number): pair for number, pair in enumerate(zip(*pairs, strict=True), start=1)}


def _corpus_pairs(corpus: Entry, pivot: str, language: str, data: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """The id and the texts in two languages of each row of a parallel corpus that has both."""

    def place(value: Any) -> Any:
        if isinstance(value, list):
            return [place(each) for each in value]
        return data / value.expanduser() if isinstance(value, Path) else value

    options = {name: place(value) for name, value in corpus.options.items()}
    for row in FORMATS.get(corpus.name)([pivot, language], Counts(), **options):
        if row.texts.get(pivot) and row.texts.get(language):
            yield row.id, (row.texts[pivot], row.texts[language])


def read_texts(task: PlainText, language: str, data: Path, limit: int | None = None) -> list[tuple[str, str]]:
    """Ids and texts of a task on plain text in one language: the lines of its file, or the Hub's, by number.

    Blank lines are not texts. Spaces around a text are not part of it.

    Raises:
        DataError: the file is missing, the Hub cannot be reached, or there is no text.
    """
    source, name = source_of(task, data), task.languages[language]
    origin = str(file_of(task, data, language)) if source is None else source.name
    if source is None:
        lines = {str(number): line for number, line in read_lines(task_file(data, task.path, name))}
    else:
        records = TASK_SOURCES.get(source.name)(data, language, name, **source.options)
        texts = hub_sentences(records, f"{task.name} in {language}: {origin}").values()
        lines = {str(number): text for number, text in enumerate(texts, start=1)}  # as those of the file
    found = [(id, line.strip()) for id, line in lines.items() if line.strip()]
    if not found:
        raise DataError(f"{task.name} in {language}: {origin} holds no text.")
    if len(found) < len(lines):
        log.warning("%s in %s: %d blank lines of %s", task.name, language, len(lines) - len(found), origin)
    kept = choose_items([id for id, _ in found], limit)
    return [each for each in found if each[0] in kept]


def _exists(task: ItemTask | Translation | PlainText, data: Path, language: str) -> bool:
    path = file_of(task, data, language)
    return path is None or path.is_file()


def read_items(
    task: Task | Generation, language: str, data: Path, limit: int | None = None, counts: Counts | None = None
) -> list[Item]:
    """The items of a task in one language.

    Args:
        task: the task.
        language: code; one of the task's.
        data: the folder that the task's paths are relative to.
        limit: the maximum number of items: those whose ids have the smallest hashes, so that the choice needs no
            seed and is the same in every language of a parallel set. They keep the data's order.
        counts: counts the items without a text or without a right answer, which are left out with a warning.

    Raises:
        DataError: a column is missing, a text is a number or a list, a label is not one of the task's, two ids
            are equal, or there are no items.
    """
    source = source_of(task, data) or task.data
    origin = str(file_of(task, data, language) or source.name) if source is task.data else source.name
    records = TASK_SOURCES.get(source.name)(data, language, task.languages[language], **source.options)
    if source is not task.data and (file := file_of(task, data, language)) is not None:
        try:
            records = iter(list(records))
        except DataError as error:
            raise DataError(f"{error} A local file would do instead: {file}.") from None
    counts = Counts() if counts is None else counts
    items = list(_items(task, records, f"{task.name} in {language}: {origin}", counts))
    for reason, count in counts.dropped.items():
        log.warning("%s in %s: %d of %d items left out: %s", task.name, language, count, counts.read, reason)
    if not items:
        raise DataError(f"{task.name} in {language}: {origin} holds no items.")
    kept = choose_items([item.id for item in items], limit)
    return [item for item in items if item.id in kept]


def describe_sources(task: ItemTask | Translation | PlainText) -> list[str]:
    """Where the data of a task are read from, a line each."""
    if isinstance(task, Translation) and task.corpus is not None:
        files = ", ".join(f"{name}: {value}" for name, value in task.corpus.options.items() if value is not None)
        return [f"a corpus of the format {task.corpus.name} under evaluation.data: {files}"]
    options = task.data.options if isinstance(task, ItemTask) else {"path": task.path}
    paths = [str(options[key]) for key in ("path", "pivot") if options.get(key)]
    lines = []
    if paths:
        names = [f"{name} ({code})" for code, name in task.languages.items()]
        more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
        listed = f"; {{name}} is one of {', '.join(names[:_MAX_NAMES])}{more}"
        where = listed if any("{name}" in path for path in paths) else ""
        folder = "" if all(Path(path).is_absolute() for path in paths) else " under evaluation.data"
        lines.append(f"files{folder}: {' and '.join(paths)}{where}")
    if task.hub is not None:
        options = task.hub.options
        place = options.get("data_files") or options.get("config") or "{name}"
        revision = f", revision {options['revision']}" if options.get("revision") else ""
        lines.append(f"the Hub, if there is no such file: {options['dataset']} ({place}{revision})")
        if task.gated:
            page = f"https://huggingface.co/datasets/{options['dataset']}"
            lines.append(f"gated: accept the terms on {page} and log in with `hf auth login`")
    return lines or ["no files: the package generates the items"]


def choose_items(ids: Sequence[str], limit: int | None) -> set[str]:
    """At most `limit` ids: those with the smallest hashes."""

    def rank(id: str) -> bytes:
        return blake2b(id.encode(), digest_size=16, key=b"items").digest()

    return set(ids if limit is None else sorted(ids, key=rank)[:limit])


def _items(
    task: Task | Generation, records: Iterator[Mapping[str, Any]], where: str, counts: Counts
) -> Iterator[Item]:
    seen: set[str] = set()
    fields = {name: [column] if isinstance(column, str) else column for name, column in task.fields.items()}
    key, listed = ("references", task.references) if isinstance(task, Generation) else ("options", task.options)
    choices = [] if listed is None else [listed] if isinstance(listed, str) else listed
    wanted = [*((f"fields.{name}", each) for name, each in fields.items()), (key, choices)]
    for number, whole in enumerate(records, start=1):
        counts.read += 1
        record = {column: _inside(whole, column) for _, columns in wanted for column in columns}
        for field, columns in wanted:
            for column in columns:
                if record[column] is _MISSING:
                    raise DataError(f"{where}: no column {column!r} for {field}. {suggest(column, list(whole))}")
        id = "-".join(_plain(record[column]) for column in fields["id"]) if "id" in fields else str(number)
        here = f"{where}: item {id!r} (record {number})"
        if id in seen:
            raise DataError(f"{here}: another item has the same id; leave fields.id out to number the items.")
        seen.add(id)
        texts = {name: [_text(record[column], column, here) for column in fields[name]] for name in task.texts}
        if any(not any(each.strip() for each in some) for some in texts.values()):
            counts.drop("no text", row=id, fields=texts)
            continue
        joined = {
            name: _edited(task, name, "\n".join(some if len(some) == 1 else filter(str.strip, some)))
            for name, some in texts.items()
        }
        for name, words in task.words_for.items():
            if joined[name] not in words:
                raise DataError(f"{here}: {name} is {joined[name]!r}. {suggest(joined[name], list(words))}")
        if isinstance(task, Generation):
            answers = [answer for column in choices for answer in _references(record[column], column, here)]
            if answers:
                yield Item(id, joined, "", references=tuple(dict.fromkeys(answers)))
            else:
                counts.drop("no answer", row=id, fields=texts)
            continue
        gold = record[fields["label"][0]]
        if task.options is None:
            label = _plain(gold)
            if label not in (task.labels or {}):
                raise DataError(f"{here} has the label {label!r}. {suggest(label, list(task.labels or {}))}")
            yield Item(id, joined, label)
        else:
            options = _options(record, choices, here)
            label = _right_option(task, _plain(gold), options, here)
            yield Item(id, joined, label, tuple(_edited(task, "options", each) for each in options))


_MISSING = object()


def _inside(record: Any, column: str) -> Any:
    """A column of a record; `answers.text` is the key `text` of what the column `answers` holds."""
    if column in record:
        return record[column]
    first, dot, rest = column.partition(".")
    return _inside(record[first], rest) if dot and isinstance(record.get(first), Mapping) else _MISSING


def _references(value: Any, column: str, here: str) -> list[str]:
    """The right answers in a column, without empty ones: a text or a number, or a list of them, maybe as JSON.

    Raises:
        DataError: it holds something else.
    """
    if isinstance(value, str) and value.startswith("["):
        with suppress(ValueError):  # an answer that begins with a bracket
            value = json.loads(value)
    found = value if isinstance(value, list) else [value]
    for each in found:
        if isinstance(each, (list, Mapping)):
            inner = f" {column}.{next(iter(each), 'text')} may be meant." if isinstance(each, Mapping) else ""
            raise DataError(f"{here}: {column!r} holds {json.dumps(each)[:200]}, which is no answer.{inner}")
    return [text for each in found if each is not None and (text := _plain(each).strip())]


def _plain(value: Any) -> str:
    """A value that names something as text; what is not text is its JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _text(value: Any, column: str, here: str) -> str:
    """A value that the model is to read, empty where it is null.

    Raises:
        DataError: it is not text.
    """
    if value is None or isinstance(value, str):
        return value or ""
    raise DataError(f"{here}: {column!r} holds {json.dumps(value)}, which is no text. Put it in quotation marks.")


def _options(record: Mapping[str, Any], columns: Sequence[str], here: str) -> list[str]:
    """An item's options: the values of several columns that are not empty, or the list in a single one.

    A list may be JSON, or lines that begin with their letters.
    """
    values: Any = [record[column] for column in columns]
    if len(columns) == 1:
        values = values[0]
        if isinstance(values, str):
            try:
                values = json.loads(values)
            except ValueError:  # lettered lines: A. one, B. two
                lines = [line.strip() for line in values.strip().split("\n")]
                matches = [
                    re.match(rf"{letter}[.)]\s*(.*)", line) for letter, line in zip(LETTERS, lines, strict=False)
                ]
                values = [match[1] for match in matches if match] if all(matches) else None
        if not isinstance(values, list):
            raise DataError(f"{here}: expected a list of options in {columns[0]!r}, found {record[columns[0]]!r}.")
    found = ["" if value is None else _plain(value).strip() for value in values]
    while found and not found[-1]:
        found.pop()  # columns for more options than this item has
    if len(found) < 2 or not all(found):
        raise DataError(f"{here}: expected two options or more, none of them empty; found {found!r}.")
    if len(found) > len(LETTERS):
        raise DataError(f"{here}: {len(found)} options; there are letters for {len(LETTERS)}.")
    return found


def _right_option(task: Task, gold: str, options: Sequence[str], here: str) -> str:
    """The letter of the option that a label names."""
    letters, gold = LETTERS[: len(options)], gold.strip()
    allowed = {
        "text": list(options),
        "index": [str(index) for index in range(len(options))],
        "number": [str(index + 1) for index in range(len(options))],
        "letter": list(letters),
    }[task.answer]
    if gold not in allowed:
        raise DataError(f"{here}: the label is {gold!r}, which is not the {task.answer} of an option: {allowed}.")
    return letters[allowed.index(gold)]


def _edited(task: ItemTask, name: str, text: str) -> str:
    """A text with the edit that the task asks for, by which sentences can be joined."""
    edit = task.edits.get(name)
    if edit == "drop_last":
        text = text.rstrip()
        return text[:-1] if unicodedata.category(text[-1:] or " ").startswith("P") else text
    return text[:1].lower() + text[1:] if edit == "lower_first" else text
