"""Which sentences to translate next: `instructalign select`.

A choice of sentences is worth the weight of the n-grams of words that it covers. An n-gram weighs as much as it
occurs in the corpus, and nothing once it is translated. That is monotone and submodular, so that the greedy choice
of a number of sentences reaches at least 1 − 1/e of the best one (Nemhauser, Wolsey and Fisher 1978). It is
evaluated lazily (Minoux 1978): what a sentence adds only falls as others are chosen. For active learning of
translation see Eck, Vogel and Waibel 2005 and Bloodgood and Callison-Burch 2010.
"""

from __future__ import annotations

import heapq
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.config import Config, EvaluationConfig
from instructalign.config_draft import columns_by_language, format_of, languages_of
from instructalign.data.corpus import corpus_names, read_entry
from instructalign.data.formats import MissingLanguagesError
from instructalign.data.normalization import fold
from instructalign.errors import DataError
from instructalign.instructions.segmentation import words
from instructalign.plugins import FORMATS
from instructalign.progress import Progress, silent
from instructalign.types import Counts

SourceSentence = tuple[str, str, bool]
"""A sentence's id, its text, and whether it is translated already."""

_CHUNK = 20_000  # sentences at a time
_BUCKETS = 1 << 24  # n-grams are told apart by their hash: two in a bucket count as one
_FEW, _STALE = 100, 0.02  # candidates, and share of them, evaluated one by one before all are again
_CACHE = 500_000  # words whose hash is kept
_MIXED = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio


@dataclass(frozen=True, slots=True)
class SentenceChoice:
    """The sentences to translate next.

    Attributes:
        sentences: the id and the text of each, in the order in which they were chosen.
        words: how many words they have together.
        before, after: the share of the corpus's n-grams, as they occur, that is covered by what is translated, and
            with the chosen sentences too.
        candidates: how many sentences there were to choose from.
        left_out: how many of the corpus's were none, by reason.
    """

    sentences: tuple[tuple[str, str], ...]
    words: int
    before: float
    after: float
    candidates: int
    left_out: Mapping[str, int]


def select_sentences(
    corpus: Path,
    *,
    source: str,
    target: str,
    budget: int,
    in_words: bool = False,
    column: str | None = None,
    translated: Sequence[Path] = (),
    config: Config | None = None,
    model: str | None = None,
    order: int = 2,
    shortest: int = 3,
    longest: int = 40,
    progress: Progress = silent,
) -> SentenceChoice:
    """Chooses the sentences of a corpus that say most about the rest, within a budget.

    Args:
        corpus: text, a sentence a line, or any file of a corpus format; a row that has text in `target` already
            counts as translated.
        source, target: the languages to translate from and into.
        budget: sentences, or words.
        in_words: whether the budget is in words.
        column: the column of the source in a table; by default the one named by its code or name.
        translated: files of what is translated already, in whole, or in the rows that have text in `target`.
        config: its corpora are translated where they have both languages.
        model: a folder or Hub name; an n-gram then counts as much as the model is uncertain of the sentence that
            it stands in (nats per byte, relative to the mean).
        order: the longest n-grams, in words.
        shortest, longest: words that a sentence must have at least, and at most.
        progress: called with what is under way.

    Raises:
        DataError: a file cannot be read, has no text in the source, or leaves nothing to choose from.
    """
    counts = Counts()
    cover = NgramCover(order, shortest, longest)
    cover.add(read_candidates(corpus, source, target, column, counts), progress)
    left_out = {**counts.dropped, **cover.left_out}
    if not len(cover):
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        raise DataError(f"{corpus}: no sentence to choose from{f': {reasons}' if reasons else ''}.")
    for path in translated:
        cover.cover(
            text for _, text, done in read_candidates(path, source, target, column, Counts(), True) if done
        )
    for entry, name in zip(config.corpora, corpus_names(config.corpora), strict=True) if config else ():
        try:
            rows = read_entry(entry, name, [source, target], Counts())
            cover.cover(row.texts[source] for row in rows if source in row.texts and target in row.texts)
        except MissingLanguagesError:
            continue
    before = cover.share()

    def texts(numbers: Sequence[int]) -> Iterator[tuple[str, str]]:
        wanted = iter(numbers)
        number = next(wanted, None)
        for place, (id, text, _) in enumerate(read_candidates(corpus, source, target, column, Counts())):
            if place == number:
                yield id, text
                number = next(wanted, None)

    if model is not None:
        cover.weigh(_uncertainty((text for _, text in texts(cover.numbers)), len(cover), model, progress))
    progress("choosing sentences", 0, 0, "")
    chosen = cover.choose(budget, in_words)
    places = sorted(cover.numbers[each] for each in chosen)
    found = dict(zip(places, texts(places), strict=True))
    return SentenceChoice(
        tuple(found[cover.numbers[each]] for each in chosen),
        sum(cover.words[each] for each in chosen),
        before,
        cover.share(),
        len(cover),
        left_out,
    )


