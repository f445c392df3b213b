"""Likelihood of held-out instructions: which are asked, how they are answered, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.bootstrap import Bootstrap, Sample, Signature, Values, score_rows, signer
from instructalign.evaluation.classification import FileRecords, heldout_entry, score_queries
from instructalign.evaluation.paired_tests import compare_samples
from instructalign.evaluation.predictions import (
    AnswerLikelihood,
    prediction_file,
    read_answers,
    read_evaluation_manifest,
)
from instructalign.evaluation.prompting import Query
from instructalign.evaluation.task_selection import HELDOUT_PROMPT, HeldOutInstructions
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import LoadedModel, context_length
from instructalign.types import Score

SMALLEST_PART = 20
"""Items that a part must have in a language to be scored alone; with fewer, an interval says nothing."""


def samples_of(task: str, answers: Mapping[str, Sequence[AnswerLikelihood]]) -> dict[str, dict[str, Sample]]:
    """A task's answers by language as samples: of the whole task, and behind it of its parts.

    A part is there in the languages where it has `SMALLEST_PART` items; not where it would be the whole.
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


def token_probability(sums: NDArray[np.float64]) -> Values:
    """e to the power of (log-likelihood over tokens); `sums` [..., 2] holds the two."""
    result: Values = np.exp(sums[..., 0] / sums[..., 1])
    return result


def score_heldout_answers(
    loaded: LoadedModel, plan: HeldOutInstructions, config: Config, runner: BatchRunner
) -> tuple[FileRecords, dict[str, Any]]:
    """The likelihood of the answers to held-out instructions: the lines of its files, and the manifest's entry."""
    encode = ExampleEncoder(loaded.codec, context_length(loaded) or 1 << 30)
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


METRIC = "token_probability"


def score_heldout(out: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap) -> list[Score]:
    """The scores of the open questions in an evaluation's folder, by language and by group.

    Returns:
        `token_probability`, the geometric mean of the probabilities of the answers' tokens: e to the power of
        minus the loss on them, between 0 and 1.
    """
    scores: list[Score] = []
    for samples, sign in _read_folder(out, bootstrap.rounds).values():
        values = {sample.language: bootstrap.by_prompt(sample).mean(0) for sample in samples}
        scores += score_rows(samples, values, groups, run, METRIC, sign)
    return scores


def compare_heldout(
    base: Path, adapted: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap
) -> list[Score]:
    """What adapting a model changed on the open questions of two folders; see `paired.compare_samples`."""
    before = _read_folder(base, bootstrap.rounds)
    scores: list[Score] = []
    for task, (samples, sign) in _read_folder(adapted, bootstrap.rounds).items():
        if task in before:
            scores += compare_samples(before[task][0], samples, groups, run, bootstrap, sign, METRIC)
    return scores


def _read_folder(out: Path, rounds: int) -> dict[str, tuple[list[Sample], Signature]]:
    """By task, and by part of one, the answers in every language and what signs their scores."""
    folder = out / "instructions"
    manifest = read_evaluation_manifest(folder)
    found = {}
    for task, entry in manifest.get("tasks", {}).items():
        answers = {code: read_answers(prediction_file(folder, task, code)) for code in entry["items"]}
        for name, samples in samples_of(task, answers).items():
            sign = signer(entry, model=manifest["model"]["hash"], bootstrap=rounds)
            found[name] = list(samples.values()), sign
    return found
