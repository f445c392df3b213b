"""Contamination: test items that overlap with the training data; the index that finds them, and what is done."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from hashlib import blake2b
from itertools import islice
from typing import Any, Literal
from zlib import crc32

import numpy as np

from instructalign.config import ContaminationAction
from instructalign.data.corpus import Corpus
from instructalign.data.normalization import fingerprint, shingles
from instructalign.errors import DataError
from instructalign.files import text_hash
from instructalign.progress import Progress, silent
from instructalign.types import Counts

OverlapKind = Literal["exact", "near", "id"]
OVERLAP_KINDS: tuple[OverlapKind, ...] = ("exact", "near", "id")

IN_TEST_SET = "in a test set"
"""The reason under which dropped rows and examples are counted."""

SEVERE_SHARE = 0.05
"""Share of a test set's items in the training data from which its score no longer measures what was learned."""

_NEAR = 0.8  # share of an item's shingles in one training text from which it counts as an overlap
_SHORTEST = 30  # characters of a fingerprint; shorter texts are compared as a whole only
_SKETCH, _RUN = 8, 10  # each item is looked up by 8 of its runs of 10 characters
_BITS = 24  # of the number that a run is screened by before it is looked up itself
_ODD: Any = np.frombuffer(blake2b(b"runs", digest_size=4 * _RUN).digest(), dtype=np.uint32) | np.uint32(1)
_BATCH = 500  # rows looked up at a time
_EXAMPLES = 3  # per test set


@dataclass(frozen=True, slots=True)
class ItemText:
    """One text of a test item.

    Attributes:
        task: the task's name.
        item: the item's id; the same in every language of a parallel test set.
        language: code of the text's language.
        text: the text as it is in the test set.
    """

    task: str
    item: str
    language: str
    text: str


@dataclass(frozen=True, slots=True)
class Overlap:
    """A test text that a training row contains.

    Attributes:
        row: id of the row, or of the replay example.
        item: the test text.
        kind: `exact`, `near` or `id`.
        similarity: share of the test text's shingles in the training text; 1 for `exact` and `id`.
    """

    row: str
    item: ItemText
    kind: OverlapKind
    similarity: float


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
        # rarest are kept, as common ones would lead to many useless comparisons.
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

    def find(self, row: str, texts: Iterable[str]) -> list[Overlap]:
        """The test texts that the texts of one training row or example contain, by their words or its id.

        Args:
            row: the row's id; the part after its last slash is compared to the ids of items.
            texts: the row's texts.
        """
        return self.find_all([(row, texts)])

    def find_all(self, rows: Iterable[tuple[str, Iterable[str]]]) -> list[Overlap]:
        """What `find` gives for each of several rows; fastest for several hundred at a time."""
        names: list[str] = []
        words: list[str] = []
        row_of: list[int] = []
        for row, texts in rows:
            for text in texts:
                words.append(fingerprint(text))
                row_of.append(len(names))
            names.append(row)
        found: list[dict[str, float]] = [{} for _ in names]  # by row: fingerprint of an item → similarity
        for place, near in self._near(words):
            here = found[row_of[place]]
            for candidate, share in near:
                here[candidate] = max(share, here.get(candidate, 0.0))
        for place, text in enumerate(words):
            if text in self._by_words:
                found[row_of[place]][text] = 2.0  # exact, which outranks any share
        overlaps: list[Overlap] = []
        for row, similarity in zip(names, found, strict=True):
            for text, share in similarity.items():
                kind: OverlapKind = "exact" if share > 1 else "near"
                overlaps += [Overlap(row, self._texts[n], kind, min(share, 1.0)) for n in self._by_words[text]]
            by_id = self._by_id.get(row.rpartition("/")[2], ())
            overlaps += [Overlap(row, self._texts[n], "id", 1.0) for n in by_id]
        return overlaps

    def _near(self, texts: Sequence[str]) -> Iterator[tuple[int, list[tuple[str, float]]]]:
        """The place of each text that may contain test texts, and those that it mostly has, with the share."""
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
            yield place, [(candidate, share) for candidate, share in shares if share >= _NEAR]


