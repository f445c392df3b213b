"""What a sweep consists of: the axes of its grid, its cells, and the configuration of each."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from instructalign.config import Config, SweepConfig
from instructalign.config_file import ConfigSource, build_config, build_sweep, parse_setting, read_yaml
from instructalign.errors import ConfigError, UnknownNameError
from instructalign.files import text_hash
from instructalign.pipeline import check_config
from instructalign.run_folder import training_hash

_MAX_NAME = 100  # characters of a folder's name that come from a cell's name
_MAX_SHOWN = 3  # cells named in an error message; the others are counted


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One axis of the grid.

    Attributes:
        name: the key that varies, or a name of the user's.
        labels: the names of its values, in order.
        settings: the keys and values that each of them sets.
        numbers: the values as numbers, if all of them are numeric; the report draws curves over those.
    """

    name: str
    labels: tuple[str, ...]
    settings: tuple[Mapping[str, Any], ...]
    numbers: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One run of a sweep.

    Attributes:
        name: the same for all seeds.
        seed: its seed.
        at: its label on each axis; empty for a cell of the list.
        config: its whole configuration.
        folder: the name of its run folder.
    """

    name: str
    seed: int
    at: Mapping[str, str]
    config: Config
    folder: str


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """A sweep before it runs: the axes of its grid, and all of its cells."""

    axes: tuple[GridAxis, ...]
    cells: tuple[SweepCell, ...]

    @property
    def trained(self) -> list[Config]:
        """The configurations that are trained: once for cells that share it; stages share nothing."""
        alone = [cell.config for cell in self.cells if cell.config.stages]
        shared = [cell.config for cell in reversed(self.cells) if not cell.config.stages]
        return [*{training_hash(config): config for config in shared}.values()][::-1] + alone

    @property
    def bases(self) -> set[str]:
        """The evaluations of base models, by `base_key`."""
        return {base_key(cell.config) for cell in self.cells if cell.config.evaluation.tasks}

    def describe(self) -> str:
        """The sum over the cells, before anything is done: what is trained and evaluated, and how much it is."""
        trained = self.trained
        steps = [config.training.steps * len(config.stages or [0]) for config in trained]
        tokens = sum(
            count * config.training.batch_size * config.training.max_length
            for count, config in zip(steps, trained, strict=True)
        )
        return (
            f"{len(self.cells)} runs: {len(steps)} to train ({sum(steps):,} steps, at most {tokens:,} tokens), "
            f"{len(self.bases)} evaluations of a base and {len(self.cells)} of adapted models"
        )

    def seconds(self, config: Config, training: float, evaluation: float) -> float:
        """Time of all runs one after another, from that of one configuration and of evaluating one model."""
        one = config.training.steps * config.training.batch_size
        trained = sum(
            each.training.steps * each.training.batch_size * len(each.stages or [0]) for each in self.trained
        )
        return training * trained / one + evaluation * (len(self.bases) + len(self.cells))


def base_key(config: Config) -> str:
    """The hash of everything that the predictions of a base depend on."""
    plain = config.to_dict()
    plain["model"].pop("adapter", None)
    plain["model"]["vocabulary"] = None  # the base is asked as it is
    plain["evaluation"].pop("bootstrap", None)
    return text_hash([plain["model"], plain["languages"], plain["evaluation"]])[:12]


def plan_sweep(
    source: ConfigSource, settings: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> SweepPlan:
    """Lays out a sweep and checks the configuration of every cell.

    Args:
        source: a configuration's file, with or without a `sweep` block, or what it holds; or a configuration.
        settings: `key=value` for all cells, or `key=a,b,c` for an axis of the grid; they override the file.
        seeds: instead of those in the file; the configuration's own seed by default.

    Raises:
        ConfigError: a key does not exist, a value is wrong, or two cells are the same; all problems at once.
    """
    folder, where, data = Path(), None, source.to_dict() if isinstance(source, Config) else source
    if isinstance(data, (str, Path)):
        folder, where, data = Path(data).parent, str(data), read_yaml(Path(data))
    fixed, named = _read_settings(settings)
    block = build_sweep(data, where)
    config = build_config(data, folder=folder, overrides=fixed, where=where)
    # The command line has the last word on a key; its axes replace those of the file in their place.
    keys = {key for key, _ in fixed}
    axes = {name: _axis(name, values) for name, values in block.grid.items() if name not in keys} | named
    chosen = list(dict.fromkeys(seeds or block.seeds or [config.seed]))
    cells: list[SweepCell] = []
    problems: dict[str, list[str]] = {}
    for name, at, own in _points(block, list(axes.values())):
        for seed in chosen:
            overrides = [*own.items(), *fixed, ("seed", seed)]
            try:
                made = build_config(data, folder=folder, overrides=overrides)
                check_config(made)
            except (ConfigError, UnknownNameError) as error:
                for problem in error.problems:
                    problems.setdefault(problem, []).append(name)
                continue
            cells.append(SweepCell(name, seed, at, made, _folder_name(name, seed)))
    sentences = [f"{problem} ({_where(names)})" for problem, names in problems.items()] + _duplicates(cells)
    if sentences:
        raise ConfigError(sentences, where)
    return SweepPlan(tuple(axes.values()), tuple(cells))


def split_values(text: str) -> list[str]:
    """Splits `a,b,c` at the commas outside of brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    return [part.strip() for part in parts]


