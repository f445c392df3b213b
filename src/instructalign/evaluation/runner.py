"""Zero-shot evaluation: every item of every task under every prompt, by the likelihood of the labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path

from instructalign.config import Config
from instructalign.evaluation.classification import classify
from instructalign.evaluation.perplexity import ask_heldout
from instructalign.evaluation.predictions import MANIFEST, asking, forget, open_folder, prediction_file
from instructalign.evaluation.processes import from_first, processes
from instructalign.evaluation.scores import score_folder
from instructalign.evaluation.task_selection import TaskPlan, TaskSelection, plan_heldout, select_tasks
from instructalign.evaluation.translation import translate_all
from instructalign.files import text_hash, write_json
from instructalign.progress import Progress, silent
from instructalign.training.cpu_kernels import warn_slow_half_precision
from instructalign.training.models import LoadedModel, load_configured, model_hash
from instructalign.types import Score


def evaluate(
    model: str | Path,
    config: Config,
    out: str | Path,
    *,
    run: str,
    selection: TaskSelection | None = None,
    progress: Progress = silent,
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
        selection: what `select_tasks` read for this configuration, `heldout` planned or not; read now if None.
        progress: reports items done per task.

    Raises:
        ConfigError, UnknownNameError, DataError: a task, its data or a prompt is wrong.
        ModelError: the model cannot be loaded.
        RunFolderError: `out` holds the predictions of another model.
    """
    out = Path(out)
    selection = selection or select_tasks(config)
    base = str(model)
    revision = config.model.revision if base == config.model.base else None
    identity = {"name": base, "hash": model_hash(base, revision), "dtype": config.answering_model.dtype}
    heldout = selection.heldout
    if heldout is None:
        heldout = [plan for task in selection.heldout_tasks for plan in plan_heldout(config, task)]
    tell = lambda part, done, total: progress(f"evaluating {run}", done, total, part)  # noqa: E731
    load = cache(lambda: _load(config, base))
    _classify_all(load, selection.classification, config, out / "predictions", identity, tell)
    ask_heldout(load, heldout, config, out, identity, tell)
    if selection.translation:
        if config.evaluation.engine == "vllm":
            load.cache_clear()  # what the model holds of the GPU is vLLM's from here on
        translate_all(load, selection.translation, config, out / "translations", identity, tell)
    scores: list[Score] = []
    if processes().is_main_process:
        scores = score_folder(out, config, run=run)
        write_json(out / "scores.json", {"scores": [asdict(score) for score in scores]})
    return from_first(scores)


def _classify_all(
    load: Callable[[], LoadedModel],
    plans: Sequence[TaskPlan],
    config: Config,
    folder: Path,
    identity: Mapping[str, str],
    progress: Callable[[str, int, int], None],
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


def _complete(folder: Path, plan: TaskPlan) -> bool:
    return all(prediction_file(folder, plan.task.name, language).exists() for language in plan.items)


def _load(config: Config, base: str) -> LoadedModel:
    loaded = load_configured(config.answering_model, None if base == config.model.base else base)
    warn_slow_half_precision(str(loaded.model.dtype).removeprefix("torch."), processes().device.type)
    loaded.model.to(processes().device)
    return loaded
