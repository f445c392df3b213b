"""Classification by label likelihood: queries in a queue, over processes, to predictions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.evaluation.decision_rules import decide
from instructalign.evaluation.likelihood import CPU_TOKENS, Scores, plan_batches, score_batch
from instructalign.evaluation.predictions import Journal, prediction_file, write_predictions
from instructalign.evaluation.processes import joined, processes
from instructalign.evaluation.prompting import Query, make_queries
from instructalign.evaluation.task_selection import TaskPlan
from instructalign.evaluation.tasks import Task
from instructalign.files import text_hash
from instructalign.training.models import LoadedModel, context_length
from instructalign.types import Item, Prediction, Rule

Progress = Callable[[str, int, int], None]
"""Called with what is under way, how much of it is done, and how much there is."""


def score_queue(
    loaded: LoadedModel,
    task: str,
    queries: Sequence[Query],
    config: Config,
    folder: Path,
    key: str,
    progress: Progress | None,
    *,
    prompts: bool = False,
) -> tuple[list[Scores], Journal]:
    """Scores all queries of a task, going on behind the batches that a journal has.

    Batches are the same for any number of processes, and so are the scores.

    Args:
        loaded: the model.
        task: what the journal and the progress call it.
        queries: all of them, with the same number of labels each.
        config: says how large a batch may be.
        folder: where the journal stands.
        key: names model and questions; a journal of another key is not gone on with.
        progress: told how far it is.
        prompts: whether the likelihood of the prompts is wanted too.

    Returns:
        The scores, in every process; and the journal, to be closed when they are on disk.
    """
    batches = plan_batches(queries, batch_budget(loaded, config.evaluation.batch_tokens, prompts))
    journal = Journal(folder / f".{task}.unfinished", text_hash([key, batches]))
    together = processes()
    left = [number for number in range(len(batches)) if number not in journal.done]
    done = sum(len(batches[number]) for number in journal.done)
    for number in left[together.process_index :: together.num_processes]:
        chosen = [queries[index] for index in batches[number]]
        journal.add(number, score_batch(loaded, chosen, prompts=prompts))
        done += len(chosen) * together.num_processes  # the others are about as far
        if progress:
            progress(task, min(done, len(queries)), len(queries))
    every = joined(journal.done)
    by_query = {
        index: score
        for number, batch in enumerate(batches)
        for index, score in zip(batch, every[number], strict=True)
    }
    return [by_query[index] for index in range(len(queries))], journal


def batch_budget(loaded: LoadedModel, most: int, prompts: bool) -> int:
    """Tokens that a batch may have: few where caches are small, or where every token needs its logits."""
    return min(most, CPU_TOKENS) if prompts or loaded.model.device.type == "cpu" else most


DIGITS = 6  # of the log-likelihoods kept: beyond them lies what the make-up of a batch can change

log = logging.getLogger(__name__)


def classify(
    loaded: LoadedModel, plan: TaskPlan, config: Config, folder: Path, key: str, progress: Progress | None
) -> dict[str, Any]:
    """Puts a task's questions to the model, writes the predictions, and gives the manifest's entry.

    Args:
        loaded: the model.
        plan: the questions.
        config: says the scoring rule and how large a batch may be.
        folder: where the predictions go, and the journal of what is under way.
        key: names model and questions; a journal of another key is not gone on with.
        progress: told how far it is.
    """
    queries = _queries(loaded, plan)
    paper = config.evaluation.scoring == "paper"
    scores, journal = score_queue(loaded, plan.task.name, queries, config, folder, key, progress, prompts=paper)
    cut = sum(query.cut > 0 for query in queries)
    if processes().is_main_process:
        _write(plan, _predictions(plan, queries, scores, config.evaluation.scoring), folder)
        if cut:
            asked = len(queries) - len(plan.prompts)
            log.warning("%s: %d of %d prompts were cut to fit the model's context", plan.task.name, cut, asked)
        journal.close()
    return {
        "key": key,
        "split": plan.task.split,
        "scoring": config.evaluation.scoring,
        "dtype": str(loaded.model.dtype).removeprefix("torch."),
        "questions": plan.digest(),
        "prompts": plan.prompts,
        "items": {language: len(items) for language, items in plan.items.items()},
        "left_out": dict(plan.left_out),
        "cut": cut,
        "version": version("instructalign"),
    }


def answers(loaded: LoadedModel, plan: TaskPlan, config: Config) -> list[Prediction]:
    """A model's answers to a few questions, kept nowhere and not shared among processes.

    Args:
        loaded, plan, config: as for `classify`.
    """
    queries = _queries(loaded, plan)
    paper = config.evaluation.scoring == "paper"
    scores: dict[int, Scores] = {}
    for batch in plan_batches(queries, batch_budget(loaded, config.evaluation.batch_tokens, paper)):
        found = score_batch(loaded, [queries[index] for index in batch], prompts=paper)
        scores.update(zip(batch, found, strict=True))
    return _predictions(plan, queries, [scores[index] for index in range(len(queries))], config.evaluation.scoring)


def _queries(loaded: LoadedModel, plan: TaskPlan) -> list[Query]:
    """A plan's questions, and behind them its prompts with empty items, for calibration: one for all languages."""
    empty = Item("", dict.fromkeys(plan.task.texts, ""), "")
    questions = [question[1:] for question in plan.questions()] + [(prompt, empty) for prompt in plan.prompts]
    return make_queries(loaded.codec, plan.task, questions, context_length(loaded))


def _predictions(
    plan: TaskPlan, queries: Sequence[Query], scores: Sequence[Scores], rule: Rule
) -> list[Prediction]:
    asked = plan.questions()
    priors = dict(zip(plan.prompts, scores[len(asked) :], strict=True))
    return [
        _prediction(plan.task, *question, query, score, priors[question[1]], rule)
        for question, query, score in zip(asked, queries, scores, strict=False)
    ]


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


def _write(plan: TaskPlan, predictions: Sequence[Prediction], folder: Path) -> None:
    for path in folder.glob(f"{plan.task.name}.*.jsonl"):
        path.unlink()  # answers to other questions, perhaps in languages that are not asked for now
    for language in plan.items:
        some = [prediction for prediction in predictions if prediction.language == language]
        write_predictions(prediction_file(folder, plan.task.name, language), some)
