"""The corpus, parallel and monolingual: reads the configured files, cleans, deduplicates and splits them."""

from __future__ import annotations

import heapq
import logging
import marshal
import os
import tempfile
from abc import ABC, abstractmethod
from array import array
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from instructalign.config import Entry, FilterConfig
from instructalign.config_file import explain_all
from instructalign.data.deduplication import find_exact, find_near
from instructalign.data.filters import Cleaner, Removed, cleaning
from instructalign.data.shared_sentences import choose_heldout_of_both, find_placeholders, text_keys
from instructalign.errors import ConfigError, DataError
from instructalign.files import write_jsonl
from instructalign.languages import canonical, is_synthetic, plain_code, synthetic_code
from instructalign.notebooks import html_table
from instructalign.plugins import FORMATS, CorpusEntry
from instructalign.randomness import digest_key
from instructalign.types import Counts, ParallelRow

logger = logging.getLogger(__name__)

_IN_MEMORY = 128 << 20
"""Bytes of packed rows up to which a store is kept in memory."""


class RowSequence(Sequence[ParallelRow], ABC):
    """Rows by number, wherever their text is kept: a store has a length and gives one row."""

    @abstractmethod
    def row(self, number: int) -> ParallelRow:
        """The row of a number from 0 to below the length."""

    @overload
    def __getitem__(self, index: int) -> ParallelRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ParallelRow]: ...
    def __getitem__(self, index: int | slice) -> ParallelRow | list[ParallelRow]:
        if isinstance(index, slice):
            return [self.row(i) for i in range(*index.indices(len(self)))]
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} is outside a corpus of {len(self)}")
        return self.row(number)


