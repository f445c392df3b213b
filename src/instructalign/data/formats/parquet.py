"""Parquet or Arrow: a column for each language, or a struct of them as in the translation sets on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.data.formats.columns import Language, rows_from_records
from instructalign.errors import DataError
from instructalign.types import Counts, ParallelRow


def read(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[Language, str] | None = None,
    id: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads a Parquet file, or all `*.parquet` of a folder in the order of their names; or `.arrow` (IPC) files.

    Args:
        languages: canonical codes; the columns of others are left alone.
        counts: takes what was read and dropped.
        path: the file or folder.
        columns: the column of each language; dots lead into structs (`translation.en`). By default those
            that are language codes, or are so within a struct `translation`.
        id: the column that names the rows; by default they are named by their number.

    Raises:
        DataError: a file is missing or damaged, or a column is not there.
    """
    yield from rows_from_records(languages, counts, _records(path), path, columns=columns, id=id)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import ArrowException

    number = 0
    for file in _files(path):
        try:
            for batch in _batches(file):
                for record in batch.to_pylist():
                    number += 1
                    yield number, record
        except FileNotFoundError:
            raise DataError(f"{file} does not exist.") from None
        except (ArrowException, OSError, ValueError) as error:
            kind = "Arrow" if file.suffix == ".arrow" else "Parquet"
            raise DataError(f"{file}: not {kind}, or damaged ({error}). Get the file again.") from None


def _files(path: Path) -> list[Path]:
    files = [path] if not path.is_dir() else sorted(path.glob("*.parquet")) or sorted(path.glob("*.arrow"))
    if not files:
        raise DataError(f"{path} holds no *.parquet file, and no *.arrow file.")
    return files


def _batches(file: Path) -> Iterator[Any]:
    """The records of a file, some at a time."""
    if file.suffix == ".arrow":
        from pyarrow import ipc, memory_map

        with memory_map(str(file)) as mapped, ipc.open_file(mapped) as reader:
            for place in range(reader.num_record_batches):
                batch = reader.get_batch(place)
                yield from (batch.slice(start, 1024) for start in range(0, len(batch), 1024))
    else:
        from pyarrow.parquet import ParquetFile

        with ParquetFile(file) as table:
            yield from table.iter_batches(batch_size=1024)
