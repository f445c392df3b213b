"""Crosslingual semantic similarity: do two sentences translate each other? (arXiv 2305.13627, section 3.1)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from typing_extensions import override

from instructalign.data.normalization import fold
from instructalign.errors import DataError
from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.instructions.segmentation import words
from instructalign.randomness import Draws
from instructalign.types import ParallelRow

_CANDIDATES = 16  # among which a hard negative is chosen
_TRIES = 64  # rows drawn at random before all are searched


class XSS(Objective):
    """Whether a sentence is the translation of another; the answer is yes or no, each with probability 0.5.

    Args:
        negatives: the second sentence when the answer is no. `random`: the sentence
            of another row. `hard`: of 16 others the one most similar to the translation in words and length.
            `paper`: the translation itself, with noise on both sides, as in the published code (a model
            can then answer by detecting the noise).
    """

    slots = ("first", "second")
    labels = ("yes", "no")

    def __init__(self, *, negatives: Literal["random", "hard", "paper"] = "random") -> None:
        self.negatives = negatives

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> SlotsAndAnswer:
        first, second = row.texts[source], row.texts[target]
        if draws.below(2):
            return {"first": first, "second": second}, "yes"
        if self.negatives == "paper":
            return {"first": context.noise(first, draws), "second": context.noise(second, draws)}, "no"
        if self.negatives == "random":
            return {"first": first, "second": _another(row, source, target, draws, context)}, "no"
        others = [_another(row, source, target, draws, context) for _ in range(_CANDIDATES)]
        return {"first": first, "second": max(others, key=partial(similarity, second))}, "no"


def _another(row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> str:
    """A sentence in the target language that is no translation of the row's.

    A row with the same text on either side (a repeated sentence, or another translation of it) is skipped.

    Raises:
        DataError: no row has one.
    """
    corpus = context.corpus
    first, second = row.texts[source], row.texts[target]

    def other(number: int) -> str:
        texts = corpus[number].texts
        text = texts.get(target, "")
        return "" if _same(text, second) or _same(texts.get(source, ""), first) else text

    for _ in range(_TRIES):
        if text := other(draws.below(len(corpus))):
            return text
    start = draws.below(len(corpus))
    for step in range(len(corpus)):
        if text := other((start + step) % len(corpus)):
            return text
    raise DataError(
        f"xss needs a second sentence in {target} to compare with, but all rows have the same "
        f"text ({second[:60]!r}). Add rows, or leave xss out of instructions.objectives."
    )


def similarity(one: str, other: str) -> tuple[float, float]:
    """Similarity of two sentences: (word overlap × ratio of lengths, ratio of lengths)."""
    here, there = set(words(fold(one))), set(words(fold(other)))
    ratio = min(len(one), len(other)) / (max(len(one), len(other)) or 1)
    return len(here & there) / (len(here | there) or 1) * ratio, ratio


def _same(one: str, other: str) -> bool:
    """Whether two texts are equal up to case and spaces."""
    if fold(one[:8])[:1] != fold(other[:8])[:1]:
        return False  # cheap test first: most pairs differ here
    return fold(one).split() == fold(other).split()
