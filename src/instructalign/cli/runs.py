"""Commands that train, evaluate and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from instructalign import console
from instructalign.cli.shared import (
    ConfigFile,
    Out,
    Settings,
    bounds,
    check_names,
    folder_of,
    load,
    say_unfinished,
    show_report,
)


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
    show_report(report)
    console.out.print(next_steps(out))


def train(config: ConfigFile, out: Out = None, settings: Settings = None) -> None:
    """Trains; an unfinished run of the same configuration goes on from its last checkpoint.

    Example: `instructalign train my-language.yaml --out runs/javanese --set training.steps=2000`
    """
    from instructalign.pipeline import train as fit

    folder = folder_of(config, out)
    with console.progress() as progress:
        result = fit(load(config, settings), folder, progress)
    if result.finished:
        console.out.print(f"the adapted model is in {result.model}")
    else:
        say_unfinished(result.step, folder)


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
            load(config, settings),
            folder,
            run=name,
            progress=lambda part, done, total: progress(f"evaluating {part}", done, total),
        )
    console.show_table(main_table(scores))
    console.out.print(f"scores and predictions are in {folder}")


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
        [each.task, each.language, each.metric, f"{100 * each.value:.1f}", bounds(each), str(each.n)]
        for each in score_predictions(files, rule=rule, rounds=bootstrap)
        if each.metric in ("accuracy", "f1_weighted") and each.run == "predictions"
    ]
    console.print_table("", ["task", "language", "metric", "score", "95 %", "items"], rows)


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

    show_report(write_report(folders, out))


def run(config: ConfigFile, out: Out = None, settings: Settings = None) -> None:
    """All of it: evaluate the base, train, evaluate the adapted model, report.

    Example: `instructalign run configs/nusantara-small.yaml --out runs/nusantara`
    """
    from instructalign.pipeline import run as run_all

    folder = folder_of(config, out)
    loaded = load(config, settings)
    check_names(loaded)
    with console.progress() as progress:
        result = run_all(loaded, folder, progress=progress)
    if result.report is None:
        say_unfinished(result.step, folder)
    else:
        show_report(result.report)
