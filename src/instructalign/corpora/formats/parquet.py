"""Parquet: a column for each language, or a struct of them as in the translation sets on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.corpora.formats.jsonl import rows_from_records
from instructalign.corpora.formats.rows import Language
from instructalign.errors import DataError
from instructalign.records import Counts, ParallelRow


def read(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[Language, str] | None = None,
    id: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads a Parquet file, or all `*.parquet` of a folder in the order of their names.

    Args:
        languages: canonical codes; the columns of others are left alone.
        counts: takes what was read and dropped.
        path: the file or folder.
        columns: the column of each language; dots lead into structs (`translation.en`). By default those
            that are language codes, or are so within a struct `translation`.
        id: the column that names the rows; by default they are named by their number.

    Raises:
        DataError: a file is missing or not Parquet, or a column is not there.
    """
    yield from rows_from_records(languages, counts, _records(path), path, columns=columns, id=id)


def _records(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path} holds no *.parquet file.")
    number = 0
    for file in files:
        try:
            with ParquetFile(file) as table:
                for batch in table.iter_batches(batch_size=1024):
                    for record in batch.to_pylist():
                        number += 1
                        yield number, record
        except FileNotFoundError:
            raise DataError(f"{file} does not exist.") from None
        except (ArrowException, OSError, ValueError) as error:
            raise DataError(f"{file}: not Parquet, or damaged ({error}). Get the file again.") from None
