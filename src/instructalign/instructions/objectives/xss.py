"""Crosslingual semantic similarity: do two sentences mean the same? (arXiv 2305.13627, section 3.1)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from typing_extensions import override

from instructalign.errors import DataError
from instructalign.instructions.objectives import Context, Made, Objective
from instructalign.instructions.segment import words
from instructalign.randomness import Draws
from instructalign.records import ParallelRow

_CANDIDATES = 16  # among which a hard negative is chosen
_TRIES = 64  # random ones, before all rows are gone through


class XSS(Objective):
    """Telling a translation from another sentence; the answer is yes or no, each with probability 0.5.

    Args:
        negatives: what stands in the place of the translation when the answer is no. `random`: the sentence
            of another row. `hard`: of 16 others the one that shares most words with the translation and is
            nearest to it in length. `paper`: the translation itself, with noise on both sides, as in the
            published code (where a model can learn to spot the noise).
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
        others = _others(row, source, target, draws, context)
        if self.negatives == "random":
            return {"first": first, "second": next(others)}, "no"
        return {"first": first, "second": _hardest(second, others)}, "no"


def _others(row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Iterator[str]:
    """Sentences in the target language that are no translation of the row's; without end.

    A row that says the same on either side (a repeated sentence, or another translation of it) is none.

    Raises:
        DataError: there is no such sentence.
    """
    corpus = context.corpus
    same_source, same_target = _fold(row.texts[source]), _fold(row.texts[target])

    def other(index: int) -> str | None:
        texts = corpus[index].texts
        text = texts.get(target, "")
        folded = _fold(text)
        if not folded or folded == same_target or _fold(texts.get(source, "")) == same_source:
            return None
        return text

    while True:
        for _ in range(_TRIES):
            text = other(draws.below(len(corpus)))
            if text is not None:
                yield text
                break
        else:
            start = draws.below(len(corpus))
            found = (other((start + step) % len(corpus)) for step in range(len(corpus)))
            text = next((text for text in found if text is not None), None)
            if text is None:
                raise DataError(
                    f"xss needs a second sentence in {target} to compare with, but all rows say the same "
                    f"({row.texts[target][:60]!r}). Add rows, or leave xss out of instructions.objectives."
                )
            yield text


def _hardest(text: str, others: Iterator[str]) -> str:
    own = set(map(str.casefold, words(text)))

    def likeness(other: str) -> tuple[float, float]:
        theirs = set(map(str.casefold, words(other)))
        return len(own & theirs) / (len(own | theirs) or 1), -abs(len(other) - len(text))

    return max((next(others) for _ in range(_CANDIDATES)), key=likeness)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split())
