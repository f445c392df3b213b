"""The command line: reads arguments, calls the library, prints what it returns."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from instructalign import console
from instructalign.errors import ConfigError, InstructAlignError, UnknownNameError

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.records import Score
    from instructalign.report import Report

app = typer.Typer(
    name="instructalign",
    help="Teach an instruction-tuned language model a new language, keep what it knew, and see both in numbers.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
templates_app = typer.Typer(help="The wordings of alignment instructions.", no_args_is_help=True)
tasks_app = typer.Typer(help="The evaluation tasks.", no_args_is_help=True)
app.add_typer(templates_app, name="templates")
app.add_typer(tasks_app, name="tasks")

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="The configuration file (YAML).")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override any key: `--set training.steps=100`. May repeat."),
]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The run's folder.")]


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where to write.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the data and the training order.")] = 42,
) -> None:
    """The whole pipeline offline, on a made-up language family: three ways to adapt, one table.

    Example: `instructalign demo --out runs/demo`
    """
    from instructalign.toy.demo import next_steps, run_demo

    with console.progress() as progress:
        report = run_demo(out, seed=seed, progress=progress)
    _show_report(report)
    console.out.print(next_steps(out))


@app.command()
def init(
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write.")] = Path(
        "instructalign.yaml"
    ),
) -> None:
    """Writes a commented configuration to start from.

    Example: `instructalign init --out my-language.yaml`
    """
    from instructalign.configfile import starter
    from instructalign.files import write_text

    if out.exists():
        raise InstructAlignError(f"{out} exists already; give another name with --out.")
    write_text(out, starter())
    console.out.print(f"wrote {out}; edit it, then: instructalign validate {out}")


@app.command()
def validate(config: ConfigFile, settings: Settings = None) -> None:
    """Checks a configuration and lists every error at once.

    Example: `instructalign validate my-language.yaml`
    """
    loaded = _load(config, settings)
    _check_names(loaded)
    console.out.print(f"{config} is valid.")


@app.command()
def doctor(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="For machines: all of it as JSON.")] = False,
    settings: Settings = None,
) -> None:
    """Looks at everything that would go wrong in a run, without training; exit code 1 where something would.

    Example: `instructalign doctor my-language.yaml`
    """
    from instructalign.doctor import examine

    with console.progress() as progress:
        diagnosis = examine(_load(config, settings), progress=progress)
    if as_json:
        console.print_json(diagnosis.to_dict())
    else:
        console.show_diagnosis(diagnosis)
    if not diagnosis.ready:
        raise typer.Exit(1)


@app.command()
def preview(
    config: ConfigFile,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="How many examples.")] = 5,
    step: Annotated[int, typer.Option(min=0, help="The optimizer step to look at, from 0.")] = 0,
    settings: Settings = None,
) -> None:
    """Shows training examples as the model will see them, with the part that carries the loss marked.

    Example: `instructalign preview my-language.yaml -n 10 --step 2000`
    """
    from instructalign.training.preview import preview as make

    console.show_previews(make(_load(config, settings), count, step))


@app.command()
def generate(
    config: ConfigFile,
    count: Annotated[int, typer.Option(min=1, help="How many instructions.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write: .jsonl, or .parquet.")],
    form: Annotated[
        Literal["plain", "messages"], typer.Option("--format", help="Prompt and answer, or a chat's messages.")
    ] = "plain",
    processes: Annotated[int, typer.Option(min=1, help="How many make them; the file stays the same.")] = 1,
    settings: Settings = None,
) -> None:
    """Writes alignment instructions for use in another trainer.

    Example: `instructalign generate my-language.yaml --count 10000 --out instructions.jsonl`
    """
    from instructalign.instructions import generate as make
    from instructalign.instructions import write_instructions, write_stream
    from instructalign.mixture.build import build_instructions, read_rows

    loaded = _load(config, settings)
    with console.progress() as progress:
        progress("reading corpora", 0, 0)
        stream = build_instructions(loaded, read_rows(loaded)[0])
        if out.suffix == ".parquet":
            made = console.counted(make(stream, count), "writing", count, progress)
            written = write_instructions(out, made, form)
        else:
            written = write_stream(
                out,
                stream,
                count,
                form,
                processes=processes,
                progress=lambda done: progress("writing", done, count),
            )
    console.out.print(f"wrote {written} instructions to {out}")


@app.command()
def train(config: ConfigFile, out: Out = None, settings: Settings = None) -> None:
    """Trains; an unfinished run of the same configuration goes on from its last checkpoint.

    Example: `instructalign train my-language.yaml --out runs/javanese --set training.steps=2000`
    """
    from instructalign.training.train import train as fit

    folder = _folder(config, out)
    with console.progress() as progress:
        result = fit(_load(config, settings), folder, progress)
    if result.finished:
        console.out.print(f"the adapted model is in {result.model}")
    else:
        _unfinished(result.step, folder)


@app.command()
def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder or Hub name.")],
    config: Annotated[Path, typer.Option(metavar="CONFIG", help="Says which tasks, languages and prompts.")],
    out: Out = None,
    settings: Settings = None,
) -> None:
    """Evaluates any model on the tasks of a configuration, zero-shot.

    Example: `instructalign evaluate runs/javanese/model --config my-language.yaml --out scores`
    """
    from instructalign.evaluation import evaluate as score
    from instructalign.report import main_table

    name = Path(model).name or model
    folder = out or Path("runs") / "evaluation" / name
    with console.progress() as progress:
        scores = score(
            model,
            _load(config, settings),
            folder,
            run=name,
            progress=lambda part, done, total: progress(f"evaluating {part}", done, total),
        )
    console.show_table(main_table(scores))
    console.out.print(f"scores and predictions are in {folder}")


@app.command()
def score(
    files: Annotated[list[Path], typer.Argument(metavar="PREDICTIONS...", help="Files that evaluate wrote.")],
    rule: Annotated[
        Literal["sum", "mean", "paper"] | None,
        typer.Option(help="Decide anew by this rule; the saved decisions count unless one is given."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Draws for the intervals.")] = 1000,
) -> None:
    """Computes scores from files of predictions alone.

    Example: `instructalign score runs/javanese/evaluation/adapted/predictions/*.jsonl --rule mean`
    """
    from instructalign.evaluation import score_predictions

    rows = [
        [each.task, each.language, each.metric, f"{100 * each.value:.1f}", _bounds(each), str(each.n)]
        for each in score_predictions(files, rule=rule, rounds=bootstrap)
        if each.metric in ("accuracy", "f1_weighted") and each.run == "predictions"
    ]
    console.print_table("", ["task", "language", "metric", "score", "95 %", "items"], rows)


@app.command()
def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="One or more run folders.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write; the first run's folder.")
    ] = None,
) -> None:
    """Writes report.md, report.json and report.html from one or more runs, side by side.

    Example: `instructalign report runs/demo/* --out runs/demo`
    """
    from instructalign.report import write_report

    _show_report(write_report(folders, out))


@app.command()
def run(config: ConfigFile, out: Out = None, settings: Settings = None) -> None:
    """All of it: evaluate the base, train, evaluate the adapted model, report.

    Example: `instructalign run configs/nusantara-small.yaml --out runs/nusantara`
    """
    from instructalign.pipeline import run as run_all

    folder = _folder(config, out)
    loaded = _load(config, settings)
    _check_names(loaded)
    with console.progress() as progress:
        result = run_all(loaded, folder, progress=progress)
    if result.report is None:
        _unfinished(result.step, folder)
    else:
        _show_report(result.report)


@templates_app.command("ls")
def list_templates() -> None:
    """Lists the shipped template sets."""
    from instructalign.instructions import template_sets

    for name in template_sets():
        console.out.print(name)


@templates_app.command("show")
def show_templates(name: Annotated[str, typer.Argument(help="A set's name, or a file of yours.")]) -> None:
    """Shows the templates of a set by objective.

    Example: `instructalign templates show ind`
    """
    from instructalign.instructions import load_templates, variety

    for objective, wordings in load_templates([name]).items():
        different = f" (variety {variety(wordings):.2f})" if len(wordings) > 1 else ""
        rows = [[each.id, each.prompt] for each in wordings]
        console.print_table(f"{objective}{different}", ["id", "prompt"], rows)


@tasks_app.command("ls")
def list_tasks() -> None:
    """Lists the shipped evaluation tasks."""
    from instructalign.evaluation import load_task, task_names

    rows = [[name, load_task(name).title, str(len(load_task(name).languages))] for name in task_names()]
    console.print_table("", ["task", "title", "languages"], rows)


@tasks_app.command("show")
def show_task(name: Annotated[str, typer.Argument(help="A task's name, or a file of yours.")]) -> None:
    """Shows a task: its source, languages, labels and prompts.

    Example: `instructalign tasks show nusax_senti`
    """
    from instructalign.evaluation import load_task

    task = load_task(name)
    console.out.print(f"{task.title}\n{task.source} ({task.licence})\nlanguages: {', '.join(task.languages)}")
    console.print_table("prompts", ["id", "prompt"], [[key, each.prompt] for key, each in task.prompts.items()])


@tasks_app.command("validate")
def validate_task(path: Annotated[str, typer.Argument(help="A task file.")]) -> None:
    """Checks a task file and lists every error at once.

    Example: `instructalign tasks validate my-task.yaml`
    """
    from instructalign.evaluation import load_task

    console.out.print(f"{path} is valid: {load_task(path).title}")


@tasks_app.command("export")
def export_task(
    name: Annotated[str, typer.Argument(help="A task's name, or a file of yours.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The folder of evaluation data.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write.")],
    items: Annotated[int | None, typer.Option(min=1, help="At most so many items a language.")] = None,
    to: Annotated[Literal["lm-eval"], typer.Option("--format", help="The harness to write for.")] = "lm-eval",
) -> None:
    """Writes a task for lm-evaluation-harness, with its items, in every language that has data.

    Example: `instructalign tasks export nusax_senti --format lm-eval --data data --out harness`
    """
    from instructalign.evaluation import Task, export_lm_eval, load_task

    task = load_task(name)
    if not isinstance(task, Task):
        raise InstructAlignError(f"{name} is a translation task; {to} takes classification tasks only.")
    names = export_lm_eval(task, out, data, items=items)
    console.out.print(f"wrote {len(names)} tasks to {out}; run them all with:")
    console.out.print(
        f"lm_eval --model hf --model_args pretrained=MODEL --include_path {out} --tasks {task.name}", markup=False
    )


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


def _load(path: Path, settings: list[str] | None) -> Config:
    from instructalign.configfile import load_config

    return load_config(path, settings or [])


def _check_names(config: Config) -> None:
    """Template sets and tasks are files; what is wrong in them counts as a problem of the configuration."""
    from instructalign.evaluation import load_task
    from instructalign.instructions import load_templates

    load_templates(config.instructions.templates, config.instructions.objectives)
    for name in config.evaluation.tasks:
        load_task(name)


def _bounds(score: Score) -> str:
    return "" if score.low is None or score.high is None else f"{100 * score.low:.1f} to {100 * score.high:.1f}"


def _folder(config: Path, out: Path | None) -> Path:
    return out or Path("runs") / config.stem


def _unfinished(step: int, folder: Path) -> None:
    again = " ".join(shlex.quote(part) for part in ["instructalign", *sys.argv[1:]])
    console.out.print(f"stopped at step {step}; the checkpoint is in {folder}. To go on: {again}")


def _show_report(report: Report) -> None:
    for sentence in report.sentences:
        console.out.print(sentence, markup=False)
    console.out.print()
    console.show_table(report.table)
    console.out.print(f"report: {report.html} (also as .md and .json)")
