"""Answers to alignment instructions of held-out sentences on disk, and their scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.paired import compare_samples
from instructalign.evaluation.predictions import prediction_file, read_manifest
from instructalign.evaluation.significance import Asked, Bootstrap, Sample, Signature, Values, score_rows
from instructalign.files import read_jsonl
from instructalign.records import Score

PROMPT = "stream"
"""What stands for the prompt where each item has a wording of its own."""

METRIC = "token_probability"


@dataclass(frozen=True, slots=True)
class Answered:
    """How likely a model found the right answer to an open question.

    Attributes:
        task, language, item: what was asked.
        prompt, answer: the texts.
        score: the summed log-likelihood of the answer's tokens, in nats.
        tokens: how many they are, the end of the text included.
        cut: whether prompt or answer was cut to fit the model's context.
    """

    task: str
    language: str
    item: str
    prompt: str
    answer: str
    score: float
    tokens: int
    cut: bool = False


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
    """By task, the answers in every language and what signs their scores; nothing where there are none."""
    folder = out / "instructions"
    manifest = read_manifest(folder)
    found = {}
    for task, entry in manifest.get("tasks", {}).items():
        files = [prediction_file(folder, task, code) for code in entry["items"]]
        samples = [sample_of_answers(read_answers(file)) for file in files]
        found[task] = samples, _signer(task, entry, manifest["model"]["hash"], rounds)
    return found


def _signer(task: str, entry: Mapping[str, Any], model: str, rounds: int) -> Signature:
    def sign(chosen: Sequence[Asked]) -> str:
        parts = {
            "task": task,
            "split": entry["split"],
            "languages": "+".join(each.language for each in chosen),
            "n": "+".join(str(len(each.items)) for each in chosen),
            "dtype": entry["dtype"],
            "questions": entry["questions"][:8],
            "bootstrap": rounds,
            "model": model,
            "version": entry["version"],
        }
        return "|".join(f"{key}:{value}" for key, value in parts.items())

    return sign


def sample_of_answers(records: Sequence[Answered]) -> Sample:
    """Open questions of one language as sums of log-likelihoods and tokens."""
    statistics = np.array([[[record.score, record.tokens] for record in records]])
    items = tuple(record.item for record in records)
    return Sample(records[0].task, records[0].language, (PROMPT,), items, statistics, token_probability)


def token_probability(sums: NDArray[np.float64]) -> Values:
    """e to the power of (log-likelihood over tokens); `sums` [..., 2] holds the two."""
    result: Values = np.exp(sums[..., 0] / sums[..., 1])
    return result


def read_answers(path: Path) -> list[Answered]:
    """Reads a file of answers to open questions.

    Raises:
        DataError: a line is not one, or there is none; the message names the file.
    """
    records = []
    for number, record in read_jsonl(path):
        try:
            records.append(Answered(**record))
        except TypeError:
            raise DataError(f"{path}:{number}: not an answer to an instruction.") from None
    if not records:
        raise DataError(f"{path} holds no answers; delete the folder to evaluate anew.")
    return records
