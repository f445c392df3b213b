"""The parallel corpus that the later stages work on."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from itertools import groupby

from instructalign.corpora.clean import Removed
from instructalign.corpora.store import Selection
from instructalign.errors import DataError
from instructalign.randomness import digest_key
from instructalign.records import Counts, ParallelRow

BEYOND = "beyond instructions.sentences"
"""The reason under which rows are counted that a limited corpus leaves out."""

LARGE = 100_000
"""Rows from which one side of a split is taken to have every language of the whole."""


class Corpus:
    """Parallel rows in a fixed order, with the count of what was read and dropped on the way.

    Args:
        rows: any sequence of rows; not copied.
        counts: what was read and dropped.
        languages: the languages in the rows, where they are known; found by going through the rows otherwise.
        removed: what each filter took out, by its name.
    """

    def __init__(
        self,
        rows: Sequence[ParallelRow],
        counts: Counts,
        languages: Iterable[str] | None = None,
        removed: Mapping[str, Removed] | None = None,
    ) -> None:
        self.rows = rows
        self.counts = counts
        self.removed = dict(removed or {})
        if languages is None:
            languages = {code for row in rows for code in row.texts}
        self.languages: tuple[str, ...] = tuple(sorted(set(languages)))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> ParallelRow:
        return self.rows[index]

    def __iter__(self) -> Iterator[ParallelRow]:
        return iter(self.rows)

    def language_runs(self) -> Iterator[tuple[frozenset[str], int]]:
        """See the function of this name."""
        return language_runs(self.rows)

    def split(self, heldout: int, seed: int) -> tuple[Corpus, Corpus]:
        """Takes sentences out of training: (the rest, the held-out ones).

        The sentences with the smallest keyed hash of their id are held out, with all their rows. So a
        sentence is on one side in all its languages, whatever the order of the rows; and a sentence added to
        the corpus can take the place of one held-out sentence but moves no other.

        Args:
            heldout: how many sentences (distinct ids) to hold out; 0 for none.
            seed: gives another choice.

        Raises:
            DataError: the corpus has no more sentences than are to be held out.
        """
        if heldout == 0:
            return self, Corpus([], Counts())
        key = digest_key(seed, "heldout")
        limit = first_kept(smallest((rank(row.id, key) for row in self.rows), heldout + 1), heldout)
        inside = bytes(rank(row.id, key) < limit for row in self.rows)
        return self._take(inside, 0, "held out"), self._take(inside, 1, "kept for training")

    def limit(self, sentences: int, seed: int) -> Corpus:
        """A part of the corpus: as many of its sentences as wanted, with all their rows.

        The sentences with the smallest keyed hash of their id are taken, so that a smaller part is in every
        larger one.

        Args:
            sentences: how many sentences (distinct ids), at least 1.
            seed: gives another choice.

        Raises:
            DataError: the corpus has fewer sentences.
        """
        key = digest_key(seed, "sentences")
        last = last_taken(smallest((rank(row.id, key) for row in self.rows), sentences), sentences)
        return self._take(bytes(rank(row.id, key) > last for row in self.rows), 0, BEYOND)

    def _take(self, sides: bytes, side: int, reason: str) -> Corpus:
        """The rows of one side; those of the other count as dropped for the reason."""
        rows = Selection(self.rows, (i for i, value in enumerate(sides) if value == side))
        counts = side_counts(self.counts, len(rows), reason, len(self.rows) - len(rows))
        # A large side has every language; only a small one needs to be looked through.
        languages = self.languages if len(rows) > LARGE else None
        return Corpus(rows, counts, languages, self.removed)


def side_counts(counts: Counts, rows: int, reason: str, others: int) -> Counts:
    """The counts of one side of a split: the other side's rows are dropped for a reason."""
    side = Counts(counts.read, rows, dict(counts.dropped))
    side.drop(reason, others)
    return side


def language_runs(rows: Iterable[ParallelRow]) -> Iterator[tuple[frozenset[str], int]]:
    """The languages that rows have text in, and how many rows one behind the other have the same.

    Rows that know are asked, by their method of this name; others are gone through.
    """
    known: Callable[[], Iterator[tuple[frozenset[str], int]]] | None = getattr(rows, "language_runs", None)
    if known is not None:
        yield from known()
        return
    spoken = (frozenset(code for code, text in row.texts.items() if text.strip()) for row in rows)
    for languages, several in groupby(spoken):
        yield languages, sum(1 for _ in several)


def rank(id: str, key: bytes) -> bytes:
    """Where a sentence stands in the order in which sentences are held out."""
    return blake2b(id.encode(), digest_size=16, key=key).digest()


def first_kept(ranks: Sequence[bytes], heldout: int) -> bytes:
    """The rank of the first sentence that is not held out.

    Args:
        ranks: the `heldout + 1` smallest of the corpus, or as many as there are, in ascending order.
        heldout: how many sentences to hold out.

    Raises:
        DataError: the corpus has no more sentences.
    """
    if len(ranks) <= heldout:
        raise DataError(
            f"{heldout} sentences are to be held out, but the corpus has only {len(ranks)}. "
            "Lower instructions.heldout, or add a corpus."
        )
    return ranks[heldout]


def last_taken(ranks: Sequence[bytes], sentences: int) -> bytes:
    """The rank of the last sentence that is taken of a limited corpus.

    Args:
        ranks: the smallest of the corpus, as many as are taken, or as there are, in ascending order.
        sentences: how many to take.

    Raises:
        DataError: the corpus has fewer.
    """
    if len(ranks) < sentences:
        raise DataError(
            f"instructions.sentences is {sentences}, but the corpus has only {len(ranks)} that are not held "
            "out. Lower it, lower instructions.heldout, or add a corpus; null takes all."
        )
    return ranks[-1]


def smallest(values: Iterable[bytes], count: int) -> list[bytes]:
    """The `count` smallest distinct values, in ascending order."""
    kept: set[bytes] = set()
    limit = b"\xff" * 17
    for value in values:
        if value < limit and value not in kept:
            kept.add(value)
            if len(kept) >= 2 * count + 1000:
                kept = set(heapq.nsmallest(count, kept))
                limit = max(kept)
    return heapq.nsmallest(count, kept)
