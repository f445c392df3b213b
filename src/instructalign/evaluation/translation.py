"""Translates the sentences of a translation task."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from instructalign.config import Config
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.predictions import Translated
from instructalign.evaluation.task_selection import TranslationDirection
from instructalign.training.generation import (
    check_continuous,
    decode_line,
    generate_batch,
    generate_lines_continuously,
    plan_generation,
)
from instructalign.training.models import LoadedModel

_CONTINUOUS_PROMPTS = 1024  # that continuous batching takes at a time, and the journal keeps together


def translate(
    loaded: LoadedModel, direction: TranslationDirection, config: Config, runner: BatchRunner
) -> tuple[list[list[dict[str, Any]]], dict[str, Any]]:
    """Translates in one direction, greedily: the translations of its file, and what the manifest notes of them.

    Raises:
        DataError: a prompt leaves no room in the model's context.
        ModelError: `evaluation.engine` is continuous, which does not support this model.
    """
    questions = [(prompt, index) for prompt in direction.prompts for index in range(len(direction.texts))]
    prompts = [
        loaded.codec.pair(direction.format_prompt(prompt, direction.texts[index]), "")[0]
        for prompt, index in questions
    ]
    continuous = config.evaluation.engine == "continuous"
    if continuous:
        check_continuous(loaded)
        order = range(len(prompts))
        batches = [list(order[start : start + _CONTINUOUS_PROMPTS]) for start in order[::_CONTINUOUS_PROMPTS]]
    else:
        batches = plan_generation(loaded, prompts, direction.task.tokens, config.evaluation.batch_tokens)

    def write(batch: list[int]) -> list[tuple[str, bool]]:
        chosen = [prompts[index] for index in batch]
        if continuous:
            generated = generate_lines_continuously(loaded, chosen, direction.task.tokens)
        else:
            generated = generate_batch(loaded, chosen, direction.task.tokens, first_line=True)
        return [decode_line(loaded.tokenizer, each) for each in generated]

    records = [
        Translated(
            direction.task.name,
            prompt,
            direction.items[index],
            direction.source,
            direction.target,
            direction.texts[index],
            direction.references[index],
            translation,
            unfinished,
        )
        for (prompt, index), (translation, unfinished) in zip(questions, runner.run(batches, write), strict=True)
    ]
    entry = {
        "title": direction.title,
        "language": direction.language,
        "split": direction.task.split,
        "prompts": direction.prompts,
        "items": len(direction.items),
        "unfinished": sum(record.unfinished for record in records),
    }
    return [list(map(asdict, records))], entry | ({"engine": "continuous batching"} if continuous else {})
