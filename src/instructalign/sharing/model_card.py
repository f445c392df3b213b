"""The model card of a run: README.md with the metadata that the Hub reads, made of what the run's folder knows."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructalign.errors import InstructAlignError, RunFolderError
from instructalign.evaluation.gains import GAIN
from instructalign.evaluation.score_table import GROUPS, ScoreTable, headline, is_in_bits
from instructalign.files import read_object, write_text
from instructalign.instructions import load_templates
from instructalign.languages import find_languages, is_private
from instructalign.licences import licence_problems, model_sources, resulting_licence
from instructalign.report.number_format import in_unit, join_with_and
from instructalign.report.rendering import markdown_of, template_environment
from instructalign.report.report_facts import block_of, hyperparameters, language_names, task_titles
from instructalign.report.report_tables import metric_name, score_cell
from instructalign.report.run_report import BuiltReport, build_run_report
from instructalign.report.run_results import RunResults, read_runs
from instructalign.sharing.privacy import scrubbed

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from instructalign.report import Report

_RECIPE = re.compile(
    r"seed|model\.(base|adapter.*)|instructions\.(objectives\..*|templates|sentences)|replay\.(size|share|source.*format)"
    r"|training\.(steps|batch_size|learning_rate|scheduler|warmup|optimizer|max_length|loss_on|precision|strategy.*)"
)
_METRIC_IDS = {"f1_weighted": "f1"}  # by the names that the Hub has for them
_GROUPS = {"L1": "L1 (known before)", "L2": "L2 (taught)", "L3": "L3 (related, never trained on)"}
_SIDES = (("pivots", "L1"), ("targets", "L2"))


def write_card(run: str | Path, *, repo: str = "", licence: str = "", report: Report | None = None) -> Path:
    """Writes README.md, the model card, into the folder of a finished run's model.

    Args:
        run: the run's folder.
        repo: the name that the model will have on the Hub; by default that of the run's folder.
        licence: the model's licence; by default the one that its base and data leave, if they leave one.
        report: the run's report, if it was just made.

    Raises:
        RunFolderError: the folder is not a run's, or its model is not trained yet.
    """
    path = Path(run) / "model" / "README.md"
    write_text(path, model_card(run, repo=repo, licence=licence, report=report))
    return path


def model_card(
    run: str | Path, *, repo: str = "", licence: str = "", report: Report | BuiltReport | None = None
) -> str:
    """The text of `write_card`, without paths of this machine or e-mail addresses."""
    from huggingface_hub import ModelCardData

    folder = Path(run)
    [results] = read_runs([folder])
    config, model = results.config, read_object(folder / "model" / "config.json", json.loads)
    adapter = (folder / "model" / "adapter_config.json").is_file()
    if not (model or adapter):
        raise RunFolderError(f"{folder} has no trained model: `instructalign run CONFIG --out {folder}` makes it.")
    made = report or build_run_report([folder])
    label, rows = language_names([results]), ScoreTable(made.rows)
    task_title = task_titles([config], label)
    languages = block_of(config, "languages")
    groups = {group: [str(each) for each in languages.get(key) or ()] for group, key in GROUPS.items()}
    base = str(block_of(config, "model").get("base", ""))
    sources = model_sources(config, str(block_of(results.record, "model").get("licence", "")))
    on_hub = sources[0].name == base and base != "toy"
    pipeline = "text2text-generation" if model.get("is_encoder_decoder") else "text-generation"
    title = repo.rpartition("/")[2] or folder.resolve().name
    data = ModelCardData(
        language=list(filter(None, map(_hub_code, chain(*groups.values())))) or None,
        license=licence or resulting_licence(sources) or None,
        base_model=base if on_hub else None,
        datasets=sorted({source.dataset for source in sources if source.dataset}) or None,
        library_name="peft" if adapter else "transformers",
        pipeline_tag=pipeline,
        tags=["instructalign", "low-resource-languages", "crosslingual-alignment"],
        model_name=title,
        eval_results=list(_model_index(rows, results.name, pipeline, label, task_title)) or None,
    )
    body = (
        template_environment("instructalign.sharing")
        .get_template("model_card.md.j2")
        .render(
            title=title,
            repo=repo or title,
            base=f"[{base}](https://huggingface.co/{base})" if on_hub else sources[0].name,
            new=join_with_and(map(label, groups["L2"])) if groups["L2"] else "new languages",
            sentences=made.sentences,
            pipeline=pipeline,
            chat=bool(block_of(results.record, "model", "chat")),
            languages=[(_GROUPS[group], list(map(label, codes))) for group, codes in groups.items() if codes],
            prompts=list(_prompts(config, groups, label)),
            results=markdown_of([made.table]) if made.table.rows else "Nothing was measured.",
            lost=list(_lost(rows, results.name, label, task_title)),
            sources=sources,
            data=sources[1:],
            problems=licence_problems(sources),
            counts=_counts(block_of(results.record, "corpus"), block_of(results.record, "replay")),
            recipe=_recipe(results),
            version=block_of(results.record, "versions").get("instructalign", ""),
        )
    )
    return scrubbed(f"---\n{data.to_yaml()}\n---\n\n{body.strip()}\n", config)


def _hub_code(code: str) -> str:
    """A language's code as the Hub has it: of two letters where there is one; empty for a private code."""
    head = code.partition("_")[0]
    entries = () if is_private(head) else find_languages(head)
    return next((entry.alpha2 or entry.code for entry in entries if entry.code == head), "")


