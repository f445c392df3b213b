"""Classification by label likelihood: from questions to predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.decision_rules import decide
from instructalign.evaluation.likelihood import CPU_BATCH_TOKENS, Likelihoods, plan_batches, score_batch
from instructalign.evaluation.predictions import prediction_record
from instructalign.evaluation.prompting import Query, make_queries
from instructalign.evaluation.task_selection import HELDOUT_PROMPT, HeldOutInstructions, TaskPlan
from instructalign.evaluation.tasks import Task
from instructalign.training.models import LoadedModel
from instructalign.training.tokenization import truncate_pair
from instructalign.types import Instruction, Item, Prediction

_DIGITS = 6  # of the log-likelihoods kept: further ones depend on what else is in a batch

FileRecords = list[list[dict[str, Any]]]
"""The lines of each of a task's files."""


def score_queries(
    loaded: LoadedModel,
    queries: Sequence[Query],
    config: Config,
    runner: BatchRunner | None = None,
    *,
    prompts: bool = False,
    answers: bool = False,
) -> list[Likelihoods]:
    """The log-likelihoods of all queries of a task.

    Args:
        loaded: the model.
        queries: all of them.
        config: gives the batch size.
        runner: shares the batches among processes and journals them; None for a few queries in this process.
        prompts: whether the likelihood of the prompts is needed too.
        answers: whether answers are as long as texts, so that they make a batch large.
    """
    budget = config.evaluation.batch_tokens
    # Where every token needs its logits, or caches are small:
    if prompts or answers or loaded.model.device.type == "cpu":
        budget = min(budget, CPU_BATCH_TOKENS)
    batches = plan_batches(queries, budget, answers=answers)

    def score(batch: list[int]) -> list[Likelihoods]:
        return score_batch(loaded, [queries[index] for index in batch], prompts=prompts)

    if runner is not None:
        found = runner.run(batches, score)
    else:
        by_index = {index: each for batch in batches for index, each in zip(batch, score(batch), strict=True)}
        found = [by_index[index] for index in range(len(queries))]
    return [
        Likelihoods(
            tuple(round(value, _DIGITS) for value in labels), None if prompt is None else round(prompt, _DIGITS)
        )
        for labels, prompt, *_ in found
    ]


