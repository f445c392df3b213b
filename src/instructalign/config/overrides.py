"""Overriding single keys of a configuration, before it is checked."""

from __future__ import annotations

from typing import Any

import yaml

from instructalign.errors import ConfigError
from instructalign.strict import UniqueKeys, found

Override = str | tuple[str, Any]
"""`key.path=value`, as `--set` takes it, the value in YAML; or the key and the value."""


def parse_setting(text: str) -> tuple[str, Any]:
    """The key and the value of `key.path=value`, the value in YAML.

    Raises:
        ConfigError: it is not that.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([f"--set {text}: expected key.path=value, for example training.steps=100"])
    try:
        return key.strip(), yaml.load(value, Loader=UniqueKeys)
    except yaml.YAMLError:
        raise ConfigError([f"--set {text}: {value!r} is not YAML"]) from None


def set_value(data: dict[str, Any], override: Override, problems: list[str]) -> None:
    """Sets the value that a path leads to; on the way, blocks that are missing are made."""
    try:
        key, value = parse_setting(override) if isinstance(override, str) else override
    except ConfigError as error:
        problems.extend(error.problems)
        return
    what = f"--set {override}" if isinstance(override, str) else f"setting {key} to {found(value)}"
    value = copied(value)
    *path, last = key.split(".")
    place: Any = data
    for part in path:
        if isinstance(place, list) and part.isdigit() and int(part) < len(place):
            place = place[int(part)]
        elif isinstance(place, dict):
            if place.get(part) is None:
                place[part] = {}
            place = place[part]
        else:
            problems.append(f"{what}: {key} leads through {part!r}, which holds {found(place)}")
            return
    if isinstance(place, list) and last.isdigit() and int(last) < len(place):
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        problems.append(f"{what}: {key} cannot be set in {found(place)}")


def copied(value: Any) -> Any:
    """The same, in lists and dictionaries of its own."""
    if isinstance(value, dict):
        return {key: copied(inner) for key, inner in value.items()}
    return [copied(inner) for inner in value] if isinstance(value, list) else value