def read_candidates(
    path: Path, source: str, target: str, column: str | None, counts: Counts, translated: bool = False
) -> Iterator[SourceSentence]:
    """The sentences of a file in the source language.

    Args:
        path, source, target, column: as in `select_sentences`.
        counts: takes what was read and dropped.
        translated: whether sentences are translated where the file does not have the target language at all.
    """
    kind, languages = format_of(path), [source]
    entry: dict[str, Any] = {"format": kind, "path": path}
    if kind == "moses":
        entry |= {"format": "text", "documents": "lines"}  # whose ids are the lines' numbers
    elif (found := columns_by_language(path, kind)) is not None:
        columns, names = found
        name: str | int | None = columns.get(source) if column is None else column
        if name not in names:
            raise DataError(
                f"{path}: no column {column or f'is called {source}, as its code or its name'}; columns: "
                f"{', '.join(names)}. Name the one of the sentences: --column NAME"
            )
        entry["columns"] = {source: name} | ({target: columns[target]} if target in columns else {})
        languages = [*entry["columns"]]
    elif {source, target} <= {*languages_of(entry)}:
        languages = [source, target]
    counts.least = 1  # what is not translated yet is a row as well
    checked = FORMATS.check(entry["format"], entry)
    for row in FORMATS.get(checked.name)(languages, counts, **checked.options):
        if source not in row.texts:
            counts.drop(f"no text in {source}")
        else:
            yield row.id, row.texts[source], target in row.texts if target in languages else translated


def _uncertainty(texts: Iterator[str], count: int, model: str, progress: Progress) -> NDArray[np.float32]:
    """A model's negative log-likelihood of texts per byte, relative to the mean of all [texts]."""
    from instructalign.evaluation.perplexity import score_texts
    from instructalign.evaluation.task_selection import TextPlan
    from instructalign.training.models import load_model

    loaded, found = load_model(model), array("f")
    construct: Any = Config.model_construct  # all that scoring asks of a configuration is the size of a batch
    settings = construct(evaluation=EvaluationConfig())
    while some := list(islice(texts, 1000)):
        plan = TextPlan("select", "", {"": [(str(number), text) for number, text in enumerate(some)]})
        records = score_texts(loaded, plan, settings, None)[0][0]
        found.extend(-each["score"] / len(each["answer"].encode()) for each in records)
        progress("scoring sentences", len(found), count, "")
    values = np.array(found, np.float32)
    relative: NDArray[np.float32] = values / values.mean()
    return relative


