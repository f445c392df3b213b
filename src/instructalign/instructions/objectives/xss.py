"""Crosslingual semantic similarity: do two sentences mean the same? (arXiv 2305.13627, section 3.1)."""

from __future__ import annotations

from functools import partial
from typing import Literal

from typing_extensions import override

from instructalign.errors import DataError
from instructalign.instructions.objectives import Context, Made, Objective
from instructalign.instructions.segmentation import words
from instructalign.randomness import Draws
from instructalign.types import ParallelRow

_CANDIDATES = 16  # among which a hard negative is chosen
_TRIES = 64  # rows drawn at random, before all are gone through


class XSS(Objective):
    """Telling a translation from another sentence; the answer is yes or no, each with probability 0.5.

    Args:
        negatives: what stands in the place of the translation when the answer is no. `random`: the sentence
            of another row. `hard`: of 16 others the one most like the translation in its words and its length.
            `paper`: the translation itself, with noise on both sides, as in the published code (where a model
            can learn to spot the noise).
    """

    slots = ("first", "second")
    labels = ("yes", "no")

    def __init__(self, *, negatives: Literal["random", "hard", "paper"] = "random") -> None:
        self.negatives = negatives

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        first, second = row.texts[source], row.texts[target]
        if draws.below(2):
            return {"first": first, "second": second}, "yes"
        if self.negatives == "paper":
            return {"first": context.noise(first, draws), "second": context.noise(second, draws)}, "no"
        if self.negatives == "random":
            return {"first": first, "second": _another(row, source, target, draws, context)}, "no"
        others = [_another(row, source, target, draws, context) for _ in range(_CANDIDATES)]
        return {"first": first, "second": max(others, key=partial(likeness, second))}, "no"


def _another(row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> str:
    """A sentence in the target language that is no translation of the row's.

    A row that says the same on either side (a repeated sentence, or another translation of it) has none.

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
        f"xss needs a second sentence in {target} to compare with, but all rows say the same "
        f"({second[:60]!r}). Add rows, or leave xss out of instructions.objectives."
    )


def likeness(one: str, other: str) -> tuple[float, float]:
    """How hard two sentences are to tell apart: (share of common words × ratio of lengths, ratio of lengths)."""
    here, there = set(map(str.casefold, words(one))), set(map(str.casefold, words(other)))
    ratio = min(len(one), len(other)) / (max(len(one), len(other)) or 1)
    return len(here & there) / (len(here | there) or 1) * ratio, ratio


def _same(one: str, other: str) -> bool:
    """Whether two texts differ in case and spaces at most."""
    if one.lstrip()[:1].casefold()[:1] != other.lstrip()[:1].casefold()[:1]:
        return False  # which spares most pairs the whole comparison
    return one.casefold().split() == other.casefold().split()
