"""What the commands have in common: arguments, and how they end."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from instructalign import console
from instructalign.errors import ConfigError

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.report import Report
    from instructalign.types import Score

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file (YAML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key: `--set training.steps=100`. May repeat."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")]


def load(path: Path, settings: list[str] | None) -> Config:
    """The configuration of a file, with the overrides of the command line."""

    from instructalign.config_file import load_config

    return load_config(path, settings or [])


def load_checked(path: Path, settings: list[str] | None) -> Config:
    """The same, with the names of tasks and template sets checked."""
    from instructalign.pipeline import check_names

    config = load(path, settings)
    check_names(config)
    return config


def bounds(score: Score) -> str:
    """The interval of a score in words."""
    return "" if score.low is None or score.high is None else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def folder_of(config: Path, out: Path | None) -> Path:
    """A run's folder: the one given, or one named like the configuration."""
    return out or Path("runs") / config.stem


def decimals(text: str | None, option: str) -> list[float] | None:
    """The numbers of `0.3,0.5`.

    Raises:
        ConfigError: it is not that.
    """
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            [f"{option}: expected numbers with commas between them, as in 0.3,0.5, found {text!r}"]
        ) from None


def numbers(text: str | None) -> list[int] | None:
    """The whole numbers of `1,2,3`.

    Raises:
        ConfigError: it is not that.
    """
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() for part in parts):
        raise ConfigError(
            [f"--seeds: expected whole numbers with commas between them, as in 1,2,3, found {text!r}"]
        )
    return [int(part) for part in parts]


def say_unfinished(step: int, folder: Path) -> None:
    """Says where a run stopped and how it goes on."""
    again = " ".join(shlex.quote(part) for part in ["instructalign", *sys.argv[1:]])
    console.out.print(f"stopped at step {step}; the checkpoint is in {folder}. To go on: {again}")


def show_report(report: Report) -> None:
    """Prints the result in words and the main table."""
    for sentence in report.sentences:
        console.out.print(sentence, markup=False)
    console.out.print()
    console.show_table(report.table)
    console.out.print(f"report: {report.html} (also as .md and .json)")
