"""Finds test items among the training data, and reports, drops or refuses what gives them away.

A test item counts as leaked if a training text says the same but for case and punctuation (`exact`), if at
least eight tenths of its runs of five characters stand in one training text (`near`), or if a training row has
its id (`id`): sets that were translated from one source keep its ids, so that the text of a test item can be
among the training data in another language. A bare number is no such id.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, NoReturn

from instructalign.config import ContaminationAction
from instructalign.corpora.corpus import Corpus
from instructalign.corpora.itemindex import How, ItemIndex, Leak
from instructalign.corpora.store import Selection
from instructalign.errors import DataError
from instructalign.progress import Progress, silent
from instructalign.records import Counts

HOWS: tuple[How, ...] = ("exact", "near", "id")
DROPPED = "in a test set"
"""The reason under which dropped rows and examples are counted."""

MUCH = 0.05
"""Share of a test set's items from which its score says nothing any more about what was learned."""

_BATCH = 500  # rows looked up at a time
_EXAMPLES = 3  # a test set


@dataclass(frozen=True, slots=True)
class Guard:
    """What is done about test items in the training data.

    Attributes:
        action: `report`, `drop`, `refuse` or `ignore`.
        index: the test items; None where nothing is looked for.
        reason: why nothing is looked for, in words; empty where something is.
    """

    action: ContaminationAction = "ignore"
    index: ItemIndex | None = None
    reason: str = "it was not asked for"


