"""Files to translate: only their texts change, as independent libraries read them."""

from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import openpyxl
import polib
import pysubs2
import pytest
from openpyxl.styles import Font

from instructalign.errors import DataError
from instructalign.interact.document_files import Document, open_document


def opened(path: Path, content: str | bytes, column: str | None = None, sheet: str | None = None) -> Document:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return open_document(path, "eng", "jav", column, sheet)


def texts(document: Document) -> list[tuple[str, str]]:
    return [(segment.place, segment.text) for segment in document.segments]


def same(document: Document) -> bytes:
    return document.render([segment.text for segment in document.segments], [False] * len(document.segments))


def upper(document: Document) -> str:
    made = [segment.text.upper() for segment in document.segments]
    return document.render(made, [False] * len(made)).decode("utf-8-sig")


SRT = """\ufeff1\r
00:00:01,000 --> 00:00:02,500\r
<i>Good morning,\r
my friend.</i>\r
\r
2\r
00:00:03,000 --> 00:00:04,000\r
- Who is it?\r
- It is <b>me</b>.\r
\r
3\r
00:00:05,000 --> 00:00:06,000\r
{\\an8}♪ ♪\r
"""
VTT = """WEBVTT - a film

NOTE nothing here

STYLE
::cue { color: red }

intro
00:01.000 --> 00:02.000 align:start position:10%
Hello there

00:03.000 --> 00:04.000
<v Ann>Bye</v>"""
USFM = """\\id GEN - a book
\\h Genesis
\\toc3 Gen
\\c 1
\\s1 The beginning
\\p
\\v 1 In the beginning\\f + \\fr 1.1 \\ft a note\\f* God made
the sky.
\\v 2-3 \\nd Lord\\nd* said \\w light|lemma="x"\\w*.
\\q1 A line
\\q2 and another
\\b

\\c 2
\\p \\v 1 Two. \\v 2 Three.

"""
TEXTS = {
    "a.txt": "One line.\n\n  Two  \n12:30\nno end",
    "b.txt": "\ufeffOne\r\nTwo\r\n",
    "a.md": "# Title\n\n- point one\n  2. point *two*\n\n```\ncode here\n```\n> quoted\n\n\n",
    "a.srt": SRT,
    "a.vtt": VTT,
    "a.csv": '\ufeffID;English;Note\r\n1;"Good; day";x\r\n2;;y\r\n3;Bye;\r\n',
    "a.tsv": 'eng\tnote\nsay "hi"\tx\n',
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_text_stays_byte_for_byte(name: str, tmp_path: Path) -> None:
    content = TEXTS[name]
    if name.endswith((".csv", ".tsv")):  # where the column is there already, and empty
        end = "\r\n" if "\r\n" in content else "\n"
        between = "\t" if name == "a.tsv" else ";"
        lines = [f"{line}{between}{'' if n else 'jav'}" for n, line in enumerate(content.split(end)[:-1])]
        document = opened(tmp_path / name, end.join([*lines, ""]))
        made = document.render(["X"] * len(document.segments), [])
        assert made.decode() == end.join(
            line + "X" * (n in (1, 3) and "Bye;X" not in line) for n, line in enumerate([*lines, ""])
        )
        return
    document = opened(tmp_path / name, content)
    if name == "a.srt":  # two lines joined to one are broken again
        content = content.replace("<b>me</b>", "me")
    assert same(document).decode() == content


def test_lines_and_marks(tmp_path: Path) -> None:
    found = texts(opened(tmp_path / "a.md", TEXTS["a.md"]))
    assert found == [
        ("line 1", "Title"),
        ("line 3", "point one"),
        ("line 4", "point *two*"),
        ("line 9", "quoted"),
    ]


def test_subtitles_as_pysubs2_reads_them(tmp_path: Path) -> None:
    document = opened(tmp_path / "a.srt", SRT)
    assert [text for _, text in texts(document)] == ["Good morning, my friend.", "Who is it?", "It is me."]
    assert [segment.note != "" for segment in document.segments] == [False, False, True]
    shown = pysubs2.SSAFile.from_string(upper(document).replace("\r", ""))
    before = pysubs2.SSAFile.from_string(SRT)
    assert [(each.start, each.end) for each in shown] == [(each.start, each.end) for each in before]
    assert [each.plaintext for each in shown][:2] == ["GOOD MORNING,\nMY FRIEND.", "- WHO IS IT?\n- IT IS ME."]
    assert (
        "<i>GOOD MORNING,\r\nMY FRIEND.</i>" in document.render(["GOOD MORNING, MY FRIEND.", "", ""], []).decode()
    )
    vtt = upper(opened(tmp_path / "a.vtt", VTT))
    assert vtt == VTT.replace("Hello there", "HELLO THERE").replace("Bye", "BYE")
    with pytest.raises(DataError, match="no subtitle"):
        opened(tmp_path / "b.srt", "just text\n")


def test_verses(tmp_path: Path) -> None:
    document = opened(tmp_path / "a.sfm", USFM)
    assert texts(document) == [
        ("GEN", "Genesis"),
        ("GEN 1", "The beginning"),
        ("GEN 1:1", "In the beginning God made the sky."),
        ("GEN 1:2-3", "Lord said light."),
        ("GEN 1:2-3", "A line"),
        ("GEN 1:2-3", "and another"),
        ("GEN 2:1", "Two."),
        ("GEN 2:2", "Three."),
    ]
    assert [bool(segment.note) for segment in document.segments] == [n == 3 for n in range(8)]
    assert document.kept == ["1 notes left in the source language"]
    made = upper(document)
    assert (
        "\\v 1 IN THE BEGINNING GOD MADE THE SKY.\\f + \\fr 1.1 \\ft a note\\f*\n\\v 2-3 LORD SAID LIGHT.\n"
        in made
    )
    assert made.endswith("\\q1 A LINE\n\\q2 AND ANOTHER\n\\b\n\n\\c 2\n\\p \\v 1 TWO. \\v 2 THREE.\n\n")
    assert made.startswith("\\id GEN - a book\n\\h GENESIS\n\\toc3 Gen\n\\c 1\n\\s1 THE BEGINNING\n\\p\n")


def test_tables(tmp_path: Path) -> None:
    document = opened(tmp_path / "a.csv", TEXTS["a.csv"])
    assert texts(document) == [("row 2", "Good; day"), ("row 4", "Bye")]
    rows = list(csv.reader(io.StringIO(upper(document)), delimiter=";"))
    assert rows[0] == ["ID", "English", "Note", "Javanese"]
    assert [row[3] for row in rows] == ["Javanese", "GOOD; DAY", "", "BYE"]
    filled = opened(tmp_path / "b.csv", "en,jv\none,siji\ntwo,\n")
    assert texts(filled) == [("row 3", "two")]
    assert filled.kept == ["1 cells that had a translation already"]
    assert upper(filled) == "en,jv\none,siji\ntwo,TWO\n"
    assert texts(opened(tmp_path / "c.csv", "a,b\nx,y\n", column="2")) == [("row 2", "y")]
    with pytest.raises(DataError, match="Columns: a, b"):
        opened(tmp_path / "d.csv", "a,b\nx,y\n")
    with pytest.raises(DataError, match="Did you mean 'words'"):
        opened(tmp_path / "d.csv", "words,b\nx,y\n", column="word")


@pytest.mark.parametrize(
    ("content", "made"),
    [
        ("id|English\n1|good\n\n2|bye\n", "id|English|Javanese\n1|good|GOOD\n\n2|bye|BYE\n"),
        ("sep=;\nEnglish;a, b, c\ngood;x\n", "sep=;\nEnglish;a, b, c;Javanese\ngood;x;GOOD\n"),
        ("English;a, b, c\ngood;x\nbye;y\n", "English;a, b, c;Javanese\ngood;x;GOOD\nbye;y;BYE\n"),
    ],
)
def test_a_table_keeps_its_delimiter_and_empty_lines(content: str, made: str, tmp_path: Path) -> None:
    assert upper(opened(tmp_path / "a.csv", content)) == made


def test_workbooks_as_openpyxl_reads_them(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (["A list"], [], ["No", "English", "Sum"], [1, "good", "=1+1"], [2, "=B4", None], [3, "bye", None]):
        sheet.append(row)
    sheet["B4"].font = Font(bold=True)
    book.create_sheet("Other")["A1"] = "English"
    book.save(tmp_path / "a.xlsx")
    document = open_document(tmp_path / "a.xlsx", "eng", "jav", None, None)
    assert texts(document) == [("B4", "good"), ("B6", "bye")]
    assert document.kept == ["1 formulas"]
    (tmp_path / "b.xlsx").write_bytes(document.render(["=apik", "dah"], [False, False]))
    made = openpyxl.load_workbook(tmp_path / "b.xlsx")
    cells = made[made.sheetnames[0]]
    assert [cells[f"D{row}"].value for row in (3, 4, 5, 6)] == ["Javanese", "=apik", None, "dah"]
    assert (cells["D4"].data_type, cells["C4"].value, cells["B4"].font.b) == ("s", "=1+1", True)
    with pytest.raises(DataError, match="Did you mean 'Other'"):
        open_document(tmp_path / "a.xlsx", "eng", "jav", None, "other")


PO = """# Comment
msgid ""
msgstr ""
"Content-Type: text/plain; charset=UTF-8\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"

#: a.c:1
msgid "Open\\n"
msgstr ""

msgid "done"
msgstr "rampung"

#, fuzzy
msgid "maybe"
msgstr "mbok menawa"

#, c-format
msgid "%d file"
msgid_plural "%d files"
msgstr[0] ""
msgstr[1] ""
"""


def test_messages_as_polib_reads_them(tmp_path: Path) -> None:
    document = opened(tmp_path / "a.po", PO)
    assert [text for _, text in texts(document)] == ["Open", "%d file", "%d files"]
    assert document.kept == ["1 messages that were translated already", "1 fuzzy messages"]
    po = polib.pofile(document.render(["Bukak", "%d berkas", "berkas-berkas"], [False, False, True]).decode())
    assert [entry.msgstr for entry in po][:3] == ["Bukak\n", "rampung", "mbok menawa"]
    assert po[3].msgstr_plural == {0: "%d berkas", 1: "berkas-berkas"}
    assert [entry.fuzzy for entry in po] == [False, False, True, True]
    assert (po[0].occurrences, po.metadata["Language"]) == ([("a.c", "1")], "jav")


BODY = """<?xml version="1.0" encoding="UTF-8" standalone="yes"?>
<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main" xmlns:w14="x" w14:I="y">
<w:body><w:p><w:pPr><w:rPr><w:b/></w:rPr></w:pPr><w:r><w:t>The food </w:t></w:r><w:r><w:rPr><w:b/></w:rPr>
<w:t xml:space="preserve">is good &amp; cheap.</w:t></w:r><w:r><w:tab/><w:t>Right</w:t></w:r></w:p>
<w:p w14:id="1"><w:r><w:t>12</w:t></w:r></w:p><w:tbl><w:tc><w:p><w:r><w:t>Cell</w:t></w:r></w:p></w:tc></w:tbl>
<w:p><w:r><w:instrText>PAGE</w:instrText></w:r></w:p></w:body></w:document>"""


def test_paragraphs_of_a_docx(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.docx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", BODY)
        archive.writestr("word/header1.xml", "<w:hdr><w:p><w:r><w:t>Head</w:t></w:r></w:p></w:hdr>")
        archive.writestr("word/media/image1.png", b"\x89PNG")
    document = open_document(tmp_path / "a.docx", "eng", "jav", None, None)
    assert [text for _, text in texts(document)] == ["The food is good & cheap.", "Right", "Cell", "Head"]
    assert [bool(segment.note) for segment in document.segments] == [True, False, False, False]
    made = document.render(["Enak <b> & murah.", "Tengen", "Sel", "Sirah"], [False] * 4)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert archive.namelist() == [
            "[Content_Types].xml",
            "word/document.xml",
            "word/header1.xml",
            "word/media/image1.png",
        ]
        body = archive.read("word/document.xml").decode()
        assert archive.read("word/media/image1.png") == b"\x89PNG"
    keep = '<w:t xml:space="preserve">'
    expected = BODY.replace("<w:t>The food <", f"{keep}Enak &lt;b&gt; &amp; murah.<").replace(
        "is good &amp; cheap.", ""
    )
    expected = expected.replace("<w:t>Right", f"{keep}Tengen").replace("<w:t>Cell", f"{keep}Sel")
    assert body == expected


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.pdf", b"%PDF", "Available: .txt"),
        ("a.docx", b"no zip", "not a .docx"),
        ("a.xlsx", b"no zip", "not a workbook"),
        ("a.po", b'msgid "open\nmsgstr ""\n', ":1: expected a comment"),
        ("a.usfm", b"plain text\n", "is this USFM"),
        ("a.txt", b"caf\xe9 au lait\n", ":1: not UTF-8"),
        ("a.csv", b"", "empty"),
    ],
)
def test_what_cannot_be_read_is_said(name: str, content: bytes, said: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=said):
        opened(tmp_path / name, content)
    with pytest.raises(DataError, match="--column"):
        opened(tmp_path / "x.txt", "a\n", column="1")
