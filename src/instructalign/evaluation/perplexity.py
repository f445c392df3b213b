"""Likelihood of the answers to held-out instructions, and their perplexity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.bootstrap import BootstrapScores, Sample
from instructalign.evaluation.classification import FileRecords, heldout_entry, score_queries
from instructalign.evaluation.predictions import (
    AnswerLikelihood,
)
from instructalign.evaluation.prompting import Query
from instructalign.evaluation.task_selection import HELDOUT_PROMPT, HeldOutInstructions
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel

SMALLEST_PART = 20
"""Items that a part must have in a language to be scored alone; with fewer, an interval says nothing."""


def samples_by_part(task: str, answers: Mapping[str, Sequence[AnswerLikelihood]]) -> dict[str, dict[str, Sample]]:
    """A task's answers by language as samples: of the whole task, then of each part of it.

    A part is scored in the languages where it has `SMALLEST_PART` items; not where it would be the whole.
    """
    found = {task: answers}
    names = sorted({each.part for some in answers.values() for each in some})
    for name in names if len(names) > 1 else ():
        parts = {code: [each for each in some if each.part == name] for code, some in answers.items()}
        large = {code: some for code, some in parts.items() if len(some) >= SMALLEST_PART}
        if name and large:
            found[f"{task}-{name}"] = large
    return {
        name: {code: replace(sample_of_answers(some), task=name) for code, some in by_language.items()}
        for name, by_language in found.items()
    }


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
        )
        records[language].append(answer.record())
    return list(records.values()), heldout_entry(plan, sum(bool(ids.truncated) for ids in encoded))
