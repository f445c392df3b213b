"""Excel and OpenDocument workbooks, written by openpyxl and by hand."""

from __future__ import annotations

import datetime
import io
import zipfile
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from data.reading import read, texts
from instructalign.data.formats import spreadsheets
from instructalign.errors import DataError
from instructalign.types import Counts

PAIRS = [(f"The stone number {i}", f"Batu {i} la ") for i in range(1, 26)]

MANIFEST = """<?xml version="1.0"?>
<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">
<manifest:file-entry manifest:full-path="/"
manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>"""


def workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    book = openpyxl.Workbook()
    book.remove(book.active)
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def ods(rows: list[list[str]]) -> bytes:
    cells = "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
            for cell in row
        )
        + "</table:table-row>"
        for row in rows
    )
    spaces = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    content = (
        f'<?xml version="1.0"?><office:document-content{spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="Sheet1">{cells}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        archive.writestr("META-INF/manifest.xml", MANIFEST)
        archive.writestr("content.xml", content)
    return buffer.getvalue()


def test_the_header_is_found_below_titles_and_notes(tmp_path: Path) -> None:
    rows = [["Our sentences", None, None], [], ["No", "English", "Helong"]]
    rows += [[number, *pair] for number, pair in enumerate(PAIRS, start=1)]
    path = workbook(tmp_path / "pairs.xlsx", {"Notes": [], "Pairs": rows})
    found = read("xlsx", ["eng", "heg"], path=path, columns={"eng": "English", "heg": "Helong"}, id="No")
    assert texts(found) == {
        str(number): {"eng": one, "heg": other.strip()} for number, (one, other) in enumerate(PAIRS, start=1)
    }
    assert found[1].read == len(PAIRS)
    found = read("xlsx", ["eng", "heg"], path=path, columns={"eng": "English", "heg": "Helong"})
    assert [row.id for row in found[0]][:2] == ["4", "5"]  # the rows of the sheet


def test_codes_as_column_names_and_columns_by_number(tmp_path: Path) -> None:
    path = workbook(
        tmp_path / "pairs.xlsx", {"A": [[], [], [None, "en", "jv"], *([None, *pair] for pair in PAIRS)]}
    )
    by_code = texts(read("xlsx", ["eng", "jav"], path=path))
    assert by_code["4"] == {"eng": "The stone number 1", "jav": "Batu 1 la"}
    assert len(by_code) == len(PAIRS)
    assert texts(read("xlsx", ["eng", "jav"], path=path, columns={"eng": 2, "jav": 3})) == by_code
    bare = workbook(tmp_path / "bare.xlsx", {"A": [list(pair) for pair in PAIRS]})
    found = texts(read("xlsx", ["eng", "jav"], path=bare, columns={"eng": 1, "jav": 2}, header=0))
    assert list(found.values()) == list(by_code.values())


def test_values_are_read_as_they_are_shown(tmp_path: Path) -> None:
    values = [7, 2.5, True, datetime.date(2024, 3, 1), datetime.datetime(2024, 3, 1, 9, 30), 1e20]
    rows = [["eng", "jav"], *([value, "x"] for value in values)]
    found = read("xlsx", ["eng", "jav"], path=workbook(tmp_path / "a.xlsx", {"A": rows}))
    expected = ["7", "2.5", "TRUE", "2024-03-01", "2024-03-01 09:30:00", "1e+20"]
    assert [row.texts["eng"] for row in found[0]] == expected


def test_errors_of_formulas_are_empty_cells_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [["eng", "jav"], ["one", "siji"], ["two", "#N/A"], ["#REF!", "telu"], ["4 #N/A", "papat"]]
    path = workbook(tmp_path / "a.xlsx", {"Sheet1": rows})
    result = read("xlsx", ["eng", "jav"], path=path)
    assert texts(result) == {"2": {"eng": "one", "jav": "siji"}, "5": {"eng": "4 #N/A", "jav": "papat"}}
    assert result[1] == Counts(read=4, dropped={"text in fewer than two languages": 2})
    assert "empty: 2" in caplog.text
    (tmp_path / "a.ods").write_bytes(ods(rows))
    assert texts(read("ods", ["eng", "jav"], path=tmp_path / "a.ods")) == texts(result)


def test_open_document(tmp_path: Path) -> None:
    (tmp_path / "a.ods").write_bytes(ods([["eng", "jav"], *map(list, PAIRS)]))
    found = read("ods", ["eng", "jav"], path=tmp_path / "a.ods")
    assert [tuple(row.texts.values()) for row in found[0]] == [(one, other.strip()) for one, other in PAIRS]


def test_a_sheet_is_chosen_by_name(tmp_path: Path) -> None:
    rows = [["eng", "jav"], ["one", "siji"]]
    path = workbook(tmp_path / "a.xlsx", {"One": rows, "Two": [*rows, ["two", "loro"]]})
    with pytest.raises(DataError, match=r"2 sheets have cells \(One, Two\)\. Name the one .* sheet: One"):
        read("xlsx", ["eng", "jav"], path=path)
    with pytest.raises(DataError, match=r"no sheet 'Tow'\. Did you mean 'Two'"):
        read("xlsx", ["eng", "jav"], path=path, sheet="Tow")
    assert len(read("xlsx", ["eng", "jav"], path=path, sheet="Two")[0]) == 2


def test_names_that_no_row_has(tmp_path: Path) -> None:
    path = workbook(tmp_path / "a.xlsx", {"A": [["Our list"], ["Question", "Javanese"], ["one", "siji"]]})
    with pytest.raises(
        DataError, match=r"sheet 'A': none of .* of the languages\. .*Our list; Question, Javanese;"
    ):
        read("xlsx", ["eng", "jav"], path=path)
    with pytest.raises(DataError, match="none of the first 50 rows names the columns Question, Sunda"):
        read("xlsx", ["eng", "sun"], path=path, columns={"eng": "Question", "sun": "Sunda"})
    with pytest.raises(DataError, match="header: 9, but the sheet has 3 rows"):
        read("xlsx", ["eng", "jav"], path=path, header=9)


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    whole = workbook(tmp_path / "a.xlsx", {"A": [["eng", "jav"], *map(list, PAIRS)]}).read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.xlsx").write_bytes(whole[:length])
        with pytest.raises(DataError, match=r"cut\.xlsx: "):
            read("xlsx", ["eng", "jav"], path=tmp_path / "cut.xlsx")


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spreadsheets, "MAX_UNPACKED_BYTES", 1 << 20)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b" " * (2 << 20))
    with pytest.raises(DataError, match=r"unpacks to 2\.1 MB; at most 1\.05 MB"):
        read("xlsx", ["eng", "jav"], path=tmp_path / "a.xlsx")


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    (tmp_path / "a.ods").write_bytes(ods([["eng", "jav"], ["one", "&bomb;"], ["two", "loro"]]))
    try:
        rows, _ = read("ods", ["eng", "jav"], path=tmp_path / "a.ods")
    except DataError as error:
        assert "a.ods: not a workbook that can be read" in str(error)  # noqa: PT017
    else:
        assert "loro" in str(rows)


