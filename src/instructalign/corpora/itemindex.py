"""Looks test items up by training texts: by their words, by most of their words, and by id."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Literal
from zlib import crc32

import numpy as np

from instructalign.corpora.normal import fingerprint, shingles
from instructalign.files import text_hash

How = Literal["exact", "near", "id"]

NEAR = 0.8
"""Share of an item's shingles in one training text from which it counts as leaked."""

_SHORTEST = 30  # characters of a fingerprint; shorter texts are compared as a whole only
_SKETCH, _RUN = 8, 10  # each item is looked up by so many of its runs of so many characters
_BITS = 24  # of the number that a run is sorted out by, before it is looked up itself
_ODD: Any = np.frombuffer(blake2b(b"runs", digest_size=4 * _RUN).digest(), dtype=np.uint32) | np.uint32(1)


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

    Attributes:
        sizes: by task and language, how many items there are.
    """

    def __init__(self, texts: Iterable[ItemText]) -> None:
        self._texts = list(texts)
        self.sizes = Counter(
            (task, language)
            for task, language, _ in dict.fromkeys((each.task, each.language, each.item) for each in self._texts)
        )
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
        self._maybe = np.zeros(1 << _BITS, dtype=bool)
        if self._by_run:
            self._maybe[_numbers("".join(self._by_run))[::_RUN]] = True

    def __len__(self) -> int:
        return len(self._texts)

    def digest(self) -> str:
        """A hash of the test texts."""
        return text_hash([[each.task, each.item, each.language, each.text] for each in self._texts])

    def find(self, row: str, texts: Iterable[str]) -> list[Leak]:
        """The test texts that the texts of one training row or example give away, by their words or its id.

        Args:
            row: the row's id; what stands behind its last slash is compared to the ids of items.
            texts: the row's texts.
        """
        return self.find_all([(row, texts)])

    def find_all(self, rows: Iterable[tuple[str, Iterable[str]]]) -> list[Leak]:
        """What `find` gives for each of several rows; several hundred at a time are looked up fastest."""
        names: list[str] = []
        words: list[str] = []
        row_of: list[int] = []
        for row, texts in rows:
            for text in texts:
                words.append(fingerprint(text))
                row_of.append(len(names))
            names.append(row)
        likeness: list[dict[str, float]] = [{} for _ in names]
        for place, met in self._alike(words):
            here = likeness[row_of[place]]
            for candidate, share in met:
                here[candidate] = max(share, here.get(candidate, 0.0))
        for place, text in enumerate(words):
            if text in self._by_words:
                likeness[row_of[place]][text] = 2.0  # surer than any share
        return [leak for row, found in zip(names, likeness, strict=True) for leak in self._leaks(row, found)]

    def _leaks(self, row: str, likeness: dict[str, float]) -> Iterator[Leak]:
        for words, share in likeness.items():
            for place in self._by_words[words]:
                yield Leak(row, self._texts[place], "exact" if share > 1 else "near", min(share, 1.0))
        for place in self._by_id.get(row.rpartition("/")[2], ()):
            yield Leak(row, self._texts[place], "id", 1.0)

    def _alike(self, texts: Sequence[str]) -> Iterator[tuple[int, list[tuple[str, float]]]]:
        """The place of each text that may hold test texts, and those that mostly stand in it, with the share."""
        joined = "\n".join(texts)  # no fingerprint has a line end, so no run over two texts is any item's
        if len(joined) < _RUN:
            return
        begins = np.cumsum([0, *(len(text) + 1 for text in texts)])
        hits = np.flatnonzero(self._maybe[_numbers(joined)])
        met: dict[int, set[str]] = {}
        for place, hit in zip((np.searchsorted(begins, hits, "right") - 1).tolist(), hits.tolist(), strict=True):
            found = self._by_run.get(joined[hit : hit + _RUN])
            if found:
                met.setdefault(place, set()).update(found)
        for place, candidates in met.items():
            shares = ((candidate, _share(candidate, texts[place])) for candidate in sorted(candidates))
            yield place, [(candidate, share) for candidate, share in shares if share >= NEAR]


def _share(candidate: str, text: str) -> float:
    """The share of a test text's shingles that stand in a training text; 0 where it is below `NEAR`."""
    wanted = _wanted(candidate)
    left = len(wanted)
    for shingle in wanted:
        if shingle not in text:
            left -= 1
            if left / len(wanted) < NEAR:  # most candidates are given up here, long before the end
                return 0.0
    return left / len(wanted)


@lru_cache(maxsize=4096)
def _wanted(candidate: str) -> tuple[str, ...]:
    return tuple(shingles(candidate))


def _numbers(text: str) -> Any:
    """A number of `_BITS` bits for the run that begins at each place of a text [characters - _RUN + 1]."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    sums = np.zeros(len(codes) - _RUN + 1, dtype=np.uint32)
    for i in range(_RUN):
        sums += codes[i : len(sums) + i] * _ODD[i]
    return (sums ^ (sums >> np.uint32(15))) * _ODD[0] >> np.uint32(32 - _BITS)


def _hash(run: str) -> tuple[int, str]:
    return crc32(run.encode("utf-8", "surrogatepass")), run
