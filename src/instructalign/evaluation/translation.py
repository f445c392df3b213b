"""Translates the sentences of a translation task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from math import ceil
from typing import Any

from instructalign.config import Config
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.predictions import Translated
from instructalign.evaluation.task_selection import TranslationDirection
from instructalign.training.generation import (
    LINE_END,
    check_continuous,
    decode_until,
    generate_batch,
    generate_lines_continuously,
    plan_generation,
)
from instructalign.training.models import LoadedModel

_MARGIN = 8  # tokens beyond the limit that follows from the source: white space in front, the end of the line
_CONTINUOUS_PROMPTS = 1024  # that continuous batching takes at a time, and the journal keeps together


def translation_limits(tokenizer: Any, direction: TranslationDirection) -> list[int]:
    """By item, the most tokens that its translation may have, in proportion to the source sentence's.

    How many follows from the direction as a whole: the longest that a reference is beside its source, and a fifth
    more. So every reference has room, and a model that never ends a line does not write up to the task's `tokens`.
    """
    sources, references = (
        [len(ids) for ids in tokenizer(list(texts), add_special_tokens=False)["input_ids"]]
        for texts in (direction.texts, direction.references)
    )
    stretch = longest_stretch(zip(sources, references, strict=True))
    return [min(direction.task.tokens, ceil(stretch * max(1, here)) + _MARGIN) for here in sources]


def longest_stretch(lengths: Iterable[tuple[int, int]]) -> float:
    """How many times as long as its source a translation may be; `lengths` are those of sources and references."""
    return 1.2 * max(there / max(1, here) for here, there in lengths)


def translate_direction(
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
    by_item = translation_limits(loaded.tokenizer, direction)
    limits = [by_item[index] for _, index in questions]
    continuous = config.evaluation.engine == "continuous"
    if continuous:
        check_continuous(loaded)
        order = range(len(prompts))
        batches = [list(order[start : start + _CONTINUOUS_PROMPTS]) for start in order[::_CONTINUOUS_PROMPTS]]
    else:
        batches = plan_generation(loaded, prompts, limits, config.evaluation.batch_tokens)

    def write(batch: list[int]) -> list[tuple[str, bool]]:
        chosen, most = [prompts[index] for index in batch], [limits[index] for index in batch]
        if continuous:
            generated = generate_lines_continuously(loaded, chosen, most)
        else:
            generated = generate_batch(loaded, chosen, most, stops=LINE_END)
        return [decode_until(loaded.tokenizer, each) for each in generated]

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
