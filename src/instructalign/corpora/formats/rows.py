"""What every reader needs: checked language keys, and rows made from raw fields."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Annotated, TypeVar

from pydantic import AfterValidator

from instructalign.errors import DataError
from instructalign.languages import canonical
from instructalign.records import Counts, ParallelRow

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
