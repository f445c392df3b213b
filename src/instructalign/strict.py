"""Reading YAML strictly, and saying what is wrong with it; for the configuration, tasks and templates alike."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic_core import ErrorDetails

from instructalign.errors import suggest


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
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {message}, found {found(value)}"


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> Iterator[str]:
    current: Any = model
    for part in location:
        fields = getattr(current, "model_fields", {})
        if part not in fields:
            continue
        current = next(iter(_models_in(fields[part].annotation)), current)
    yield from getattr(current, "model_fields", {})


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
