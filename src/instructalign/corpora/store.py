"""Rows in little memory: packed into a temporary file and mapped into memory, found by offset."""

from __future__ import annotations

import marshal
import mmap
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any, overload

from instructalign.errors import DataError
from instructalign.records import ParallelRow

# Pages of the map count as the process's own once they are read. In a large store they are let go after so
# many reads (the operating system still has them); a read brings in 64 KiB at most.
_SMALL = 128 << 20
_FORGET_AFTER = 2048


class RowStore(Sequence[ParallelRow]):
    """A sequence of rows that keeps their text out of the process's memory.

    A row takes 8 bytes of memory, and its UTF-8 text in a temporary file (in the folder TMPDIR) that is mapped
    into memory; reading one takes about two microseconds. The file has no name, so that nothing is left
    behind whatever happens. Forked processes share it; one that is started otherwise (a spawned worker) gets
    a copy.

    Args:
        rows: stored in this order; consumed once.

    Raises:
        DataError: the disk is full.
    """

    def __init__(self, rows: Iterable[ParallelRow]) -> None:
        self._offsets = array("Q", [0])
        self._reads = 0
        numbers: dict[tuple[str, ...], int] = {}
        with tempfile.TemporaryFile(prefix="instructalign-") as file:
            end = 0
            for row in rows:
                codes = tuple(row.texts)
                number = numbers.setdefault(codes, len(numbers))
                # marshal is the fastest packing that Python has. Its format may change between versions,
                # which does not matter here: the file lives no longer than the process.
                end += _write(file, marshal.dumps((row.id, number, *row.texts.values())))
                self._offsets.append(end)
            _write(file, None)
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
        self._reads += 1
        if self._reads % _FORGET_AFTER == 0 and len(self._data) > _SMALL:
            self._data.madvise(mmap.MADV_DONTNEED)
        start, end = self._offsets[index], self._offsets[index + 1]
        id, number, *texts = marshal.loads(self._data[start:end])
        return ParallelRow(id, dict(zip(self._languages[number], texts, strict=True)))

    def __iter__(self) -> Iterator[ParallelRow]:
        return (self[i] for i in range(len(self)))

    def __reduce__(self) -> tuple[Any, ...]:
        return RowStore, (list(self),)


def _write(file: IO[bytes], data: bytes | None) -> int:
    """Writes data, or what is still in the buffer where it is None."""
    try:
        return file.flush() or 0 if data is None else file.write(data)
    except OSError as error:
        raise DataError(
            f"the corpus cannot be kept in {tempfile.gettempdir()}: {error.strerror}. Free some space, or set "
            "TMPDIR to a folder on a larger disk."
        ) from None


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
