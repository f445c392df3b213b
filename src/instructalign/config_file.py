"""Reads a configuration file: YAML, `--set` overrides, and every error in it at once with its path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from instructalign.config import MIXTURE, STRATEGY, Config, Entry, SweepConfig
from instructalign.errors import ConfigError, UnknownNameError, nearest, suggest
from instructalign.plugins import FORMATS, OBJECTIVES, REPLAY_SOURCES, STRATEGIES, Registry

REMOVED: dict[str, dict[str, str]] = {}
"""What earlier versions accepted: key path -> value (`*` for any) -> what to write instead.

For example `{"replay.share_of": {"tokens": "share is planned in rows; leave share_of out"}}`.
"""


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


def load_config(path: str | Path, overrides: Sequence[Override] = ()) -> Config:
    """Reads a configuration file.

    Args:
        path: a YAML file; paths in it are relative to its folder.
        overrides: set after the file is read.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    path = Path(path)
    return build_config(read_yaml(path), folder=path.parent, overrides=overrides, where=str(path))


def read_yaml(path: Path) -> Any:
    """The content of a configuration file, before it is checked.

    Raises:
        ConfigError: there is no such file, or it is not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(
            [f"the file does not exist; `instructalign init --out {path}` writes one"], str(path)
        ) from None
    except (IsADirectoryError, PermissionError, UnicodeDecodeError) as error:
        raise ConfigError([f"the file cannot be read: {error}"], str(path)) from None
    try:
        return yaml.load(text, Loader=UniqueKeys)
    except yaml.YAMLError as error:
        raise ConfigError([not_yaml(error)], str(path)) from None


def build_config(
    data: Any, *, folder: Path = Path(), overrides: Sequence[Override] = (), where: str | None = None
) -> Config:
    """Checks a configuration given as nested dictionaries.

    A `sweep` block is checked and left out: a configuration is that of one run.

    Args:
        data: the blocks and keys.
        folder: what paths in it are relative to.
        overrides: as for `load_config`.
        where: what error messages call it.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    if not isinstance(data, dict):
        raise ConfigError([f"expected keys such as model: and languages:, found {found(data)}"], where)
    data = copied(data)
    problems: list[str] = []
    for override in overrides:
        set_value(data, override, problems)
    problems.extend(_removed(data))
    _check_sweep(data.pop("sweep", None), problems)
    _read_entries(data, problems)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems.extend(explain_all(error.errors(), model=Config))
    if not problems:
        problems.extend(_strategy_problems(config))
    if problems:
        raise ConfigError(problems, where)
    return _anchor(config, folder.resolve())


def _removed(data: dict[str, Any]) -> Iterator[str]:
    """Takes out what this version no longer has, so that it is reported once, with what to write instead."""
    for path, values in REMOVED.items():
        *blocks, key = path.split(".")
        place: Any = data
        for block in blocks:
            place = place.get(block) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            continue
        advice = values.get(str(place[key])) or values.get("*")
        if advice is not None:
            yield f"{path}: {found(place.pop(key))} was removed: {advice}"


def build_sweep(data: Any, overrides: Sequence[Override] = (), where: str | None = None) -> SweepConfig:
    """The `sweep` block of a configuration given as nested dictionaries; an empty one where it has none.

    Raises:
        ConfigError: anything is wrong with it.
    """
    problems: list[str] = []
    data = copied(data) if isinstance(data, dict) else {}
    for override in overrides:
        set_value(data, override, problems)
    sweep = _check_sweep(data.get("sweep"), problems)
    if problems:
        raise ConfigError(problems, where)
    return sweep


def _check_sweep(data: Any, problems: list[str]) -> SweepConfig:
    try:
        return SweepConfig.model_validate({} if data is None else data)
    except ValidationError as error:
        problems.extend(explain_all(error.errors(), "sweep", SweepConfig))
        return SweepConfig()


