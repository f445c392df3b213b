"""Bibles in USFM, USX and as line-aligned files; usfmtc writes the USX of the same text."""

# ruff: noqa: E501 (markup)
from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import usfmtc

from data.reading import read, texts
from instructalign.errors import DataError
from instructalign.types import Counts

ENGLISH = r"""\id GEN An English Bible
\h Genesis
\toc1 The Book of Genesis
\mt1 Genesis
\is Introduction
\ip An introduction.
\c 1
\s The beginning
\r (John 1)
\p
\v 1 In the \nd beginning\nd*\f + \fr 1:1 \ft Or: first.\f* God \w made|lemma="make" strong="H1254"\w* heaven.
\v 2 The earth was\x - \xo 1:2 \xt Jer 4.23\x* empty,
\q1 and dark\add ness\add*.
\s Light
\p
\v 3 God said: light!
\v 4 It was\fig Light|src="a.jpg" size="col" ref="1:4"\fig* good.
\v 5a Day
\p
\v 5b and night.
\v 6 A line | with a bar.
""" + "\n".join(rf"\v {i} The verse number {i}." for i in range(7, 26))
OTHER = r"""\id GEN Bible
\c 1
\p
\v 1 Ha ana.
\v 2 Ida bi.
\v 3-4 Ula ka, muli ka.
\v 5 Ahu.
\v 6 Ira.
""" + "\n".join(rf"\v {i} Ayat {i}." for i in range(7, 26))
EXPECTED = {
    "GEN 1:1": ("In the beginning God made heaven.", "Ha ana."),
    "GEN 1:2": ("The earth was empty, and darkness.", "Ida bi."),
    "GEN 1:3-4": ("God said: light! It was good.", "Ula ka, muli ka."),
    "GEN 1:5": ("Day and night.", "Ahu."),
    "GEN 1:6": ("A line | with a bar.", "Ira."),
    **{f"GEN 1:{i}": (f"The verse number {i}.", f"Ayat {i}.") for i in range(7, 26)},
}


def bibles(folder: Path, english: str = ENGLISH, other: str = OTHER) -> dict[str, Path]:
    files = {"eng": folder / "en.sfm", "heg": folder / "heg.usfm"}
    files["eng"].write_text(english, encoding="utf-8")
    files["heg"].write_text(other, encoding="utf-8")
    return files


def pairs(result: Any) -> dict[str, tuple[str, ...]]:
    return {id: (row["eng"], row["heg"]) for id, row in texts(result).items()}


def test_usfm_verse_by_verse(tmp_path: Path) -> None:
    result = read("usfm", ["eng", "heg"], files=bibles(tmp_path))
    assert pairs(result) == EXPECTED
    assert result[1] == Counts(read=len(EXPECTED))


def test_usx_that_another_library_wrote_of_the_same_text(tmp_path: Path) -> None:
    files = bibles(tmp_path)
    for code, path in files.items():
        document = usfmtc.readFile(str(path))
        document.saveAs(str(tmp_path / f"{code}.usx"), outformat="usx")
    result = read("usx", ["eng", "heg"], files={code: tmp_path / f"{code}.usx" for code in files})
    found = pairs(result)
    found.pop("GEN 1:6")  # usfmtc takes the bar for attributes
    assert found == {id: pair for id, pair in EXPECTED.items() if id != "GEN 1:6"}


def test_a_folder_of_books(tmp_path: Path) -> None:
    for code, text in (("eng", ENGLISH), ("heg", OTHER)):
        (tmp_path / code).mkdir()
        (tmp_path / code / "Settings.xml").write_text("<ScriptureText/>")
        for name, book in (("01GENabc.SFM", "GEN"), ("02EXOabc.SFM", "EXO")):
            (tmp_path / code / name).write_text(text.replace("GEN", book))
            (tmp_path / code / f"._{name}").write_bytes(b"\0\5\x16\7")  # left by a Mac
    found = pairs(read("usfm", ["eng", "heg"], files={code: tmp_path / code for code in ("eng", "heg")}))
    assert {**EXPECTED, **{id.replace("GEN", "EXO"): pair for id, pair in EXPECTED.items()}} == found
    (tmp_path / "eng" / "copy.SFM").write_text(ENGLISH)
    with pytest.raises(DataError, match=r"GEN 1 is in both .*01GENabc\.SFM and .*copy\.SFM\. Keep one"):
        read("usfm", ["eng", "heg"], files={code: tmp_path / code for code in ("eng", "heg")})