class NgramCover:
    """The n-grams of sentences by hash, and which of them are covered.

    Takes the same memory for any corpus but for 24 bytes a sentence: the n-grams of each are in a temporary file.

    Args:
        order: the longest n-grams, in words.
        shortest, longest: words that a candidate has at least and at most; others are read, but not chosen.

    Attributes:
        words, numbers: of each candidate, its words, and its place among all sentences read, from 0 [candidates].
        left_out: how many sentences are no candidates, by reason.
    """

    def __init__(self, order: int = 2, shortest: int = 1, longest: int = 1 << 20) -> None:
        self._order, self._shortest, self._longest = order, shortest, longest
        self._weights = np.zeros(_BUCKETS, np.float32)  # occurrences by bucket
        # The uncertainty that is covered; infinite where translated.
        self._covered = np.zeros(_BUCKETS, np.float32)
        self._hashes: dict[str, int] = {}
        self._file = tempfile.TemporaryFile(prefix="instructalign-")  # noqa: SIM115 (closed by __del__)
        self._offsets = array("Q", [0])
        self.words, self.numbers = array("I"), array("Q")
        self._uncertainty: NDArray[np.float32] | None = None
        self._read = 0
        self.left_out: dict[str, int] = {}

    def __del__(self) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self.words)

    def add(self, candidates: Iterable[SourceSentence], progress: Progress = silent) -> None:
        """Reads sentences of the corpus, whose n-grams get their weight from it."""
        rest = iter(candidates)
        while some := list(islice(rest, _CHUNK)):
            lengths, grams, owner = self._ngrams([text for _, text, _ in some])
            np.add.at(self._weights, grams, np.float32(1))
            done = np.array([translated for *_, translated in some])
            self._covered[grams[done[owner]]] = np.inf
            reasons = {
                "translated already": done,
                f"shorter than {self._shortest} words": ~done & (lengths < self._shortest),
                f"longer than {self._longest} words": ~done & (lengths > self._longest),
            }
            for reason, which in reasons.items():
                if count := int(which.sum()):
                    self.left_out[reason] = self.left_out.get(reason, 0) + count
            keep = ~np.logical_or.reduce([*reasons.values()])
            pairs = (owner[keep[owner]].astype(np.uint64) << np.uint64(32)) | grams[keep[owner]]
            pairs.sort()
            pairs = pairs[np.flatnonzero(np.diff(pairs, prepend=~pairs[:1]))]  # np.unique is ten times slower
            (pairs & np.uint64(0xFFFFFFFF)).astype(np.uint32).tofile(self._file)
            counts = np.bincount((pairs >> np.uint64(32)).astype(np.int64), minlength=len(some))[keep]
            self._offsets.extend((self._offsets[-1] + np.cumsum(counts)).tolist())
            self.words.extend(lengths[keep].tolist())
            self.numbers.extend((self._read + np.flatnonzero(keep)).tolist())
            self._read += len(some)
            progress("reading sentences", self._read, 0, "")
        self._file.flush()

    def cover(self, texts: Iterable[str]) -> None:
        """Marks the n-grams of texts that are translated."""
        rest = iter(texts)
        while some := list(islice(rest, _CHUNK)):
            self._covered[self._ngrams(some)[1]] = np.inf

    def weigh(self, uncertainty: NDArray[np.float32]) -> None:
        """Makes each n-gram count as much as it is uncertain where it stands.

        Args:
            uncertainty: of each candidate, 1 on average [candidates].
        """
        self._uncertainty = uncertainty

    def share(self) -> float:
        """The share of the n-grams, as they occur, that is covered."""
        return float(
            self._weights[self._covered > 0].sum(dtype=np.float64) / max(1.0, self._weights.sum(dtype=float))
        )

    def choose(self, budget: int, in_words: bool = False) -> list[int]:
        """The greedy choice of candidates, in its order; their n-grams are covered then.

        Of a budget in words, what a sentence adds counts by word, or not, whichever ends up worth more: the better
        of the two is at least (1 − 1/e)/2 of the best choice (Leskovec et al. 2007, CELF).
        """
        costs = np.array(self.words, np.uint32) if in_words else np.ones(len(self), np.uint32)
        if not in_words:
            return self._greedy(budget, costs, False)[0]
        alone, worth = self._greedy(budget, costs, False)
        self._uncover(alone)
        chosen, value = self._greedy(budget, costs, True)
        if worth > value:
            self._uncover(chosen)
            for number in alone:
                self._take(number)
        return alone if worth > value else chosen

    def _greedy(self, budget: int, costs: NDArray[np.uint32], by_cost: bool) -> tuple[list[int], float]:
        """The greedy choice, by what a sentence adds or by that over its cost, and what it is worth."""
        divisor = costs if by_cost else np.ones_like(costs)
        chosen: list[int] = []
        value, computed = 0.0, len(self) + _FEW
        while True:
            if computed >= _FEW + _STALE * len(self):  # all at once is quicker than many one by one
                bounds = self._gains() / divisor
                order = np.argsort(-bounds, kind="stable")
                waiting: list[tuple[float, int, int]] = []  # −bound, candidate, how many were chosen then
                at, computed, age = 0, 0, len(chosen)
            if at < len(order) and (not waiting or (-bounds[order[at]], order[at]) < waiting[0]):
                known, number, age_of = -float(bounds[order[at]]), int(order[at]), age
                at += 1
            elif waiting:
                known, number, age_of = heapq.heappop(waiting)
            else:
                return chosen, value
            if known >= 0:  # what is left adds nothing
                return chosen, value
            if costs[number] > budget:
                continue
            if age_of < len(chosen):
                computed += 1
                heapq.heappush(waiting, (-self._gain(number) / float(divisor[number]), number, len(chosen)))
                continue
            value += self._gain(number)
            budget -= int(costs[number])
            chosen.append(number)
            self._take(number)

    def _gains(self) -> NDArray[np.float64]:
        """What each candidate adds [candidates], as `_gain`."""
        gains = np.zeros(len(self))
        for first in range(0, len(self), _CHUNK):
            last = min(first + _CHUNK, len(self))
            grams = self._grams(first, last)
            starts = np.frombuffer(self._offsets, np.uint64)[first : last + 1].astype(np.int64)
            left = np.repeat(self._level(first, last), np.diff(starts)) - self._covered[grams]
            values = self._weights[grams].astype(np.float64) * np.maximum(0, left)
            gains[first:last] = np.add.reduceat(values, starts[:-1] - starts[0])
        return gains

    def _gain(self, number: int) -> float:
        grams = self._grams(number, number + 1)
        left = np.maximum(0, self._level(number, number + 1) - self._covered[grams])
        return float((self._weights[grams].astype(np.float64) * left).sum())

    def _level(self, first: int, last: int) -> NDArray[np.float32]:
        return np.ones(last - first, np.float32) if self._uncertainty is None else self._uncertainty[first:last]

    def _take(self, number: int) -> None:
        grams = self._grams(number, number + 1)
        self._covered[grams] = np.maximum(self._covered[grams], self._level(number, number + 1))

    def _uncover(self, chosen: Sequence[int]) -> None:
        for number in chosen:
            grams = self._grams(number, number + 1)
            self._covered[grams] = np.where(np.isinf(self._covered[grams]), np.inf, 0)

    def _grams(self, first: int, last: int) -> NDArray[np.uint32]:
        """The buckets of the n-grams of candidates, each once in a sentence."""
        start, end = 4 * self._offsets[first], 4 * self._offsets[last]
        return np.frombuffer(os.pread(self._file.fileno(), end - start, start), np.uint32)

    def _ngrams(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.uint32], NDArray[np.int64]]:
        """The number of words of each text, the buckets of all n-grams, and the text of each."""
        split = [words(fold(text)) for text in texts]
        lengths = np.array([len(some) for some in split], np.int64)
        hashes = np.fromiter(map(self._hash, (word for some in split for word in some)), np.uint64, lengths.sum())
        owner = np.repeat(np.arange(len(texts)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(owner))  # words from here to the text's end
        grams, owners, at = [], [], np.arange(len(owner))
        longer = np.zeros(len(owner), np.uint64)
        for length in range(1, self._order + 1):
            at = at[left[at] >= length]
            longer = (longer[at] * _MIXED + hashes[at + length - 1]) ^ np.uint64(length)
            spread = longer * _MIXED
            grams.append((spread >> np.uint64(40)).astype(np.uint32))
            owners.append(owner[at])
            whole = np.zeros(len(owner), np.uint64)
            whole[at] = longer
            longer = whole
        return lengths, np.concatenate(grams), np.concatenate(owners)

    def _hash(self, word: str) -> int:
        found = self._hashes.get(word)
        if found is None:
            if len(self._hashes) >= _CACHE:
                self._hashes.clear()
            found = self._hashes[word] = int.from_bytes(blake2b(word.encode(), digest_size=8).digest(), "big")
        return found
