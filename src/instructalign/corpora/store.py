"""Rows in little memory: packed, in a temporary file where they are many, found by offset."""

from __future__ import annotations

import marshal
import os
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

from instructalign.errors import DataError
from instructalign.records import ParallelRow

_IN_MEMORY = 128 << 20
"""Bytes of packed rows up to which a store is kept in memory."""


class RowStore(Sequence[ParallelRow]):
    """A sequence of rows that keeps the text of a large corpus out of the process's memory.

    A row takes 8 bytes of memory and its UTF-8 text; the text of a large store lies in a temporary file (in
    the folder TMPDIR). Reading a row takes two microseconds, four from the file. The file has no name, so
    that nothing is left behind whatever happens. Forked processes share it; one that is started otherwise (a
    spawned worker) gets a copy.

    Args:
        rows: stored in this order; consumed once.

    Raises:
        DataError: the disk is full.
    """

    def __init__(self, rows: Iterable[ParallelRow]) -> None:
        self._offsets = array("Q", [0])
        self._file = tempfile.TemporaryFile(prefix="instructalign-")  # noqa: SIM115 (closed by __del__)
        numbers: dict[tuple[str, ...], int] = {}
        end = 0
        for row in rows:
            codes = tuple(row.texts)
            number = numbers.setdefault(codes, len(numbers))
            # marshal is the fastest packing that Python has. Its format may change between versions, which
            # does not matter here: the file lives no longer than the process.
            end += self._write(marshal.dumps((row.id, number, *row.texts.values())))
            self._offsets.append(end)
        self._write(b"", flush=True)
        self._languages = list(numbers)
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
        start, end = self._offsets[index], self._offsets[index + 1]
        if self._data is not None:
            packed = self._data[start:end]
        else:
            # Not seek and read, which forked processes would do to one another; not a memory map, whose pages
            # would count as the process's own.
            packed = os.pread(self._file.fileno(), end - start, start)
        id, number, *texts = marshal.loads(packed)
        return ParallelRow(id, dict(zip(self._languages[number], texts, strict=True)))

    def __iter__(self) -> Iterator[ParallelRow]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
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
