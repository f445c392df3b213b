"""Records with a text for each language somewhere in them: what JSON lines, Parquet and the Hub have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from instructalign.corpora.formats.rows import columns_by_code, make_row, select
from instructalign.errors import DataError, suggest
from instructalign.records import Counts, ParallelRow


def rows_from_records(
    languages: Sequence[str],
    counts: Counts,
    records: Iterable[tuple[int, dict[str, Any]]],
    where: object,
    *,
    columns: Mapping[str, str] | None,
    id: str | None,
) -> Iterator[ParallelRow]:
    """Rows from numbered records.

    Args:
        languages: canonical codes; what is there in others is left alone.
        counts: takes what was read and dropped.
        records: each with its number, by which its row is named where nothing else does.
        where: the corpus, for error messages.
        columns: the key of each language; dots lead into objects (`translation.en`). By default the keys that
            are language codes, in the record itself or in its object `translation`.
        id: the key that names the rows.

    Raises:
        DataError: no record has one of the keys.
    """
    chosen: dict[str, str] = {}
    unseen: set[str] = set()
    keys: list[str] = []
    for number, record in records:
        if not chosen:
            keys = list(_keys(record))
            chosen = select(languages, columns or columns_by_code(keys, id, where), where)
            unseen = {*chosen.values(), *([id] if id else [])}
        values = {code: _look_up(record, key) for code, key in chosen.items()}
        name = number if id is None else _look_up(record, id)
        if unseen:
            unseen -= {chosen[code] for code, value in values.items() if value is not None}
            unseen -= {id} if name is not None else set()
        if any(value is not None and not isinstance(value, str) for value in values.values()):
            counts.read += 1
            counts.drop("not text")
            continue
        row = make_row(
            "" if name is None else str(name), [(code, text or "") for code, text in values.items()], counts
        )
        if row:
            yield row
    if unseen:
        key = min(unseen)
        raise DataError(f"{where}: no record has the key {key!r}. {suggest(key, keys)}")


def _look_up(record: Any, key: str) -> Any:
    for part in key.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(part)
    return record


def _keys(record: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"
