"""The parallel corpus that the later stages work on."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from instructalign.corpora.clean import Removed
from instructalign.corpora.store import Selection
from instructalign.errors import DataError
from instructalign.randomness import digest_key
from instructalign.records import Counts, ParallelRow


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
        key = digest_key(seed, "heldout")
        if heldout == 0:
            return self, Corpus([], Counts())
        bound = _smallest(((_hash(row.id, key)) for row in self.rows), heldout + 1)
        if len(bound) <= heldout:
            raise DataError(
                f"{heldout} sentences are to be held out, but the corpus has only {len(bound)}. "
                "Lower instructions.heldout, or add a corpus."
            )
        limit = bound[-1]
        inside = bytes(_hash(row.id, key) < limit for row in self.rows)
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
        bound = _smallest((_hash(row.id, key) for row in self.rows), sentences)
        if len(bound) < sentences:
            raise DataError(
                f"instructions.sentences is {sentences}, but the corpus has only {len(bound)} that are not held "
                "out. Lower it, lower instructions.heldout, or add a corpus; null takes all."
            )
        limit = bound[-1]
        return self._take(
            bytes(_hash(row.id, key) > limit for row in self.rows), 0, "beyond instructions.sentences"
        )

    def _take(self, sides: bytes, side: int, reason: str) -> Corpus:
        """The rows of one side; those of the other count as dropped for the reason."""
        rows = Selection(self.rows, (i for i, value in enumerate(sides) if value == side))
        counts = Counts(self.counts.read, len(rows), dict(self.counts.dropped))
        counts.drop(reason, len(self.rows) - len(rows))
        # A large side has every language; only a small one needs to be looked through.
        languages = self.languages if len(rows) > 100_000 else None
        return Corpus(rows, counts, languages, self.removed)


def _hash(id: str, key: bytes) -> bytes:
    return blake2b(id.encode(), digest_size=16, key=key).digest()


def _smallest(values: Iterable[bytes], count: int) -> list[bytes]:
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