def _read_settings(settings: Sequence[str]) -> tuple[list[tuple[str, Any]], dict[str, GridAxis]]:
    """What the command line sets for all cells, and the axes that it names."""
    fixed: list[tuple[str, Any]] = []
    axes: dict[str, GridAxis] = {}
    problems: list[str] = []
    for setting in settings:
        key, equals, text = setting.partition("=")
        key, values = key.strip(), split_values(text)
        try:
            if not equals or len(values) == 1:
                fixed.append(parse_setting(setting))
            elif key == "seed":
                problems.append("--set seed: seeds are not an axis; give them with --seeds 1,2,3")
            else:
                axes[key] = _axis(key, [parse_setting(f"{key}={value}")[1] for value in values])
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return fixed, axes


def _axis(name: str, values: Sequence[Any] | Mapping[str, Mapping[str, Any]]) -> GridAxis:
    if isinstance(values, Mapping):
        labels, settings = tuple(values), tuple(values.values())
        numbers = [_number(label) for label in labels]
    else:
        labels = tuple(
            value_label(value) if isinstance(value, (dict, list)) else f"{name}={value_label(value)}"
            for value in values
        )
        settings = tuple({name: value} for value in values)
        numbers = [_number(value) for value in values]
    known = tuple(number for number in numbers if number is not None)
    return GridAxis(name, labels, settings, known if len(known) == len(numbers) > 1 else None)


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None


def value_label(value: Any) -> str:
    """A value as part of a name: `{tlm: 1, mt: 2}` becomes `tlm+mt:2`."""
    if value is None:
        return "all"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping) and value:
        return "+".join(
            f"{key}" if inner in (1, None) else f"{key}:{value_label(inner)}" for key, inner in value.items()
        )
    if isinstance(value, (list, tuple)):
        return "+".join(map(value_label, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _points(
    block: SweepConfig, axes: Sequence[GridAxis]
) -> Iterator[tuple[str, Mapping[str, str], Mapping[str, Any]]]:
    """Name, labels on the axes, and settings of every point of the grid and every cell of the list."""
    if axes or not block.cells:
        for place in product(*(range(len(axis.labels)) for axis in axes)):
            chosen = list(zip(axes, place, strict=True))
            at = {axis.name: axis.labels[i] for axis, i in chosen}
            settings = {key: value for axis, i in chosen for key, value in axis.settings[i].items()}
            yield ", ".join(at.values()) or "plain", at, settings
    for cell in block.cells:
        yield cell.name, {}, cell.set


def _folder_name(name: str, seed: int) -> str:
    """A name for a cell's folder: the same for the same cell, different for different ones."""
    plain = re.sub(r"[^\w.+=-]+", "_", name)
    if plain != name.replace(", ", "_") or len(plain) > _MAX_NAME:
        plain = f"{plain[:_MAX_NAME].rstrip('_')}~{text_hash(name)[:6]}"
    return f"{plain}_seed={seed}"


def _where(names: Sequence[str]) -> str:
    """In which cells a problem was found."""
    cells = list(dict.fromkeys(names))
    rest = f" and {len(cells) - _MAX_SHOWN} more" if len(cells) > _MAX_SHOWN else ""
    return f"in {'cell' if len(cells) == 1 else 'cells'} {'; '.join(cells[:_MAX_SHOWN])}{rest}"


def _duplicates(cells: Sequence[SweepCell]) -> list[str]:
    """Cells with the same configuration, and different cells with the same name."""
    problems = []
    first: dict[str, str] = {}
    names: dict[str, str] = {}
    for cell in cells:
        key = text_hash(cell.config.to_yaml())
        if key in first:
            problems.append(
                f"the cells {first[key]!r} and {cell.name!r} have the same configuration; leave one out"
            )
        elif names.setdefault(cell.folder, key) != key:
            problems.append(f"two cells are called {cell.name!r}; give each its own name")
        first.setdefault(key, cell.name)
    return list(dict.fromkeys(problems))
