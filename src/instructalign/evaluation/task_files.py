"""Task files: the shipped ones by name, and a user's by path."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from instructalign.config import Entry, Strict
from instructalign.errors import ConfigError, UnknownNameError
from instructalign.evaluation.tasks import HERE, Fields, HeldOut, Labels, Prompt, Task, Translation, disagreements
from instructalign.files import write_text
from instructalign.registry import TASK_SOURCES
from instructalign.strict import UniqueKeys, explain_all, not_yaml

SHIPPED = HERE / "tasks"

AnyTask = TypeVar("AnyTask", bound=Strict)


def task_names() -> list[str]:
    """The names of the shipped tasks."""
    return sorted(entry.name[: -len(".yaml")] for entry in SHIPPED.iterdir() if entry.name.endswith(".yaml"))


def load_task(name_or_path: str) -> Task | Translation | HeldOut:
    """Reads a task: a shipped one by its name, or a user's from a YAML file.

    Raises:
        UnknownNameError: no shipped task has that name.
        ConfigError: the file is missing or wrong; all problems are listed.
    """
    is_file = name_or_path.endswith((".yaml", ".yml"))
    if not is_file and name_or_path not in task_names():
        raise UnknownNameError("task", name_or_path, task_names())
    where = name_or_path if is_file else f"{name_or_path}.yaml"
    try:
        data = yaml.load(_file(name_or_path).read_text(encoding="utf-8"), Loader=UniqueKeys)
    except FileNotFoundError:
        raise ConfigError(["the file does not exist; give a shipped task or a YAML file"], where) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"the file cannot be read: {error}"], where) from None
    except yaml.YAMLError as error:
        raise ConfigError([not_yaml(error)], where) from None
    kind = data.get("kind") if isinstance(data, dict) else None
    if kind == "translation":
        return _checked(Translation, data, where, [])
    if kind in ("instructions", "past"):
        return _checked(HeldOut, data, where, [])
    return build_task(data, where)


def validation_task(name_or_path: str, folder: Path) -> Path | None:
    """Writes a task file of a task's validation items; None for a task without any.

    Args:
        name_or_path: the task, as `load_task` takes it.
        folder: where to write.

    Raises:
        UnknownNameError, ConfigError: as `load_task`.
    """
    task = load_task(name_or_path)
    if not isinstance(task, Task) or task.validation is None:
        return None
    data = yaml.load(_file(name_or_path).read_text(encoding="utf-8"), Loader=UniqueKeys)
    data |= {"data": data.pop("validation"), "hub": None, "split": "validation"}
    path = folder / f"{task.name}.yaml"
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))
    return path


def _file(name_or_path: str) -> Any:
    is_file = name_or_path.endswith((".yaml", ".yml"))
    return Path(name_or_path) if is_file else SHIPPED / f"{name_or_path}.yaml"


def build_task(data: Any, where: str) -> Task:
    """Checks a task given as nested dictionaries.

    Args:
        data: the keys of a task file.
        where: what error messages call it.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    if not isinstance(data, dict):
        raise ConfigError([f"expected keys such as name: and prompts:, found {type(data).__name__}"], where)
    problems: list[str] = []
    data = dict(data)
    for key in ("data", "hub", "validation"):
        if data.get(key) is not None:
            data[key] = _source(data[key], key, problems)
    return _checked(Task, data, where, problems, _sound_parts)


def _checked(
    model: type[AnyTask],
    data: dict[str, Any],
    where: str,
    problems: list[str],
    more: Callable[[dict[str, Any]], Iterable[str]] | None = None,
) -> AnyTask:
    """A task of a kind, or all that is wrong with it; `more` goes on to what keys make of one another."""
    try:
        task = model.model_validate(data)
    except ValidationError as error:
        problems = [*problems, *explain_all(error.errors(), model=model)]
        if more is not None and any(details["loc"] for details in error.errors()):
            problems += more(data)
    if problems:
        raise ConfigError(problems, where)
    return task


def _sound_parts(data: Mapping[str, Any]) -> Iterator[str]:
    """What does not go together among those keys of a classification task that are sound themselves."""

    def sound(kind: Any, value: Any) -> Any:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError:
            return None

    given = data.get("prompts")
    prompts = {
        str(name): prompt
        for name, value in (given.items() if isinstance(given, Mapping) else ())
        if (prompt := sound(Prompt, value)) is not None
    }
    yield from disagreements(sound(Fields, data.get("fields")), sound(Labels, data.get("labels")), prompts)


def _source(value: Any, key: str, problems: list[str]) -> Entry:
    """The reader named in a task file, with its options checked."""
    options = dict(value) if isinstance(value, Mapping) else {}
    name = str(options.pop("format", "hub" if key == "hub" else ""))
    try:
        model = TASK_SOURCES.options(name)
        checked = model.model_validate(options)
    except UnknownNameError as error:
        problems.append(f"{key}.format: {error}" if name else f"{key}: needs a format. {error}")
    except ValidationError as error:
        problems.extend(explain_all(error.errors(), key, model))
    else:
        options = {name: getattr(checked, name) for name in type(checked).model_fields}
    return Entry.model_construct(name=name, options=options)
