"""Commands that list and show what ships as data: templates, tasks, languages."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from instructalign import console
from instructalign.errors import ConfigError, InstructAlignError, UnknownNameError

templates = typer.Typer(help="Prompt templates of the alignment instructions.", no_args_is_help=True)
tasks = typer.Typer(help="Evaluation tasks.", no_args_is_help=True)
configs = typer.Typer(help="Configurations that come with the package.", no_args_is_help=True)
formats = typer.Typer(help="Formats of parallel corpora and lexicons.", no_args_is_help=True)


@templates.command("ls")
def list_templates() -> None:
    """Lists the shipped template sets."""
    from instructalign.instructions import template_sets

    for name in template_sets():
        console.out.print(name)


@templates.command("show")
def show_templates(name: Annotated[str, typer.Argument(help="A shipped set, or your own YAML file.")]) -> None:
    """Shows the templates of a set by objective.

    Example: `instructalign templates show ind`
    """
    from instructalign.instructions import load_templates, variety
    from instructalign.instructions.templates import ANSWER_IN

    sets = load_templates([name])
    with suppress(ConfigError):  # a set may have none
        sets |= load_templates([name], [ANSWER_IN])
    for objective, wordings in sets.items():
        different = f" (variety {variety(wordings):.2f})" if len(wordings) > 1 else ""
        rows = [[each.id, each.prompt] for each in wordings]
        console.print_table(f"{objective}{different}", ["id", "prompt"], rows)


@tasks.command("ls")
def list_tasks() -> None:
    """Lists the shipped evaluation tasks."""
    from instructalign.evaluation import load_task, task_names

    rows = [[name, load_task(name).title, str(len(load_task(name).languages) or "–")] for name in task_names()]
    console.print_table("", ["task", "title", "languages"], rows)


@tasks.command("show")
def show_task(name: Annotated[str, typer.Argument(help="A shipped task, or your own YAML file.")]) -> None:
    """Shows a task: its source, languages, files, labels and prompts.

    Example: `instructalign tasks show nusax_senti`
    """
    from instructalign.evaluation import load_task
    from instructalign.evaluation.task_items import describe_sources
    from instructalign.evaluation.tasks import Generation, HarnessTask, HeldOutTask, Task

    task = load_task(name)
    languages = ", ".join(task.languages)
    if isinstance(task, HeldOutTask):
        whose = {
            "replay": "knows",
            "sentences": "has in its corpora",
            "instruction_data": "has instruction data in",
        }.get(task.kind, "aligns")
        languages = f"those that the configuration {whose}"
    elif isinstance(task, HarnessTask):
        languages = languages or "found by the names of the harness's tasks"
    origin = f"{task.source or 'source not named'} ({task.licence or 'licence not named'})"
    console.out.print(f"{task.title or task.name}\n{origin}\nlanguages: {languages}", markup=False)
    if isinstance(task, HarnessTask):
        console.out.print(f"lm-evaluation-harness: {task.task}", markup=False)
    elif not isinstance(task, HeldOutTask):
        console.out.print("\n".join(describe_sources(task)), markup=False)
    if isinstance(task, Task) and task.labels is None:
        columns = task.options if isinstance(task.options, list) else [f"the list in {task.options}"]
        console.out.print(f"options of each item: {', '.join(columns)}; answer by {task.answer}", markup=False)
    if isinstance(task, Generation):
        columns = task.references if isinstance(task.references, list) else [task.references]
        stops = ", ".join(map(repr, task.stop))
        console.out.print(
            f"the model writes, up to {task.tokens} tokens or {stops}; right answers: {', '.join(columns)}; "
            f"first metric: {task.metric}",
            markup=False,
        )
    if isinstance(task, Task) and task.labels is not None:
        by_language = {prompt.language: task.words(name) for name, prompt in task.prompts.items()}
        rows = [[label, *(words[label] for words in by_language.values())] for label in task.labels]
        console.print_table("labels", ["in the data", *(f"put in {code}" for code in by_language)], rows)
    if task.prompts:
        rows = [[key, each.prompt] for key, each in task.prompts.items()]
        console.print_table("prompts", ["id", "prompt"], rows)


@tasks.command("validate")
def validate_task(path: Annotated[str, typer.Argument(help="A task file (YAML).")]) -> None:
    """Checks a task file and lists every error at once.

    Example: `instructalign tasks validate my-task.yaml`
    """
    from instructalign.evaluation import load_task

    task = load_task(path)
    console.out.print(f"{path} is valid: {task.title or task.name}", markup=False)


@tasks.command("export")
def export_task(
    name: Annotated[str, typer.Argument(help="A shipped task, or your own YAML file.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="The folder with the evaluation data.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write to.")],
    items: Annotated[int | None, typer.Option(min=1, help="Maximum number of items per language.")] = None,
    to: Annotated[Literal["lm-eval"], typer.Option("--format", help="The harness to write for.")] = "lm-eval",
) -> None:
    """Exports a task with its items for lm-evaluation-harness, in every language that has data.

    Example: `instructalign tasks export nusax_senti --format lm-eval --data data --out harness`
    """
    from instructalign.evaluation import Task, export_lm_eval, load_task

    task = load_task(name)
    if not isinstance(task, Task):
        raise InstructAlignError(f"{name} is a task of {task.kind}; {to} takes classification tasks only.")
    names = export_lm_eval(task, out, data, items=items)
    console.out.print(f"wrote {len(names)} tasks to {out}; run them all with:")
    console.out.print(
        f"lm_eval --model hf --model_args pretrained=MODEL --include_path {out} --tasks {task.name}", markup=False
    )


@configs.command("ls")
def list_configs() -> None:
    """Lists the shipped configurations with their first line."""
    from instructalign.config_file import shipped_configurations

    rows = []
    for name, path in shipped_configurations().items():
        first = path.read_text(encoding="utf-8").splitlines()[:1]
        rows.append([name, first[0].strip("# ") if first and first[0].startswith("#") else ""])
    console.print_table("", ["configuration", "what it is"], rows)


@configs.command("copy")
def copy_config(
    name: Annotated[str, typer.Argument(help="A configuration, as `configs ls` lists them.")],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The file to write (default: its own name).")
    ] = None,
) -> None:
    """Copies a shipped configuration, to run it or to change it.

    Example: `instructalign configs copy quickstart`
    """
    from instructalign.config_file import shipped_configurations
    from instructalign.files import refuse_existing, write_text

    known = shipped_configurations()
    if name.removesuffix(".yaml") not in known:
        raise UnknownNameError("configuration", name, known)
    source = known[name.removesuffix(".yaml")]
    target = out or Path(source.name)
    refuse_existing(target)
    write_text(target, source.read_text(encoding="utf-8"))
    console.out.print(f"wrote {target}. Paths in it are relative to its folder.", markup=False)


@formats.command("ls")
def list_formats() -> None:
    """Lists the formats that a corpus or a lexicon may have."""
    from instructalign.plugins import FORMATS

    rows = [[name, FORMATS.describe(name).summary] for name in FORMATS.names()]
    console.print_table("", ["format", "what it reads"], rows)


@formats.command("show")
def show_format(name: Annotated[str, typer.Argument(help="A format, as `formats ls` lists them.")]) -> None:
    """Shows a format: what it is for, its options, an example, and what it requires.

    Example: `instructalign formats show xlsx`
    """
    from instructalign.plugins import FORMATS

    about = FORMATS.describe(name)
    console.out.print(about.text, markup=False)
    console.print_table("options", ["option", "type", "default", "meaning"], about.options)
    if about.example:
        console.out.print(f"Example:\n\ncorpora:\n{about.example}", markup=False)
    ours = about.package == "instructalign"
    console.out.print("Requires nothing else." if ours else f"Added by the package {about.package}.", markup=False)


def schema(
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The file to write (default: print).")] = None,
) -> None:
    """Prints the JSON schema of the configuration, by which editors complete and check it.

    Example: `instructalign schema --out instructalign.schema.json`
    """
    from instructalign.config import Config
    from instructalign.files import write_json

    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Config.model_json_schema()}
    if out is None:
        console.print_json(made)
    else:
        write_json(out, made)
        console.out.print(f"wrote {out}", markup=False)


def languages(
    text: Annotated[str, typer.Argument(help="A code or part of a name; all languages without it.")] = "",
) -> None:
    """Looks up language codes and names (ISO 639-3).

    Example: `instructalign languages helong`
    """
    from instructalign.languages import find_languages

    found = find_languages(text)
    if not found:
        raise InstructAlignError(f"no language has {text!r} in its code or English name.")
    rows = [[each.code, each.alpha2, "; ".join(each.names), each.script] for each in found]
    console.print_table("", ["code", "ISO 639-1", "name", "script"], rows)