def classify(
    loaded: LoadedModel, plan: TaskPlan[Task], config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """Asks the questions of a task: the predictions by file, and what the manifest notes of them."""
    predictions, truncated = _predict(loaded, plan, config, runner)
    records = [
        [prediction_record(each) for each in predictions if each.language == language] for language in plan.items
    ]
    return records, plan_entry(plan, config, truncated, scoring=config.evaluation.scoring)


def plan_entry(plan: TaskPlan[Any], config: Config, truncated: int, **more: Any) -> dict[str, Any]:
    """What the manifest notes of a task whose items were asked; `truncated` prompts lost some of their text."""
    return {
        "split": plan.task.split,
        **more,
        "prompts": plan.prompts,
        "items": {language: len(items) for language, items in plan.items.items()},
        "left_out": dict(plan.left_out),
        "cut": truncated,
        **({"headline": plan.task.metric} if plan.task.metric else {}),
        **({"shots": config.evaluation.shots} if plan.examples else {}),
        **({"dropped": {code: dict(some) for code, some in plan.dropped.items()}} if plan.dropped else {}),
    }


def predict(loaded: LoadedModel, plan: TaskPlan[Task], config: Config) -> list[Prediction]:
    """A model's predictions on a few items, neither saved nor shared among processes."""
    return _predict(loaded, plan, config, None)[0]


def _predict(
    loaded: LoadedModel, plan: TaskPlan[Task], config: Config, runner: BatchRunner | None
) -> tuple[list[Prediction], int]:
    """The predictions, and how many prompts were truncated."""
    task, rule, questions = plan.task, config.evaluation.scoring, plan.questions()
    asked = [(prompt, item, plan.examples.get(language, ())) for language, prompt, item in questions]
    # After the questions, the same without the item's text, for calibration. Where all items have the same labels
    # and there are no examples, one for each prompt serves for all languages.
    shared = task.labels is not None and not plan.examples
    if shared:
        asked += [(prompt, Item("", dict.fromkeys(task.texts, ""), ""), ()) for prompt in plan.prompts]
    elif rule == "calibrated":
        asked += [(prompt, _without_text(task, item), examples) for prompt, item, examples in asked]
    queries = make_queries(loaded.codec, task, asked, loaded.codec.context)
    scores = score_queries(loaded, queries, config, runner, prompts=rule == "paper")
    empty = scores[len(questions) :]
    if shared:
        by_prompt = dict(zip(plan.prompts, empty, strict=True))
        empty = [by_prompt[prompt] for _, prompt, _ in questions]
    predictions = []
    for index, (language, prompt, item) in enumerate(questions):
        query, score = queries[index], scores[index]
        words = task.words(prompt, item)
        prediction = replace(
            _prediction(task.name, language, prompt, item.id, item.label, words, query, score),
            # An encoder-decoder model does not predict its prompt, which counts for nothing.
            prompt_score=(score.prompt or 0.0) if rule == "paper" else None,
            prompt_tokens=0 if score.prompt is None else len(query.prompt) - 1,
            prior=dict(zip(words, empty[index].labels, strict=True)) if empty else {},
            by_item=task.labels is None,
        )
        predictions.append(replace(prediction, predicted=decide(prediction, rule)))
    return predictions, sum(query.truncated > 0 for query in queries)


def _without_text(task: Task, item: Item) -> Item:
    """An item of which only its options, and what chooses a word, is left."""
    kept = {name: text if name in task.words_for else "" for name, text in item.fields.items()}
    return replace(item, fields=kept)


def classify_heldout(
    loaded: LoadedModel, plan: HeldOutInstructions, config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """Asks held-out instructions with a closed set of answers; as `classify`."""
    questions = plan.questions()
    words = [plan.labels[made.template] for _, _, made in questions]
    queries = [_heldout_query(loaded, made, word) for (_, _, made), word in zip(questions, words, strict=True)]
    scores = score_queries(loaded, queries, config, runner)
    records: dict[str, list[dict[str, Any]]] = {language: [] for language in plan.instructions}
    for (language, number, made), word, query, score in zip(questions, words, queries, scores, strict=True):
        gold = next(label for label, text in word.items() if text == made.answer)
        prediction = _prediction(plan.name, language, HELDOUT_PROMPT, str(number), gold, word, query, score)
        prediction = replace(prediction, predicted=decide(prediction, "sum"))
        records[language].append(prediction_record(prediction))
    truncated = sum(query.truncated > 0 for query in queries)
    return list(records.values()), {**heldout_entry(plan, truncated), "scoring": "sum"}


def heldout_entry(plan: HeldOutInstructions, truncated: int) -> dict[str, Any]:
    """What the manifest notes of held-out instructions."""
    return {
        "split": "held-out",
        "prompts": [HELDOUT_PROMPT],
        "items": {language: len(some) for language, some in plan.instructions.items()},
        "left_out": {},
        "cut": truncated,
    }


def _heldout_query(loaded: LoadedModel, made: Instruction, words: Mapping[str, str]) -> Query:
    """A closed question with each of its answers; a prompt that is too long loses its beginning."""
    pairs = loaded.codec.pairs([made.prompt] * len(words), list(words.values()))
    labels = tuple(tuple(label) for _, label in pairs)
    for label, word in zip(labels, words.values(), strict=True):
        if not label:
            raise DataError(f"the answer {word!r} of the template {made.template} has no tokens after its prompt.")
    whole, limit = pairs[0][0], loaded.codec.context
    if limit is None:
        return Query(tuple(whole), labels)
    longest: tuple[int, ...] = () if loaded.encoder_decoder else max(labels, key=len)
    prompt, _ = truncate_pair(whole, list(longest), None, limit, loaded.codec.opening())
    return Query(tuple(prompt), labels, truncated=len(whole) - len(prompt))


def _prediction(
    task: str,
    language: str,
    prompt: str,
    item: str,
    gold: str,
    words: Mapping[str, str],
    query: Query,
    score: Likelihoods,
) -> Prediction:
    """A prediction without its decision."""
    return Prediction(
        task,
        language,
        prompt,
        item,
        gold,
        predicted="",
        scores=dict(zip(words, score.labels, strict=True)),
        tokens=dict(zip(words, map(len, query.labels), strict=True)),
        cut=query.truncated,
        bytes={label: len(word.encode()) for label, word in words.items()},
    )
