"""Corpora with a column or key for each language: CSV, TSV, JSON lines, Parquet and Hub datasets."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path
from typing import Any

from instructalign.data.formats import (
    is_language,
    language_named,
    make_row,
    places_of_languages,
    require_languages,
    rows_of_variants,
    select_languages,
)
from instructalign.data.readers import (
    Delimiter,
    Record,
    check_escape,
    field_names,
    field_of,
    read_delimited,
    read_hub,
    read_json,
    read_parquet,
)
from instructalign.errors import DataError, suggest
from instructalign.files import notice
from instructalign.languages import SIDES, LanguageCode, canonical, code_of_name, synthetic_code
from instructalign.types import Counts, ParallelRow

ColumnKey = str | int
"""A column by its name in the header, or by its number from 1."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_HEADER_WITHIN = 50  # records
_SAMPLE = 200  # records whose keys are those of a file
_TAG_COLUMNS = {
    "lang",
    "language",
    "lang_code",
    "language_code",
    "langcode",
    "locale",
    "iso",
    "iso639-3",
    "bahasa",
}

_ERROR_VALUES = {"#N/A", "#N/D", "#NV", "#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!", "#SPILL!"}
"""What a spreadsheet shows, and writes into CSV, in place of a formula's value: Excel in three languages."""
_TEXT_OR_NONE = {str, type(None)}

HUB_ADVICE = "or download it and give its files as jsonl, csv, parquet or flores."


def read_tsv_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, ColumnKey] | None = None,
    id: ColumnKey | None = None,
    language_column: ColumnKey | None = None,
    text_column: ColumnKey | None = None,
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
        language_column, text_column: as in `read_csv_rows`.
        header: whether the first line names the columns.
        quoting: whether quotation marks around a field are not part of it.
        escape: with quoting, the character before a quotation mark that is text.

    Example:
        {format: tsv, path: corpus.tsv, columns: {eng: English, jav: Javanese}}
    """
    records = read_delimited(path, "\t", quoting, escape)
    long = long_columns(columns, id, language_column, text_column, path)
    return rows_of_table(languages, counts, records, path, columns, id, header, long, short=quoting)


def read_csv_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, ColumnKey] | None = None,
    id: ColumnKey | None = None,
    language_column: ColumnKey | None = None,
    text_column: ColumnKey | None = None,
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
        language_column, text_column: of a table with a row for each text, the columns of its language and of the
            text itself; rows with the same id are translations.
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
    long = long_columns(columns, id, language_column, text_column, path)
    return rows_of_table(languages, counts, records, path, columns, id, header, long, short=quoting)


def read_jsonl_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, str] | None = None,
    id: str | None = None,
    language_column: str | None = None,
    text_column: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads JSON lines: one object a line, with a key for each language; or a JSON array of such objects.

    One object with a list of texts for each language is read in the same way.

    Args:
        languages: canonical codes; the keys of others are ignored.
        counts: takes what was read and dropped.
        path: the file.
        columns: the key of each language; dots lead into objects (`translation.en`). By default the keys
            that are language codes, in the record itself or in its object `translation`.
        id: the key of the row ids; by default a row's id is the number of its line.
        language_column, text_column: of a table with a row for each text, the columns of its language and of the
            text itself; rows with the same id are translations.

    Raises:
        DataError: the file is missing, a line is not a JSON object, or no record has one of the keys.

    Example:
        {format: jsonl, path: corpus.jsonl, columns: {eng: translation.en, jav: translation.jv}}
    """
    long = long_columns(columns, id, language_column, text_column, path)
    return _rows_of_records(languages, counts, read_json(path), path, columns, id, long)