def test_what_is_no_workbook(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("eng,jav\none,siji\n")
    with pytest.raises(DataError, match=r"a\.xlsx: not a workbook that can be read .* save it as"):
        read("xlsx", ["eng", "jav"], path=tmp_path / "a.xlsx")


def test_names_of_languages_name_the_columns_below_a_title_and_beside_an_id(tmp_path: Path) -> None:
    rows = [
        ["Our list", "v2", "of 2024"],
        ["id", "Bahasa Inggris", "Javanese"],
        [1, "one", "siji"],
        [2, "two", "loro"],
    ]
    found = read("xlsx", ["eng", "jav"], path=workbook(tmp_path / "a.xlsx", {"A": rows}))
    assert texts(found) == {"3": {"eng": "one", "jav": "siji"}, "4": {"eng": "two", "jav": "loro"}}
    by_number = read("xlsx", ["eng", "jav"], path=tmp_path / "a.xlsx", columns={"eng": 2, "jav": 3}, header=2)
    assert texts(by_number) == texts(found)
    title = workbook(tmp_path / "b.xlsx", {"A": [["Our list"], *rows[1:]]})
    assert texts(read("xlsx", ["eng", "jav"], path=title, columns={"eng": 2, "jav": 3})) == texts(found)


def test_a_sheet_with_a_row_for_each_text(tmp_path: Path) -> None:
    rows = [["Our list"], ["No", "Language", "Text"], [1, "English", "one"], [1, "Javanese", "siji"]]
    options = {"id": "No", "language_column": "Language", "text_column": "Text"}
    found = read("xlsx", ["eng", "jav"], path=workbook(tmp_path / "a.xlsx", {"A": rows}), **options)
    assert texts(found) == {"1": {"eng": "one", "jav": "siji"}}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8"])
def test_text_that_an_old_program_called_xls(tmp_path: Path, encoding: str) -> None:
    text = "eng\tjav\n" + "".join(f"{one}\t{other}\n" for one, other in PAIRS)
    (tmp_path / "a.xls").write_bytes(text.encode(encoding))
    found = read("xlsx", ["eng", "jav"], path=tmp_path / "a.xls")
    assert [tuple(row.texts.values()) for row in found[0]] == [(one, other.strip()) for one, other in PAIRS]
    assert list(spreadsheets.filled_sheets(tmp_path / "a.xls")) == ["a"]
    for start in ("<html><table>", "<?xml version='1.0'?>\n<Workbook>"):
        (tmp_path / "b.xls").write_text(f"{start}<tr><td>one</td></tr>")
        with pytest.raises(DataError, match=r"b\.xls: a web page or XML .* save it as \.xlsx"):
            read("xlsx", ["eng", "jav"], path=tmp_path / "b.xls")
