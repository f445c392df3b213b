"""Test items in training data: the index that finds them, and what is done about them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal, NoReturn
from zlib import crc32

import numpy as np

from instructalign.config import ContaminationAction
from instructalign.data.corpus import Corpus, Selection
from instructalign.data.normalization import fingerprint, shingles
from instructalign.errors import DataError
from instructalign.files import text_hash
from instructalign.progress import Progress, silent
from instructalign.types import Counts

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
