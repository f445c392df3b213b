"""Commands before training: configuration, diagnosis, preview, instructions and replay data as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from instructalign import console
from instructalign.cli.options import ConfigFile, Rejects, Settings, load, with_rejects
from instructalign.errors import ConfigError, InstructAlignError


def init(
    more: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More files, after --from.")
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--from", metavar="FILE", help="Your parallel text: the configuration is made for it."),
    ] = None,
    languages: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="The languages in the order of columns of text or files, where they do not say; - for none.",
        ),
    ] = None,
    known: Annotated[str | None, typer.Option(metavar="A,B", help="Which of them the base model knows.")] = None,
    model: Annotated[
        str, typer.Option(metavar="MODEL", help="The base model: a folder or Hub name, or `toy`.")
    ] = "bigscience/bloomz-560m",
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The file to write.")] = Path(
        "instructalign.yaml"
    ),
) -> None:
    """Writes a configuration: a commented one to fill in, or with --from one that is made for your files.

    Example: `instructalign init --from pairs.xlsx --out my-language.yaml`
    """
    from instructalign.files import write_text

    if out.exists():
        raise InstructAlignError(f"{out} already exists; choose another --out.")
    if not files:
        from instructalign.config_file import starter

        if more or languages or known:
            raise ConfigError(["init: files and languages are looked into with --from: init --from FILE..."])
        write_text(out, starter())
        console.out.print(f"wrote {out}. Edit it, then run: instructalign validate {out}")
        return
    from instructalign.config_draft import draft_config

    draft = draft_config(
        [*files, *(more or [])],
        folder=out.parent,
        languages=languages.split(",") if languages else (),
        known=known.split(",") if known else (),
        model=model,
    )
    write_text(out, draft.text)
    for note in draft.notes:
        console.out.print(note, markup=False)
    console.out.print(f"wrote {out}. Look at it, then run: instructalign doctor {out}", markup=False)


def validate(config: ConfigFile, settings: Settings = None) -> None:
    """Checks a configuration and lists every error at once.

    Example: `instructalign validate my-language.yaml`
    """
    from instructalign.config import SweepConfig
    from instructalign.config_file import build_sweep, read_yaml
    from instructalign.sweeps import plan_sweep

    load(config, settings, check=True)
    if build_sweep(read_yaml(config)) == SweepConfig():
        console.out.print(f"{config} is valid. To check files, model and data, run: instructalign doctor {config}")
    else:
        count = len(plan_sweep(config, settings or []).cells)
        console.out.print(f"{config} is valid, and so are the {count} runs of its sweep.")


def doctor(
    config: ConfigFile,
    as_json: Annotated[bool, typer.Option("--json", help="Print the diagnosis as JSON.")] = False,
    settings: Settings = None,
) -> None:
    """Checks files, tokenizer, lengths, contamination, memory and time before training; exit code 1 on a problem.

    Example: `instructalign doctor my-language.yaml`
    """
    loaded = load(config, settings)
    from instructalign.doctor import examine

    with console.progress() as progress:
        diagnosis = examine(loaded, progress=progress)
    if as_json:
        console.print_json(diagnosis.to_dict())
    else:
        console.show_diagnosis(diagnosis)
    if not diagnosis.ready:
        raise typer.Exit(1)


def preview(
    config: ConfigFile,
    count: Annotated[int, typer.Option("-n", "--count", min=1, help="Number of examples.")] = 5,
    step: Annotated[int, typer.Option(min=0, help="Optimizer step to show, from 0.")] = 0,
    settings: Settings = None,
) -> None:
    """Shows training examples as the model sees them; tokens that carry the loss are marked.

    Example: `instructalign preview my-language.yaml -n 10 --step 2000`
    """
    from instructalign.pipeline import preview as make

    console.show_previews(make(load(config, settings), count, step))


def generate(
    config: ConfigFile,
    count: Annotated[int, typer.Option(min=1, help="Number of instructions.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The file to write: .jsonl or .parquet.")],
    form: Annotated[
        Literal["plain", "messages"], typer.Option("--format", help="Prompt and answer, or chat messages.")
    ] = "plain",
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes (default: 1; with Ray, all cores)."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Clean rows and generate instructions on this machine, or on a Ray cluster."),
    ] = "local",
    store: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With Ray: shared folder that keeps the cleaned rows."),
    ] = None,
    rejects: Rejects = None,
    settings: Settings = None,
) -> None:
    """Writes alignment instructions for use in another trainer.

    Example: `instructalign generate my-language.yaml --count 10000 --out instructions.jsonl`
    """
    from instructalign.instructions.export import ENDINGS
    from instructalign.pipeline import write_generated

    if out.is_dir() or out.suffix not in ENDINGS:
        what = "is a folder" if out.is_dir() else "has no known extension"
        raise InstructAlignError(f"{out} {what}. Name a file: {' or '.join(ENDINGS)}.")
    if out.exists():
        raise InstructAlignError(f"{out} already exists; choose another --out, or remove it.")
    if store is not None and engine == "local":
        raise typer.BadParameter("--store needs --engine ray")
    loaded = load(config, with_rejects(settings, rejects))
    with console.progress() as progress:
        written, counts = write_generated(
            loaded, out, count, form, engine=engine, processes=processes, store=store, progress=progress
        )
    console.out.print(f"wrote {written} instructions to {out}")
    console.out.print(f"rows of the corpora: {counts}", markup=False)


def synthesize(
    config: ConfigFile,
    out: Annotated[Path, typer.Option(metavar="FILE", help="The JSON-lines file to write.")],
    count: Annotated[int | None, typer.Option(min=1, help="Number of examples (default: replay.size).")] = None,
    settings: Settings = None,
) -> None:
    """Generates replay data with the base model itself (self-synthesized rehearsal).

    Example: `instructalign synthesize my-language.yaml --count 1000 --out replay.jsonl`
    """
    if out.exists():
        raise InstructAlignError(f"{out} already exists; choose another --out, or remove it.")
    loaded = load(config, settings)
    from instructalign.synthesis import synthesize as write

    with console.progress() as progress:
        counts = write(loaded, out, count=count, progress=progress)
    dropped = ", ".join(f"{reason} {number}" for reason, number in sorted(counts.dropped.items())) or "none"
    console.out.print(f"wrote {counts.kept} examples to {out}; dropped: {dropped}", markup=False)