class RowStore(RowSequence):
    """Rows that keep the text of a large corpus out of the process's memory.

    A row takes 8 bytes of memory and its UTF-8 text; the text of a large store is in a temporary file (in the
    folder TMPDIR). Reading a row takes two microseconds, four from the file. The file has no name, so that nothing
    is left on the disk whatever happens. Forked processes share it; a spawned one gets a copy.

    Args:
        rows: stored in this order; consumed once.

    Raises:
        DataError: the disk is full.
    """

    def __init__(self, rows: Iterable[ParallelRow]) -> None:
        self._offsets = array("Q", [0])
        self._file = tempfile.TemporaryFile(prefix="instructalign-")  # noqa: SIM115 (closed by __del__)
        numbers: dict[tuple[str, ...], tuple[int, int]] = {}  # of the languages, and of those with text
        spoken: dict[frozenset[str], int] = {}
        self._runs = array("Q"), array("Q")  # which languages, and how many rows in a row have text in them
        end = run = 0
        last = None
        for row in rows:
            codes, values = tuple(row.texts), tuple(row.texts.values())
            if codes not in numbers:
                numbers[codes] = len(numbers), spoken.setdefault(frozenset(codes), len(spoken))
            number, which = numbers[codes]
            if not all(map(str.strip, values)):
                which = spoken.setdefault(_with_text(row), len(spoken))
            if which != last:
                if run:
                    self._runs[1].append(run)
                self._runs[0].append(which)
                last, run = which, 0
            run += 1
            # marshal is the fastest serialisation that Python has. Its format may change between versions, which
            # does not matter here: the file lives no longer than the process.
            end += self._write(marshal.dumps((row.id, number, *values)))
            self._offsets.append(end)
        if run:
            self._runs[1].append(run)
        self._write(b"", flush=True)
        self._languages, self._spoken = list(numbers), list(spoken)
        self._data: bytes | None = None
        if end <= _IN_MEMORY or not hasattr(os, "pread"):
            self._file.seek(0)
            self._data = self._file.read()

    def __del__(self) -> None:
        self._file.close()

    def _write(self, data: bytes, flush: bool = False) -> int:
        try:
            written = self._file.write(data)
            if flush:
                self._file.flush()
        except OSError as error:
            raise DataError(
                f"the corpus cannot be kept in {tempfile.gettempdir()}: {error.strerror}. Free some space, or "
                "set TMPDIR to a folder on a larger disk."
            ) from None
        return written

    @property
    def languages(self) -> set[str]:
        """Every language that some row has."""
        return {code for codes in self._languages for code in codes}

    def language_runs(self) -> Iterator[tuple[frozenset[str], int]]:
        """See the function of this name; nothing is read again."""
        return ((self._spoken[which], rows) for which, rows in zip(*self._runs, strict=True))

    def __len__(self) -> int:
        return len(self._offsets) - 1

    def row(self, number: int) -> ParallelRow:
        """The row of a number."""
        start, end = self._offsets[number], self._offsets[number + 1]
        if self._data is not None:
            packed = self._data[start:end]
        else:
            # Not seek and read, which forked processes would do to one another; not a memory map, whose pages
            # would count as the process's own.
            packed = os.pread(self._file.fileno(), end - start, start)
        id, languages, *texts = marshal.loads(packed)
        return ParallelRow(id, dict(zip(self._languages[languages], texts, strict=True)))

    def __iter__(self) -> Iterator[ParallelRow]:
        return map(self.row, range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return RowStore, (list(self),)


BEYOND = "beyond instructions.sentences"
"""The reason under which rows are counted that a limited corpus leaves out."""

PLACEHOLDERS = "placeholders"
"""The name of the filter that takes them out, and the reason under which it counts rows."""

LARGE = 100_000
"""Rows from which one side of a split is assumed to have every language of the whole."""


class Corpus:
    """Parallel rows in a fixed order, with the counts of what was read and dropped on the way.

    A part of a corpus (without duplicates, without the held-out sentences, …) is the same rows with an index of
    the numbers that belong to it: 4 bytes per row.

    Args:
        rows: any sequence of rows; not copied.
        counts: what was read and dropped.
        languages: the languages in the rows, where they are known; found by iterating over the rows otherwise.
        removed: what each filter took out, by its name.
        index: the numbers of the rows that belong to the corpus, in order; all by default.
    """

    def __init__(
        self,
        rows: Sequence[ParallelRow],
        counts: Counts,
        languages: Iterable[str] | None = None,
        removed: Mapping[str, Removed] | None = None,
        index: Iterable[int] | None = None,
    ) -> None:
        self._rows = rows
        self._index = None if index is None else array("I" if len(rows) < 1 << 32 else "Q", index)
        self.counts = counts
        self.removed = dict(removed or {})
        if languages is None:
            languages = {code for languages, _ in self.language_runs() for code in languages}
        self.languages: tuple[str, ...] = tuple(sorted(set(languages)))

    @classmethod
    def from_pairs(cls, pairs: Iterable[Sequence[str]], languages: Sequence[str]) -> Corpus:
        """A corpus of sentences that Python has: `Corpus.from_pairs([("good", "apik")], ["eng", "jav"])`.

        Args:
            pairs: of each sentence its texts, in the order of the languages; an empty one or None is missing.
            languages: their codes or names.

        Raises:
            DataError: a language is unknown or named twice, or a sentence has another number of texts.
        """
        codes = [canonical(language) for language in languages]
        if len({*codes}) < len(codes):
            raise DataError(f"two of {', '.join(map(str, languages))} are the same language.")
        rows, counts = [], Counts()
        for number, texts in enumerate(pairs, 1):
            if isinstance(texts, str) or len(texts) != len(codes):
                raise DataError(
                    f"pair {number}: expected {len(codes)} texts ({', '.join(codes)}), found {texts!r}."
                )
            counts.read += 1
            given = {code: text for code, text in zip(codes, texts, strict=True) if isinstance(text, str) and text}
            if len(given) > 1:
                rows.append(ParallelRow(str(number), given))
            else:
                counts.drop("fewer than two languages")
        counts.kept = len(rows)
        return cls(rows, counts, codes)

    @classmethod
    def from_frame(cls, frame: Any) -> Corpus:
        """A corpus of a data frame (pandas or the like) whose columns are named as languages; as `from_pairs`.

        Raises:
            DataError: also where a column `id` beside two others could be Indonesian or the row ids.
        """
        names = list(frame.columns)
        if "id" in names and len(names) > 2:
            raise DataError("the column 'id' could be Indonesian or the row ids: call it ind, or leave it out.")
        return cls.from_pairs(zip(*(list(frame[name]) for name in names), strict=True), names)

    def save(self, path: str | Path) -> dict[str, Any]:
        """Writes the rows as JSON lines, and gives the entry that a configuration's `corpora` needs for them."""
        path = Path(path)
        write_jsonl(path, ({"id": row.id, **row.texts} for row in self))
        columns = {code: code for code in self.languages}
        return {"format": "jsonl", "path": str(path.resolve()), "columns": columns, "id": "id"}

    def _repr_html_(self) -> str:
        rows = [[row.id, *(row.texts.get(code, "") for code in self.languages)] for row in islice(self, 5)]
        return html_table(["id", *self.languages], rows, f"{len(self):,} rows. {self.counts}")

    def __len__(self) -> int:
        return len(self._rows) if self._index is None else len(self._index)

    def __getitem__(self, index: int) -> ParallelRow:
        return self._rows[index] if self._index is None else self._rows[self._index[index]]

    def __iter__(self) -> Iterator[ParallelRow]:
        return iter(self._rows) if self._index is None else map(self._rows.__getitem__, self._index)

    @property
    def whole(self) -> Sequence[ParallelRow]:
        """The rows of which this corpus is a part: before duplicates and one side of a split were left out."""
        return self._rows

    def texts(self, languages: Sequence[str]) -> Iterator[str]:
        """The texts in some languages, row by row."""
        return (row.texts[code] for row in self for code in languages if code in row.texts)

    def language_runs(self) -> Iterator[tuple[frozenset[str], int]]:
        """See the function of this name."""
        if self._index is None:
            return language_runs(self._rows)
        if not hasattr(self._rows, "language_runs"):
            return _language_runs(self)
        return _runs_at(language_runs(self._rows), np.asarray(self._index))

    def take(self, positions: Iterable[int], counts: Counts, languages: Iterable[str] | None = None) -> Corpus:
        """The rows at some positions, in their order.

        Args:
            positions: from 0, ascending.
            counts: of the part.
            languages: of the part, where they are known.
        """
        if self._index is not None:
            positions = map(self._index.__getitem__, positions)
        return Corpus(self._rows, counts, languages, self.removed, positions)

    def split(self, heldout: int | None, seed: int) -> tuple[Corpus, Corpus]:
        """Holds sentences out of training: (the rest, the held-out ones).

        The sentences with the smallest keyed hash of their id are held out, with all their rows, and with the
        rows that share a sentence of any language with them (`shared_sentences.choose_heldout`). So a
        sentence is on one side in all its languages and translations, whatever the order of the rows; and where no
        sentences are shared, one added to the corpus can take the place of one held-out sentence but moves no
        other. Of monolingual text and of pairs with a synthetic side, as many documents are held out, at most a
        tenth of them; they move no sentence of the parallel text.

        Args:
            heldout: how many sentences (distinct ids) to hold out; 0 for none, None for a tenth, at most 100.
            seed: gives another choice.

        Raises:
            DataError: the corpus has no more sentences than are to be held out.
        """
        if heldout == 0:
            return self, Corpus([], Counts())
        key = digest_key(seed, "heldout")
        ranks = np.fromiter((rank_number(row.id, key) for row in self), dtype=np.uint64, count=len(self))
        keys = text_keys(self, len(self), self.languages)
        chosen = choose_heldout_of_both(ranks, keys, heldout, without_translation(self))
        if not chosen.any():
            return self, Corpus([], Counts())
        inside = chosen.tobytes()
        return self._side(inside, 0, "held out"), self._side(inside, 1, "kept for training")

    def limit(self, sentences: int, seed: int) -> Corpus:
        """A part of the corpus: a number of its sentences, with all their rows, and all without real translation.

        The sentences with the smallest keyed hash of their id are taken, so that a smaller part is in every
        larger one. Where all text is monolingual, they are documents.

        Args:
            sentences: how many sentences (distinct ids), at least 1.
            seed: gives another choice.

        Raises:
            DataError: the corpus has fewer sentences.
        """
        key = digest_key(seed, "sentences")
        stay = without_translation(self)
        stay &= not stay.all()
        limited = (row for row, free in zip(self, stay, strict=True) if not free)
        last = last_taken(smallest((rank(row.id, key) for row in limited), sentences), sentences)
        beyond = bytes(not free and rank(row.id, key) > last for row, free in zip(self, stay, strict=True))
        return self._side(beyond, 0, BEYOND)

    def _side(self, sides: bytes, side: int, reason: str) -> Corpus:
        """The rows of one side [rows]; those of the other count as dropped for the reason."""
        size = sides.count(side)
        counts = side_counts(self.counts, size, reason, len(sides) - size)
        # A large side has every language; only a small one needs to be looked through.
        languages = self.languages if size > LARGE else None
        return self.take((i for i, value in enumerate(sides) if value == side), counts, languages)


def side_counts(counts: Counts, rows: int, reason: str, others: int) -> Counts:
    """The counts of one side of a split: the other side's rows are dropped for a reason."""
    side = Counts(counts.read, rows, dict(counts.dropped))
    side.drop(reason, others)
    return side


def language_runs(rows: Iterable[ParallelRow]) -> Iterator[tuple[frozenset[str], int]]:
    """The languages that rows have text in, and how many rows in a row have the same.

    Rows that have a method of this name are asked, as Arrow files know it; others are iterated over.
    """
    known: Callable[[], Iterator[tuple[frozenset[str], int]]] | None = getattr(rows, "language_runs", None)
    return _language_runs(rows) if known is None else known()


def _language_runs(rows: Iterable[ParallelRow]) -> Iterator[tuple[frozenset[str], int]]:
    return ((languages, sum(1 for _ in several)) for languages, several in groupby(map(_with_text, rows)))


def _with_text(row: ParallelRow) -> frozenset[str]:
    return frozenset(code for code, text in row.texts.items() if text.strip())


def _runs_at(
    runs: Iterable[tuple[frozenset[str], int]], index: NDArray[Any]
) -> Iterator[tuple[frozenset[str], int]]:
    """The runs of some rows, by those of all and the numbers of the rows, in ascending order."""
    numbers: dict[frozenset[str], int] = {}
    found = [(numbers.setdefault(languages, len(numbers)), rows) for languages, rows in runs]
    which, rows = np.array(found, dtype=np.int64).reshape(-1, 2).T
    chosen = which[np.searchsorted(np.cumsum(rows), index, side="right")]
    spoken = list(numbers)
    return ((spoken[number], sum(1 for _ in several)) for number, several in groupby(chosen.tolist()))


def monolingual(rows: Iterable[ParallelRow]) -> NDArray[np.bool_]:
    """Which rows are monolingual text [rows]."""
    return _rows_with(rows, lambda languages: len(languages) == 1)


def without_translation(rows: Iterable[ParallelRow]) -> NDArray[np.bool_]:
    """Which rows are monolingual text, or have no translation but one that a machine wrote [rows]."""
    return _rows_with(rows, lambda languages: sum(not is_synthetic(code) for code in languages) < 2)


def _rows_with(rows: Iterable[ParallelRow], fits: Callable[[frozenset[str]], bool]) -> NDArray[np.bool_]:
    """Whether the languages of each row fit [rows]."""
    runs = [(fits(languages), number) for languages, number in language_runs(rows)]
    found, numbers = np.array(runs, dtype=np.int64).reshape(-1, 2).T
    return np.repeat(found == 1, numbers)


def stored_languages(languages: Sequence[str], entries: Iterable[Entry]) -> list[str]:
    """The languages that are read, and the codes of those that a machine wrote in some corpus."""
    made = {code for entry in entries for code in entry.synthetic or ()}
    return [*languages, *(synthetic_code(code) for code in languages if code in made)]


def rank(id: str, key: bytes) -> bytes:
    """The rank of a sentence in the order in which sentences are held out."""
    return blake2b(id.encode(), digest_size=16, key=key).digest()


def rank_number(id: str, key: bytes) -> int:
    """The beginning of the rank, as a number of 64 bits: in the same order, and as good as unique."""
    return int.from_bytes(rank(id, key)[:8], "big")


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


def read_corpora(
    entries: Sequence[Entry | Mapping[str, Any]],
    languages: Sequence[str],
    filter: FilterConfig | None = None,
    optional: Collection[str] = (),
) -> Corpus:
    """Reads corpora one after another into one, cleans it, and takes duplicates out.

    A row's id gets the name of its corpus as a prefix (`flores200/dev-0001`), so that ids of two corpora are
    never mistaken for each other: the label given to it, or the name of its file or folder. Corpora of one label
    share their ids, so that a sentence that several of them have is split as one.

    Args:
        entries: the corpora, as in a configuration: `{"format": "moses", "files": {"en": …, "id": …}}`.
        languages: the languages to read, the known ones first; text in others is not read.
        filter: which rows to keep; all by default.
        optional: languages of which there need not be text.

    Raises:
        ConfigError: an entry is wrong.
        DataError: a file is wrong, nothing is left of a corpus, or no corpus has text in one of the others.
    """
    checked = check_entries(entries)
    codes = stored_languages(list(dict.fromkeys(map(canonical, languages))), checked)
    counts = Counts()
    with cleaning(filter or FilterConfig(preset="none")) as cleaner:
        rows = RowStore(_rows(checked, codes, counts, cleaner))
        if cleaner.placeholders:
            found = find_placeholders(list(text_keys(rows, len(rows), codes)))
            if any(each.any() for each in found):
                rows = RowStore(without_placeholders(rows, dict(zip(codes, found, strict=True)), counts, cleaner))
        find = {"exact": find_exact, "near": find_near}.get(cleaner.duplicates)
        index = None
        if find is not None:
            similarity = np.zeros(len(rows), dtype=np.uint16)
            for number, value in find(rows):
                similarity[number] = round(1000 * value)
            index = take_out_duplicates(rows, similarity, counts, cleaner)
    check_languages(codes, rows.languages, cleaner.removed, optional)
    return Corpus(rows, counts, rows.languages, cleaner.removed, index)


def without_placeholders(
    rows: Iterable[ParallelRow], found: Mapping[str, NDArray[np.uint32]], counts: Counts, cleaner: Cleaner
) -> Iterator[ParallelRow]:
    """The rows without the texts that are placeholders; a row that is left with fewer than two texts is dropped.

    Args:
        rows: the rows.
        found: by language, what `find_placeholders` gave for them [rows].
        counts: counts of the corpus, which are changed.
        cleaner: takes the rejects.
    """
    for place, row in enumerate(rows):
        out = [code for code in row.texts if found[code][place]]
        for code in out:
            cleaner.remove(PLACEHOLDERS, row.id, code, row.texts[code], float(found[code][place]))
        left = {code: text for code, text in row.texts.items() if code not in out} if out else row.texts
        if len(left) >= min(2, len(row.texts)):
            yield ParallelRow(row.id, left) if out else row
        else:
            cleaner.removed[PLACEHOLDERS].rows += 1
            counts.drop(PLACEHOLDERS)
            counts.kept -= 1


def take_out_duplicates(
    rows: Sequence[ParallelRow], similarity: NDArray[np.uint16], counts: Counts, cleaner: Cleaner
) -> Any:
    """Counts duplicates as dropped and writes them to the rejects.

    Args:
        rows: the rows.
        similarity: how similar each is to an earlier one, in thousandths; 0 for rows to keep [rows].
        counts: counts of the corpus, which are changed.
        cleaner: takes the rejects.

    Returns:
        The numbers of the rows to keep [kept], or None for all.
    """
    duplicates = np.flatnonzero(similarity)
    if not len(duplicates):
        return None
    for number in duplicates.tolist():
        row = rows[number]
        code, text = next(iter(row.texts.items()))
        cleaner.remove("duplicates", row.id, code, text, int(similarity[number]) / 1000)
    cleaner.removed["duplicates"].rows = len(duplicates)
    counts.drop("duplicates", len(duplicates))
    counts.kept -= len(duplicates)
    return np.flatnonzero(similarity == 0)


def check_languages(
    languages: Sequence[str],
    found: Collection[str],
    removed: Mapping[str, Removed],
    optional: Collection[str] = (),
) -> None:
    """Refuses corpora without text in one of the languages; a warning is logged for optional ones.

    Raises:
        DataError: there is none; the message lists the languages found, and what filters took out.
    """
    spoken = set(map(plain_code, found))
    lacking = [code for code in dict.fromkeys(map(plain_code, languages)) if code not in spoken]
    absent = [code for code in lacking if code not in optional]
    missing = [code for code in lacking if code in optional]
    if missing and not absent and len(spoken) > 1:
        logger.warning("no corpus has text in %s: nothing is aligned with it", ", ".join(missing))
    if absent:
        taken = ", ".join(f"{name} {each.texts}" for name, each in removed.items())
        raise DataError(
            f"no corpus has text in {', '.join(absent)}. Languages found: "
            f"{', '.join(sorted(spoken)) or 'none'}. Add a corpus, or take the language out of the "
            f"configuration.{f' Texts taken out by filters: {taken}.' if taken else ''}"
        )


def check_entries(entries: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
    """Entries with checked options; those of a configuration are checked already, and stay as they are.

    Raises:
        ConfigError: an entry is wrong; all problems are listed.
    """
    if isinstance(entries, (str, Path, Mapping)):  # `list` would make letters or keys of it
        example = "[{'format': 'csv', 'path': 'pairs.csv'}]"
        raise ConfigError([f"corpora: expected a list of entries, such as {example}, found {entries!r}"])
    try:
        return TypeAdapter(list[CorpusEntry]).validate_python(list(entries))
    except ValidationError as error:
        raise ConfigError(explain_all(error.errors(), "corpora")) from None


def _rows(
    entries: Sequence[Entry], languages: Sequence[str], total: Counts, cleaner: Cleaner
) -> Iterator[ParallelRow]:
    entries = [entry for entry in entries if entry.is_for(languages)]
    for entry, name in zip(entries, corpus_names(entries), strict=True):
        counts = Counts(reject=partial(cleaner.reject, name))
        yield from clean_rows(read_entry(entry, name, languages, counts), cleaner, counts)
        check_kept(entry, name, counts)
        total.add(counts)


def read_entry(entry: Entry, name: str, languages: Sequence[str], counts: Counts) -> Iterator[ParallelRow]:
    """The rows of one corpus, with its name as a prefix of their ids; of monolingual text, a row for each line."""
    languages = [code for code in languages if not is_synthetic(code)]
    if entry.languages is not None:
        languages = [code for code in languages if code in entry.languages]
        counts.least = min(2, len(entry.languages))
    unmarked = None  # the languages of the row before, where none of them needs a mark
    for row in FORMATS.get(entry.name)(languages, counts, **entry.options):
        texts = row.texts
        if (codes := texts.keys()) != unmarked:
            texts = _marked(row, entry, name)
            unmarked = codes if texts is row.texts else None
        if counts.least != 1:
            yield ParallelRow(f"{name}/{row.id}", texts)
            continue
        lines = ((code, line.strip()) for code, text in row.texts.items() for line in text.splitlines())
        parts = [{code: line} for code, line in lines if line]
        counts.read += len(parts) - 1
        for part in parts:
            yield ParallelRow(f"{name}/{row.id}", part)


def _marked(row: ParallelRow, entry: Entry, name: str) -> Mapping[str, str]:
    """The texts of a row, those that a machine wrote under `synthetic_code`.

    Raises:
        DataError: a record says that a text is synthetic, and the configuration does not.
    """
    made = [plain_code(code) for code in row.texts if is_synthetic(code)]
    if made and entry.synthetic is None:
        raise DataError(
            f"corpus {name!r}, row {row.id}: its record says that the text in {', '.join(made)} is synthetic. Add "
            f"synthetic: [{', '.join(made)}] to the corpus, so that the model is never taught to write it; or "
            "synthetic: [] to treat it like any other."
        )
    if not made and not entry.synthetic:
        return row.texts
    chosen = entry.synthetic or ()
    texts = {
        synthetic_code(code) if plain_code(code) in chosen else plain_code(code): text
        for code, text in row.texts.items()
    }
    return {code: texts[code] for code in sorted(texts, key=is_synthetic)}  # in the order of `stored_languages`


def clean_rows(rows: Iterable[ParallelRow], cleaner: Cleaner, counts: Counts) -> Iterator[ParallelRow]:
    """The rows that filters leave, counted as kept; the others are counted with their reasons."""
    for each in rows:
        row, reason = cleaner.clean(each)
        if row is None:  # whose texts the cleaner has written to the rejects
            counts.dropped[reason] = counts.dropped.get(reason, 0) + 1
        else:
            counts.kept += 1
            yield row


def check_kept(entry: Entry, name: str, counts: Counts) -> None:
    """Refuses a corpus of which nothing is left.

    Raises:
        DataError: nothing is left; the message lists the reasons.
    """
    if not counts.kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
        raise DataError(
            f"corpus {name!r} ({entry.name}) has no rows: {counts.read} read"
            f"{f', all dropped: {reasons}' if reasons else ''}."
        )


def corpus_names(entries: Sequence[Entry]) -> list[str]:
    """A name for each corpus: its label, or that of its file or folder, and parent folders where two are equal."""
    places = [_place(entry) for entry in entries]
    names: list[str] = []
    for index, (entry, parts) in enumerate(zip(entries, places, strict=True)):
        others = [other for other in places if other != parts]
        length = 1
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in others):
            length += 1
        twins = sum(other == parts for other in places[:index])
        name = "/".join(parts[-length:]) + (f"-{twins + 1}" if twins else "")
        names.append(entry.label or name)
    return names


def _place(entry: Entry) -> tuple[str, ...]:
    """The parts of the first path among an entry's options, without endings; its format where it has none."""
    for option in entry.options.values():
        for value in option.values() if isinstance(option, Mapping) else [option]:
            if isinstance(value, Path):
                return (*value.parts[:-1], value.name.partition(".")[0] or value.name)
    return (entry.name,)
