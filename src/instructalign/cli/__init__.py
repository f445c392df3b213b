"""The command line: reads arguments, calls the library, prints what it returns."""

from __future__ import annotations

import logging
import os
import sys

import typer

from instructalign import console
from instructalign.cli import lists, prepare, runs
from instructalign.errors import ConfigError, InstructAlignError, UnknownNameError

app = typer.Typer(
    name="instructalign",
    help="Teach an instruction-tuned language model a new language, keep what it knew, and see both in numbers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
for command in (
    runs.demo,
    prepare.init,
    prepare.validate,
    prepare.doctor,
    prepare.preview,
    prepare.generate,
    runs.train,
    runs.evaluate,
    runs.score,
    runs.report,
    runs.run,
    runs.sweep,
    runs.merge,
):
    app.command()(command)
app.add_typer(lists.templates, name="templates")
app.add_typer(lists.tasks, name="tasks")


def main() -> None:
    """Runs the command line; the exit code is 0 for done, 1 for failed, 2 for wrong use or configuration."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        app()
    except (ConfigError, UnknownNameError) as error:
        console.err.print(f"error: {error}", markup=False)
        sys.exit(2)
    except InstructAlignError as error:
        console.err.print(f"error: {error}", markup=False)
        sys.exit(1)
    except OSError as error:  # no space, no permission, a file where a folder should be
        console.err.print(f"error: {error}", markup=False)
        sys.exit(1)
    except KeyboardInterrupt:
        console.err.print("stopped.")
        sys.exit(130)