def _share(candidate: str, text: str) -> float:
    """The share of a test text's shingles that are in a training text; 0 where it is below `_NEAR`."""
    parts = _shingles(candidate)
    left = len(parts)
    for shingle in parts:
        if shingle not in text:
            left -= 1
            if left / len(parts) < _NEAR:  # most candidates are given up here, long before the end
                return 0.0
    return left / len(parts)


@lru_cache(maxsize=4096)
def _shingles(candidate: str) -> tuple[str, ...]:
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


@dataclass(frozen=True, slots=True)
class ContaminationCheck:
    """Which test items are looked for in the training data, and what is done about those found.

    Attributes:
        action: `report`, `drop`, `refuse` or `ignore`.
        index: the test items; None where nothing is looked for.
        reason: why nothing is looked for; empty where something is.
    """

    action: ContaminationAction = "ignore"
    index: ItemIndex | None = None
    reason: str = "no test items were given"


@dataclass(slots=True)
class Contamination:
    """What was found in one pass over training data.

    Attributes:
        checked: how many rows or examples were checked.
        overlaps: every pair of a training row and a test text that it contains.
        dropped: how many rows or examples were taken out for it.
    """

    checked: int = 0
    overlaps: list[Overlap] = field(default_factory=list)
    dropped: int = 0

    @property
    def rows(self) -> set[str]:
        """The ids of the rows or examples that contain test items."""
        return {overlap.row for overlap in self.overlaps}

    def table(self) -> dict[tuple[str, str], dict[str, int]]:
        """By task and language, how many items overlap: at all (`items`), `exact`, `near` alone, by `id`."""
        found: dict[tuple[str, str], dict[OverlapKind, set[str]]] = {}
        for overlap in self.overlaps:
            key = overlap.item.task, overlap.item.language
            found.setdefault(key, {kind: set() for kind in OVERLAP_KINDS})[overlap.kind].add(overlap.item.item)
        return {
            key: {
                "items": len(set().union(*kinds.values())),
                "exact": len(kinds["exact"]),
                "near": len(kinds["near"] - kinds["exact"]),
                "id": len(kinds["id"]),
            }
            for key, kinds in sorted(found.items())
        }

    def describe(self) -> str:
        """A line for each task and language with what overlaps, and an example."""
        first: dict[tuple[str, str], Overlap] = {}
        for overlap in self.overlaps:
            first.setdefault((overlap.item.task, overlap.item.language), overlap)
        lines = []
        for (task, language), numbers in self.table().items():
            kinds = ", ".join(f"{count} {kind}" for kind, count in numbers.items() if count and kind != "items")
            example = first[task, language]
            lines.append(
                f"  {task} ({language}): {numbers['items']} items ({kinds}); "
                f"{example.row} contains item {example.item.item}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class ContaminatedSet:
    """How much of one test set is in one kind of training data.

    Attributes:
        where: `corpora` or `replay`.
        task, language: the test set.
        size: its items.
        items: how many of them overlap, in any way.
        exact: how many of them with all their words.
        near: how many besides with most of their words.
        id: how many by their id.
        examples: of the first few, the `row` that contains the `item`, `how`, and the item's `text`.
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
        """Share of the test set whose words are in the training data."""
        return (self.exact + self.near) / self.size


def contaminated_sets(where: str, found: Contamination, index: ItemIndex) -> list[ContaminatedSet]:
    """What was found, by test set.

    Args:
        where: `corpora` or `replay`.
        found: what was found there.
        index: the items that were looked for.
    """
    examples: dict[tuple[str, str], dict[str, dict[str, str]]] = {}
    for overlap in sorted(found.overlaps, key=lambda each: OVERLAP_KINDS.index(each.kind)):
        item = overlap.item
        shown = examples.setdefault((item.task, item.language), {})
        if len(shown) < _EXAMPLES:
            shown.setdefault(
                item.item, {"row": overlap.row, "item": item.item, "how": overlap.kind, "text": item.text}
            )
    return [
        ContaminatedSet(
            where,
            task,
            language,
            index.sizes[task, language],
            **counts,
            examples=tuple(examples[task, language].values()),
        )
        for (task, language), counts in found.table().items()
    ]


def contamination_metadata(check: ContaminationCheck, found: dict[str, Contamination]) -> dict[str, Any]:
    """What run.json says of contamination.

    Args:
        check: what was looked for, and what is done about it.
        found: by kind of training data (`corpora`, `replay`), what was found.
    """
    index = check.index
    sets = [one for where, each in found.items() if index for one in contaminated_sets(where, each, index)]
    return {
        "action": check.action,
        "not_checked": check.reason,
        "texts": 0 if index is None else len(index),
        "checked": {where: each.checked for where, each in found.items()},
        "dropped": {where: each.dropped for where, each in found.items()},
        "leaked": [asdict(one) for one in sets],
    }


def check_texts(texts: Iterable[tuple[str, Iterable[str]]], index: ItemIndex) -> Contamination:
    """Looks for test items in training texts of any kind.

    Args:
        texts: the id of each row or example, and its texts.
        index: the test items.
    """
    found = Contamination()
    remaining = iter(texts)
    while batch := list(islice(remaining, _BATCH)):
        found.checked += len(batch)
        found.overlaps.extend(index.find_all(batch))
    return found


def check_corpus(
    corpus: Corpus, check: ContaminationCheck, progress: Progress = silent
) -> tuple[Corpus, Contamination]:
    """Looks for test items in a corpus, and acts on the rows that contain them.

    Args:
        corpus: the rows to train on.
        check: the test items; `report` leaves the corpus as it is, `drop` takes the rows out and counts them.
        progress: reports rows checked.

    Raises:
        DataError: something was found and the action is `refuse`, or every row would be dropped.
    """
    if check.index is None:
        return corpus, Contamination()

    def texts() -> Iterator[tuple[str, Iterable[str]]]:
        for number, row in enumerate(corpus):
            if number % 1000 == 0:
                progress("checking the training data for test items", number, len(corpus), "")
            yield row.id, row.texts.values()

    found = check_texts(texts(), check.index)
    rows = rows_to_drop(found, check.action)
    if not rows:
        return corpus, found
    kept = [place for place, row in enumerate(corpus) if row.id not in rows]
    counts = counts_without(corpus.counts, found, len(corpus) - len(kept))
    return corpus.take(kept, counts, corpus.languages), found


def rows_to_drop(found: Contamination, action: ContaminationAction) -> set[str]:
    """The ids of the rows to leave out of a corpus for what was found in it.

    Raises:
        DataError: something was found, and the action is `refuse`.
    """
    refuse_contamination(found, action, f"{len(found.rows)} rows of the training corpus")
    return found.rows if action == "drop" else set()


def counts_without(counts: Counts, found: Contamination, dropped: int) -> Counts:
    """The counts of a corpus without a number of contaminated rows, which is noted in what was found as well.

    Raises:
        DataError: no row is left.
    """
    if dropped == counts.kept:
        raise DataError(f"all {counts.kept} rows of the corpus overlap with test items:\n{found.describe()}")
    found.dropped = dropped
    left = Counts(counts.read, counts.kept - dropped, dict(counts.dropped))
    left.drop(IN_TEST_SET, dropped)
    return left


def refuse_contamination(found: Contamination, action: ContaminationAction, what: str) -> None:
    """Refuses training data that contain test items, where the configuration says so.

    Args:
        found: what was found.
        action: nothing is refused unless it is `refuse`.
        what: which data, with a number ("3 rows of the training corpus").

    Raises:
        DataError: something was found, and the action is `refuse`.
    """
    if found.overlaps and action == "refuse":
        raise DataError(
            f"contamination: {what} overlap with test items:\n{found.describe()}\n"
            "Set contamination: drop to leave them out, or report to train on them nevertheless; or choose other "
            "training data or another task."
        )
