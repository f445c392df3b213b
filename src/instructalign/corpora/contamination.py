"""Finds test items among the training data: by id, by their words, and by most of their words.

A test item counts as leaked if a training text says the same but for case and punctuation (`exact`), if at
least eight tenths of its runs of five characters stand in one training text (`near`), or if a training row has
its id (`id`): sets that were translated from one source keep its ids, so that the text of a test item can be
among the training data in another language. A bare number is no such id.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from zlib import crc32

from instructalign.corpora.corpus import Corpus
from instructalign.corpora.normal import fingerprint, shingles
from instructalign.corpora.store import Selection
from instructalign.errors import DataError
from instructalign.records import Counts

How = Literal["exact", "near", "id"]
HOWS: tuple[How, ...] = ("exact", "near", "id")

NEAR = 0.8
"""Share of an item's shingles in one training text from which it counts as leaked."""

_SHORTEST = 30  # characters of a fingerprint; shorter texts are compared as a whole only
_SKETCH, _RUN = 8, 10  # each item is looked up by so many of its runs of so many characters


@dataclass(frozen=True, slots=True)
class ItemText:
    """One text of a test item.

    Attributes:
        task: the task's name.
        item: the item's id; the same in every language of a parallel test set.
        language: code of the text's language.
        text: the text as it stands in the test set.
    """

    task: str
    item: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Leak:
    """A test text that a training row gives away.

    Attributes:
        row: id of the row, or of the replayed example.
        found: the test text.
        how: `exact`, `near` or `id`.
        likeness: share of the test text's shingles in the training text; 1 for `exact` and `id`.
    """

    row: str
    found: ItemText
    how: How
    likeness: float


class ItemIndex:
    """The texts of test items, to be looked up by training texts.

    Args:
        texts: the test texts; all are kept in memory.
    """

    def __init__(self, texts: Iterable[ItemText]) -> None:
        self._texts = list(texts)
        self._by_words: dict[str, list[int]] = defaultdict(list)
        self._by_run: dict[str, list[str]] = defaultdict(list)
        self._by_id: dict[str, list[int]] = defaultdict(list)
        for place, text in enumerate(self._texts):
            words = fingerprint(text.text)
            if words:
                self._by_words[words].append(place)
            if not text.item.isdigit():
                self._by_id[text.item].append(place)
        # Runs are chosen by a hash, so that each is as likely to be in a changed copy as any other; of these, the
        # ones that few items have, as others would lead to comparisons in vain.
        chosen = {
            words: sorted(shingles(words, _RUN), key=_hash)[: 2 * _SKETCH]
            for words in self._by_words
            if len(words) >= _SHORTEST
        }
        common = Counter(run for runs in chosen.values() for run in runs)
        for words, runs in chosen.items():
            for run in sorted(runs, key=lambda run: (common[run], _hash(run)))[:_SKETCH]:
                self._by_run[run].append(words)

    def __len__(self) -> int:
        return len(self._texts)

    def find(self, row: str, texts: Iterable[str]) -> list[Leak]:
        """The test texts that the texts of one training row or example give away, by their words or its id.

        Args:
            row: the row's id; what stands behind its last slash is compared to the ids of items.
            texts: the row's texts.
        """
        likeness: dict[str, float] = {}
        for text in texts:
            words = fingerprint(text)
            for met, share in self._alike(words):
                likeness[met] = max(share, likeness.get(met, 0.0))
            if words in self._by_words:
                likeness[words] = 2.0  # surer than any share
        leaks = [
            Leak(row, self._texts[place], "exact" if share > 1 else "near", min(share, 1.0))
            for words, share in likeness.items()
            for place in self._by_words[words]
        ]
        named = self._by_id.get(row.rpartition("/")[2], ())
        return leaks + [Leak(row, self._texts[place], "id", 1.0) for place in named]

    def _alike(self, words: str) -> Iterator[tuple[str, float]]:
        """The fingerprints of test texts that mostly stand in a training text, with the share that does."""
        met = self._by_run.keys() & shingles(words, _RUN)
        if not met:
            return
        runs = shingles(words)
        for candidate in sorted({candidate for run in met for candidate in self._by_run[run]}):
            wanted = shingles(candidate)
            share = len(wanted & runs) / len(wanted)
            if share >= NEAR:
                yield candidate, share


@dataclass(slots=True)
class Contamination:
    """What was found in one pass over training data.

    Attributes:
        checked: how many rows or examples were looked at.
        leaks: every pair of a training row and a test text that it gives away.
    """

    checked: int = 0
    leaks: list[Leak] = field(default_factory=list)

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


def check_texts(texts: Iterable[tuple[str, Iterable[str]]], index: ItemIndex) -> Contamination:
    """Looks for test items in training texts of any kind.

    Args:
        texts: the id of each row or example, and its texts.
        index: the test items.
    """
    found = Contamination()
    for row, among in texts:
        found.checked += 1
        found.leaks.extend(index.find(row, among))
    return found


def check_corpus(
    corpus: Corpus, index: ItemIndex, action: Literal["report", "drop", "refuse"] = "report"
) -> tuple[Corpus, Contamination]:
    """Looks for test items in a corpus, and does something about the rows that give them away.

    Args:
        corpus: the rows to be trained on.
        index: the test items.
        action: `report` leaves the corpus as it is, `drop` takes the rows out and counts them.

    Raises:
        DataError: something was found and the action is `refuse`, or every row would be dropped.
    """
    found = check_texts(((row.id, row.texts.values()) for row in corpus), index)
    if not found.leaks or action == "report":
        return corpus, found
    rows = {leak.row for leak in found.leaks}
    if action == "refuse":
        raise DataError(
            f"{len(rows)} sentences of the training corpus give test items away:\n{describe(found)}\n"
            "Drop these rows, or take another corpus or task."
        )
    kept = [place for place, row in enumerate(corpus) if row.id not in rows]
    if not kept:
        raise DataError(f"all {len(corpus)} rows of the corpus give test items away:\n{describe(found)}")
    counts = Counts(corpus.counts.read, corpus.counts.kept, dict(corpus.counts.dropped))
    counts.drop("in a test set", len(corpus) - len(kept))
    counts.kept -= len(corpus) - len(kept)
    return Corpus(Selection(corpus.rows, kept), counts, corpus.languages, corpus.removed), found


def describe(found: Contamination) -> str:
    """A line for each task and language with what leaked, and an example."""
    lines = []
    for (task, language), numbers in found.table().items():
        ways = ", ".join(f"{count} {how}" for how, count in numbers.items() if count and how != "items")
        leak = next(leak for leak in found.leaks if (leak.found.task, leak.found.language) == (task, language))
        lines.append(
            f"  {task} ({language}): {numbers['items']} items ({ways}); {leak.row} has item {leak.found.item}"
        )
    return "\n".join(lines)


def _hash(run: str) -> tuple[int, str]:
    return crc32(run.encode()), run
