"""Likelihood of the answers to held-out instructions and of plain text: perplexity, and bits per byte."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.bootstrap import BootstrapScores, Sample
from instructalign.evaluation.classification import FileRecords, heldout_entry, score_queries
from instructalign.evaluation.predictions import (
    AnswerLikelihood,
)
from instructalign.evaluation.prompting import Query, start_token
from instructalign.evaluation.task_selection import HELDOUT_PROMPT, HeldOutInstructions, TextPlan
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel

SMALLEST_PART = 20
"""Items that a part must have in a language to be scored alone; with fewer, an interval says nothing."""


def samples_by_part(
    task: str,
    answers: Mapping[str, Sequence[AnswerLikelihood]],
    make: Callable[[Sequence[AnswerLikelihood]], Sample] | None = None,
) -> dict[str, dict[str, Sample]]:
    """A task's answers by language as samples: of the whole task, then of each part of it.

    A part is scored in the languages where it has `SMALLEST_PART` items; not where it would be the whole.

    Args:
        task: the task.
        answers: by language.
        make: makes a sample; `sample_of_answers` by default.
    """
    make = make or sample_of_answers
    found = {task: answers}
    names = sorted({each.part for some in answers.values() for each in some})
    for name in names if len(names) > 1 else ():
        parts = {code: [each for each in some if each.part == name] for code, some in answers.items()}
        large = {code: some for code, some in parts.items() if len(some) >= SMALLEST_PART}
        if name and large:
            found[f"{task}-{name}"] = large
    return {
        name: {code: replace(make(some), task=name) for code, some in by_language.items()}
        for name, by_language in found.items()
    }


def sample_of_bits(records: Sequence[AnswerLikelihood]) -> Sample:
    """Texts, or answers, of one language as sums of bits and bytes; those of an empty text say nothing.

    Bits per byte compare models with different tokenizers, which perplexity does not. Those of an answer count the
    end of the text, which the model has to predict too.
    """
    statistics = np.array([[[-r.score / log(2), r.bytes or len(r.answer.encode())] for r in records]])
    items = tuple(record.item for record in records)
    first = records[0]
    place = (first.task, first.language, (HELDOUT_PROMPT,), items)
    return Sample(*place, statistics, bits_per_byte, lower_is_better=True)


def bits_per_byte(sums: NDArray[np.float64]) -> BootstrapScores:
    """Bits over bytes; `sums` [..., 2] has the two, summed over the items, so that long texts count for more."""
    result: BootstrapScores = sums[..., 0] / sums[..., 1]
    return result


def sample_of_answers(records: Sequence[AnswerLikelihood]) -> Sample:
    """Open questions of one language as sums of log-likelihoods and tokens."""
    statistics = np.array([[[record.score, record.tokens] for record in records]])
    items = tuple(record.item for record in records)
    return Sample(records[0].task, records[0].language, (HELDOUT_PROMPT,), items, statistics, token_probability)


PROBABILITY = "token_probability"
"""The metric of open questions: the geometric mean of the probabilities of the answers' tokens."""


def token_probability(sums: NDArray[np.float64]) -> BootstrapScores:
    """exp(−loss), the inverse of perplexity; `sums` [..., 2] has the log-likelihood in nats and the tokens."""
    result: BootstrapScores = np.exp(sums[..., 0] / sums[..., 1])
    return result


def score_heldout_answers(
    loaded: LoadedModel, plan: HeldOutInstructions, config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """The likelihood of the answers to held-out instructions: the lines of its files, and the manifest's entry."""
    encode = ExampleEncoder(loaded.codec, loaded.codec.context or 1 << 30)
    questions = plan.questions()
    encoded = [encode(made) for _, _, made in questions]
    queries = [Query(tuple(ids.prompt), (tuple(ids.answer),)) for ids in encoded]
    scores = score_queries(loaded, queries, config, runner)
    records: dict[str, list[dict[str, Any]]] = {language: [] for language in plan.instructions}
    for (language, number, made), query, score, ids in zip(questions, queries, scores, encoded, strict=True):
        part = made.template if plan.by_template else ""
        answer = AnswerLikelihood(
            plan.name,
            language,
            str(number),
            made.prompt,
            made.answer,
            score.labels[0],
            len(query.labels[0]),
            bool(ids.truncated),
            part,
            len(str(loaded.tokenizer.decode(ids.answer)).encode()) if "answer truncated" in ids.truncated else 0,
        )
        records[language].append(answer.record())
    return list(records.values()), heldout_entry(plan, sum(bool(ids.truncated) for ids in encoded))


def score_texts(
    loaded: LoadedModel, plan: TextPlan, config: Config, runner: BatchRunner | None
) -> tuple[FileRecords, dict[str, Any]]:
    """The likelihood of plain texts: the lines of its files, and the manifest's entry.

    Every token is predicted from those before it, the first from the token that begins a text; no end is
    predicted. A text longer than the context goes through the model in several windows (`text_windows`), as with
    `loglikelihood_rolling` of lm-evaluation-harness, whose number this is, but that tokens which a tokenizer adds
    by itself are not part of the text here. An encoder-decoder model reads the text with its decoder.

    Raises:
        DataError: a text has no tokens.
    """
    texts = [(language, item, text) for language, some in plan.texts.items() for item, text in some]
    encoded = loaded.tokenizer([text for *_, text in texts], add_special_tokens=False)["input_ids"]
    for (language, item, text), ids in zip(texts, encoded, strict=True):
        if not ids:
            raise DataError(f"{plan.name} in {language}: the text {item} ({text!r}) has no tokens.")
    start = start_token(loaded.codec)
    windows = [text_windows(ids, start, loaded.codec.context) for ids in encoded]
    queries = [query for some in windows for query in some]
    scores = iter(score_queries(loaded, queries, config, runner, answers=True))
    sums = [sum(next(scores).labels[0] for _ in some) for some in windows]
    records: dict[str, list[dict[str, Any]]] = {language: [] for language in plan.texts}
    for (language, item, text), ids, total in zip(texts, encoded, sums, strict=True):
        records[language].append(AnswerLikelihood(plan.name, language, item, "", text, total, len(ids)).record())
    return list(records.values()), {
        "split": plan.split,
        "prompts": [HELDOUT_PROMPT],
        "items": {language: len(some) for language, some in plan.texts.items()},
        "left_out": dict(plan.left_out),
    }


def text_windows(ids: Sequence[int], start: int, context: int | None) -> list[Query]:
    """A text's tokens in windows that fit a model's context, each token predicted once.

    The first window begins with the token `start`; each later one with the last token before it, and the last one
    has as much before what it predicts as fits (the rule of lm-evaluation-harness, with a context of one token).
    """
    size = len(ids) if context is None else context
    queries = [Query((start,), (tuple(ids[:size]),))]
    for done in range(size, len(ids), size):
        end = min(done + size, len(ids))
        queries.append(Query(tuple(ids[end - size - 1 : done]), (tuple(ids[done:end]),)))
    return queries
