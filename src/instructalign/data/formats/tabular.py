"""Corpora with a column or key for each language: CSV, TSV, JSON lines, Parquet and Hub datasets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

from instructalign.config import LanguageCode
from instructalign.data.formats import is_language, make_row, select_languages
from instructalign.data.readers import (
    Delimiter,
    Record,
    field_names,
    field_of,
    read_delimited,
    read_hub,
    read_parquet,
)
from instructalign.errors import DataError, suggest
from instructalign.files import read_jsonl
from instructalign.types import Counts, ParallelRow

ColumnKey = str | int
"""A column by its name in the header, or by its number from 1."""

HUB_ADVICE = "or download it and give its files as jsonl, csv, parquet or flores."


def read_tsv_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, ColumnKey] | None = None,
    id: ColumnKey | None = None,
    header: bool = True,
    quoting: bool = False,
    escape: Delimiter | None = None,
) -> Iterator[ParallelRow]:
    """Reads a tab-separated table, as `read_csv_rows`; quotation marks are plain text by default.

    Args:
        languages, counts: as in `read_csv_rows`.
        path: the file.
        columns: the column of each language; by default those whose names are language codes.
        id: the column with the row ids; by default a row's id is the number of its line.
        header: whether the first line names the columns.
        quoting: whether quotation marks around a field are not part of it.
        escape: with quoting, the character before a quotation mark that is text.

    Example:
        {format: tsv, path: corpus.tsv, columns: {eng: English, jav: Javanese}}
    """
    records = read_delimited(path, "\t", quoting, escape)
    return rows_of_table(languages, counts, records, path, columns, id, header, short=quoting)


def read_csv_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, ColumnKey] | None = None,
    id: ColumnKey | None = None,
    header: bool = True,
    delimiter: Delimiter | None = None,
    quoting: bool = True,
    escape: Delimiter | None = None,
) -> Iterator[ParallelRow]:
    """Reads a table whose columns are separated by commas or another character.

    Args:
        languages: canonical codes; the columns of others are ignored.
        counts: takes what was read and dropped.
        path: the file.
        columns: the column of each language; by default those whose names are language codes.
        id: the column with the row ids; by default a row's id is the number of its line.
        header: whether the first line names the columns.
        delimiter: the character between two columns; by default commas, semicolons or tabs are found.
        quoting: whether quotation marks around a field are not part of it, so that it may contain delimiters and
            line ends. Without, every character but the delimiter and the line end is text.
        escape: with quoting, the character before a quotation mark that is text: a backslash in MySQL's tables.
            By default such a quotation mark is doubled.

    Raises:
        DataError: the file is missing or not UTF-8, a column does not exist, or a quotation mark is left open.

    Example:
        {format: csv, path: corpus.csv, columns: {eng: English, jav: Javanese}, id: No}
    """
    records = read_delimited(path, delimiter, quoting, escape)
    return rows_of_table(languages, counts, records, path, columns, id, header, short=quoting)


def read_jsonl_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, str] | None = None,
    id: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads JSON lines: one object a line, with a key for each language.

    Args:
        languages: canonical codes; the keys of others are ignored.
        counts: takes what was read and dropped.
        path: the file.
        columns: the key of each language; dots lead into objects (`translation.en`). By default the keys
            that are language codes, in the record itself or in its object `translation`.
        id: the key of the row ids; by default a row's id is the number of its line.

    Raises:
        DataError: the file is missing, a line is not a JSON object, or no record has one of the keys.

    Example:
        {format: jsonl, path: corpus.jsonl, columns: {eng: translation.en, jav: translation.jv}}
    """
    return _rows_of_records(languages, counts, read_jsonl(path), path, columns, id)