@dataclass(slots=True)
class Contamination:
    """What was found in one pass over training data.

    Attributes:
        checked: how many rows or examples were looked at.
        leaks: every pair of a training row and a test text that it gives away.
        dropped: how many rows or examples were taken out for it.
    """

    checked: int = 0
    leaks: list[Leak] = field(default_factory=list)
    dropped: int = 0

    @property
    def rows(self) -> set[str]:
        """The ids of the rows or examples that give test items away."""
        return {leak.row for leak in self.leaks}

    def table(self) -> dict[tuple[str, str], dict[str, int]]:
        """By task and language, how many items leaked: at all (`items`), by `exact`, by `near` alone, by `id`."""
        found: dict[tuple[str, str], dict[How, set[str]]] = {}
        for leak in self.leaks:
            ways = found.setdefault((leak.found.task, leak.found.language), {how: set() for how in HOWS})
            ways[leak.how].add(leak.found.item)
        return {
            key: {
                "items": len(set().union(*ways.values())),
                "exact": len(ways["exact"]),
                "near": len(ways["near"] - ways["exact"]),
                "id": len(ways["id"]),
            }
            for key, ways in sorted(found.items())
        }


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
        examples: of the first few, the `row` that gives the `item` away, `how`, and the item's `text`.
    """

    where: str
    task: str
    language: str
    size: int
    items: int
    exact: int
    near: int
    id: int
    examples: tuple[dict[str, str], ...]

    @property
    def share(self) -> float:
        """Part of the test set whose words stand in the training data."""
        return (self.exact + self.near) / self.size


def leaked(where: str, found: Contamination, index: ItemIndex) -> list[Leaked]:
    """What was found, by test set.

    Args:
        where: `corpora` or `replay`.
        found: what was found there.
        index: the items that were looked for.
    """
    examples: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for leak in sorted(found.leaks, key=lambda leak: HOWS.index(leak.how)):
        item = leak.found
        shown = examples.setdefault((item.task, item.language), {})
        if len(shown) < _EXAMPLES:
            shown.setdefault(item.item, {"row": leak.row, "item": item.item, "how": leak.how, "text": item.text})
    return [
        Leaked(
            where,
            task,
            language,
            index.sizes[task, language],
            **ways,
            examples=tuple(examples[task, language].values()),
        )
        for (task, language), ways in found.table().items()
    ]


def record(guard: Guard, found: dict[str, Contamination]) -> dict[str, Any]:
    """What a run's record says about test items in its training data.

    Args:
        guard: what was looked for, and what is done about it.
        found: by kind of training data (`corpora`, `replay`), what was found.
    """
    index = guard.index
    return {
        "action": guard.action,
        "not_checked": guard.reason,
        "texts": 0 if index is None else len(index),
        "checked": {where: each.checked for where, each in found.items()},
        "dropped": {where: each.dropped for where, each in found.items()},
        "leaked": [asdict(one) for where, each in found.items() if index for one in leaked(where, each, index)],
    }


def guard_corpus(corpus: Corpus, guard: Guard, progress: Progress = silent) -> tuple[Corpus, Contamination]:
    """Does to a corpus what its guard says; see `check_corpus`."""
    if guard.index is None:
        return corpus, Contamination()
    return check_corpus(corpus, guard.index, guard.action, progress)


def check_texts(texts: Iterable[tuple[str, Iterable[str]]], index: ItemIndex) -> Contamination:
    """Looks for test items in training texts of any kind.

    Args:
        texts: the id of each row or example, and its texts.
        index: the test items.
    """
    found = Contamination()
    among = iter(texts)
    while batch := list(islice(among, _BATCH)):
        found.checked += len(batch)
        found.leaks.extend(index.find_all(batch))
    return found


def check_corpus(
    corpus: Corpus, index: ItemIndex, action: ContaminationAction = "report", progress: Progress = silent
) -> tuple[Corpus, Contamination]:
    """Looks for test items in a corpus, and does something about the rows that give them away.

    Args:
        corpus: the rows to be trained on.
        index: the test items.
        action: `report` leaves the corpus as it is, `drop` takes the rows out and counts them.
        progress: told how many rows were looked at.

    Raises:
        DataError: something was found and the action is `refuse`, or every row would be dropped.
    """
    found = check_texts(_told(corpus, progress), index)
    rows = to_drop(found, action)
    if not rows:
        return corpus, found
    kept = [place for place, row in enumerate(corpus) if row.id not in rows]
    counts = count_out(corpus.counts, found, len(corpus) - len(kept))
    return Corpus(Selection(corpus.rows, kept), counts, corpus.languages, corpus.removed), found


def to_drop(found: Contamination, action: ContaminationAction) -> set[str]:
    """The ids of the rows to leave out of a corpus for what was found in it.

    Raises:
        DataError: something was found, and the action is `refuse`.
    """
    if found.leaks and action == "refuse":
        refuse(found, f"{len(found.rows)} sentences of the training corpus")
    return found.rows if action == "drop" else set()


def count_out(counts: Counts, found: Contamination, dropped: int) -> Counts:
    """The counts of a corpus without so many of its rows, which is noted in what was found as well.

    Raises:
        DataError: no row is left.
    """
    if dropped == counts.kept:
        raise DataError(f"all {counts.kept} rows of the corpus give test items away:\n{describe(found)}")
    found.dropped = dropped
    left = Counts(counts.read, counts.kept - dropped, dict(counts.dropped))
    left.drop(DROPPED, dropped)
    return left


def _told(corpus: Corpus, progress: Progress) -> Iterator[tuple[str, Iterable[str]]]:
    """The texts of a corpus, with a word now and then on how far they are gone through."""
    for number, row in enumerate(corpus):
        if number % 1000 == 0:
            progress("looking for test items in the training data", number, len(corpus), "")
        yield row.id, row.texts.values()


def refuse(found: Contamination, what: str) -> NoReturn:
    """Raises the error of training data that must not hold test items, and does.

    Args:
        found: what was found.
        what: which data, with a number ("3 sentences of the training corpus").

    Raises:
        DataError: always.
    """
    raise DataError(
        f"{what} give test items away:\n{describe(found)}\n"
        "Set contamination: drop to leave them out, or report to train on them all the same; or take other "
        "training data or another task."
    )


def describe(found: Contamination) -> str:
    """A line for each task and language with what leaked, and an example."""
    first: dict[tuple[str, str], Leak] = {}
    for leak in found.leaks:
        first.setdefault((leak.found.task, leak.found.language), leak)
    lines = []
    for (task, language), numbers in found.table().items():
        ways = ", ".join(f"{count} {how}" for how, count in numbers.items() if count and how != "items")
        leak = first[task, language]
        lines.append(
            f"  {task} ({language}): {numbers['items']} items ({ways}); {leak.row} has item {leak.found.item}"
        )
    return "\n".join(lines)
