"""Reading YAML strictly, and saying what is wrong with it; for the configuration, tasks and templates alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from instructalign.errors import nearest, suggest


def explain_all(errors: Sequence[ErrorDetails], prefix: str = "", model: type[BaseModel] = BaseModel) -> list[str]:
    """Pydantic errors as sentences; a key that is missing because it is misspelt is told once, as misspelt."""
    meant = set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            *place, key = error["loc"]
            meant.add((*place, nearest(str(key), sorted(_fields_at(model, place)))))
    told = [error for error in errors if error["type"] != "missing" or error["loc"] not in meant]
    return [said for error in told for said in _each(error, prefix, model)]


class Several(ValueError):
    """What a validator of a whole block found wrong, several things at once."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def _each(error: ErrorDetails, prefix: str, model: type[BaseModel]) -> Iterator[str]:
    several = error.get("ctx", {}).get("error")
    if not isinstance(several, Several):
        yield explain(error, prefix, model)
        return
    for problem in several.problems:
        yield explain({**error, "ctx": {"error": ValueError(problem)}}, prefix, model)


def explain(error: ErrorDetails, prefix: str = "", model: type[BaseModel] = BaseModel) -> str:
    """One pydantic error as a sentence that names the key's path, what was found and what is allowed."""
    path = ".".join([prefix, *map(str, error["loc"])] if prefix else list(map(str, error["loc"])))
    kind, value = error["type"], error.get("input")
    if kind == "extra_forbidden":
        siblings = sorted(_fields_at(model, error["loc"][:-1]))
        return f"{path}: unknown key. {suggest(str(error['loc'][-1]), siblings)}"
    if kind == "missing":
        return f"{path}: missing"
    if kind == "value_error":
        return f"{path}: {error['ctx']['error']}" if path else str(error["ctx"]["error"])
    if kind == "model_type":
        return f"{path}: {_mapping(_model_at(model, error['loc']), value)}, found {found(value)}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {message}, found {found(value)}"


def _mapping(model: type[BaseModel], value: Any) -> str:
    """What should stand where a block of keys is expected: the value that was found, under a key that takes it."""
    needed = [name for name, field in model.model_fields.items() if field.is_required()]
    free = sorted(name for name in model.model_fields if name not in needed)
    listed = " and/or ".join(free) if len(free) < 3 else f"any of {', '.join(free)}"
    keys = " and ".join(needed) + (f", and if wanted {listed}" if needed and free else "" if needed else listed)
    for name in needed[:1] or free[: 2 if len(free) < 3 else 0]:
        try:
            model.model_validate({name: value})
        except ValidationError:
            continue
        return f"expected a mapping with {keys}, such as {{{name}: {value}}}"
    return f"expected a mapping with {keys}"


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> Iterator[str]:
    yield from _model_at(model, location).model_fields


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            continue
        current = next(iter(_models_in(fields[part].annotation)), current)
    return cast(type[BaseModel], current)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)


def found(value: Any) -> str:
    """How an error message shows a value."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def not_yaml(error: yaml.YAMLError) -> str:
    """Where a file stops being YAML, and why."""
    place, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if place is None or problem is None:
        return f"not YAML: {' '.join(str(error).split())}"
    context, began = getattr(error, "context", None), getattr(error, "context_mark", None)
    since = f" ({context} that begins in line {began.line + 1})" if context and began else ""
    return f"not YAML: line {place.line + 1}, column {place.column + 1}: {problem}{since}"


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses a key given twice, which YAML forbids and PyYAML lets pass.

    As in YAML 1.2, only `true` and `false` are truth values. `on`, `off`, `yes` and `no` are words: one is an
    option's name, another a language's code.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping's content, after its keys were checked."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


UniqueKeys.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