def read_parquet_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, str] | None = None,
    id: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads a Parquet file, or all `*.parquet` of a folder by name; or `.arrow` (IPC) files.

    Args:
        languages, counts: as in `read_jsonl_rows`.
        path: the file or folder.
        columns: the column of each language; dots lead into structs (`translation.en`). By default those that are
            language codes, at the top or in a struct `translation`.
        id: the column with the row ids; by default a row's id is its number.

    Raises:
        DataError: a file is missing or damaged, or a column does not exist.

    Example:
        {format: parquet, path: corpus.parquet, columns: {eng: en, jav: jv}}
    """
    return _rows_of_records(languages, counts, read_parquet(path), path, columns, id)


def read_hub_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    name: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    data_files: str | list[str] | None = None,
    columns: Mapping[LanguageCode, str] | None = None,
    id: str | None = None,
    streaming: bool = True,
) -> Iterator[ParallelRow]:
    """Reads a Hub dataset that has a column for each language.

    Args:
        languages, counts: as in `read_jsonl_rows`.
        name: the dataset, or a local folder in the Hub's layout.
        subset, split, revision, data_files: as in `datasets.load_dataset`.
        columns: the column of each language; dots lead into objects (`translation.en`). By default those that are
            language codes, at the top or in an object `translation`.
        id: the column with the row ids; by default a row's id is its number.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the dataset cannot be loaded, or has no such column.

    Example:
        {format: hub, name: Helsinki-NLP/opus-100, subset: en-id, split: validation}
    """
    records = read_hub(
        name, subset, HUB_ADVICE, split=split, revision=revision, data_files=data_files, streaming=streaming
    )
    return _rows_of_records(languages, counts, records, name, columns, id)


def rows_of_table(
    languages: Sequence[str],
    counts: Counts,
    records: Iterator[tuple[int, list[str]]],
    path: object,
    columns: Mapping[str, ColumnKey] | None,
    id: ColumnKey | None,
    header: bool,
    *,
    short: bool = False,
) -> Iterator[ParallelRow]:
    """The rows of a table's numbered records; the other arguments are those of `read_csv_rows`.

    Empty cells behind the last column are no reason to drop a row; neither are missing ones under last columns
    that have no name.

    Args:
        short: neither are missing ones under last columns that are not read. Not for tables without quotation
            marks: there, a shorter row may be half of one that was broken by a line end.

    Raises:
        DataError: there is no record, or a column does not exist.
    """
    line, first = next(records, (0, []))
    if not first:
        problem = "the first line is empty" if line else "the file is empty"
        raise DataError(f"{path}: {problem}; expected {'the names of the columns' if header else 'a row'}.")
    names = [name.strip() for name in first]

    def index_of(column: ColumnKey) -> int:
        if isinstance(column, int):
            if not 1 <= column <= len(first):
                raise DataError(f"{path}: no column {column}; columns are numbered from 1 to {len(first)}.")
            return column - 1
        if not header:
            raise DataError(f"{path}: header: false needs column numbers, 1 to {len(first)}; found {column!r}.")
        if names.count(column) != 1:
            problem = "no column" if column not in names else f"{names.count(column)} columns"
            raise DataError(f"{path}: {problem} named {column!r}. {suggest(column, names)}")
        return names.index(column)

    id_index = None if id is None else index_of(id)
    if columns is None and not header:
        raise DataError(f"{path}: header: false needs column numbers, for example columns: {{eng: 1, ind: 2}}.")
    if columns is None:
        columns = columns_by_code(names, None if id_index is None else names[id_index], path)
    places = [(code, index_of(column)) for code, column in select_languages(languages, columns, path).items()]
    used = [place for _, place in places] + ([] if id_index is None else [id_index])
    named = max((place for place, name in enumerate(names, start=1) if name or not header), default=0)
    least = max(used, default=0) + 1 if short else max(named, *(place + 1 for place in used))
    for number, fields in records if header else chain([(line, first)], records):
        if not any(map(str.strip, fields)):
            counts.read += 1
            counts.drop("empty", row=str(number))
        elif len(fields) < least or any(map(str.strip, fields[len(first) :])):
            counts.read += 1
            counts.drop("wrong number of columns", row=str(number), fields=fields)
        else:
            name = str(number) if id_index is None else fields[id_index].strip()
            row = make_row(name, [(code, fields[place]) for code, place in places], counts)
            if row:
                yield row


def columns_by_code(names: Sequence[str], id: object, where: object) -> dict[str, str]:
    """The columns whose names are language codes, alone or after `translation.`.

    Args:
        names: of all columns.
        id: the column with the row ids; it is no language, although `id` is the code of Indonesian. Nor is `no`.
        where: the corpus, for the error message.

    Raises:
        DataError: no column has such a name, or `id` could be either.
    """
    codes = {name.removeprefix("translation."): name for name in names if name != id}
    # `no` is Norwegian's old code, and in tables the number of the row.
    found = {code: name for code, name in codes.items() if is_language(code) and code.lower() != "no"}
    if not found or ("id" in names and id is None and len(found) > 2):
        listed = ", ".join(name or "(no name)" for name in names)
        problem = "the column 'id' could be Indonesian or the row ids" if found else "no column is a language code"
        raise DataError(
            f"{where}: {problem}; columns: {listed or 'none'}. Name the column of each language, for example "
            "columns: {eng: english, ind: indonesian}."
        )
    return found


def _rows_of_records(
    languages: Sequence[str],
    counts: Counts,
    records: Iterable[Record],
    where: object,
    columns: Mapping[str, str] | None,
    id: str | None,
) -> Iterator[ParallelRow]:
    chosen: dict[str, str] = {}
    unseen: set[str] = set()
    keys: list[str] = []
    for number, record in records:
        if not chosen:
            keys = list(field_names(record))
            chosen = select_languages(languages, columns or columns_by_code(keys, id, where), where)
            unseen = {*chosen.values(), *([id] if id else [])}
        values = {code: field_of(record, key) for code, key in chosen.items()}
        name = number if id is None else field_of(record, id)
        if unseen:  # keys that no record has had so far
            unseen -= {chosen[code] for code, value in values.items() if value is not None}
            unseen -= {id} if name is not None else set()
        if any(value is not None and not isinstance(value, str) for value in values.values()):
            counts.read += 1
            counts.drop("not text", row=str(name), fields={code: repr(value) for code, value in values.items()})
            continue
        fields = [(code, text or "") for code, text in values.items()]
        if row := make_row("" if name is None else str(name), fields, counts):
            yield row
    if unseen:
        key = min(unseen)
        raise DataError(f"{where}: no record has the key {key!r}. {suggest(key, keys)}")