def read_parquet_rows(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    columns: Mapping[LanguageCode, str] | None = None,
    id: str | None = None,
    language_column: str | None = None,
    text_column: str | None = None,
) -> Iterator[ParallelRow]:
    """Reads a Parquet file, or all `*.parquet` of a folder by name; or `.arrow` (IPC) files.

    Args:
        languages, counts: as in `read_jsonl_rows`.
        path: the file or folder.
        columns: the column of each language; dots lead into structs (`translation.en`). By default those that are
            language codes, at the top or in a struct `translation`.
        id: the column with the row ids; by default a row's id is its number.
        language_column, text_column: as in `read_jsonl_rows`.

    Raises:
        DataError: a file is missing or damaged, or a column does not exist.

    Example:
        {format: parquet, path: corpus.parquet, columns: {eng: en, jav: jv}}
    """
    long = long_columns(columns, id, language_column, text_column, path)
    return _rows_of_records(languages, counts, read_parquet(path), path, columns, id, long)


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
    language_column: str | None = None,
    text_column: str | None = None,
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
        language_column, text_column: as in `read_jsonl_rows`.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the dataset cannot be loaded, or has no such column.

    Example:
        {format: hub, name: Helsinki-NLP/opus-100, subset: en-id, split: validation}
    """
    records = read_hub(
        name, subset, HUB_ADVICE, split=split, revision=revision, data_files=data_files, streaming=streaming
    )
    long = long_columns(columns, id, language_column, text_column, name)
    return _rows_of_records(languages, counts, records, name, columns, id, long)


def rows_of_table(
    languages: Sequence[str],
    counts: Counts,
    records: Iterator[tuple[int, list[str]]],
    path: object,
    columns: Mapping[str, ColumnKey] | None,
    id: ColumnKey | None,
    header: bool,
    long: tuple[ColumnKey, ColumnKey] | None = None,
    *,
    short: bool = False,
) -> Iterator[ParallelRow]:
    """The rows of a table's numbered records; the other arguments are those of `read_csv_rows`.

    Empty cells behind the last column are no reason to drop a row; neither are missing ones under last columns
    that have no name. A formula's error (#N/A) is an empty cell, as it is in a workbook.

    Args:
        long: the columns of language and text, of a table with a row for each text.
        short: neither are missing ones under last columns that are not read. Not for tables without quotation
            marks: there, a shorter row may be half of one that was broken by a line end.

    Raises:
        DataError: there is no record, or a column does not exist.
    """
    head = list(islice(records, _HEADER_WITHIN)) if header else [next(records, (0, []))]
    start = _header_line(head, languages, columns, id) if header else 0
    if start:
        above = f"line {head[0][0]} is" if start == 1 else f"lines {head[0][0]} to {head[start - 1][0]} are"
        notice(f"{path}: its columns are named in line {head[start][0]}; {above} left out, as titles.")
    line, first = head[start] if head else (0, [])
    records = chain(head[start + 1 :], records)
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

    rest = records if header else chain([(line, first)], records)
    if long and id is not None:
        three = [index_of(key) for key in (id, *long)]
        texts = (["".join(cells[at : at + 1]) for at in three] for _, cells in rest if any(cells))
        yield from _rows_of_texts(languages, counts, texts, path)
        return
    id_index = None if id is None else index_of(id)
    if columns is None and not header:
        raise DataError(f"{path}: header: false needs column numbers, for example columns: {{eng: 1, ind: 2}}.")
    if columns is None:
        columns = columns_by_code(names, None if id_index is None else names[id_index], path, languages)
    places = [(code, index_of(column)) for code, column in select_languages(languages, columns, path).items()]
    used = [place for _, place in places] + ([] if id_index is None else [id_index])
    named = max((place for place, name in enumerate(names, start=1) if name or not header), default=0)
    errors = 0
    least = max(used, default=0) + 1 if short else max(named, *(place + 1 for place in used))
    for number, fields in rest:
        if not any(map(str.strip, fields)):
            counts.read += 1
            counts.drop("empty", row=str(number))
        elif len(fields) < least or (len(fields) > len(first) and any(map(str.strip, fields[len(first) :]))):
            counts.read += 1
            counts.drop("wrong number of columns", row=str(number), fields=fields)
        else:
            name = str(number) if id_index is None else fields[id_index].strip()
            cells = {code: fields[place] for code, place in places}
            for code in [code for code, text in cells.items() if "#" in text and text.strip() in _ERROR_VALUES]:
                errors, cells[code] = errors + 1, ""
            if row := make_row(name, cells.items(), counts):
                yield row
    if errors:
        notice_errors(path, errors)


def notice_errors(path: object, count: int) -> None:
    """Tells the user that cells with a formula's error are read as empty ones."""
    notice(f"{path}: cells with a formula's error, such as #N/A or #REF!, are read as empty: {count:,}.")


