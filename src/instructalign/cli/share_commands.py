"""Commands that share a trained model: its card, the upload to the Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from instructalign import console
from instructalign.files import format_bytes

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a finished run.")]
LicenceName = Annotated[
    str, typer.Option("--licence", metavar="ID", help="The model's licence (default: what base and data leave).")
]


def card(
    run: Run, repo: Annotated[str, typer.Option(help="Its name on the Hub.")] = "", licence: LicenceName = ""
) -> None:
    """Writes the model card, README.md in the model's folder: languages, data and licences, scores, what was lost.

    Example: `instructalign card runs/javanese`
    """
    from instructalign.sharing.model_card import write_card

    console.out.print(f"wrote {write_card(run, repo=repo, licence=licence)}", markup=False)


def export(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="The folder of a run, or of a model.")],
    form: Annotated[
        Literal["gguf", "ollama", "ctranslate2", "folder"],
        typer.Option("--format", help="llama.cpp; Ollama; CTranslate2; the plain folder, for vLLM."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write to.")],
    quantise: Annotated[
        str, typer.Option(metavar="TYPE", help="q8_0, f16 (GGUF); int8, float16 (CTranslate2).")
    ] = "",
) -> None:
    """Writes the model for another program: a laptop, a phone, a server.

    Example: `instructalign export runs/javanese --format ollama --quantise q8_0 --out javanese`
    """
    from instructalign.sharing.model_export import export_model

    for path in export_model(model, form, out, quantise=quantise):
        console.out.print(f"wrote {path}", markup=False)
    if form == "ollama":
        name = out.resolve().name
        console.out.print(f"now: cd {out} && ollama create {name} -f Modelfile && ollama run {name}", markup=False)


def push(
    run: Run,
    repo: Annotated[str, typer.Argument(metavar="REPO", help="The repository on the Hub: user/name.")],
    public: Annotated[bool, typer.Option("--public", help="Let everybody see it (default: private).")] = False,
    with_texts: Annotated[
        bool, typer.Option("--with-texts", help="Share sentences of the corpora too: report, replay memory.")
    ] = False,
    only_list: Annotated[bool, typer.Option("--dry-run", help="List files and sizes, and send nothing.")] = False,
    base: Annotated[str, typer.Option(metavar="NAME", help="Hub name of an adapter's base.")] = "",
    licence: LicenceName = "",
) -> None:
    """Uploads model, card and report to the Hub, without sentences of the corpora; an interrupted one continues.

    Example: `instructalign push runs/javanese my-name/bloomz-javanese --dry-run`
    """
    from instructalign.sharing.hub_upload import push as upload
    from instructalign.sharing.hub_upload import shared_files

    if only_list:
        files = shared_files(run, repo, with_texts=with_texts, base=base, licence=licence)
        ordered = sorted(files, key=lambda file: (-file.size, file.path))
        console.print_table(
            "", ["file", "size"], [[file.path, format_bytes(file.size)] for file in ordered], numbers=True
        )
        total = format_bytes(sum(file.size for file in files))
        who = "everybody" if public else "you alone"
        console.out.print(f"{len(files)} files, {total}; visible to {who}; nothing was sent", markup=False)
        return
    with console.progress() as progress:
        done = upload(
            run, repo, public=public, with_texts=with_texts, base=base, licence=licence, progress=progress
        )
    console.out.print(f"{done.url}: sent {len(done.sent)} files, {len(done.there)} were there", markup=False)
