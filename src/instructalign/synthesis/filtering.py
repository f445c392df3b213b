"""Which of a model's own examples are good enough to learn from, and different enough from each other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from instructalign.data.deduplication import find_near
from instructalign.data.normalization import fingerprint, shingles
from instructalign.types import ParallelRow

REPEATED = 0.5
"""Part of a text's runs of five characters that must differ; loops of a model have far fewer."""
COPIED = 0.8
"""Likeness (Jaccard) of answer and instruction from which the one copies the other."""


@dataclass(frozen=True, slots=True)
class Draft:
    """An example as the model wrote it.

    Attributes:
        attempt: its number.
        seed: what it was made from.
        prompt: the instruction.
        added: the part of the instruction that the model wrote itself.
        answer: the answer.
        likelihood: mean log-likelihood of an answer's token under the model, in nats.
        flaw: why it is of no use, as far as that shows while writing; empty otherwise.
    """

    attempt: int
    seed: str
    prompt: str
    added: str
    answer: str
    likelihood: float
    flaw: str = ""


def flaw_of(draft: Draft, likelihood: float, words: int) -> str:
    """Why an example is not good enough; empty where it is.

    Args:
        draft: the example.
        likelihood: the mean log-likelihood that its answer must have, in nats per token.
        words: how many words an instruction must have.
    """
    if draft.flaw:
        return draft.flaw
    if len(fingerprint(draft.prompt).split()) < words:
        return "instruction too short"
    if not draft.answer:
        return "answer empty"
    if _repeats(draft.prompt) or _repeats(draft.answer):
        return "repeats itself"
    if _likeness(draft.prompt, draft.answer) >= COPIED:
        return "answer copies the instruction"
    if draft.likelihood < likelihood:
        return "answer unlikely"
    return ""


def judge(drafts: Sequence[Draft], likelihood: float, words: int) -> Iterator[tuple[Draft, str]]:
    """Each draft in order, with the reason against it; near-duplicates are those of an earlier good one.

    More drafts do not change what is said of the first ones.
    """
    flaws = {draft.attempt: flaw_of(draft, likelihood, words) for draft in drafts}
    good = [draft for draft in drafts if not flaws[draft.attempt]]
    rows = [ParallelRow(str(each.attempt), {"q": each.added or each.prompt, "r": each.answer}) for each in good]
    for index, _ in find_near(rows):
        flaws[good[index].attempt] = "near-duplicate"
    return ((draft, flaws[draft.attempt]) for draft in drafts)


def _repeats(text: str) -> bool:
    places = len(text) - 4
    return places > 20 and len(shingles(text)) < REPEATED * places


def _likeness(one: str, other: str) -> float:
    first, second = shingles(fingerprint(one)), shingles(fingerprint(other))
    return len(first & second) / len(first | second)
