"""From columns or records to parallel rows: which column holds which language."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator

from instructalign.errors import DataError, suggest
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow

T = TypeVar("T")


def _checked(code: str) -> str:
    try:
        return canonical(code)
    except DataError as error:
        raise ValueError(str(error)) from None


Language = Annotated[str, AfterValidator(_checked)]
"""A language code as an option of a reader; made canonical when the configuration is checked."""

# NUL marks a file that is not text (often UTF-16 read as UTF-8); lone surrogates cannot be written anywhere.
_BROKEN = re.compile("[\0\ud800-\udfff]")


def select(wanted: Sequence[str], present: Mapping[str, T], where: object) -> dict[str, T]:
    """Those of the wanted languages that a corpus has, in the order wanted.

    Args:
        wanted: canonical codes.
        present: by language code as the corpus or the user spells it, where its text is.
        where: the corpus, for the error message.

    Raises:
        DataError: two keys are one language, or the corpus has fewer than two of the wanted languages.
    """
    places: dict[str, T] = {}
    for code, place in present.items():
        if canonical(code) in places:
            raise DataError(f"{where}: {canonical(code)} is there twice ({', '.join(map(str, present))}).")
        places[canonical(code)] = place
    require_two(wanted, places, where)
    return {code: places[code] for code in wanted if code in places}


def columns_by_code(names: Sequence[str], id: object, where: object) -> dict[str, str]:
    """The columns whose names are language codes, alone or behind `translation.`.

    Args:
        names: of all columns.
        id: the column that names the rows; it is no language, although `id` is the code of Indonesian.
        where: the corpus, for the error message.

    Raises:
        DataError: no column is so named, or `id` may be meant as either.
    """
    found = {}
    for name in names:
        code = name.removeprefix("translation.")
        try:
            canonical(code)
        except DataError:
            continue
        if name != id:
            found[code] = name
    if not found or ("id" in names and id is None and len(found) > 2):
        listed = ", ".join(name or "(no name)" for name in names)
        problem = "'id' may be Indonesian or name the rows" if found else "no column is named by a language code"
        raise DataError(
            f"{where}: {problem}; columns: {listed or 'none'}. Say which is which, for example "
            "columns: {eng: english, ind: indonesian}."
        )
    return found


def require_two(wanted: Sequence[str], present: Collection[str], where: object) -> None:
    """Refuses a corpus that has fewer than two of the languages wanted; all codes are canonical.

    Raises:
        DataError: it has; the message lists what it does have.
    """
    found = [code for code in wanted if code in present]
    if len(found) < 2:
        raise DataError(
            f"{where}: parallel text needs two of the languages asked for ({', '.join(wanted)}), "
            f"and it has {', '.join(found) or 'none of them'}. "
            f"Languages there: {', '.join(sorted(present)) or 'none'}."
        )


def make_row(id: str, fields: Iterable[tuple[str, str]], counts: Counts) -> ParallelRow | None:
    """A row from (language, text) pairs, or None where they are no parallel row, counted with the reason.

    Space around a text is left out; a language whose text is empty is left out of the row.
    """
    counts.read += 1
    texts = {code: text for code, raw in fields if (text := raw.strip())}
    if len(texts) < 2:
        counts.drop("text in fewer than two languages" if texts else "empty")
    elif not id:
        counts.drop("no id")
    elif any(map(_BROKEN.search, texts.values())) or _BROKEN.search(id):
        counts.drop("broken characters (NUL or half of a surrogate pair)")
    else:
        return ParallelRow(id, texts)
    return None


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
