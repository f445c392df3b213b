"""The items of a task: where its data are, and reading them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path

from instructalign.config import Entry
from instructalign.errors import DataError, suggest
from instructalign.evaluation.task_sources import (
    absent_from_hub,
    align_sentences,
    hub_sentences,
    read_aligned,
    task_file,
)
from instructalign.evaluation.tasks import PlainText, Task, Translation
from instructalign.files import read_lines
from instructalign.plugins import TASK_SOURCES
from instructalign.types import Item

log = logging.getLogger(__name__)

_MAX_NAMES = 12  # languages listed with the names of their files


def source_of(task: Task | Translation | PlainText, data: Path) -> Entry | None:
    """Where a task is read from: its files under a folder, or the Hub if the folder has none of them.

    None for the files of a translation task or of plain text, which have no reader of their own.
    """
    if task.hub is None or any(_exists(task, data, code) for code in task.languages):
        return task.data if isinstance(task, Task) else None
    return task.hub


def absent(task: Task | Translation | PlainText, data: Path, language: str) -> str:
    """Why a task cannot be read in a language; empty where it can."""
    if language not in task.languages:
        return f"the task has no {language}; it has: {', '.join(task.languages)}"
    source = source_of(task, data)
    if source is not None and source is task.hub:
        return absent_from_hub(language, task.languages[language], **source.options)
    if not _exists(task, data, language):
        return f"{file_of(task, data, language)} does not exist"
    return ""


def file_of(task: Task | Translation | PlainText, data: Path, language: str) -> Path | None:
    """The file that holds a task in a language; None where it does not come from a file."""
    path = task.data.options.get("path") if isinstance(task, Task) else task.path
    return task_file(data, path, task.languages[language]) if path else None


def aligned_sentences(task: Translation, language: str, data: Path) -> tuple[list[str], list[str]]:
    """The sentences of a translation task in its pivot language and in another.

    Raises:
        DataError: a file is missing, the Hub cannot be reached, or the two do not have the same sentences.
    """
    source = source_of(task, data)
    names = task.languages[task.pivot], task.languages[language]
    if source is None:
        return read_aligned(*(task_file(data, task.path, name) for name in names))
    read = TASK_SOURCES.get(source.name)
    first, second = (
        hub_sentences(read(data, code, name, **source.options), f"{task.name} in {code}: {source.name}")
        for code, name in zip((task.pivot, language), names, strict=True)
    )
    return align_sentences(first, second, f"{task.name}: {task.pivot} and {language}")


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


def _exists(task: Task | Translation | PlainText, data: Path, language: str) -> bool:
    path = file_of(task, data, language)
    return path is None or path.is_file()


def read_items(task: Task, language: str, data: Path, limit: int | None = None) -> list[Item]:
    """The items of a task in one language.

    Args:
        task: the task.
        language: code; one of the task's.
        data: the folder that the task's paths are relative to.
        limit: the maximum number of items: those whose ids have the smallest hashes, so that the choice needs no
            seed and is the same in every language of a parallel set. They keep the data's order.

    Raises:
        DataError: a column is missing, a label is not one of the task's, two ids are equal, or there are no items.
    """
    source = source_of(task, data) or task.data
    origin = str(file_of(task, data, language) or source.name) if source is task.data else source.name
    records = TASK_SOURCES.get(source.name)(data, language, task.languages[language], **source.options)
    if source is not task.data and (file := file_of(task, data, language)) is not None:
        try:
            records = iter(list(records))
        except DataError as error:
            raise DataError(f"{error} A local file would do instead: {file}.") from None
    items = list(_items(task, records, f"{task.name} in {language}: {origin}"))
    if not items:
        raise DataError(f"{task.name} in {language}: {origin} holds no items.")
    kept = choose_items([item.id for item in items], limit)
    return [item for item in items if item.id in kept]


def describe_sources(task: Task | Translation | PlainText) -> list[str]:
    """Where the data of a task are read from, a line each."""
    options = task.data.options if isinstance(task, Task) else {"path": task.path}
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


def _items(task: Task, records: Iterator[Mapping[str, str]], where: str) -> Iterator[Item]:
    seen: set[str] = set()
    for number, record in enumerate(records, start=1):
        for field, column in task.fields.items():
            if column not in record:
                raise DataError(
                    f"{where}: no column {column!r} for fields.{field}. {suggest(column, list(record))}"
                )
        id = record[task.fields["id"]] if "id" in task.fields else str(number)
        here = f"{where}: item {id!r} (record {number})"
        label = record[task.fields["label"]]
        if label not in task.labels:
            raise DataError(f"{here} has the label {label!r}. {suggest(label, list(task.labels))}")
        if id in seen:
            raise DataError(f"{here}: another item has the same id; leave fields.id out to number the items.")
        seen.add(id)
        yield Item(id, {text: record[task.fields[text]] for text in task.texts}, label)
