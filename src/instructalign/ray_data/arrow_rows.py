"""Rows in a folder that many processes and machines can read: memory-mapped Arrow files.

A file has the columns `id` and one for each language, null where a row lacks it; any Arrow library reads it. The
file `rows.json` lists the files in the rows' order.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from pathlib import Path
from typing import Any

from instructalign.data.corpus import RowSequence, language_runs
from instructalign.errors import DataError
from instructalign.files import atomic, write_json
from instructalign.types import ParallelRow

_INDEX = "rows.json"
_RUNS = 1000  # runs of rows with the same languages that the index keeps of a file


class ArrowRows(RowSequence):
    """The rows of a folder, by number, without a copy of them in memory.

    Processes on one machine share the page cache; pickled, it is the folder's name.

    Args:
        folder: what `write_part` and `write_index` wrote.

    Raises:
        DataError: the folder holds no rows.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / _INDEX
        if not path.is_file():
            raise DataError(f"{folder} holds no rows: {_INDEX} is missing.")
        index = json.loads(path.read_text(encoding="utf-8"))
        self.languages: list[str] = index["languages"]
        self._files: list[str] = [part["file"] for part in index["parts"]]
        self._runs: list[Any] = [part["runs"] for part in index["parts"]]
        self._ends = list(accumulate(part["rows"] for part in index["parts"]))
        self._columns: dict[int, list[Any]] = {}

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def row(self, number: int) -> ParallelRow:
        """The row of a number."""
        part = bisect_right(self._ends, number)
        place = number - (self._ends[part - 1] if part else 0)
        if part not in self._columns:
            self._columns[part] = read_columns(self.folder / self._files[part])
        id, *texts = self._columns[part]
        values = [column[place].as_py() for column in texts]
        return ParallelRow(id[place].as_py(), _present(self.languages, values))

    def __iter__(self) -> Iterator[ParallelRow]:
        for file in self._files:
            yield from read_part(self.folder / file, self.languages)

    def language_runs(self) -> Iterator[tuple[frozenset[str], int]]:
        """See `corpus.language_runs`; the rows are read only where there are too many runs for the index."""
        for file, runs in zip(self._files, self._runs, strict=True):
            if runs is None:
                yield from language_runs(read_part(self.folder / file, self.languages))
            else:
                yield from ((frozenset(languages), rows) for languages, rows in runs)

    def __reduce__(self) -> tuple[Any, ...]:
        return ArrowRows, (self.folder,)


def write_part(path: Path, rows: Sequence[ParallelRow], languages: Sequence[str]) -> dict[str, Any]:
    """Writes some rows to one file, all or nothing.

    Args:
        path: the file.
        rows: the rows; text in languages that are not listed is left out.
        languages: the columns.

    Returns:
        The file's entry in the folder's index.
    """
    import pyarrow

    names = ["id", *languages]
    columns = [[row.id for row in rows], *([row.texts.get(code) for row in rows] for code in languages)]
    arrays = [pyarrow.array(column, pyarrow.large_string()) for column in columns]
    batch = pyarrow.record_batch(arrays, names=names)
    with atomic(path) as file, pyarrow.ipc.new_file(file, batch.schema) as writer:
        writer.write_batch(batch)
    runs = list(islice(language_runs(rows), _RUNS + 1))
    known = [[sorted(spoken), count] for spoken, count in runs] if len(runs) <= _RUNS else None
    return {"file": path.name, "rows": len(rows), "runs": known}


def write_index(folder: Path, languages: Sequence[str], parts: Sequence[Mapping[str, Any]]) -> None:
    """Writes the index of a folder of rows.

    Args:
        folder: where the files are.
        languages: the columns of every file.
        parts: what `write_part` returned for each file, in the rows' order.
    """
    write_json(folder / _INDEX, {"languages": list(languages), "parts": list(parts)})


def read_part(path: Path, languages: Sequence[str]) -> Iterator[ParallelRow]:
    """The rows of one file, with the languages that are its columns."""
    id, *texts = read_columns(path)
    for name, *values in zip(id.to_pylist(), *(column.to_pylist() for column in texts), strict=True):
        yield ParallelRow(name, _present(languages, values))


def _present(languages: Sequence[str], values: Sequence[str | None]) -> dict[str, str]:
    return {code: text for code, text in zip(languages, values, strict=True) if text is not None}


def read_columns(path: Path) -> list[Any]:
    """The columns of a file that `write_part` wrote, mapped into memory."""
    import pyarrow

    try:
        with pyarrow.memory_map(str(path)) as file:  # what is read from it stays mapped when it is closed
            batch: list[Any] = pyarrow.ipc.open_file(file).get_batch(0).columns
            return batch
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(
            f"{path}: these rows cannot be read ({error}). Delete the folder and make it again."
        ) from None
