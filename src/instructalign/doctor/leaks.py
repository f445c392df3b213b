"""Test items that stand in the training data."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from instructalign.corpora import Corpus, ItemIndex, ItemText, check_texts
from instructalign.corpora.contamination import Contamination
from instructalign.doctor.findings import Findings, listed, percent
from instructalign.mixture import ReplayBuffer
from instructalign.progress import Progress, silent

MUCH = 0.05
"""Share of a test set's items from which its score says nothing any more about what was learned."""


@dataclass(frozen=True, slots=True)
class Leaked:
    """How much of one test set stands in one kind of training data.

    Attributes:
        where: `corpora` or `replay`.
        task, language: the test set.
        size: its items.
        items: how many of them leaked, in any way.
        exact: how many of them with all their words.
        near: how many besides with most of their words.
        id: how many by their id.
        example: id of a training row, and of the item that it gives away.
    """

    where: str
    task: str
    language: str
    size: int
    items: int
    exact: int
    near: int
    id: int
    example: tuple[str, str]


@dataclass(frozen=True, slots=True)
class LeakPart:
    """What of the test sets stands in the training data.

    Attributes:
        checked: rows and replayed examples looked at.
        texts: texts of test items looked for.
        leaked: what was found, by kind of training data and test set.
    """

    checked: int
    texts: int
    leaked: tuple[Leaked, ...]


def examine_leaks(
    corpus: Corpus | None, replay: ReplayBuffer | None, texts: Sequence[ItemText], progress: Progress = silent
) -> tuple[LeakPart, Findings]:
    """Looks for test items among the rows to train on and the examples to replay.

    Args:
        corpus: the rows; None where they cannot be read.
        replay: the past examples; None where they cannot be read.
        texts: the texts of the test items.
        progress: told how many rows were looked at.
    """
    index = ItemIndex(texts)
    size = Counter(
        (task, language) for task, language, _ in {(each.task, each.language, each.item) for each in texts}
    )
    in_corpus = check_texts(_told(corpus, progress), index)
    past = replay.examples if replay else ()
    in_replay = check_texts(((each.row, (each.prompt, each.answer)) for each in past), index)
    part = LeakPart(
        checked=in_corpus.checked + in_replay.checked,
        texts=len(index),
        leaked=(*_leaked("corpora", in_corpus, size), *_leaked("replay", in_replay, size)),
    )
    findings = Findings("contamination")
    _judge(part, findings)
    return part, findings


def _told(corpus: Corpus | None, progress: Progress) -> Iterator[tuple[str, Iterable[str]]]:
    """The texts of a corpus, with a word now and then on how far they are gone through."""
    for number, row in enumerate(corpus or ()):
        if corpus and number % 1000 == 0:
            progress("looking for test items in the training data", number, len(corpus), "")
        yield row.id, row.texts.values()


def _leaked(where: str, found: Contamination, size: Counter[tuple[str, str]]) -> list[Leaked]:
    first: dict[tuple[str, str], tuple[str, str]] = {}
    for leak in found.leaks:
        first.setdefault((leak.found.task, leak.found.language), (leak.row, leak.found.item))
    return [
        Leaked(
            where=where,
            task=task,
            language=language,
            size=size[task, language],
            items=ways["items"],
            exact=ways["exact"],
            near=ways["near"],
            id=ways["id"],
            example=first[task, language],
        )
        for (task, language), ways in found.table().items()
    ]


def _share(leaked: Leaked) -> float:
    """Part of a test set whose words stand in the training data."""
    return (leaked.exact + leaked.near) / leaked.size


def _judge(part: LeakPart, findings: Findings) -> None:
    for where, advice in (
        ("corpora", "Drop these rows (`corpora.check_corpus` does), or take another corpus or evaluation.tasks."),
        (
            "replay",
            "Take another replay.source or other evaluation.tasks, or read their scores with this in mind.",
        ),
    ):
        here = [each for each in part.leaked if each.where == where]
        said = sorted((each for each in here if each.exact or each.near), key=_share, reverse=True)
        if said:
            worst = said[0]
            note = findings.problem if _share(worst) >= MUCH else findings.warn
            sets = [f"{each.task} ({each.language}) {percent(_share(each))}" for each in said]
            note(
                f"Test items stand in {where}: {listed(sets, most=3)}; {worst.example[0]} has {worst.example[1]}.",
                advice,
            )
        elif here:
            sets = [f"{each.task} ({each.language}) {each.id}" for each in here]
            findings.warn(
                f"Training rows in {where} have the ids of test items: {listed(sets)}.",
                "If they are the same sentences in other languages, drop them; if the ids only look alike, "
                "give the corpus a label (corpora) or ids of its own.",
            )
    if not findings and part.texts:
        findings.ok(f"None of {part.texts:,} test texts stands in {part.checked:,} training rows.")
