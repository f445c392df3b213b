"""Spreadsheets of Excel and OpenDocument, read through python-calamine (https://github.com/dimastbk/python-calamine)."""

from __future__ import annotations

import codecs
import csv
import datetime
import io
import os
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from xml.sax.saxutils import escape

from pydantic import Field

from instructalign.data.formats import is_language
from instructalign.data.formats.tabular import (  # the first for `validate`
    ColumnKey,
    check_options,  # noqa: F401
    long_columns,
    names_languages,
    notice_errors,
    rows_of_table,
)
from instructalign.data.readers import read_delimited
from instructalign.errors import DataError, suggest
from instructalign.files import ZIP_ERRORS, atomic, check_file, format_bytes, notice
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow

if TYPE_CHECKING:
    from python_calamine import CalamineSheet, CalamineWorkbook

MAX_UNPACKED_BYTES = 4 << 30
"""A workbook that unpacks to more is refused: it is read as a whole, and no full sheet of text comes near."""

_HEADER_WITHIN = 50  # rows


def read_spreadsheet(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    sheet: str | None = None,
    columns: Mapping[LanguageCode, ColumnKey] | None = None,
    id: ColumnKey | None = None,
    language_column: ColumnKey | None = None,
    text_column: ColumnKey | None = None,
    header: Annotated[int, Field(ge=0)] | None = None,
) -> Iterator[ParallelRow]:
    """Reads a sheet of a workbook with a column for each language: .xlsx, .xlsm, .xlsb, .xls and .ods.

    Cells are read as they are shown, except for the formats of numbers: 1 is "1" and not "1.0", a date is
    "2024-03-01", a formula is its last result, and its error (#N/A) an empty cell. Row ids are the sheet's row
    numbers.

    Args:
        languages: canonical codes; the columns of others are ignored.
        counts: takes what was read and dropped.
        path: the workbook.
        sheet: the sheet's name; by default the only one that has cells.
        columns: the column of each language, by its name or its number from 1 (A is 1); by default those whose
            names are language codes.
        id: the column with the row ids; by default a row's id is its number in the sheet.
        language_column, text_column: for a sheet with a row for each text: the column of its language and that of
            the text; rows with the same id are translations.
        header: the row that names the columns, from 1; 0 where none does. By default it is found: the first row
            with the names of `columns`, or with language codes.

    Raises:
        DataError: the workbook is missing, damaged or protected by a password, or has no such sheet or column.

    Example:
        {format: xlsx, path: pairs.xlsx, sheet: Sentences, columns: {eng: English, heg: Helong}}
    """
    name, rows = _rows_of_sheet(path, sheet)
    if errors := _formula_errors(path):
        notice_errors(f"{path}, all sheets", errors)
    place = f"{path}, sheet {name!r}"
    long = long_columns(columns, id, language_column, text_column, path)
    wanted = [*(columns or {}).values(), *(long or ()), id]
    start = _header_row(rows, languages, wanted, place) if header is None else header
    if start > len(rows):
        raise DataError(f"{place}: header: {start}, but the sheet has {len(rows)} rows.")
    records = [(number, cells) for number, cells in enumerate(rows, start=1) if number >= start]
    if not header and header is not None:  # without names, the first row with text says how many columns there are
        records = [(number, cells) for number, cells in records if any(cells)]
    yield from rows_of_table(languages, counts, iter(records), place, columns, id, header != 0, long)


def _rows_of_sheet(path: Path, sheet: str | None) -> tuple[str, list[list[str]]]:
    """The name of a sheet and its cells as text, from the first row and column on."""
    if _is_text(path):
        return path.stem, [cells for _, cells in read_delimited(path, None, quoting=True)]
    with _open_workbook(path) as workbook:
        name, chosen = _choose_sheet(workbook, sheet, path)
        return name, _cells(chosen)


def filled_sheets(path: Path) -> dict[str, list[list[str]]]:
    """The sheets of a workbook that have cells, by name, with their cells as text.

    Raises:
        DataError: as `read_spreadsheet`.
    """
    if _is_text(path):
        return {path.stem: [cells for _, cells in read_delimited(path, None, quoting=True)]}
    with _open_workbook(path) as workbook:
        return {name: _cells(sheet) for name, sheet in _filled(workbook).items()}