def _read_entries(data: dict[str, Any], problems: list[str]) -> None:
    """Puts `Entry` records where open lists stand in the raw configuration, checking their options."""

    def entry(registry: Registry, name: Any, options: Any, path: str) -> Entry:
        options = dict(options or {}) if isinstance(options, Mapping) or options is None else {"weight": options}
        # What a strategy weighs is its own option; objectives and sources are weighed here.
        weight = 1.0 if registry is STRATEGIES else options.pop("weight", 1.0)
        if not isinstance(weight, (int, float)) or isinstance(weight, bool) or not 0 <= weight < float("inf"):
            problems.append(f"{path}.weight: must be a number from 0 up, found {weight!r}")
            weight = 1.0
        try:
            checked = registry.options(str(name)).model_validate(options)
        except UnknownNameError as error:
            problems.append(f"{path}: {error}")
        except ValidationError as error:
            model = registry.options(str(name))
            problems.extend(explain_all(error.errors(), path, model))
        else:
            options = {key: getattr(checked, key) for key in type(checked).model_fields}
        return Entry.model_construct(name=str(name), options=options, weight=float(weight))

    def tagged(registry: Registry, value: Any, path: str) -> Any:
        if isinstance(value, Mapping) and "format" in value:
            options = {key: option for key, option in value.items() if key != "format"}
            label = options.pop("label", None)
            if label is not None and not (isinstance(label, str) and label):
                problems.append(f"{path}.label: must be a word to name it by, found {found(label)}")
            if registry is FORMATS and "weight" in options:
                problems.append(f"{path}.weight: a corpus has none; every row is taken. Leave it out.")
            return entry(registry, value["format"], options, path).model_copy(update={"label": label})
        problems.append(f"{path}: needs a format. Available: {', '.join(registry.names())}.")
        return Entry(name="")

    def named(registry: Registry, value: Any, path: str) -> Any:
        if isinstance(value, str):
            value = {value: None}
        elif isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = dict.fromkeys(value)
        if not isinstance(value, Mapping) or not value:
            problems.append(
                f"{path}: expected at least one of {', '.join(registry.names())}, found {found(value)}"
            )
            return {}
        entries = {name: entry(registry, name, options, f"{path}.{name}") for name, options in value.items()}
        kept = {name: made for name, made in entries.items() if made.weight > 0}
        if not kept:
            problems.append(f"{path}: at least one weight must be above 0")
        return kept

    def one_or_more(registry: Registry, value: Any, path: str) -> Any:
        several = isinstance(value, list) and bool(value)
        entries = [
            tagged(registry, one, f"{path}.{i}" if several else path)
            for i, one in enumerate(value if several else [value])
        ]
        kept = [made for made in entries if made.weight > 0]
        if not kept:
            problems.append(f"{path}: at least one weight must be above 0")
        return kept if several else entries[0]

    # Entries left out get their options' defaults as well, so that the resolved copy reads back as the same.
    for block, key, default in (
        ("instructions", "objectives", dict(MIXTURE)),
        ("training", "strategy", STRATEGY),
    ):
        inner = data.setdefault(block, {}) if block == "instructions" else data.get(block)
        if isinstance(inner, dict):
            inner.setdefault(key, default)
    if isinstance(data.get("corpora"), list):
        data["corpora"] = [tagged(FORMATS, value, f"corpora.{i}") for i, value in enumerate(data["corpora"])]
    for block, key, reader, registry in (
        ("instructions", "objectives", named, OBJECTIVES),
        ("replay", "source", one_or_more, REPLAY_SOURCES),
        ("training", "strategy", named, STRATEGIES),
    ):
        inner = data.get(block)
        if isinstance(inner, dict) and key in inner:
            inner[key] = reader(registry, inner[key], f"{block}.{key}")


def _strategy_problems(config: Config) -> Iterator[str]:
    """What in a configuration does not go with its strategies, or what its strategies lack in it."""
    chosen = {name: STRATEGIES.get(name)(**entry.options) for name, entry in config.training.strategy.items()}
    size = config.replay.size if config.replay else 0
    wants = {name: strategy.replay_data for name, strategy in chosen.items()}
    for name, strategy in chosen.items():
        if name == "none" and len(chosen) > 1:
            others = ", ".join(other for other in chosen if other != "none")
            yield f"training.strategy: none does not go with {others}; leave none out"
        if wants[name] == "needed" and not size:
            yield (
                f"training.strategy.{name} needs past data, and the configuration has none: add a replay block "
                f"with a source and a size above 0{strategy.without_replay and f', {strategy.without_replay}'}"
            )
        yield from (f"training.strategy.{name}: {problem}" for problem in strategy.problems(config))
    if size and set(wants.values()) == {"unused"}:
        yield (
            f"training.strategy is {', '.join(chosen)} but replay.size is {size}, and nothing would use the past "
            "data: set replay.size to 0, or add replay to training.strategy"
        )


def _anchor(config: Config, folder: Path) -> Config:
    """Makes every path absolute, and the base too where it is a folder."""

    def place(value: Any) -> Any:
        if isinstance(value, Path):
            return (folder / value.expanduser()).resolve()
        if isinstance(value, BaseModel):
            return value.model_copy(update={key: place(getattr(value, key)) for key in type(value).model_fields})
        if isinstance(value, dict):
            return {key: place(inner) for key, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [place(inner) for inner in value]
        return value

    base = config.model.base
    local = folder / Path(base).expanduser()
    # `toy` is the shipped base, also beside a folder of that name.
    if base != "toy" and (local.is_dir() or base.startswith((".", "/", "~"))):
        base = str(local.resolve())
    anchored: Config = place(config)
    # Template sets and tasks are names of shipped ones or files of the user's.
    instructions = anchored.instructions.model_copy(
        update={"templates": [_file_or_name(name, folder) for name in anchored.instructions.templates]}
    )
    evaluation = anchored.evaluation.model_copy(
        update={"tasks": [_file_or_name(name, folder) for name in anchored.evaluation.tasks]}
    )
    return anchored.model_copy(
        update={
            "model": anchored.model.model_copy(update={"base": base}),
            "instructions": instructions,
            "evaluation": evaluation,
        }
    )


def _file_or_name(value: str, folder: Path) -> str:
    return str((folder / Path(value).expanduser()).resolve()) if value.endswith((".yaml", ".yml")) else value


def starter() -> str:
    """A commented configuration to start from, as text."""
    return (Path(__file__).parent / "starter.yaml").read_text(encoding="utf-8")
