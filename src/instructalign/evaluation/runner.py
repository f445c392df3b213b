"""Zero-shot evaluation: every item of every task under every prompt, by the likelihood of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from instructalign.config import Config
from instructalign.evaluation.classification import Progress, classify
from instructalign.evaluation.perplexity import ask_heldout, plan_heldout
from instructalign.evaluation.predictions import MANIFEST, asking, forget, open_folder, prediction_file
from instructalign.evaluation.processes import from_first, processes
from instructalign.evaluation.scores import score_folder
from instructalign.evaluation.task_selection import Plan, heldout_tasks, plan_tasks
from instructalign.evaluation.translation import plan_directions, translate_all
from instructalign.files import text_hash, write_json
from instructalign.training.cpu_kernels import warn_slow_half_precision
from instructalign.training.models import LoadedModel, load_configured, model_hash
from instructalign.types import Score


def evaluate(
    model: str | Path, config: Config, out: str | Path, *, run: str, progress: Progress | None = None
) -> list[Score]:
    """Evaluates a model on the tasks of a configuration.

    Writes the predictions to `out/predictions`, one file a task and language, translations to
    `out/translations`, one file a direction, likelihoods of held-out instructions to `out/instructions`, and the
    scores to `out/scores.json`. What stands there already from the same model and the same questions is not asked
    again. Several processes share the work.

    Args:
        model: a model folder or Hub name.
        config: says which tasks, languages, prompts and scoring.
        out: the folder to write to.
        run: what the scores call the model (`base`, `adapted`).
        progress: told how far each task is.

    Raises:
        ConfigError, UnknownNameError, DataError: a task, its data or a prompt is wrong.
        ModelError: the model cannot be loaded.
        RunFolderError: `out` holds the predictions of another model.
    """
    out = Path(out)
    plans, translations = plan_tasks(config)
    directions = [direction for task in translations for direction in plan_directions(config, task)]
    base = str(model)
    revision = config.model.revision if base == config.model.base else None
    identity = {"name": base, "hash": model_hash(base, revision), "dtype": config.answering_model.dtype}
    exams = [exam for task in heldout_tasks(config) for exam in plan_heldout(config, task)]
    load = cache(lambda: _load(config, base))
    _classify_all(load, plans, config, out / "predictions", identity, progress)
    ask_heldout(load, exams, config, out, identity, progress)
    if directions:
        if config.evaluation.engine == "vllm":
            load.cache_clear()  # what the model holds of the GPU is vLLM's from here on
        translate_all(load, directions, config, out / "translations", identity, progress)
    scores: list[Score] = []
    if processes().is_main_process:
        scores = score_folder(out, config, run=run)
        write_json(out / "scores.json", {"scores": [asdict(score) for score in scores]})
    return from_first(scores)


def _classify_all(
    load: Callable[[], LoadedModel],
    plans: Sequence[Plan],
    config: Config,
    folder: Path,
    identity: Mapping[str, str],
    progress: Progress | None,
) -> None:
    """Puts those tasks to the model that are not answered yet; the first process decides which, and writes."""
    first = processes().is_main_process
    keys = {plan.task.name: text_hash([plan.digest(), identity["hash"], *asking(config)]) for plan in plans}
    manifest = open_folder(folder, identity) if first else {"tasks": {}}
    done = [
        plan.task.name
        for plan in plans
        if manifest["tasks"].get(plan.task.name, {}).get("key") == keys[plan.task.name] and _complete(folder, plan)
    ]
    done = from_first(done)
    for plan in plans:
        name = plan.task.name
        if name in done:
            continue
        if first:
            forget(folder, manifest, name)
        manifest["tasks"][name] = classify(load(), plan, config, folder, keys[name], progress)
        if first:
            write_json(folder / MANIFEST, manifest)


def _complete(folder: Path, plan: Plan) -> bool:
    return all(prediction_file(folder, plan.task.name, language).exists() for language in plan.items)


def _load(config: Config, base: str) -> LoadedModel:
    loaded = load_configured(config.answering_model, None if base == config.model.base else base)
    warn_slow_half_precision(str(loaded.model.dtype).removeprefix("torch."), processes().device.type)
    loaded.model.to(processes().device)
    return loaded