@contextmanager
def _open_workbook(path: Path) -> Iterator[CalamineWorkbook]:
    from python_calamine import CalamineError, load_workbook

    try:
        with path.open("rb") as file, load_workbook(file) as workbook:
            yield workbook
    except (CalamineError, OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a workbook that can be read ({error}). Open it in a spreadsheet program and save it as "
            ".xlsx or .ods, without a password."
        ) from None


def _filled(workbook: CalamineWorkbook) -> dict[str, CalamineSheet]:
    sheets = {name: workbook.get_sheet_by_name(name) for name in workbook.sheet_names}
    return {name: sheet for name, sheet in sheets.items() if sheet.end is not None}


def _cells(sheet: CalamineSheet) -> list[list[str]]:
    return [[_as_shown(value) for value in row] for row in sheet.to_python(skip_empty_area=False)]


def _is_text(path: Path) -> bool:
    """Whether it is an old program's .xls that is a table of plain text.

    Raises:
        DataError: it is a web page or XML under the name of a workbook, would fill the memory, or is damaged.
    """
    start = b""
    if path.is_file() and os.access(path, os.R_OK):  # before `check_file`, to which any web page is an error's
        with path.open("rb") as file:
            start = file.read(512).lstrip(codecs.BOM_UTF8 + b" \r\n\t")
    if start.startswith(b"<"):
        raise DataError(
            f"{path}: a web page or XML under the name of a workbook, as some programs write it. Open it in a "
            "spreadsheet program and save it as .xlsx or .ods."
        )
    check_file(path)
    _refuse_bombs(path)
    if path.suffix.lower() != ".xls" or start.startswith((b"\xd0\xcf\x11\xe0", b"PK")):
        return False
    marked = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" not in start
    if marked:
        notice(f"{path}: a table of plain text under the name of a workbook, read as csv is.")
    return marked


def _formula_errors(path: Path) -> int:
    """How many cells of an .xlsx workbook hold a formula's error, which calamine gives as empty cells."""
    count = 0
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            for name in (each for each in archive.namelist() if each.startswith("xl/worksheets/")):
                with archive.open(name) as part:
                    rest = b""
                    while block := part.read(1 << 20):
                        count += (rest + block).count(b' t="e"')
                        rest = block[-5:]
    return count


def _refuse_bombs(path: Path) -> None:
    """Refuses a workbook that would fill the memory; reading all members also finds truncated and damaged ones."""
    if not zipfile.is_zipfile(path):  # .xls is none
        return
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(member.file_size for member in archive.infolist())
            if size > MAX_UNPACKED_BYTES:
                raise DataError(
                    f"{path}: unpacks to {format_bytes(size)}; at most {format_bytes(MAX_UNPACKED_BYTES)} are "
                    "read. Save the sheet as CSV."
                )
            damaged = archive.testzip()  # also where a member is larger than it says
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: the workbook is damaged or protected ({error}). Get the file again.") from None
    if damaged:
        raise DataError(f"{path}: the workbook is damaged in {damaged!r}. Get the file again.")


def _choose_sheet(workbook: CalamineWorkbook, sheet: str | None, path: Path) -> tuple[str, CalamineSheet]:
    names = workbook.sheet_names
    if sheet is not None:
        if sheet not in names:
            raise DataError(f"{path}: no sheet {sheet!r}. {suggest(sheet, names)}")
        return sheet, workbook.get_sheet_by_name(sheet)
    filled = _filled(workbook)
    if len(filled) != 1:
        problem = f"{len(filled)} sheets have cells ({', '.join(filled)})" if filled else "no sheet has cells"
        raise DataError(f"{path}: {problem}. Name the one to read, for example sheet: {[*filled, *names][0]}.")
    return next(iter(filled.items()))


def _as_shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, datetime.datetime):
        return value.isoformat(" ") if value.time() != datetime.time() else value.date().isoformat()
    return str(value)


