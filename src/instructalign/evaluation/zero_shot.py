"""Zero-shot evaluation: every item of every task under every prompt, by the likelihood of the labels."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.evaluation.plan import Plan, plan_tasks
from instructalign.evaluation.predictions import (
    MANIFEST,
    Journal,
    asking,
    forget,
    open_folder,
    prediction_file,
    write_predictions,
)
from instructalign.evaluation.prompting import Query, make_queries
from instructalign.evaluation.results import score_folder
from instructalign.evaluation.rules import decide
from instructalign.evaluation.score import CPU_TOKENS, Scores, context_of, plan_batches, score_batch
from instructalign.evaluation.tasks import Task
from instructalign.evaluation.translate import plan_directions, translate_all
from instructalign.files import text_hash, write_json
from instructalign.records import Item, Prediction, Rule, Score
from instructalign.training.model import LoadedModel, load_configured, model_hash

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""

DIGITS = 6  # of the log-likelihoods kept: beyond them lies what the make-up of a batch can change

log = logging.getLogger(__name__)


def evaluate(
    model: str | Path, config: Config, out: str | Path, *, run: str, progress: Progress | None = None
) -> list[Score]:
    """Evaluates a model on the tasks of a configuration.

    Writes the predictions to `out/predictions`, one file a task and language, translations to
    `out/translations`, one file a direction, and the scores to `out/scores.json`. What stands there already
    from the same model and the same questions is not asked again.

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
    identity = {"name": base, "hash": model_hash(base, revision), "dtype": config.model.dtype}
    load = cache(lambda: _load(config, base))
    folder = out / "predictions"
    manifest = open_folder(folder, identity)
    for plan in plans:
        key = text_hash([plan.digest(), identity["hash"], *asking(config)])
        if manifest["tasks"].get(plan.task.name, {}).get("key") == key and _complete(folder, plan):
            continue
        forget(folder, manifest, plan.task.name)
        manifest["tasks"][plan.task.name] = _answer(load(), plan, config, folder, key, progress)
        write_json(folder / MANIFEST, manifest)
    if directions:
        translate_all(load, directions, config, out / "translations", identity, progress)
    scores = score_folder(out, config, run=run)
    write_json(out / "scores.json", {"scores": [asdict(score) for score in scores]})
    return scores


def _answer(
    loaded: LoadedModel, plan: Plan, config: Config, folder: Path, key: str, progress: Progress | None
) -> dict[str, Any]:
    """Puts a task's questions to the model, writes the predictions, and gives the manifest's entry."""
    context = context_of(loaded)
    asked = plan.asked()
    # Behind the questions stand the prompts with empty items, for calibration: the same in every language.
    empty = Item("", dict.fromkeys(plan.task.texts, ""), "")
    questions = [question[1:] for question in asked] + [(prompt, empty) for prompt in plan.prompts]
    queries = make_queries(loaded.codec, plan.task, questions, context)
    batches = plan_batches(queries, _budget(loaded, config))
    journal = Journal(folder / f".{plan.task.name}.unfinished", text_hash([key, batches]))
    scores = _score_all(loaded, plan, queries, batches, config, journal, progress)
    rule = config.evaluation.scoring
    priors = dict(zip(plan.prompts, scores[len(asked) :], strict=True))
    predictions = [
        _prediction(plan.task, *question, query, score, priors[question[1]], rule)
        for question, query, score in zip(asked, queries, scores, strict=False)
    ]
    for path in folder.glob(f"{plan.task.name}.*.jsonl"):
        path.unlink()  # answers to other questions, perhaps in languages that are not asked for now
    for language in plan.items:
        some = [prediction for prediction in predictions if prediction.language == language]
        write_predictions(prediction_file(folder, plan.task.name, language), some)
    cut = sum(query.cut > 0 for query in queries)
    if cut:
        log.warning("%s: %d of %d prompts were cut to fit the model's context", plan.task.name, cut, len(asked))
    journal.close()
    return {
        "key": key,
        "split": plan.task.split,
        "scoring": rule,
        "questions": plan.digest(),
        "prompts": plan.prompts,
        "items": {language: len(items) for language, items in plan.items.items()},
        "left_out": dict(plan.left_out),
        "cut": cut,
        "version": version("instructalign"),
    }


def _score_all(
    loaded: LoadedModel,
    plan: Plan,
    queries: Sequence[Query],
    batches: Sequence[Sequence[int]],
    config: Config,
    journal: Journal,
    progress: Progress | None,
) -> list[Scores]:
    """Scores all questions of a task in one queue, going on behind the batches that a journal has."""
    paper = config.evaluation.scoring == "paper"
    scores: list[Scores | None] = [None] * len(queries)
    done = 0
    for number, batch in enumerate(batches):
        if number not in journal.done:
            chosen = [queries[index] for index in batch]
            journal.add(number, score_batch(loaded, chosen, prompts=paper))
        for index, score in zip(batch, journal.done[number], strict=True):
            scores[index] = score
        done += len(batch)
        if progress:
            progress(plan.task.name, done, len(queries))
    return [score for score in scores if score is not None]


def _prediction(
    task: Task, language: str, prompt: str, item: Item, query: Query, score: Scores, prior: Scores, rule: Rule
) -> Prediction:
    sums = dict(zip(task.labels, (round(value, DIGITS) for value in score.labels), strict=True))
    tokens = dict(zip(task.labels, map(len, query.labels), strict=True))
    # Of an encoder-decoder model's prompt nothing is predicted, so that it counts for nothing.
    before = round(score.prompt or 0.0, DIGITS) if rule == "paper" else None
    prediction = Prediction(
        task.name,
        language,
        prompt,
        item.id,
        item.label,
        "",
        sums,
        tokens,
        query.cut,
        before,
        0 if score.prompt is None else len(query.prompt) - 1,
        {label: len(word.encode()) for label, word in task.words(prompt).items()},
        dict(zip(task.labels, (round(value, DIGITS) for value in prior.labels), strict=True)),
    )
    return replace(prediction, predicted=decide(prediction, rule))


def _complete(folder: Path, plan: Plan) -> bool:
    return all(prediction_file(folder, plan.task.name, language).exists() for language in plan.items)


def _budget(loaded: LoadedModel, config: Config) -> int:
    """Tokens that a batch may have: few where caches are small, or where every token needs its logits."""
    few = loaded.model.device.type == "cpu" or config.evaluation.scoring == "paper"
    most = config.evaluation.batch_tokens
    return min(most, CPU_TOKENS) if few else most


def _load(config: Config, base: str) -> LoadedModel:
    import torch

    loaded = load_configured(config.model, None if base == config.model.base else base)
    if torch.cuda.is_available():
        loaded.model.to("cuda")  # type: ignore[arg-type]
    return loaded
