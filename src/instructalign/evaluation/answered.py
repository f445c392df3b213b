"""Answers to open questions on disk: how likely a model found the right one, whole and in parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.significance import Sample, Values
from instructalign.files import read_jsonl

PROMPT = "stream"
"""What stands for the prompt where each item has a wording of its own."""

SMALLEST_PART = 20
"""Items that a part must have in a language to be scored alone; with fewer, an interval says nothing."""


@dataclass(frozen=True, slots=True)
class Answered:
    """How likely a model found the right answer to an open question.

    Attributes:
        task, language, item: what was asked.
        prompt, answer: the texts.
        score: the summed log-likelihood of the answer's tokens, in nats.
        tokens: how many they are, the end of the text included.
        cut: whether prompt or answer was cut to fit the model's context.
        part: what the item is scored with alone as well; of past data, the task that its source names.
    """

    task: str
    language: str
    item: str
    prompt: str
    answer: str
    score: float
    tokens: int
    cut: bool = False
    part: str = ""

    def line(self) -> dict[str, Any]:
        """The answer as it is written."""
        return {name: value for name, value in asdict(self).items() if name != "part" or value}


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


def samples_of(task: str, answers: Mapping[str, Sequence[Answered]]) -> dict[str, dict[str, Sample]]:
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


def sample_of_answers(records: Sequence[Answered]) -> Sample:
    """Open questions of one language as sums of log-likelihoods and tokens."""
    statistics = np.array([[[record.score, record.tokens] for record in records]])
    items = tuple(record.item for record in records)
    return Sample(records[0].task, records[0].language, (PROMPT,), items, statistics, token_probability)


def token_probability(sums: NDArray[np.float64]) -> Values:
    """e to the power of (log-likelihood over tokens); `sums` [..., 2] holds the two."""
    result: Values = np.exp(sums[..., 0] / sums[..., 1])
    return result