def long_columns(
    columns: object, id: object, language_column: ColumnKey | None, text_column: ColumnKey | None, where: object
) -> tuple[ColumnKey, ColumnKey] | None:
    """The columns of language and text, if the table has a row for each text.

    Raises:
        DataError: one of the two or `id` is missing, or `columns` is there as well.
    """
    if problem := check_options(
        {"columns": columns, "id": id, "language_column": language_column, "text_column": text_column}
    ):
        raise DataError(f"{where}: {problem}")
    return None if language_column is None or text_column is None else (language_column, text_column)


def check_options(options: Mapping[str, object]) -> str:
    """What is inconsistent in the options of a table; empty if nothing is."""
    if problem := check_escape(options):
        return problem
    given = [key for key in ("language_column", "text_column") if options.get(key) is not None]
    if given and (len(given) < 2 or options.get("id") is None or options.get("columns")):
        found = [key for key in ("id", "columns") if options.get(key)] + given
        return (
            "a table with a row for each text needs language_column, text_column and id, and no columns; "
            f"found {', '.join(found)}"
        )
    return ""


def _rows_of_texts(
    languages: Sequence[str], counts: Counts, texts: Iterable[Sequence[Any]], where: object
) -> Iterator[ParallelRow]:
    """The rows of texts that each have the id of a row and a language, in any order.

    Args:
        texts: id, language and text.
    """
    codes: dict[str, str] = {}
    with closing(sqlite3.connect("")) as database:  # on disk: millions of texts do not fill the memory
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE ids (number INTEGER PRIMARY KEY, id TEXT UNIQUE)")
        database.execute("CREATE TABLE texts (number INTEGER, code TEXT, text TEXT)")
        for id, tag, text in texts:
            tag, id = str(tag or "").strip(), "" if id is None else str(id).strip()
            if tag not in codes:
                codes[tag] = language_named(tag) or tag
            if codes[tag] not in languages:
                continue
            if not id or not isinstance(text, str) or _SURROGATE.search(id + text):
                counts.read += 1
                counts.drop("not text" if id else "no id", row=id, fields=[tag, str(text)])
                continue
            database.execute("INSERT OR IGNORE INTO ids (id) VALUES (?)", (id,))
            database.execute("INSERT INTO texts SELECT number, ?, ? FROM ids WHERE id = ?", (codes[tag], text, id))
        require_languages(languages, {*codes.values()}, where)
        query = "SELECT id, code, text FROM texts JOIN ids USING (number) ORDER BY number, texts.rowid"
        for id, group in groupby(database.execute(query), key=itemgetter(0)):
            variants: dict[str, list[str]] = {}
            for _, code, text in group:
                variants.setdefault(code, []).append(text)
            yield from rows_of_variants(id, variants, languages, counts)


def columns_by_code(
    names: Sequence[str], id: object, where: object, languages: Sequence[str] | None = None
) -> dict[str, str]:
    """The columns whose names are language codes, alone or after `translation.`, or names of languages asked for.

    Args:
        names: of all columns.
        id: the column with the row ids; it is no language, although `id` is the code of Indonesian. Nor is `no`.
        where: the corpus, for the error message.
        languages: those asked for, as canonical codes; None if it is the columns that are asked about.

    Raises:
        DataError: no column has such a name, or `id` could be either.
    """
    found = _language_columns(names, id, languages)
    sides = [name for name in names if name.lower().rpartition(".")[2] in SIDES]
    asks = "id" in names and id is None and len(found) > 2 and (languages is None or "ind" in languages)
    if not found or asks:
        listed = ", ".join(name or "(no name)" for name in names)
        problem = "the column 'id' could be Indonesian or the row ids" if found else "no column is a language code"
        example = "eng: english, ind: indonesian"
        if len(sides) > 1 and languages and not found:
            example = ", ".join(f"{code}: {name}" for code, name in zip(languages, sides, strict=False))
        advice = f"Name the column of each language, for example columns: {{{example}}}."
        if tag := next((name for name in names if name.lower() in _TAG_COLUMNS), ""):
            advice += f" A row for each text: set language_column: {tag}, text_column and id."
        raise DataError(f"{where}: {problem}; columns: {listed or 'none'}. {advice}")
    return found


