"""Rows in little memory: packed into a temporary file, mapped into memory, found by offset."""

from __future__ import annotations

import marshal
import mmap
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from instructalign.records import ParallelRow


class RowStore(Sequence[ParallelRow]):
    """A sequence of rows that keeps their text out of the process's own memory.

    A row takes 8 bytes of memory and its UTF-8 text on disk; reading one takes about a microsecond. The file
    has no name, so that nothing is left behind whatever happens; forked processes share it.

    Args:
        rows: stored in this order; consumed once.
    """

    def __init__(self, rows: Iterable[ParallelRow]) -> None:
        self._offsets = array("Q", [0])
        self._languages: list[tuple[str, ...]] = []
        numbers: dict[tuple[str, ...], int] = {}
        end = 0
        with tempfile.TemporaryFile(prefix="instructalign-") as file:
            for row in rows:
                codes = tuple(row.texts)
                number = numbers.setdefault(codes, len(numbers))
                # marshal is the fastest packing that Python has; the file lives no longer than the process,
                # so that its format may differ between versions does not matter.
                end += file.write(marshal.dumps((row.id, number, *row.texts.values())))
                self._offsets.append(end)
            file.flush()
            self._data: Any = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if end else b""
        self._languages = list(numbers)

    @property
    def languages(self) -> set[str]:
        """Every language that some row has."""
        return {code for codes in self._languages for code in codes}

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, index: int) -> ParallelRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ParallelRow]: ...
    def __getitem__(self, index: int | slice) -> ParallelRow | list[ParallelRow]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if index < 0:
            index += len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"row {index} is outside a corpus of {len(self)}")
        offsets = self._offsets
        id, number, *texts = marshal.loads(self._data[offsets[index] : offsets[index + 1]])
        return ParallelRow(id, dict(zip(self._languages[number], texts, strict=True)))

    def __iter__(self) -> Iterator[ParallelRow]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        # A process that was not forked (spawned workers) gets a copy.
        return RowStore, (list(self),)


class Selection(Sequence[ParallelRow]):
    """Some rows of a sequence, by index, without a copy of them."""

    def __init__(self, rows: Sequence[ParallelRow], indices: Iterable[int]) -> None:
        self._rows = rows
        self._indices = array("Q", indices)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> ParallelRow: ...
    @overload
    def __getitem__(self, index: slice) -> list[ParallelRow]: ...
    def __getitem__(self, index: int | slice) -> ParallelRow | list[ParallelRow]:
        if isinstance(index, slice):
            return [self._rows[i] for i in self._indices[index]]
        return self._rows[self._indices[index]]
