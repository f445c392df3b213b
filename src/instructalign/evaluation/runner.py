"""Zero-shot evaluation: a model answers the questions of every task, and the answers are scored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import LATER_MODEL_KEYS, Config, known_model_keys
from instructalign.config_file import ConfigSource, load_config
from instructalign.evaluation.batch_runner import BatchRunner, broadcast, this_process
from instructalign.evaluation.classification import FileRecords, classify, classify_heldout
from instructalign.evaluation.lm_eval_tasks import HarnessPlan, ask_harness
from instructalign.evaluation.open_answers import write_answers
from instructalign.evaluation.perplexity import score_heldout_answers, score_texts
from instructalign.evaluation.predictions import open_evaluation, write_manifest
from instructalign.evaluation.scores import score_folder
from instructalign.evaluation.task_selection import (
    HeldOutInstructions,
    TaskPlan,
    TaskSelection,
    TextPlan,
    TranslationDirection,
    plan_heldout,
    select_tasks,
)
from instructalign.evaluation.tasks import Generation
from instructalign.evaluation.translation import translate_direction
from instructalign.files import text_hash, write_json, write_jsonl
from instructalign.notebooks import default_progress
from instructalign.progress import Progress
from instructalign.training.cpu_kernels import warn_slow_half_precision
from instructalign.training.models import LoadedModel, load_model, model_hash
from instructalign.types import Score

log = logging.getLogger(__name__)

Questions = TaskPlan[Any] | HeldOutInstructions | TranslationDirection | HarnessPlan | TextPlan


def evaluate(
    model: str | Path,
    config: ConfigSource,
    out: str | Path,
    *,
    run: str,
    selection: TaskSelection | None = None,
    progress: Progress | None = None,
) -> list[Score]:
    """Evaluates a model on the tasks of a configuration.

    Writes the predictions to `out/predictions`, one file per task and language, translations to
    `out/translations`, one file per direction, likelihoods of held-out instructions to `out/instructions` and of
    plain texts to `out/texts`, answers in the model's own words to `out/answers`, those to tasks of
    lm-evaluation-harness to `out/harness`, and the scores to `out/scores.json`. Answers of the same model to the
    same questions that are there already are kept, and an interrupted evaluation resumes after its last batch.
    Several processes share the work.

    Args:
        model: a model folder or Hub name.
        config: the tasks, languages, prompts and scoring rule; or their file, or what that holds as dictionaries.
        out: the folder to write to.
        run: what the scores call the model (`base`, `adapted`).
        selection: what `select_tasks` read for this configuration, `heldout` planned or not; read now if None.
        progress: reports questions done per task.

    Raises:
        ConfigError, UnknownNameError, DataError: a task, its data or a prompt is wrong.
        ModelError: the model cannot be loaded.
        RunFolderError: `out` holds the predictions of another model.
    """
    config, out, progress = load_config(config), Path(out), progress or default_progress()
    selection = selection or select_tasks(config)
    heldout = selection.heldout
    if heldout is None:
        heldout = [plan for task in selection.heldout_tasks for plan in plan_heldout(config, task)]
    base = str(model)
    revision = config.model.revision if base == config.model.base else None
    identity = {"name": base, "hash": model_hash(base, revision), "dtype": config.answering_model.dtype}
    load = cache(lambda: _load(config, base))
    instructions = [plan for plan in heldout if isinstance(plan, HeldOutInstructions)]
    translations = [plan for plan in heldout if isinstance(plan, TranslationDirection)]
    folders: dict[str, Sequence[Questions]] = {
        "predictions": [*selection.classification, *(plan for plan in instructions if plan.labels)],
        "instructions": [plan for plan in instructions if not plan.labels],
        "texts": [*selection.texts, *(plan for plan in heldout if isinstance(plan, TextPlan))],
        "translations": [*selection.translation, *translations],
        "harness": selection.harness,
        "answers": selection.generation,
    }
    for name, questions in folders.items():
        if questions or name == "predictions":  # whose manifest makes a folder an evaluation's
            _answer(load, questions, config, out / name, identity, f"evaluating {run}", progress)
    scores: list[Score] = []
    if this_process().is_main_process:
        scores = score_folder(out, config, run=run)
        write_json(out / "scores.json", {"scores": [asdict(score) for score in scores]})
    return broadcast(scores)


def _answer(
    load: Callable[[], LoadedModel],
    questions: Sequence[Questions],
    config: Config,
    folder: Path,
    identity: Mapping[str, str],
    title: str,
    progress: Progress,
) -> None:
    """Asks what is not answered yet; the first process decides what that is, and writes."""
    first = this_process().is_main_process
    manifest = open_evaluation(folder, identity) if first else {"tasks": {}}
    entries = manifest["tasks"]
    # What answers depend on beside the model and the questions.
    settings = config.answering_model
    depends: list[Any] = [config.evaluation.scoring, settings.dtype, settings.chat, settings.system_prompt]
    if later := [
        (key, value) for key, value in known_model_keys(settings.model_dump()).items() if key in LATER_MODEL_KEYS
    ]:
        depends.append(later)
    if folder.name == "translations" and config.evaluation.engine != "transformers":
        depends.append(config.evaluation.engine)
    keys = {each.name: text_hash([each.digest(), identity["hash"], *depends]) for each in questions}
    done = broadcast(
        [
            each.name
            for each in questions
            if entries.get(each.name, {}).get("key") == keys[each.name]
            and all(path.exists() for path in each.paths(folder))
        ]
    )
    for each in questions:
        if each.name in done:
            continue
        if first and entries.pop(each.name, None) is not None:
            write_manifest(folder, manifest)  # before its files change: an interruption leaves no false claim
        loaded = load()
        runner = BatchRunner(folder, each.name.removesuffix(".jsonl"), keys[each.name], title, progress)
        records, entry = _ask(loaded, each, config, runner)
        entries[each.name] = {
            "key": keys[each.name],
            "questions": each.digest(),
            "dtype": str(loaded.model.dtype).removeprefix("torch."),
            "version": version("instructalign"),
            **entry,
        }
        if not first:
            continue
        paths = each.paths(folder)
        for path in set(folder.glob(f"{each.name}.*.jsonl")).difference(paths):
            path.unlink()  # answers in languages that are not asked for now
        for path, lines in zip(paths, records, strict=True):
            write_jsonl(path, lines)
        if truncated := entry.get("cut"):
            total = sum(map(len, records))
            log.warning(
                "%s: %d of %d prompts were truncated to fit the model's context", each.name, truncated, total
            )
        runner.close()
        write_manifest(folder, manifest)


def _ask(
    loaded: LoadedModel, questions: Questions, config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """The lines of each of the questions' files, and what the manifest notes of them."""
    if isinstance(questions, TaskPlan) and isinstance(questions.task, Generation):
        return write_answers(loaded, questions, config, runner)
    if isinstance(questions, TaskPlan):
        return classify(loaded, questions, config, runner)
    if isinstance(questions, TranslationDirection):
        return translate_direction(loaded, questions, config, runner)
    if isinstance(questions, TextPlan):
        return score_texts(loaded, questions, config, runner)
    if isinstance(questions, HarnessPlan):
        return ask_harness(loaded, questions, config, runner)
    ask = classify_heldout if questions.labels else score_heldout_answers
    return ask(loaded, questions, config, runner)


def _load(config: Config, base: str) -> LoadedModel:
    loaded = load_model(config.answering_model, None if base == config.model.base else base)
    device = this_process().device
    warn_slow_half_precision(str(loaded.model.dtype).removeprefix("torch."), device.type)
    loaded.model.to(device)
    return loaded
