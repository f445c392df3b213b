"""Tables with a column for each language: TSV and CSV."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import StringConstraints

from instructalign.data.formats.columns import Language, columns_by_code, make_row, select
from instructalign.errors import DataError, suggest
from instructalign.files import read_lines
from instructalign.types import Counts, ParallelRow

Column = str | int
"""A column by its name in the header, or by its number from 1."""


def read_tsv(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[Language, Column] | None = None,
    id: Column | None = None,
    header: bool = True,
    quoting: bool = False,
) -> Iterator[ParallelRow]:
    """Reads a table whose columns are set apart by tabs; see `read_csv`. Quotation marks are plain text."""
    yield from read_csv(
        languages, counts, path=path, columns=columns, id=id, header=header, delimiter="\t", quoting=quoting
    )


def read_csv(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[Language, Column] | None = None,
    id: Column | None = None,
    header: bool = True,
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ",",
    quoting: bool = True,
) -> Iterator[ParallelRow]:
    """Reads a table whose columns are set apart by commas or another character.

    Args:
        languages: canonical codes; the columns of others are left alone.
        counts: takes what was read and dropped.
        path: the file.
        columns: the column of each language; by default those whose names are language codes.
        id: the column that names the rows; by default they are named by the number of their line.
        header: whether the first line names the columns.
        delimiter: the character between two columns.
        quoting: whether quotation marks around a field are not part of it, so that it may hold delimiters
            and line ends. Off, every character but the delimiter and the line end is text.

    Raises:
        DataError: the file is missing or not UTF-8, a column is not there, or a quotation mark is left open.
    """
    records = _records(path, delimiter, quoting)
    _, first = next(records, (0, []))
    if not first:
        raise DataError(f"{path} is empty.")
    names = [name.strip() for name in first] if header else None
    id_place = None if id is None else _place(path, id, names, len(first))
    if columns is None:
        if names is None:
            raise DataError(
                f"{path}: with header: false say which is which, for example columns: {{eng: 1, ind: 2}}."
            )
        columns = columns_by_code(names, None if id_place is None else names[id_place], path)
    chosen = select(languages, columns, path)
    places = [(code, _place(path, column, names, len(first))) for code, column in chosen.items()]
    for number, fields in records if header else _chain((1, first), records):
        if not any(map(str.strip, fields)):
            counts.read += 1
            counts.drop("empty")
        elif len(fields) != len(first):
            counts.read += 1
            counts.drop("wrong number of columns")
        else:
            name = str(number) if id_place is None else fields[id_place].strip()
            row = make_row(name, [(code, fields[place]) for code, place in places], counts)
            if row:
                yield row


def _records(path: Path, delimiter: str, quoting: bool) -> Iterator[tuple[int, list[str]]]:
    """The fields of each record, with the number of the record's first line."""
    if not quoting:
        for number, line in read_lines(path):
            yield number, line.split(delimiter)
        return
    # Before Python 3.11, csv refuses NUL; half of a surrogate pair is dropped and counted as NUL is.
    lines = (line.replace("\0", "\ud800") + "\n" for _, line in read_lines(path))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            yield start, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{start}: not CSV ({error}; noticed in line {reader.line_num}). A quotation mark may "
                f"be left open; where quotation marks are plain text, set quoting: false."
            ) from None


def _chain(first: tuple[int, list[str]], rest: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    yield first
    yield from rest


def _place(path: Path, column: Column, names: Sequence[str] | None, width: int) -> int:
    """The index from 0 of a column given by name or by its number from 1."""
    if isinstance(column, int):
        if not 1 <= column <= width:
            raise DataError(f"{path}: there is no column {column}; columns are numbered from 1 to {width}.")
        return column - 1
    if names is None:
        raise DataError(f"{path}: with header: false columns go by number, 1 to {width}; found {column!r}.")
    if names.count(column) != 1:
        problem = "no column" if column not in names else f"{names.count(column)} columns"
        raise DataError(f"{path}: {problem} named {column!r}. {suggest(column, names)}")
    return names.index(column)
