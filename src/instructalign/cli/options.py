"""Arguments and output that several commands share."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from instructalign import console
from instructalign.errors import ConfigError
from instructalign.files import noticed
from instructalign.types import Counts

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.report import Report

_Number = TypeVar("_Number", int, float)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file (YAML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key: `--set training.steps=100`. Repeatable."),
]
Rejects = Annotated[
    Path | None,
    typer.Option(
        "--rejects", metavar="FILE", help="Keep what is dropped from corpora and replay data, with the reason."
    ),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")]


def load(path: Path, settings: list[str] | None, *, check: bool = False, trains: bool = True) -> Config:
    """The configuration of a file with the overrides of the command line.

    Args:
        path: the file.
        settings: the overrides.
        check: whether names of tasks, prompts and template sets, and packages, are checked too.
        trains: with `check`, whether it is going to be trained.
    """
    from instructalign.config_file import load_config

    config = load_config(path, settings or [])
    if check:
        from instructalign.pipeline import check_config

        check_config(config, trains=trains)
    return config


def with_rejects(settings: list[str] | None, rejects: Path | None) -> list[str]:
    """The overrides of the command line with the file of rejects, which is relative to the current folder."""
    return [*(settings or []), *([f"filter.rejects={json.dumps(str(rejects.resolve()))}"] if rejects else [])]


def print_counts(folder: Path) -> None:
    """Prints one line: what a run read, kept and dropped of corpora and replay data, and how files were read."""
    from instructalign.run_folder import read_run_metadata

    record = read_run_metadata(folder)
    corpus, replay = record.get("corpus") or {}, record.get("replay") or {}
    parts = []
    if corpus:
        parts.append(f"rows of the corpora: {Counts(corpus['read'], corpus['kept'], corpus['dropped'])}")
    if replay.get("read"):
        parts.append(f"replay examples: {Counts(replay['read'], replay['chosen'], replay['dropped'])}")
    if taught := record.get("instruction_data"):
        parts.append(f"instruction data: {Counts(taught['read'], taught['chosen'], taught['dropped'])}")
    parts += [f"read as found: {each.rstrip('.')}" for each in noticed()]
    if parts:
        console.out.print("; ".join(parts), markup=False, soft_wrap=True)


def folder_of(config: Path, out: Path | None) -> Path:
    """A run's folder: the one given, or one named like the configuration."""
    return out or Path("runs") / config.stem


def parse_numbers(text: str, option: str, example: str, kind: type[_Number]) -> list[_Number]:
    """The comma-separated numbers of an option, none below 0.

    Raises:
        ConfigError: it holds something else.
    """
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or (kind is int and min(numbers) < 0):
        what = "whole numbers" if kind is int else "numbers"
        raise ConfigError([f"{option}: expected comma-separated {what}, as in {example}, found {text!r}"])
    return numbers


def print_unfinished(step: int, folder: Path) -> None:
    """Prints where a run stopped and how to resume it."""
    command = " ".join(shlex.quote(part) for part in ["instructalign", *sys.argv[1:]])
    console.out.print(f"stopped at step {step}; the checkpoint is in {folder}. To resume, run: {command}")


def show_report(report: Report) -> None:
    """Prints the summary of a report and its main table."""
    from instructalign.report.number_format import join_with_and

    for sentence in report.sentences:
        console.out.print(sentence, markup=False)
    console.out.print()
    console.show_table(report.table)
    endings = join_with_and([".md", ".json", *(path.suffix for path in report.more)])
    console.out.print(f"report: {report.html} (also as {endings})")
