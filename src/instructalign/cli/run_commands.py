"""Commands that train, evaluate, report and merge."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer

from instructalign import console
from instructalign.cli.options import (
    ConfigFile,
    Out,
    Rejects,
    Settings,
    folder_of,
    load,
    parse_numbers,
    print_counts,
    print_unfinished,
    show_report,
    with_rejects,
)
from instructalign.errors import ConfigError
from instructalign.files import write_jsonl
from instructalign.types import Rule


def demo(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write to.")] = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of the data and the training order.")] = 42,
) -> None:
    """Runs the whole pipeline offline on a family of toy languages: three ways to adapt a model, one report.

    Example: `instructalign demo --out runs/demo`
    """
    from instructalign.toy.demo import next_steps, run_demo

    with console.progress() as progress:
        report = run_demo(out, seed=seed, progress=progress)
    show_report(report)
    console.out.print(next_steps(out))


def train(config: ConfigFile, out: Out = None, rejects: Rejects = None, settings: Settings = None) -> None:
    """Trains; an unfinished run of the same configuration resumes from its last checkpoint.

    Example: `instructalign train my-language.yaml --out runs/javanese --set training.steps=2000`
    """
    from instructalign.pipeline import train as fit

    folder = folder_of(config, out)
    with console.progress() as progress:
        result = fit(load(config, with_rejects(settings, rejects), check=True), folder, progress)
    if result.finished:
        early = f" (training ended early: {result.ended_early})" if result.ended_early else ""
        console.out.print(f"the adapted model is in {result.model}{early}")
        print_counts(folder)
    else:
        print_unfinished(result.step, folder)


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A model folder or Hub name.")],
    config: Annotated[Path, typer.Option(metavar="CONFIG", help="Defines tasks, languages and prompts.")],
    out: Out = None,
    rejects: Annotated[
        Path | None,
        typer.Option("--rejects", metavar="FILE", help="Keep what is dropped from the tasks, with the reason."),
    ] = None,
    settings: Settings = None,
) -> None:
    """Evaluates any model on the tasks of a configuration, zero-shot.

    Example: `instructalign evaluate runs/javanese/model --config my-language.yaml --out scores`
    """
    loaded = load(config, settings)
    from instructalign.evaluation import evaluate as score
    from instructalign.evaluation.task_selection import select_tasks
    from instructalign.report.report_tables import main_table

    name = Path(model).name or model
    folder = out or Path("runs") / "evaluation" / name
    with console.progress() as progress:
        selection = select_tasks(loaded)
        dropped = [each for plan in selection.classification for each in plan.rejects]
        dropped += [each for plan in selection.generation for each in plan.rejects]
        if rejects:
            write_jsonl(rejects, dropped)
        scores = score(model, loaded, folder, run=name, selection=selection, progress=progress)
    counts = {(each.task, each.language): each.n for each in scores if each.language and each.n}
    console.show_table(main_table(scores))
    console.out.print(f"scores and predictions are in {folder}")
    items = f"{sum(counts.values()):,} scored in {len(counts)} sets of a task and language"
    reasons = Counter(each["filter"] for each in dropped)
    said = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items()) or "none"
    console.out.print(f"test items: {items}, dropped: {said}", markup=False)


def score(
    files: Annotated[list[Path], typer.Argument(metavar="PREDICTIONS...", help="Files that evaluate wrote.")],
    rule: Annotated[
        Rule | None,
        typer.Option(help="Re-score with this rule (default: the predictions as saved)."),
    ] = None,
    bootstrap: Annotated[int, typer.Option(min=0, help="Bootstrap resamples for confidence intervals.")] = 1000,
) -> None:
    """Computes scores from prediction files.

    Example: `instructalign score runs/javanese/evaluation/adapted/predictions/*.jsonl --rule mean`
    """
    from instructalign.evaluation import score_predictions

    rows = []
    for each in score_predictions(files, rule=rule, resamples=bootstrap):
        if each.metric in ("accuracy", "f1_weighted") and each.run == "predictions":
            low, high = each.low, each.high
            interval = "" if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}"
            rows.append([each.task, each.language, each.metric, f"{100 * each.value:.1f}", interval, str(each.n)])
    console.print_table("", ["task", "language", "metric", "score", "95 % interval", "items"], rows)


def report(
    folders: Annotated[list[Path], typer.Argument(metavar="DIR...", help="One or more run folders.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder or file name to write to (default: the run's folder, or that which all runs are in).",
        ),
    ] = None,
    form: Annotated[
        Literal["latex", "csv"] | None,
        typer.Option("--format", help="Write tables for a paper (report.tex), or every number (report.csv), too."),
    ] = None,
) -> None:
    """Writes report.md, report.json and report.html that compare one or more runs.

    Example: `instructalign report runs/demo/* --out runs/demo --format latex`
    """
    from instructalign.report import write_report

    show_report(write_report(folders, out, forms=[form] if form else []))


def run(config: ConfigFile, out: Out = None, rejects: Rejects = None, settings: Settings = None) -> None:
    """Runs everything: evaluates the base, trains, evaluates the adapted model, writes the report.

    Example: `instructalign run configs/nusantara-small.yaml --out runs/nusantara`
    """
    from instructalign.pipeline import run as run_all

    folder = folder_of(config, out)
    loaded = load(config, with_rejects(settings, rejects), check=True)
    with console.progress() as progress:
        result = run_all(loaded, folder, progress=progress)
    if not result.finished:
        print_unfinished(result.step, folder)
    elif result.report is not None:
        show_report(result.report)
        print_counts(folder)


def sweep(
    config: ConfigFile,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=A,B,C", help="An axis of the grid, or `KEY=VALUE` for all cells. Repeatable."
        ),
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="1,2,3", help="Run every cell with each seed.")] = None,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="The sweep's folder.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parallel runs (default: one per GPU or CPU core).")
    ] = None,
    slurm: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE,...", help="Submit runs as Slurm jobs: `--slurm partition=gpu,mem_gb=64`."
        ),
    ] = None,
) -> None:
    """Runs a grid or list of configurations in parallel and compares them; rerun the command to resume.

    Example: `instructalign sweep my-language.yaml --set replay.size=0,100,1000 --seeds 1,2,3 --out runs/replay`
    """
    from instructalign.sweeps import SlurmExecutor, plan_sweep, read_slurm_parameters
    from instructalign.sweeps import sweep as run_sweep

    numbers = None if seeds is None else parse_numbers(seeds, "--seeds", "1,2,3", int)
    plan = plan_sweep(config, settings or [], numbers)
    console.err.print(plan.describe(), markup=False)
    folder = folder_of(config, out)
    executor = None if slurm is None else SlurmExecutor(folder, read_slurm_parameters(slurm))
    with console.progress() as progress:
        result = run_sweep(config, folder, plan=plan, workers=workers, executor=executor, progress=progress)
    if result.report is not None:
        show_report(result.report)
    for cell, error in result.failed.items():
        console.err.print(f"failed: {cell}: {error}", markup=False)
    if result.failed:
        raise typer.Exit(1)


def merge(
    base: Annotated[str, typer.Argument(metavar="BASE", help="The base model.")],
    adapted: Annotated[list[str], typer.Argument(metavar="ADAPTED...", help="Models adapted from it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder for the merged model.")],
    alpha: Annotated[
        str, typer.Option(metavar="A,B,C", help="Coefficient, 0 (base) to 1; several values need --config.")
    ] = "1",
    weights: Annotated[
        str | None, typer.Option(metavar="A,B", help="One per adapted model (default: equal, with the sum 1).")
    ] = None,
    method: Annotated[str, typer.Option(hidden=True)] = "linear",
    config: Annotated[
        Path | None, typer.Option(metavar="CONFIG", help="Its validation data chooses the best alpha.")
    ] = None,
    keep: Annotated[float, typer.Option(help="Maximum allowed drop on L1: F1, or nats per token.")] = 0.01,
    settings: Settings = None,
) -> None:
    """Merges weights: interpolates a base and fine-tuned models; chooses the coefficient on validation data.

    Example: `instructalign merge bigscience/bloomz-560m runs/javanese/model --alpha 0.3,0.5,0.7 --config
    my-language.yaml --out runs/javanese/merged`
    """
    if method != "linear":
        raise ConfigError(
            [
                f"--method: only linear merging is built in, found {method!r}; docs/guides/chat-vector.md shows "
                "how to merge with TIES, DARE and others in mergekit"
            ],
            "the arguments of merge",
        )
    loaded = load(config, settings, check=True, trains=False) if config else None
    from instructalign.merging import merge as merge_models

    with console.progress() as progress:
        merged = merge_models(
            base,
            adapted,
            out,
            alphas=parse_numbers(alpha, "--alpha", "0.3,0.5", float),
            weights=None if weights is None else parse_numbers(weights, "--weights", "0.3,0.5", float),
            config=loaded,
            keep=keep,
            progress=progress,
        )
    if merged.base:
        scores = {"base": merged.base, **{f"{value:g}": score for value, score in merged.scores.items()}}
        rows = [[name, f"{score.known:.4f}", f"{score.new:.4f}"] for name, score in scores.items()]
        console.print_table("", ["alpha", "L1", "L2"], rows)
        console.out.print(f"criterion: {merged.criterion}", markup=False)
    for shortfall in merged.shortfalls:
        console.out.print(shortfall, markup=False)
    console.out.print(f"merged model (alpha {merged.alpha:g}): {merged.folder}", markup=False)


def lm_eval(context: typer.Context) -> None:
    """Runs lm-evaluation-harness with this package's scorer: its own command line, with `--model instructalign`.

    All arguments are the harness's (`lm_eval run --help`), and `--model_args` those of its `hf` model.

    Example: `instructalign lm-eval --tasks belebele_jav_Latn --model_args pretrained=runs/javanese/model`
    """
    from instructalign.evaluation.lm_eval_tasks import require_harness

    require_harness()
    from lm_eval.__main__ import cli_evaluate

    import instructalign.evaluation.lm_eval_model  # noqa: F401  (registers the model)

    arguments = list(context.args)
    runs = not arguments or arguments[0] not in ("ls", "validate")
    if runs and not any(each in ("-M", "--model") or each.startswith("--model=") for each in arguments):
        arguments += ["--model", "instructalign"]
    before, sys.argv = sys.argv, ["lm_eval", *arguments]
    try:
        cli_evaluate()
    finally:
        sys.argv = before
