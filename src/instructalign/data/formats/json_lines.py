"""JSON lines: one object a line, with a key for each language."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from instructalign.data.formats.columns import Language, rows_from_records
from instructalign.files import read_jsonl
from instructalign.types import Counts, ParallelRow


def read(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[Language, str] | None = None,
    id: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads a JSON-lines file.

    Args:
        languages: canonical codes; the keys of others are left alone.
        counts: takes what was read and dropped.
        path: the file.
        columns: the key of each language; dots lead into objects (`translation.en`). By default the keys
            that are language codes, in the record itself or in its object `translation`.
        id: the key that names the rows; by default they are named by the number of their line.

    Raises:
        DataError: the file is missing, a line is not a JSON object, or no record has one of the keys.
    """
    yield from rows_from_records(languages, counts, read_jsonl(path), path, columns=columns, id=id)
