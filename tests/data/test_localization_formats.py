"""gettext's PO files, subtitles and Tatoeba's exports; polib and pysubs2 write the first two."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import polib
import pysubs2
import pytest

from data.reading import read, texts
from instructalign.errors import DataError
from instructalign.types import Counts

PAIRS = [(f"Open file {i}\nnow", f'Bukak "berkas" {i}\nsaiki') for i in range(1, 26)]


def pairs(result: Any, one: str = "eng", other: str = "jav") -> list[tuple[str, str]]:
    return [(row.texts[one], row.texts[other]) for row in result[0]]


def po(path: Path, entries: list[polib.POEntry], plurals: str = "nplurals=2; plural=(n != 1);") -> Path:
    file = polib.POFile()
    file.metadata = {"Content-Type": "text/plain; charset=UTF-8", "Plural-Forms": plurals}
    file.extend(entries)
    file.save(str(path))
    return path


def test_po_with_what_is_no_translation_left_out(tmp_path: Path) -> None:
    entries = [polib.POEntry(msgid=one, msgstr=other) for one, other in PAIRS]
    entries += [
        polib.POEntry(msgid="Fuzzy", msgstr="Kabur", flags=["fuzzy"]),
        polib.POEntry(msgid="Not yet", msgstr=""),
        polib.POEntry(msgid="Old", msgstr="Lawas", obsolete=True),
        polib.POEntry(msgid="May", msgstr="Mei", msgctxt="month"),
        polib.POEntry(msgid="May", msgstr="Oleh", msgctxt="verb"),
    ]
    result = read("po", ["eng", "jav"], files={"jav": po(tmp_path / "jv.po", entries)})
    assert pairs(result) == [*PAIRS, ("May", "Mei"), ("May", "Oleh")]
    assert result[1] == Counts(read=30, dropped={"fuzzy": 1, "untranslated": 1, "obsolete": 1})


@pytest.mark.parametrize(
    ("plurals", "forms", "expected"),
    [
        ("nplurals=2; plural=(n != 1);", ["one", "many"], [("a stone", "one"), ("%d stones", "many")]),
        ("nplurals=1; plural=0;", ["any"], [("%d stones", "any")]),
        (  # Slovenian, as gettext's manual has it
            "nplurals=4; plural=n%100==1 ? 1 : n%100==2 ? 2 : n%100==3 || n%100==4 ? 3 : 0;",
            ["0", "1", "2", "3"],
            [("a stone", "1"), ("%d stones", "0"), ("%d stones", "2"), ("%d stones", "3")],
        ),
    ],
)
def test_po_plurals(tmp_path: Path, plurals: str, forms: list[str], expected: list[tuple[str, str]]) -> None:
    entry = polib.POEntry(msgid="a stone", msgid_plural="%d stones", msgstr_plural=dict(enumerate(forms)))
    assert pairs(read("po", ["eng", "jav"], files={"jav": po(tmp_path / "a.po", [entry], plurals)})) == expected


def test_po_files_of_several_languages_are_joined_by_message(tmp_path: Path) -> None:
    files = {
        "jav": po(tmp_path / "jv.po", [polib.POEntry(msgid=one, msgstr=other) for one, other in PAIRS]),
        "sun": po(tmp_path / "su.po", [polib.POEntry(msgid=one, msgstr="su") for one, _ in PAIRS[::-1]]),
    }
    result = read("po", ["eng", "jav", "sun"], files=files)
    assert [dict(row.texts) for row in result[0]] == [{"eng": a, "jav": b, "sun": "su"} for a, b in PAIRS]
    assert all(set(row.texts) == {"jav", "sun"} for row in read("po", ["jav", "sun"], files=files)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("# nothing\n", r"a\.po: no message \(msgid\) was found"),
        ("one\ttwo\n", r"a\.po:1: expected a comment, or text in quotation marks .* found 'one\\ttwo'"),
        ('msgid "a"\nmsgstr "b\n', r"a\.po:2: expected"),
        ('msgid "a"\nmsgstr "b"\nrubbish\n', r"a\.po:3: expected"),
        ('msgid "a"\nmsgid "b"\nmsgstr[x] "c"\n', r"a\.po:3: expected"),
        ('msgstr "c"\nmsgid "b"\n', r"a\.po:1: not PO"),
        (
            'msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=__import__(1);\\n"\n\nmsgid "a"\nmsgstr "b"\n',
            r"a\.po: Plural-Forms cannot be read",
        ),
    ],
)
def test_malformed_po(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.po").write_text(content)
    with pytest.raises(DataError, match=message):
        read("po", ["eng", "jav"], files={"jav": tmp_path / "a.po"})


KDE = [
    polib.POEntry(msgid="_: a key of the keyboard\nEnter", msgstr="Lebokake"),
    polib.POEntry(msgid="_n: a stone\n%n stones", msgstr="watu\nwatu-watu"),
    polib.POEntry(msgid="_: NAME OF TRANSLATORS\nYour names", msgstr="Siti"),
    polib.POEntry(msgid="Your emails", msgstr="siti@example.org", msgctxt="EMAIL OF TRANSLATORS"),
    polib.POEntry(msgid="translator-credits", msgstr="Siti"),
    polib.POEntry(msgid="Hint\n_: a line", msgstr="Pitutur\n_: larik\nliya"),  # which is no context
]


def test_contexts_plurals_and_credits_of_kde_and_gnome(tmp_path: Path) -> None:
    result = read("po", ["eng", "jav"], files={"jav": po(tmp_path / "a.po", KDE)})
    assert pairs(result) == [
        ("Enter", "Lebokake"),
        ("a stone", "watu"),
        ("%n stones", "watu-watu"),
        ("Hint\n_: a line", "Pitutur\n_: larik\nliya"),
    ]
    assert result[1] == Counts(read=7, dropped={"names of translators": 3})


def test_an_english_file_without_translations_has_the_messages_as_its_text(tmp_path: Path) -> None:
    entries = [polib.POEntry(msgid=one, msgstr=other) for one, other in PAIRS]
    files = {
        "eng": po(tmp_path / "en.po", [polib.POEntry(msgid=one) for one, _ in PAIRS]),
        "jav": po(tmp_path / "jv.po", entries),
    }
    result = read("po", ["eng", "jav"], files=files)
    assert (pairs(result), result[1]) == (PAIRS, Counts(read=25))
    files["eng"] = po(
        tmp_path / "own.po", [polib.POEntry(msgid=one, msgstr=f"own {n}") for n, (one, _) in enumerate(PAIRS)]
    )
    assert pairs(read("po", ["eng", "jav"], files=files))[1] == ("own 1", PAIRS[1][1])


def test_compiled_messages_and_domains(tmp_path: Path) -> None:
    path = po(tmp_path / "a.po", [polib.POEntry(msgid=one, msgstr=other) for one, other in PAIRS])
    polib.pofile(str(path)).save_as_mofile(str(tmp_path / "a.mo"))
    result = read("po", ["eng", "jav"], files={"jav": tmp_path / "a.mo"})
    assert sorted(pairs(result)) == sorted(PAIRS)
    whole = (tmp_path / "a.mo").read_bytes()
    for damaged in (whole[:10], whole[:300], whole[:8] + b"\xff" * 4 + whole[12:], whole[:-200]):
        (tmp_path / "b.mo").write_bytes(damaged)
        try:
            found = read("po", ["eng", "jav"], files={"jav": tmp_path / "b.mo"})
        except DataError as error:
            assert "b.mo" in str(error)  # noqa: PT017
        else:
            assert set(pairs(found)) < set(PAIRS)
    lines = path.read_text().split("\n\n", 1)
    path.write_text(f'{lines[0]}\n\ndomain "other"\n\n{lines[1]}')
    assert pairs(read("po", ["eng", "jav"], files={"jav": path})) == PAIRS


def subtitles(path: Path, events: list[tuple[int, int, str]]) -> Path:
    file = pysubs2.SSAFile()
    file.events = [pysubs2.SSAEvent(start=start, end=end, text=text) for start, end, text in events]
    file.save(str(path))
    return path


@pytest.mark.parametrize("ending", ["srt", "vtt", "ass"])
def test_subtitles_that_another_library_wrote(tmp_path: Path, ending: str) -> None:
    english = [(2000 * i, 2000 * i + 1500, rf"{{\i1}}Line{{\i0}}\Nnumber {i}, 3 < 4") for i in range(25)]
    other = [(2000 * i + 200, 2000 * i + 1700, f"Larik {i}") for i in range(25)]
    other[4:5] = [(8000, 8700, "Larik"), (8750, 9600, "papat")]  # one line of English is two
    del other[-1]
    files = {
        "eng": subtitles(tmp_path / f"a.{ending}", english),
        "jav": subtitles(tmp_path / f"b.{ending}", other),
    }
    result = read(ending, ["eng", "jav"], files=files)
    expected = [(f"Line number {i}, 3 < 4", "Larik papat" if i == 4 else f"Larik {i}") for i in range(24)]
    assert pairs(result) == expected
    assert list(texts(result))[:3] == ["0", "2000", "4000"]
    assert result[1] == Counts(read=25, dropped={"text in fewer than two languages": 1})


def test_subtitles_that_hardly_overlap_are_no_pair(tmp_path: Path) -> None:
    files = {
        "eng": subtitles(tmp_path / "a.srt", [(0, 1000, "one"), (1000, 2000, "two")]),
        "jav": subtitles(tmp_path / "b.srt", [(0, 1200, "siji"), (1200, 2200, "loro")]),
    }
    assert pairs(read("srt", ["eng", "jav"], files=files)) == [("one", "siji"), ("two", "loro")]


def test_comments_drawings_and_endless_overlaps(tmp_path: Path) -> None:
    shown = pysubs2.SSAFile()
    shown.events = [
        pysubs2.SSAEvent(start=0, end=900, text="one"),
        pysubs2.SSAEvent(start=0, end=900, text=r"{\p1}m 0 0 l 1 1{\p0}"),
        pysubs2.SSAEvent(start=0, end=900, text="a note", type="Comment"),
    ]
    shown.save(str(tmp_path / "a.ass"))
    files = {"eng": tmp_path / "a.ass", "jav": subtitles(tmp_path / "b.srt", [(0, 900, "siji")])}
    assert pairs(read("ass", ["eng", "jav"], files=files)) == [("one", "siji")]
    files["jav"] = subtitles(tmp_path / "c.srt", [(0, 900, "x")] * 600)
    with pytest.raises(DataError, match="more than 500 texts at 0 ms"):
        read("srt", ["eng", "jav"], files=files)


@pytest.mark.parametrize("content", ["", "no subtitles\n", "1\n00:00:01,000 -->\n"])
def test_what_is_no_subtitles(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.srt").write_text(content)
    files = {"eng": tmp_path / "a.srt", "jav": subtitles(tmp_path / "b.srt", [(0, 900, "siji")])}
    with pytest.raises(DataError, match=r"a\.srt: n"):
        read("srt", ["eng", "jav"], files=files)


def test_tatoeba(tmp_path: Path) -> None:
    lines = [f"{i}\teng\tSentence {i}.\n{100 + i}\tjav\tUkara {i}.\n" for i in range(1, 26)]
    lines += [
        "200\tjav\tUkara liya.\n",
        "300\tfra\tUne phrase.\n",
        "301\teng\tAlone.\n",
        "302\t\\N\tNo language.\n",
    ]
    links = [f"{i}\t{100 + i}\n{100 + i}\t{i}\n" for i in range(1, 26)]
    links += ["200\t1\n", "1\t300\n", "300\t1\n", "1\t301\n", "1\t999\n"]
    (tmp_path / "sentences.csv").write_text("".join(lines))
    (tmp_path / "links.csv").write_text("".join(links))
    options = {"sentences": tmp_path / "sentences.csv", "links": tmp_path / "links.csv"}
    result = read("tatoeba", ["eng", "jav"], **options)
    expected = [(f"Sentence {i}.", f"Ukara {i}.") for i in range(1, 26)]
    assert pairs(result) == [*expected, ("Sentence 1.", "Ukara liya.")]
    assert [result[0][0].id, result[0][-1].id] == ["1-101", "1-200"]
    assert result[1] == Counts(read=26)
    with pytest.raises(DataError, match=r"\(eng, sun\); found eng"):
        read("tatoeba", ["eng", "sun"], **options)
    for name, content, message in (
        ("sentences.csv", "1,eng,One\n", r"sentences\.csv:1: expected a number, a language code and a sentence"),
        ("links.csv", "1\t2\n1\tx\n", r"links\.csv:2: expected the numbers of two sentences, found '1\\tx'"),
    ):
        (tmp_path / "other").mkdir(exist_ok=True)
        (tmp_path / "other" / name).write_text(content)
        with pytest.raises(DataError, match=message):
            read("tatoeba", ["eng", "jav"], **{**options, name.partition(".")[0]: tmp_path / "other" / name})


def test_po_keys_stand_for_no_text_where_the_source_has_a_file(tmp_path: Path) -> None:
    head = 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
    texts_of = {
        "en": {"menu.open": "Open", "menu.quit": "", "menu.save": "Save"},
        "jv": {"menu.open": "Bukak", "menu.quit": "Metu"},
    }
    for code, messages in texts_of.items():
        entries = "".join(f'msgid "{key}"\nmsgstr "{text}"\n\n' for key, text in messages.items())
        (tmp_path / f"{code}.po").write_text(head + entries)
    files = {"eng": tmp_path / "en.po", "jav": tmp_path / "jv.po"}
    rows, counts = read("po", ["eng", "jav"], files=files)
    assert [dict(row.texts) for row in rows] == [{"eng": "Open", "jav": "Bukak"}]
    assert counts.dropped == {"untranslated": 1, "text in fewer than two languages": 2}
    assert counts.read == 4


def test_tatoeba_by_language(tmp_path: Path) -> None:
    (tmp_path / "eng.tsv").write_text("1\teng\tYes.\n2\teng\tNo.\n")
    (tmp_path / "jav.tsv").write_text("11\tjav\tIya.\n12\tjav\tOra.\n")
    (tmp_path / "links.tsv").write_text("11\t1\n12\t2\n1\t11\n")
    options = {"sentences": [tmp_path / "eng.tsv", tmp_path / "jav.tsv"], "links": tmp_path / "links.tsv"}
    assert texts(read("tatoeba", ["eng", "jav"], **options)) == {
        "1-11": {"eng": "Yes.", "jav": "Iya."},
        "2-12": {"eng": "No.", "jav": "Ora."},
    }
    with pytest.raises(DataError, match=r"eng\.tsv, .*eng\.tsv: .*found eng"):
        read("tatoeba", ["eng", "jav"], sentences=[tmp_path / "eng.tsv"] * 2, links=tmp_path / "links.tsv")


def test_times_without_milliseconds_and_character_references(tmp_path: Path) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:01 --> 00:00:02\nAt 10:30 &amp; later\n")
    (tmp_path / "b.vtt").write_text("WEBVTT\n\n00:01.000 --> 00:02.000\n<v Ann>&lt;i&gt; &amp;amp; &nbsp;b\n")
    rows, _ = read("srt", ["eng", "jav"], files={"eng": tmp_path / "a.srt", "jav": tmp_path / "b.vtt"})
    assert [dict(row.texts) for row in rows] == [{"eng": "At 10:30 &amp; later", "jav": "<i> &amp; b"}]


def test_rolling_captions_say_each_line_once_and_repeated_lines_of_a_dialogue_stay(tmp_path: Path) -> None:
    files = {"eng": tmp_path / "a.srt", "jav": tmp_path / "b.srt"}

    def write(path: Path, shown: list[str]) -> None:
        subtitles = pysubs2.SSAFile()
        for i, text in enumerate(shown):
            subtitles.append(pysubs2.SSAEvent(1000 * i, 1000 * (i + 1), text))
        subtitles.save(str(path))

    words = ["one", "two", "three", "four"]
    rolled = [words[0], *(f"{before}\\N{word}" for before, word in pairwise(words))]
    write(files["eng"], rolled)
    write(files["jav"], ["siji", "loro", "telu", "papat"])
    rows, _ = read("srt", ["eng", "jav"], files=files)
    assert [row.texts["eng"] for row in rows] == words
    dialogue = ["No.", "No.\\NNo?", "Never!", "Ever."]
    write(files["eng"], dialogue)
    rows, _ = read("srt", ["eng", "jav"], files=files)
    assert [row.texts["eng"] for row in rows] == ["No.", "No. No?", "Never!", "Ever."]


def test_angle_brackets_that_are_no_tags_stay(tmp_path: Path) -> None:
    for name, words in (("a.srt", "<i>If 5 < 6</i> and 7 > 3"), ("b.srt", "Yen 5 < 6 lan 7 > 3")):
        (tmp_path / name).write_text(f"1\n00:00:01,000 --> 00:00:02,000\n{words}\n")
    files = {"eng": tmp_path / "a.srt", "jav": tmp_path / "b.srt"}
    assert pairs(read("srt", ["eng", "jav"], files=files)) == [("If 5 < 6 and 7 > 3", "Yen 5 < 6 lan 7 > 3")]
