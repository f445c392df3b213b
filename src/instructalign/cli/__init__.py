"""The command line: reads arguments, calls the library, prints what it returns."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from instructalign import __version__, console
from instructalign.cli import data_commands, interact_commands, list_commands, run_commands, share_commands
from instructalign.errors import ConfigError, InstructAlignError, UnknownNameError, first_line
from instructalign.hub_access import hub_problem, is_network_error

_INTERRUPTED = 130  # the exit code after Ctrl-C

app = typer.Typer(
    name="instructalign",
    help="Teach an instruction-tuned language model a new language, keep what it knew, and see both in numbers.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(asked: bool) -> None:
    if asked:
        console.out.print(f"instructalign {__version__}", markup=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass


for command in (
    run_commands.demo,
    data_commands.init,
    data_commands.validate,
    data_commands.doctor,
    data_commands.preview,
    data_commands.generate,
    data_commands.synthesize,
    data_commands.select,
    run_commands.train,
    run_commands.evaluate,
    run_commands.score,
    run_commands.report,
    run_commands.run,
    run_commands.sweep,
    run_commands.merge,
    interact_commands.chat,
    interact_commands.play,
    interact_commands.translate,
    share_commands.card,
    share_commands.push,
    share_commands.export,
    list_commands.languages,
    list_commands.schema,
):
    app.command()(command)
app.command("lm-eval", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(
    run_commands.lm_eval
)
app.add_typer(list_commands.templates, name="templates")
app.add_typer(list_commands.tasks, name="tasks")
app.add_typer(list_commands.formats, name="formats")
app.add_typer(list_commands.configs, name="configs")


def main() -> None:
    """Runs the command line; the exit code is 0 for done, 1 for failed, 2 for wrong use or configuration."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    logging.getLogger("huggingface_hub").propagate = False  # it prints its own messages
    try:
        app()
    except (ConfigError, UnknownNameError) as error:
        console.err.print(f"error: {error}", markup=False)
        sys.exit(2)
    except InstructAlignError as error:
        console.err.print(f"error: {error}", markup=False)
        sys.exit(1)
    except OSError as error:
        console.err.print(f"error: {_os_error(error)}", markup=False)
        sys.exit(1)
    except Exception as error:
        if not is_network_error(error):
            raise
        console.err.print(f"error: {hub_problem(error) or first_line(error)}", markup=False)
        sys.exit(1)
    except SystemExit as ended:
        if ended.code == _INTERRUPTED:
            console.err.print("Interrupted. Rerun the same command to resume.")
        raise


def _os_error(error: OSError) -> str:
    """What the system refused, for which file, and what to do."""
    file = error.filename2 or error.filename
    if file is None or error.strerror is None:
        return str(error)
    if isinstance(error, (FileExistsError, NotADirectoryError)):
        return f"{file}: cannot create the folder, because a file with this name exists. Choose another --out."
    if isinstance(error, IsADirectoryError):
        return f"{file} is a folder; expected a file."
    if isinstance(error, PermissionError):
        return f"{file}: {error.strerror}. Check its permissions, or choose another path."
    return f"{file}: {error.strerror}."