def _header_row(
    rows: Sequence[Sequence[str]], languages: Sequence[str], keys: Sequence[ColumnKey | None], place: str
) -> int:
    """The row with the names of the columns, from 1: titles, notes and empty rows may come before it.

    Args:
        rows: of the sheet.
        languages: those asked for.
        keys: of columns; the last is that of the row ids.
        place: for the error message.
    """
    wanted = [key for key in keys if isinstance(key, str)]
    numbers = [key for key in keys if isinstance(key, int)]
    named: list[Callable[[list[str]], bool]] = [lambda names: all(key in names for key in wanted)]
    if len(keys) > 1 and not wanted:  # by number: the first row with text in all of them is the header
        named = [lambda names: all(any(names[key - 1 : key]) for key in numbers), any]
    elif len(keys) == 1:
        named = [
            lambda names: names_languages(names, keys[0], languages),
            lambda names: sum(map(is_language, names)) > 1,
        ]
    for fits in named:
        for number, cells in enumerate(rows[:_HEADER_WITHIN], start=1):
            if fits([cell.strip() for cell in cells]):
                return number
    filled = [cells for cells in rows[:_HEADER_WITHIN] if any(cells)]
    shown = "; ".join(", ".join(cell for cell in cells if cell.strip()) for cells in filled[:3])
    what = f"the columns {', '.join(wanted)}" if wanted else "two columns by codes or names of the languages"
    if not wanted and len(languages) == 1:
        what = f"the column of {languages[0]} by its code or name"
    raise DataError(
        f"{place}: none of the first {_HEADER_WITHIN} rows names {what}. The first rows: {shown or 'empty'}. Name "
        "the column of each language, for example columns: {eng: English, heg: Helong}; or by number, with "
        "header: 0 where no row names them."
    )


_SHEET = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_XML = "application/vnd.openxmlformats-package.relationships+xml"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_PARTS = {  # what a workbook of one sheet has beside the sheet (ECMA-376)
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
    f'ContentType="{_XML}"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/sheet.xml" ContentType="{_TYPE}.worksheet+xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type='
    f'"{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_SHEET}" xmlns:r="{_OFFICE}"><sheets><sheet name="Sheet1" sheetId="1" '
    'r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type='
    f'"{_OFFICE}/worksheet" Target="sheet.xml"/></Relationships>',
}
_NOT_XML = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def write_spreadsheet(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes an .xlsx workbook of one sheet, all or nothing; every cell is text, so that none is a formula.

    The first row stays in view, and columns are wide enough for sentences. What XML cannot hold is left out.
    """
    head = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    with atomic(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in _PARTS.items():
            archive.writestr(zipfile.ZipInfo(name), head + part, zipfile.ZIP_DEFLATED)
        with archive.open(zipfile.ZipInfo("xl/sheet.xml"), "w") as sheet:
            sheet.write(
                f'{head}<worksheet xmlns="{_SHEET}"><sheetViews><sheetView workbookViewId="0"><pane ySplit="1" '
                'topLeftCell="A2" state="frozen"/></sheetView></sheetViews><cols><col min="2" max="99" width="70" '
                'customWidth="1"/></cols><sheetData>'.encode()
            )
            for row in rows:
                cells = (escape(_NOT_XML.sub("", cell)) for cell in row)
                texts = "".join(
                    f'<c t="inlineStr"><is><t xml:space="preserve">{cell}</t></is></c>' for cell in cells
                )
                sheet.write(f"<row>{texts}</row>".encode())
            sheet.write(b"</sheetData></worksheet>")


TABLE_ENDINGS = (".xlsx", ".csv", ".tsv")
"""The tables that `write_table` writes."""


def write_table(path: Path, rows: Iterable[Sequence[str]]) -> None:
    """Writes a table, the names of its columns first, as a corpus format reads it: .xlsx, .csv or .tsv."""
    if path.suffix.lower() == ".xlsx":
        write_spreadsheet(path, rows)
        return
    with atomic(path) as file:
        file.write(codecs.BOM_UTF8)  # by which Excel knows that it is UTF-8
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="", write_through=True)
        if path.suffix.lower() == ".csv":
            csv.writer(text).writerows(rows)
        else:
            text.writelines("\t".join(" ".join(cell.split()) for cell in row) + "\n" for row in rows)
        text.detach()
