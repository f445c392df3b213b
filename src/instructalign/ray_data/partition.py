"""Dividing cleaned rows into those to train on and those held out, part by part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from instructalign.config import InstructionsConfig
from instructalign.data.contamination import Contamination, ItemIndex, check_texts
from instructalign.data.corpus import first_kept, last_taken, rank, smallest
from instructalign.randomness import digest_key
from instructalign.ray_data.cleaning import Part
from instructalign.ray_data.row_files import read_part, write_index, write_part
from instructalign.ray_data.session import each
from instructalign.types import ParallelRow


@dataclass(slots=True)
class Side:
    """The rows of one side.

    Attributes:
        parts: what the index says of each file.
        rows: how many rows there were before any was dropped.
        languages: the languages of these.
    """

    parts: list[dict[str, Any]] = field(default_factory=list)
    rows: int = 0
    languages: set[str] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Sieve:
    """Which side a sentence is on, as `Corpus.split` and then `Corpus.limit` have it.

    Attributes:
        key, limit: sentences of a lower rank by this key are held out.
        key_taken, last: of the others, those of a higher rank by this key are left out; all are taken without.
    """

    key: bytes
    limit: bytes = b""
    key_taken: bytes = b""
    last: bytes | None = None

    def side(self, id: str) -> int:
        """0 for training, 1 for held out, 2 for neither."""
        if rank(id, self.key) < self.limit:
            return 1
        return 2 * (self.last is not None and rank(id, self.key_taken) > self.last)


class Divider:
    """Divides rows into sides, part by part.

    Args:
        folder: holds the parts in `blocks`; the sides go to `train` and `heldout`.
        parts: in the rows' order.
        alive: whether each row is still there [rows].
        languages: the columns of the parts.
        config: says how many sentences are held out, and how many taken.
        seed: the configuration's.

    Raises:
        DataError: the corpus has fewer sentences.
    """

    def __init__(
        self,
        folder: Path,
        parts: Sequence[Part],
        alive: Any,
        languages: Sequence[str],
        config: InstructionsConfig,
        seed: int,
    ) -> None:
        self._folder, self._parts = folder, parts
        self._shared = {"folder": folder, "alive": alive, "languages": languages}
        heldout, sentences = config.heldout, config.sentences
        self._sieve = Sieve(digest_key(seed, "heldout"), key_taken=digest_key(seed, "sentences"))
        if heldout:
            ranks = self._ranks(self._sieve.key, heldout + 1)
            self._sieve = replace(self._sieve, limit=first_kept(ranks, heldout))
        if sentences is not None:
            ranks = self._ranks(self._sieve.key_taken, sentences)
            self._sieve = replace(self._sieve, last=last_taken(ranks, sentences))

    def leaks(self, index: ItemIndex) -> Contamination:
        """The test items among the rows to train on, as `check_texts` finds them."""
        found = Contamination()
        for _, here in sorted(self._each(_leaks, index=index), key=lambda one: one[0]):
            found.checked += here.checked
            found.leaks.extend(here.leaks)
        return found

    def write(self, given: set[str]) -> tuple[Side, Side, int]:
        """Writes both sides, leaving the rows of some ids out of those to train on.

        Returns:
            The rows to train on, those held out, and the number of rows on neither side.
        """
        sides = Side(), Side()
        beyond = 0
        for name in ("train", "heldout"):
            (self._folder / name).mkdir()
        for _, left, *written in sorted(self._each(_write, given=given), key=lambda one: one[0]):
            beyond += left
            for side, (parts, rows, languages) in zip(sides, written, strict=True):
                side.parts += parts
                side.rows += rows
                side.languages |= languages
        for side, name in zip(sides, ("train", "heldout"), strict=True):
            write_index(self._folder / name, self._shared["languages"], side.parts)
        return (*sides, beyond)

    def _ranks(self, key: bytes, count: int) -> list[bytes]:
        return smallest(chain.from_iterable(self._each(_ranks, key=key, count=count)), count)

    def _each(self, work: Any, **more: Any) -> Iterator[Any]:
        return each([asdict(part) for part in self._parts], work, sieve=self._sieve, **self._shared, **more)


def _rows(
    stem: str, begin: int, rows: int, folder: Path, alive: Any, languages: Sequence[str]
) -> Iterator[ParallelRow]:
    here = alive[begin : begin + rows].tolist()
    for row, there in zip(read_part(folder / "blocks" / f"{stem}.arrow", languages), here, strict=True):
        if there:
            yield row


def _ranks(*, sieve: Sieve, key: bytes, count: int, **part: Any) -> list[bytes]:
    """The smallest ranks of a part's rows that are not held out yet."""
    return smallest((rank(row.id, key) for row in _rows(**part) if sieve.side(row.id) != 1), count)


def _leaks(*, stem: str, sieve: Sieve, index: ItemIndex, **part: Any) -> tuple[str, Contamination]:
    trained = ((row.id, row.texts.values()) for row in _rows(stem, **part) if sieve.side(row.id) == 0)
    return stem, check_texts(trained, index)


def _write(*, stem: str, sieve: Sieve, given: set[str], **part: Any) -> tuple[Any, ...]:
    """Writes a part's rows to both sides.

    Returns:
        The part's stem, how many rows are on neither side, and for each side: what the index says of its part, if
        there is one, how many rows there were before any was left out, and their languages.
    """
    sides: tuple[list[ParallelRow], ...] = [], [], []
    for row in _rows(stem, **part):
        sides[sieve.side(row.id)].append(row)
    written = []
    for rows, name, dropped in zip(sides[:2], ("train", "heldout"), (given, set()), strict=True):
        kept = [row for row in rows if row.id not in dropped]
        path = part["folder"] / name / f"{stem}.arrow"
        parts = [write_part(path, kept, part["languages"])] if kept else []
        written.append((parts, len(rows), {code for row in rows for code in row.texts}))
    return (stem, len(sides[2]), *written)
