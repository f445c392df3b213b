"""Reading a configuration: YAML files, overrides, every problem at once, paths made absolute."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from instructalign.config import MIXTURE, STRATEGY, Config, Entry, SweepConfig
from instructalign.config.overrides import Override, copied, set_value
from instructalign.errors import ConfigError, UnknownNameError
from instructalign.registry import FORMATS, OBJECTIVES, REPLAY_SOURCES, STRATEGIES, Registry
from instructalign.strict import UniqueKeys, explain_all, found, not_yaml


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
    wants = {name: strategy.past_data for name, strategy in chosen.items()}
    for name, strategy in chosen.items():
        if name == "none" and len(chosen) > 1:
            others = ", ".join(other for other in chosen if other != "none")
            yield f"training.strategy: none does not go with {others}; leave none out"
        if wants[name] == "needed" and not size:
            yield (
                f"training.strategy.{name} needs past data, and the configuration has none: add a replay block "
                f"with a source and a size above 0{strategy.instead and f', {strategy.instead}'}"
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