def test_parts_of_ranges_and_repeated_verses_are_dropped_with_a_count(tmp_path: Path) -> None:
    english = ENGLISH.replace(r"\v 4 It", r"\v 2 It")
    result = read("usfm", ["eng", "heg"], files=bibles(tmp_path, english))
    assert "GEN 1:3-4" not in texts(result)
    assert result[1].dropped == {"verse number repeated": 1, "part of a verse range is missing": 1}
    assert result[1].read == len(result[0]) + 2


@pytest.mark.parametrize(
    ("was", "now", "message"),
    [
        (r"\f*", "", r"en\.sfm:12: \\f is not closed before this line; expected \\f\*"),
        (r"\id GEN", r"\id", r"en\.sfm:1: 'An' is not the three-letter code of a book"),
        (r"\id GEN An English Bible", "", r"en\.sfm:7: a chapter before the book is named"),
        (r"\c 1", r"\c one", r"en\.sfm:7: expected the number of a chapter, found 'one'"),
        (r"\v 3 ", r"\v three ", r"en\.sfm:16: expected a verse number, found 'three'"),
        (r"\c 1", r"\p", r"en\.sfm:11: a verse before its chapter"),
        ("\\", "/", r"en\.sfm: no verse .* is this USFM or USX"),
    ],
)
def test_malformed_usfm(tmp_path: Path, was: str, now: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read("usfm", ["eng", "heg"], files=bibles(tmp_path, ENGLISH.replace(was, now)))


def test_truncated_and_hostile_usx(tmp_path: Path) -> None:
    files = bibles(tmp_path)
    usx = (
        '<usx version="3.0"><book code="GEN" style="id"/><chapter number="1"/><para style="p"><verse number="1"/>a'
    )
    for content, message in (
        (usx, r"a\.usx:1: not XML"),
        ("<html/>", r"a\.usx: a web page"),
        ("<tmx/>", r"a\.usx: the document is <tmx>, not <usx>"),
        ('<!DOCTYPE usx [<!ENTITY a "b">]><usx>&a;</usx>', "Entities are not read"),
        (f'{usx}<verse number="x"/></para></usx>', r"a\.usx:1: expected a verse number, found 'x'"),
    ):
        (tmp_path / "a.usx").write_text(content)
        with pytest.raises(DataError, match=message):
            read("usx", ["eng", "heg"], files={**files, "eng": tmp_path / "a.usx"})


def vref(folder: Path, **columns: list[str]) -> dict[str, Path]:
    for name, lines in columns.items():
        (folder / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return {code: folder / f"{code}.txt" for code in columns if code != "vref"}


def test_vref_files_with_ranges(tmp_path: Path) -> None:
    references = [f"GEN 1:{i}" for i in range(1, 26)]
    english = [f"Verse {i}." for i in range(1, 26)]
    other = [f"Ayat {i}." for i in range(1, 26)]
    other[3] = "<range>"
    other[9], english[9] = "", ""
    english[20] = ""
    other[19:21] = ["Ayat 20-21.", "<range>"]
    files = vref(tmp_path, vref=references, eng=english, heg=other)
    result = read("vref", ["eng", "heg"], vref=tmp_path / "vref.txt", files=files)
    found = pairs(result)
    assert found["GEN 1:3-4"] == ("Verse 3. Verse 4.", "Ayat 3.")
    assert found["GEN 1:5"] == ("Verse 5.", "Ayat 5.")
    assert len(found) == 25 - 1 - 1 - 2
    assert result[1] == Counts(read=24, dropped={"empty": 1, "part of a verse range is missing": 2})
    result = read("vref", ["eng", "heg"], files=files, ranges="drop")
    assert "<range>" not in str(result[0])
    assert result[1].dropped == {"verse range": 4, "empty": 1}


def test_vref_files_that_do_not_match(tmp_path: Path) -> None:
    files = vref(tmp_path, vref=["GEN 1:1"], eng=["a", "b"], heg=["c", "d"])
    with pytest.raises(DataError, match=r"vref\.txt has 1"):
        read("vref", ["eng", "heg"], vref=tmp_path / "vref.txt", files=files)
    files = vref(tmp_path, eng=["a"] * 300, heg=["c", *["<range>"] * 299])
    with pytest.raises(DataError, match="more than 200 lines in one <range>"):
        read("vref", ["eng", "heg"], files=files)


@pytest.mark.parametrize(
    ("verses", "expected"),
    [
        (r"\v 4-5a Day, \v 5b and night.", {"GEN 1:4-5": "Day, and night."}),
        (r"\v 4 Sun. \v 5a Day \v 5b-6 and night.", {"GEN 1:4": "Sun.", "GEN 1:5-6": "Day and night."}),
        (r"\v 4a Sun, \v 4b-5 day \v 6 and night.", {"GEN 1:4-5": "Sun, day", "GEN 1:6": "and night."}),
        (r"\v 4-5a Sun, \v 4-5b day. \v 6 Night.", {"GEN 1:4-5": "Sun, day.", "GEN 1:6": "Night."}),
        ("\\v 4\\f + \\ft Or: day\\f*Sun. \\v 5\u200f Day.", {"GEN 1:4": "Sun.", "GEN 1:5": "Day."}),
    ],
)
def test_segments_of_verses_and_notes_at_their_numbers(
    tmp_path: Path, verses: str, expected: dict[str, str]
) -> None:
    other = "\\id GEN\n\\c 1\n\\p\n\\v 4 a\n\\v 5 b\n\\v 6 c\n"
    result = read("usfm", ["eng", "heg"], files=bibles(tmp_path, f"\\id GEN\n\\c 1\n\\p\n{verses}", other))
    assert {id: pair[0] for id, pair in pairs(result).items()} == expected


def test_text_straight_behind_a_verse_number_is_refused_and_not_taken_for_its_segment(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"en\.sfm:4: expected a verse number, found '1Siji\.'"):
        read("usfm", ["eng", "heg"], files=bibles(tmp_path, "\\id GEN\n\\c 1\n\\p\n\\v 1Siji.\n"))


@pytest.mark.parametrize(
    "settings",
    [
        '<ScriptureText><Naming PrePart="" PostPart="abc.PT7" BookNameForm="41MAT"/></ScriptureText>',
        "<ScriptureText><FileNamePrePart></FileNamePrePart><FileNamePostPart>abc.PT7</FileNamePostPart></ScriptureText>",
    ],
)
def test_a_project_whose_settings_name_its_files(tmp_path: Path, settings: str) -> None:
    files = bibles(tmp_path)
    project = tmp_path / "ENG"
    project.mkdir()
    (project / "Settings.xml").write_text(settings)
    (project / "01GENabc.PT7").write_text(ENGLISH)
    (project / "copy of 01GEN.SFM").write_text(ENGLISH)  # not one of the project
    assert pairs(read("usfm", ["eng", "heg"], files={**files, "eng": project})) == EXPECTED
    (project / "01GENabc.PT7").rename(project / "01GEN.txt")
    (project / "copy of 01GEN.SFM").unlink()
    with pytest.raises(DataError, match=r"ENG contains no \*abc\.PT7 \(Settings\.xml\), "):
        read("usfm", ["eng", "heg"], files={**files, "eng": project})


def test_a_range_over_two_books_is_dropped_with_a_count(tmp_path: Path) -> None:
    files = {code: tmp_path / f"{code}.txt" for code in ("eng", "heg")}
    files["eng"].write_text("a\nb\nc\nd\n")
    files["heg"].write_text("e\n<range>\n<range>\nh\n")
    (tmp_path / "vref.txt").write_text("MAL 4:5\nMAL 4:6\nMAT 1:1\nMAT 1:2\n")
    result = read("vref", ["eng", "heg"], files=files, vref=tmp_path / "vref.txt")
    assert pairs(result) == {"MAT 1:2": ("d", "h")}
    assert result[1] == Counts(read=4, dropped={"verse range over two books": 3})


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            [
                "\\v 4 Sun.",
                "\\esb \\cat People\\cat*",
                "\\ms Sky",
                "\\p Of stars.",
                "\\esbe",
                "\\p",
                "More.",
                "\\v 5 Day.",
            ],
            {"GEN 1:4": "Sun. More.", "GEN 1:5": "Day."},
        ),
        (["\\v 4 Sun.", "\\esb", "\\p Of stars.", "\\v 5 Day."], {"GEN 1:4": "Sun.", "GEN 1:5": "Day."}),
        (["\\v 4 Sun.", '\\periph Maps|id="maps"', "\\p Of stars."], {"GEN 1:4": "Sun."}),
        (
            [
                "\\v 4 In turn:",
                "\\tr \\th1 Day\\th2 Tribe",
                "\\tr \\tcr1 1st\\tc2 Judah\\tc3-4 Nahshon",
                "\\v 5 Day.",
            ],
            {"GEN 1:4": "In turn: Day Tribe 1st Judah Nahshon", "GEN 1:5": "Day."},
        ),
        (
            ['\\v 4 Sun\\zpage|n="3"\\* and \\zmy\\*moon \\zx-s |a="b"\\*rise\\zx-e\\*.', "\\v 5 \\zc Day\\zc*."],
            {"GEN 1:4": "Sun and moon rise.", "GEN 1:5": "Day."},
        ),
        (['\\v 4 The \\jmp sun|link-href="x"\\jmp* rose.'], {"GEN 1:4": "The sun rose."}),
        (["\\v 4,5 Sun, day."], {"GEN 1:4-5": "Sun, day."}),
        (["\\v 4,6 Sun, night.", "\\v 5 Day."], {"GEN 1:5": "Day."}),
    ],
)
def test_what_stands_beside_or_inside_verses(tmp_path: Path, lines: list[str], expected: dict[str, str]) -> None:
    """USFM 3.1: sidebars, peripherals, tables, milestones of one's own, links, lists of verses."""
    text = "\n".join(["\\id GEN", "\\c 1", "\\p", *lines, ""])
    other = "\\id GEN\n\\c 1\n\\p\n\\v 4 a\n\\v 5 b\n\\v 6 c\n"
    files = bibles(tmp_path, text, other)
    result = read("usfm", ["eng", "heg"], files=files)
    assert {id: pair[0] for id, pair in pairs(result).items()} == expected
    assert result[1].dropped.get("verses that do not follow one another", 0) == ("\\v 4,6" in text)


def test_sidebars_links_and_appendices_of_usx(tmp_path: Path) -> None:
    usx = (
        '<usx version="3.0"><book code="GEN" style="id"/><chapter number="1"/><para style="p"><verse number="4"/>The '
        '<char style="jmp" link-href="x">sun</char> rose.</para><sidebar style="esb"><para style="p">Of stars.</para>'
        '</sidebar><para style="p">More.</para><periph alt="Maps" id="maps"><para style="p">A map.</para></periph></usx>'
    )
    (tmp_path / "a.usx").write_text(usx)
    files = bibles(tmp_path, other="\\id GEN\n\\c 1\n\\p\n\\v 4 Lelo.\n")
    result = read("usx", ["eng", "heg"], files={**files, "eng": tmp_path / "a.usx"})
    assert pairs(result) == {"GEN 1:4": ("The sun rose. More.", "Lelo.")}