def _language_columns(names: Sequence[str], id: object, languages: Sequence[str] | None) -> dict[str, str]:
    """By the code or name that it is named by, each column that is named by a language."""
    codes = {name.removeprefix("translation."): name for name in names if name != id}
    # `no` is Norwegian's old code, and in tables the row's number; `src` is Sardinian where that is asked for.
    other = {"no", *SIDES}.difference(languages or ())
    found = {code: name for code, name in codes.items() if is_language(code) and code.lower() not in other}
    there = {*map(canonical, found)}
    for name in [name for name in codes if languages and name not in found]:
        code = code_of_name(name)
        if code in (languages or ()) and code not in there:
            found[code] = codes[name]
    return found


def names_languages(names: Sequence[str], id: object, languages: Sequence[str]) -> bool:
    """Whether a row names the columns of two of the languages asked for, or of the only one, by code or name."""
    found = map(canonical, _language_columns(names, id, languages))
    return len({*languages}.intersection(found)) >= (1 if len(languages) == 1 else 2)


def _header_line(
    head: Sequence[tuple[int, list[str]]],
    languages: Sequence[str],
    columns: Mapping[str, ColumnKey] | None,
    id: ColumnKey | None,
) -> int:
    """The place, from 0, of the record that names the columns: there may be titles before it.

    Titles have one cell, or another number than the names; rows before with as many are text without a header.
    """
    keys = [*(columns or {}).values(), *([] if id is None else [id])]
    filled = [[cell.strip() for cell in cells if cell.strip()] for _, cells in head]
    for place, (_, cells) in enumerate(head if head and head[0][1] else ()):
        names = [cell.strip() for cell in cells]
        if columns and all(key in names if isinstance(key, str) else key <= len(names) for key in keys):
            return place
        if not columns and names_languages(names, id, languages):
            alike = any(1 < len(above) == len(filled[place]) for above in filled[:place])
            return 0 if alike else place
    return 0


def _rows_of_records(
    languages: Sequence[str],
    counts: Counts,
    records: Iterable[Record],
    where: object,
    columns: Mapping[str, str] | None,
    id: str | None,
    long: tuple[ColumnKey, ColumnKey] | None,
) -> Iterator[ParallelRow]:
    records = iter(records)
    head = list(islice(records, _SAMPLE))
    if not head:
        return
    keys = list(dict.fromkeys(key for _, record in head for key in field_names(record)))
    if long and id is not None:
        named = [id, *map(str, long)]
        for key in named:
            if all(field_of(record, key) is None for _, record in head):
                raise DataError(
                    f"{where}: none of the first {len(head)} records has {key!r}. {suggest(key, keys)}"
                )
        texts = ([field_of(record, key) for key in named] for _, record in chain(head, records))
        yield from _rows_of_texts(languages, counts, texts, where)
        return
    if columns is None:
        there = columns_by_code(keys, id, where, languages)
        require_languages(languages, {canonical(code) for code in there}, where)
        chosen: dict[str, str] = {}
    else:
        chosen = select_languages(languages, columns, where)
    unseen = {*chosen.values(), *([id] if id else [])}  # keys that no record has had so far
    by_keys: dict[tuple[str, ...], dict[str, str]] = {}
    for number, record in chain(head, records):
        if columns is None:  # records may differ in their languages
            nested = dict in map(type, record.values())  # else its keys are all: most records are flat
            own = tuple(field_names(record) if nested else record)
            if own not in by_keys:
                found = _language_columns(own, id, languages)
                by_keys[own] = places_of_languages(languages, found, f"{where}:{number}")
            chosen = by_keys[own]
        values = {code: field_of(record, key) for code, key in chosen.items()}
        name = number if id is None else field_of(record, id)
        if unseen:
            unseen -= {chosen[code] for code, value in values.items() if value is not None}
            unseen -= {id} if name is not None else set()
        if not _TEXT_OR_NONE.issuperset(map(type, values.values())) and any(
            value is not None and not isinstance(value, str) for value in values.values()
        ):
            counts.read += 1
            counts.drop("not text", row=str(name), fields={code: repr(value) for code, value in values.items()})
            continue
        made = record.get("synthetic")  # as back-translation writes it: the codes of what a machine wrote
        if isinstance(made, list):
            codes = {str(code): synthetic_code(str(code)) for code in made}
            values = {codes.get(code, code): text for code, text in values.items()}
        fields = [(code, text or "") for code, text in values.items()]
        if row := make_row("" if name is None else str(name), fields, counts):
            yield row
    if unseen:
        key = min(unseen)
        raise DataError(f"{where}: no record has the key {key!r}. {suggest(key, keys)}")