def _model_index(
    rows: ScoreTable, run: str, pipeline: str, label: Callable[[str], str], task_title: Callable[[str], str]
) -> Iterator[EvalResult]:
    """The run's scores by group and language on each task, with their intervals, as the Hub reads them."""
    from huggingface_hub import EvalResult

    for row in rows:
        if row.run != run or row.group not in GROUPS or row.metric != headline(rows, row.task):
            continue
        where = label(row.language) if row.language else f"{_GROUPS[row.group]}, mean"
        digits, bounds = (4 if is_in_bits(row) else 2), [row.low, row.high]
        low, high = (None if bound is None else round(in_unit(row, bound), digits) for bound in bounds)
        unit = "" if is_in_bits(row) else " × 100"
        interval = "" if low is None else f" (95 % confidence interval {low} to {high})"
        yield EvalResult(
            task_type=pipeline,
            dataset_type=row.task,
            dataset_name=f"{task_title(row.task)}: {where}",
            dataset_config=row.language or row.group,
            dataset_split=str(row.signature.get("split", "test")),
            metric_type=_METRIC_IDS.get(row.metric, row.metric),
            metric_value=round(in_unit(row), digits),
            metric_name=f"{metric_name(row.metric)}{unit}{interval}",
            metric_args={"confidence_interval_95": [low, high], "items": row.n},
        )


def _prompts(
    config: Mapping[str, Any], groups: Mapping[str, list[str]], label: Callable[[str], str]
) -> Iterator[str]:
    """A prompt of each objective, with the languages filled in; none where the templates are gone."""
    instructions = block_of(config, "instructions")
    known, new = ([*(instructions.get(key) or ()), *groups[group]] for key, group in _SIDES)
    try:
        sets = load_templates([str(name) for name in instructions.get("templates") or ()])
    except InstructAlignError:
        return
    for objective in block_of(instructions, "objectives"):
        for template in sets.get(objective, [])[:1]:
            names = {"source": label(known[0]), "target": label(new[0])} if known and new else {}
            text = re.sub(r"\{(\w+)\}", lambda slot: names.get(slot[1], "…"), template.prompt)  # noqa: B023
            yield text.replace("\n", " ↵ ")


def _lost(
    rows: ScoreTable, run: str, label: Callable[[str], str], task_title: Callable[[str], str]
) -> Iterator[str]:
    """Where the model got measurably worse than its base, and where that was not looked at."""
    changes = [row for row in rows if row.run == run and row.metric == GAIN and row.group in GROUPS]
    worse = [row for row in changes if row.high is not None and row.high < 0]
    for row in worse:
        cell = score_cell(row, change=True)
        where = f"{label(row.language)} ({row.group})" if row.language else f"{_GROUPS[row.group]}, mean"
        yield f"- {task_title(row.task)}, {where}: {cell.text} ({cell.note})"
    if not any(row.group == "L1" for row in changes):
        yield "Nothing was measured on the known languages: what they lost is not known."
    elif not worse:
        yield "Nothing that was measured got measurably worse than in the base model."


def _counts(corpus: Mapping[str, Any], replay: Mapping[str, Any]) -> str:
    """How much data the model was trained on, as far as run.json says it."""
    parts = []
    if "train" in corpus:
        parts.append(
            f"{corpus['train']:,} parallel rows in training, {corpus.get('heldout', 0):,} held out of it."
        )
    if replay.get("chosen"):
        parts.append(f"{replay['chosen']:,} replay examples.")
    return " ".join(parts)


def _recipe(run: RunResults) -> list[tuple[str, str]]:
    """The keys that say most of how it was trained, and the versions that did it."""
    chosen = [(key, text) for key, text in hyperparameters(run.config).items() if _RECIPE.fullmatch(key)]
    versions, energy = block_of(run.record, "versions"), block_of(run.record, "energy").get("kwh")
    gpus = ", ".join(block_of(run.record, "machine").get("gpu", ()))
    more = [("GPU", gpus), ("energy of training", f"{energy} kWh" if energy is not None else "")]
    return [*chosen, *((name, str(number)) for name, number in versions.items()), *((k, v) for k, v in more if v)]
