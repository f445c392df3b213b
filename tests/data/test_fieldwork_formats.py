"""Files of language documentation: FieldWorks, LIFT, Toolbox and ELAN; pympi writes and reads ELAN's."""

# ruff: noqa: E501 (markup)
from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pympi import Eaf

from data.reading import read, texts
from instructalign.data import read_corpora
from instructalign.errors import DataError
from instructalign.types import Counts

PAIRS = [(f"Au nia batu {i}, muli!", f"I see stone {i}, (yes) <b> & go!") for i in range(1, 26)]
BOMB = '<!DOCTYPE x [<!ENTITY a "b">]>'


def pairs(result: Any) -> list[tuple[str, str]]:
    return [(row.texts["heg"], row.texts["eng"]) for row in result[0]]


def item(kind: str, language: str, text: str) -> str:
    return f'<item type="{kind}" lang="{language}">{escape(text)}</item>'


def flextext(vernacular: str = "heg") -> str:
    phrases = ""
    for number, (text, free) in enumerate(PAIRS, start=1):
        words = ""
        for token in text.replace(",", " ,").replace("!", " !").split():
            punct = token in ",!"
            gloss = "" if punct else item("gls", "en", f"g.{token}")
            morphemes = f'<morphemes><morph type="stem">{item("txt", vernacular, "mo")}{item("gls", "en", "MO")}</morph></morphemes>'
            words += f"<word>{item('punct' if punct else 'txt', vernacular, token)}{morphemes}{gloss}</word>"
        notes = item("segnum", "en", str(number)) + item("lit", "en", "literal") + item("note", "en", "a note")
        phrases += f'<phrase guid="{number}"><words>{words}</words>{item("gls", "en", free)}{notes}</phrase>'
    title = item("title", "en", "A text") + item("title", vernacular, "Dehet")
    return (
        f'<?xml version="1.0" encoding="utf-8"?><document version="2"><interlinear-text guid="t">{title}'
        f"<paragraphs><paragraph><phrases>{phrases}</phrases></paragraph></paragraphs>"
        f'<languages><language lang="{vernacular}"/></languages></interlinear-text></document>'
    )


def test_flextext_phrases_with_their_free_translations(tmp_path: Path) -> None:
    (tmp_path / "a.flextext").write_text(flextext())
    result = read("flextext", ["eng", "heg"], path=tmp_path / "a.flextext")
    assert pairs(result) == PAIRS
    assert result[1] == Counts(read=25)
    assert list(texts(read("flextext", ["eng", "heg"], path=tmp_path)))[:2] == ["a-1", "a-2"]


def test_flextext_words_as_a_lexicon(tmp_path: Path) -> None:
    (tmp_path / "a.flextext").write_text(flextext())
    result = read("flextext", ["eng", "heg"], path=tmp_path / "a.flextext", of="words")
    assert pairs(result)[:4] == [("Au", "g.Au"), ("nia", "g.nia"), ("batu", "g.batu"), ("1", "g.1")]
    assert len(result[0]) == 25 * 5


def test_writing_systems_that_are_no_codes(tmp_path: Path) -> None:
    (tmp_path / "a.flextext").write_text(flextext("qaa-x-hel"))
    with pytest.raises(DataError, match=r"Languages in the corpus: eng, qaa-x-hel\."):
        read("flextext", ["eng", "heg"], path=tmp_path / "a.flextext")
    systems = {"eng": "en", "heg": "qaa-x-hel"}
    assert pairs(read("flextext", ["eng", "heg"], path=tmp_path / "a.flextext", writing_systems=systems)) == PAIRS


def form(language: str, text: str, tag: str = "form") -> str:
    return f'<{tag} lang="{language}"><text>{text}</text></{tag}>'


def lift() -> str:
    entries = ""
    for i in range(1, 26):
        example = f"<example>{form('heg', f'Kalimat <span>{i}</span>.')}<translation type='Free translation'>"
        example += f"{form('en', f'Sentence {i}.')}</translation></example>"
        sense = f"{form('en', f'gloss {i}', 'gloss')}{form('en', f'other {i}', 'gloss')}{form('id', 'x', 'gloss')}"
        definition = f"<definition>{form('en', f'the definition {i}')}</definition>"
        entries += (
            f"<entry id='e{i}'><lexical-unit>{form('heg', f'kata{i}')}</lexical-unit><pronunciation>{form('en', 'no')}"
            f"</pronunciation><variant>{form('heg', 'no')}</variant><etymology>{form('en', 'no', 'gloss')}</etymology>"
            f"<sense id='s{i}'>{sense}{definition}<note>{form('en', 'no')}</note>{example}"
            f"<subsense>{form('en', f'sub {i}', 'gloss')}</subsense></sense></entry>"
        )
    return f"<?xml version='1.0'?><lift version='0.13'><header>{form('en', 'no')}</header>{entries}</lift>"


def test_lift_glosses_definitions_and_examples(tmp_path: Path) -> None:
    (tmp_path / "a.lift").write_text(lift())
    asked = {of: read("lift", ["eng", "heg"], path=tmp_path / "a.lift", of=of) for of in ("glosses", "examples")}
    expected = [(f"kata{i}", f"{word} {i}") for i in range(1, 26) for word in ("gloss", "other", "sub")]
    assert pairs(asked["glosses"]) == expected
    assert pairs(asked["examples"]) == [(f"Kalimat {i}.", f"Sentence {i}.") for i in range(1, 26)]
    result = read("lift", ["eng", "heg"], path=tmp_path / "a.lift", of="definitions")
    assert pairs(result) == [(f"kata{i}", f"the definition {i}") for i in range(1, 26)]
    assert result[1] == Counts(read=50, dropped={"text in fewer than two languages": 25})  # the subsenses


@pytest.mark.parametrize(("format", "content"), [("flextext", flextext()), ("lift", lift())])
def test_truncated_and_hostile_xml(tmp_path: Path, format: str, content: str) -> None:
    path = tmp_path / f"a.{format}"
    root = "document" if format == "flextext" else "lift"
    for text, message in (
        (content[:2000], r": not XML \(no element found|: not XML \(unclosed token"),
        (f"<?xml version='1.0'?>{BOMB}<{root}>&a;</{root}>", "Entities are not read"),
        ("<tmx></tmx>", f"the document is <tmx>, not <{root}>"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read(format, ["eng", "heg"], path=path)


TOOLBOX = "\\_sh v3.0  400  Text\n\\_DateStampHasFourDigitYear\n\n\\id Story\n" + "".join(
    f"\\ref Story.{i:03}\n\\tx {text[:6]}  \n\\mb Au  nia\n\\tx {text[6:]}\n\\ft {free[:8]}\n{free[8:]}\n\\dt 01/Jan\n\n"
    for i, (text, free) in enumerate(PAIRS, start=1)
)


def test_toolbox_texts(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TOOLBOX)
    result = read("toolbox", ["eng", "heg"], path=tmp_path / "a.txt", markers={"heg": "tx", "eng": "\\ft"})
    assert pairs(result) == [(text, " ".join([free[:8].strip(), free[8:].strip()])) for text, free in PAIRS]
    assert result[0][0].id == "1 Story.001"
    assert result[1] == Counts(read=25)


def test_toolbox_dictionary(tmp_path: Path) -> None:
    entries = "".join(f"\\lx kata{i}\n\\sn 1\n\\ge one {i}\n\\sn 2\n\\ge two {i}\n" for i in range(1, 26))
    (tmp_path / "a.db").write_text(f"\\_sh v3.0  400  MDF\n{entries}\\lx alone\n\\ps n\n")
    options: dict[str, Any] = {"markers": {"heg": "lx", "eng": "ge"}, "record": "lx"}
    result = read("toolbox", ["eng", "heg"], path=tmp_path / "a.db", repeated="each", **options)
    assert pairs(result) == [(f"kata{i}", f"{n} {i}") for i in range(1, 26) for n in ("one", "two")]
    assert result[1] == Counts(read=51, dropped={"text in fewer than two languages": 1})


def test_toolbox_with_wrong_markers_and_other_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(TOOLBOX)
    with pytest.raises(DataError, match=r"a\.txt: no line .* the marker \\fx\. Available: _sh, .*, tx, mb, ft"):
        read("toolbox", ["eng", "heg"], path=tmp_path / "a.txt", markers={"heg": "tx", "eng": "fx"})
    (tmp_path / "b.txt").write_text("one\ttwo\n")
    with pytest.raises(DataError, match=r"b\.txt:1: expected a marker, such as .*, found 'one two'"):
        read("toolbox", ["eng", "heg"], path=tmp_path / "b.txt", markers={"heg": "tx", "eng": "ft"})


def eaf(path: Path, *, by_reference: bool = True, speakers: tuple[str, ...] = ("A",)) -> Path:
    document = Eaf()
    document.add_linguistic_type("ref", "Symbolic_Association", timealignable=False)
    document.remove_tier("default")
    for turn, speaker in enumerate(speakers):
        document.add_tier(f"tx@{speaker}")
        document.add_tier(
            f"ft@{speaker}", ling="ref", parent=f"tx@{speaker}"
        ) if by_reference else document.add_tier(f"ft@{speaker}")
        for i, (text, free) in enumerate(PAIRS[turn :: len(speakers)]):
            start = 1000 * (i * len(speakers) + turn)
            document.add_annotation(f"tx@{speaker}", start, start + 900, text)
            if by_reference:
                document.add_ref_annotation(f"ft@{speaker}", f"tx@{speaker}", start + 100, free)
            else:
                document.add_annotation(f"ft@{speaker}", start + 50, start + 990, free)
    document.to_file(str(path))
    return path


@pytest.mark.parametrize("by_reference", [True, False])
@pytest.mark.parametrize("speakers", [("A",), ("A", "B")])
def test_elan_that_another_library_wrote(tmp_path: Path, by_reference: bool, speakers: tuple[str, ...]) -> None:
    path = eaf(tmp_path / "a.eaf", by_reference=by_reference, speakers=speakers)
    tiers = {"heg": "tx@*", "eng": [f"ft@{speaker}" for speaker in speakers]}
    result = read("eaf", ["eng", "heg"], path=path, tiers=tiers)
    assert sorted(pairs(result)) == sorted(PAIRS)
    assert len(texts(result)) == 25 == result[1].read
    by_time = read("eaf", ["eng", "heg"], path=path, tiers=tiers, align="time")
    assert sorted(pairs(by_time)) == sorted(PAIRS)


def test_elan_words_below_an_utterance(tmp_path: Path) -> None:
    document = Eaf(str(eaf(tmp_path / "a.eaf")))
    document.add_linguistic_type("words", "Time_Subdivision")
    document.add_tier("wd@A", ling="words", parent="tx@A")
    for i, (text, _) in enumerate(PAIRS):
        for place, word in enumerate(text.split()):
            document.add_annotation("wd@A", 1000 * i + 150 * place, 1000 * i + 150 * place + 150, word)
    document.to_file(str(tmp_path / "b.eaf"))
    result = read("eaf", ["eng", "heg"], path=tmp_path / "b.eaf", tiers={"heg": "wd@A", "eng": "ft@A"})
    assert pairs(result) == PAIRS


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(9)))
def test_the_order_of_elan_annotations_in_the_file_does_not_matter(tmp_path: Path, order: list[int]) -> None:
    """Words of an utterance follow their links, and words with times follow time, however the file lists them."""
    words = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    linked, timed = [], []
    for i in order:
        before = f' PREVIOUS_ANNOTATION="w{i - 1}"' if i else ""
        value = f"<ANNOTATION_VALUE>{words[i]}</ANNOTATION_VALUE>"
        linked.append(f'<REF_ANNOTATION ANNOTATION_ID="w{i}" ANNOTATION_REF="u"{before}>{value}</REF_ANNOTATION>')
        timed.append(
            f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="w{i}" TIME_SLOT_REF1="t{i}" TIME_SLOT_REF2="t{i + 1}">{value}'
            "</ALIGNABLE_ANNOTATION>"
        )
    slots = "".join(f'<TIME_SLOT TIME_SLOT_ID="t{i}" TIME_VALUE="{i * 100}"/>' for i in range(10))
    for each_way in (linked, timed):
        wrapped = "".join(f"<ANNOTATION>{each}</ANNOTATION>" for each in each_way)
        (tmp_path / "a.eaf").write_text(
            f'<ANNOTATION_DOCUMENT><TIME_ORDER>{slots}</TIME_ORDER><TIER TIER_ID="ft"><ANNOTATION>'
            '<ALIGNABLE_ANNOTATION ANNOTATION_ID="u" TIME_SLOT_REF1="t0" TIME_SLOT_REF2="t9"><ANNOTATION_VALUE>To nine.'
            "</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION></TIER>"
            f'<TIER TIER_ID="wd" PARENT_REF="ft">{wrapped}</TIER></ANNOTATION_DOCUMENT>'
        )
        result = read("eaf", ["eng", "heg"], path=tmp_path / "a.eaf", tiers={"heg": "wd", "eng": "ft"})
        assert pairs(result) == [(" ".join(words), "To nine.")]


def test_lift_with_definitions_only_says_how_to_read_them(tmp_path: Path) -> None:
    (tmp_path / "a.lift").write_text(
        '<lift><entry><lexical-unit><form lang="heg"><text>batu</text></form></lexical-unit><sense><definition>'
        '<form lang="en"><text>a stone</text></form></definition></sense></entry></lift>'
    )
    with pytest.raises(DataError, match=r"a\.lift: .*definitions in eng\. .*of: definitions"):
        read("lift", ["eng", "heg"], path=tmp_path / "a.lift")
    assert pairs(read("lift", ["eng", "heg"], path=tmp_path / "a.lift", of="definitions")) == [("batu", "a stone")]


REFERRING = (
    '<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="below" ANNOTATION_REF="{}"><ANNOTATION_VALUE>x</ANNOTATION_VALUE>'
    "</REF_ANNOTATION></ANNOTATION></TIER>"
)


def test_elan_with_wrong_tiers_and_damaged_files(tmp_path: Path) -> None:
    path = eaf(tmp_path / "a.eaf", by_reference=False)
    tiers = {"heg": "tx@A", "eng": "ft@A"}
    with pytest.raises(DataError, match=r"a\.eaf: no tier 'ft@B'\. Did you mean 'ft@A'"):
        read("eaf", ["eng", "heg"], path=path, tiers={**tiers, "eng": "ft@B"})
    with pytest.raises(DataError, match=r"parent in common with .* Set align: time"):
        read("eaf", ["eng", "heg"], path=path, tiers=tiers, align="parent")
    whole = path.read_text()
    referring = eaf(tmp_path / "r.eaf").read_text()
    for text, message in (
        (whole[: len(whole) // 2], "not XML"),
        (
            whole.replace('TIME_SLOT_REF1="ts', 'TIME_SLOT_REF1="gone', 1),
            r"a\.eaf:\d+: there is no time slot 'gone",
        ),
        (referring.replace('ANNOTATION_REF="a', 'ANNOTATION_REF="b', 1), "refers to 'b.*', which is not there"),
        (referring.replace('PARENT_REF="tx@A"', 'PARENT_REF="ft@A"', 1), "'ft@A' is above itself"),
        (
            re.sub(
                r'ANNOTATION_ID="(a\d+)" ANNOTATION_REF',
                r'ANNOTATION_ID="\1" PREVIOUS_ANNOTATION="\1" ANNOTATION_REF',
                referring,
                count=1,
            ),
            r"'a\d+' is above itself",
        ),
        (
            re.sub(  # the first annotation follows one that belongs to it: a circle of both kinds of link
                r'ANNOTATION_ID="(a\d+)" ANNOTATION_REF="(a\d+)"',
                r'ANNOTATION_ID="\1" ANNOTATION_REF="\2" PREVIOUS_ANNOTATION="below"',
                referring,
                count=1,
            ).replace(
                "</TIER>", REFERRING.format(re.search(r'ANNOTATION_ID="(a\d+)" ANNOTATION_REF', referring)[1]), 1
            ),
            r"'.*' is above itself",
        ),
        (re.sub(r'ANNOTATION_ID="a\d+" ', "", referring, count=1), r"a\.eaf:\d+: an annotation without id"),
        (re.sub(r'ANNOTATION_ID="a\d+"', 'ANNOTATION_ID="a3"', referring, count=1), r"id 'a3' stands twice"),
        (f"<?xml version='1.0'?>{BOMB}<ANNOTATION_DOCUMENT>&a;</ANNOTATION_DOCUMENT>", "Entities are not read"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message):
            read("eaf", ["eng", "heg"], path=path, tiers=tiers)


def test_lift_without_deleted_entries_and_literal_translations(tmp_path: Path) -> None:
    def text(tag: str, words: str) -> str:
        return f'<form lang="{tag}"><text>{words}</text></form>'

    literal = f'<translation type="Literal translation">{text("en", "house big")}</translation>'
    example = f"<example>{text('heg', 'uma bo')}{literal}<translation>{text('en', 'a big house')}</translation></example>"
    entry = f'<lexical-unit>{text("heg", "uma")}</lexical-unit><sense><gloss lang="en"><text>{{}}</text></gloss>{{}}</sense>'
    (tmp_path / "a.lift").write_text(
        f"<lift><entry>{entry.format('house', example)}</entry>"
        f'<entry dateDeleted="2020-01-01T00:00:00Z">{entry.format("gone", example)}</entry></lift>'
    )
    assert pairs(read("lift", ["eng", "heg"], path=tmp_path / "a.lift")) == [("uma", "house")]
    examples = read("lift", ["eng", "heg"], path=tmp_path / "a.lift", of="examples")
    assert pairs(examples) == [("uma bo", "a big house")]


def test_toolbox_markers_followed_by_a_tab(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\\ref\tA.1\n\\tx\tuma bo\n\\ft\ta big house\n")
    options = {"record": "ref", "markers": {"heg": "tx", "eng": "ft"}}
    assert pairs(read("toolbox", ["eng", "heg"], path=tmp_path / "a.txt", **options)) == [
        ("uma bo", "a big house")
    ]


@pytest.mark.parametrize(
    ("markers", "lines", "expected"),
    [
        (
            ("xv", "xe"),
            ["lx w", "sn 1", "xv a1", "xe b1", "sn 2", "xv a2", "sn 3", "xv a3", "xe b3"],
            [("a1", "b1"), ("a3", "b3")],
        ),
        (("xv", "xe"), ["lx w", "xv a1", "xv a2", "xe b2"], [("a2", "b2")]),
        (
            ("xv", "xe"),
            ["lx w", "xv a1", "xe b1", "sn 2", "xe b2", "xv a3", "xe b3"],
            [("a1", "b1"), ("a3", "b3")],
        ),
        (
            ("xv", "xe"),
            ["lx w", "xv a1", "xe b1", "xe c1", "xv a2", "xe b2"],
            [("a1", "b1"), ("a1", "c1"), ("a2", "b2")],
        ),
        (("xv", "xe"), ["lx w", "xv a1", "xe", "xv a2", "xe b2"], [("a2", "b2")]),
        (
            ("lx", "ge"),
            ["lx w", "sn 1", "ge g1", "ge g2", "sn 2", "ge g3"],
            [("w", "g1"), ("w", "g2"), ("w", "g3")],
        ),
        (
            ("lx", "ge"),
            ["lx w", "sn 1", "ge g1", "sn 2", "ge g2", "se wx", "ge g3", "se wy", "lx v", "ge g4"],
            [("w", "g1"), ("w", "g2"), ("wx", "g3"), ("v", "g4")],
        ),
    ],
)
def test_toolbox_pairs_what_stands_together(
    tmp_path: Path, markers: tuple[str, str], lines: list[str], expected: list[tuple[str, str]]
) -> None:
    (tmp_path / "a.db").write_text("\\_sh v3.0  400  MDF\n" + "".join(f"\\{line}\n" for line in lines))
    options = {"markers": dict(zip(("heg", "eng"), markers, strict=True)), "record": "lx", "repeated": "each"}
    result = read("toolbox", ["eng", "heg"], path=tmp_path / "a.db", **options)
    assert pairs(result) == expected
    assert result[1].read == len(expected) + sum(result[1].dropped.values())


def test_toolbox_subentries_are_no_glosses_of_their_entry(tmp_path: Path) -> None:
    (tmp_path / "a.db").write_text("\\lx w\n\\ge g1\n\\se wx\n\\ge g2\n")
    options: dict[str, Any] = {"path": tmp_path / "a.db", "record": "lx"}
    result = read("toolbox", ["eng", "heg"], markers={"heg": "lx", "eng": "ge"}, **options)
    assert pairs(result) == [("w", "g1"), ("wx", "g2")]
    asked = read("toolbox", ["eng", "heg"], markers={"heg": "se", "eng": "ge"}, **options)
    assert pairs(asked) == [("wx", "g1 g2")]  # as the user says


def spoken(path: Path, tiers: dict[str, tuple[str, list[tuple[int, int, str]]]]) -> Path:
    document = Eaf()
    document.remove_tier("default")
    for name, (participant, spans) in tiers.items():
        document.add_tier(name, part=participant or None)
        for start, end, text in spans:
            document.add_annotation(name, start, end, text)
    document.to_file(str(path))
    return path


@pytest.mark.parametrize(
    ("names", "participants", "patterns"),
    [
        (["tx@A", "ft@A", "tx@B", "ft@B"], False, {"heg": "tx@*", "eng": "ft@*"}),
        (["tx@A", "ft@A", "tx@B", "ft@B"], False, {"heg": ["tx@A", "tx@B"], "eng": ["ft@A", "ft@B"]}),
        (["one", "two", "three", "four"], True, {"heg": ["one", "three"], "eng": ["two", "four"]}),
        (["A [tx]", "A [ft]", "B [tx]", "B [ft]"], False, {"heg": "* [tx]", "eng": "* [ft]"}),
    ],
)
@pytest.mark.parametrize("align", ["auto", "time"])
def test_speakers_at_the_same_time_are_not_mixed_up(
    tmp_path: Path, names: list[str], participants: bool, patterns: dict[str, Any], align: str
) -> None:
    said = [[(0, 900, "au"), (1000, 1900, "batu")], [(10, 890, "I"), (1000, 1950, "stone")]]
    said += [[(50, 950, "ia"), (1100, 1800, "uma")], [(60, 940, "he"), (1100, 1800, "house")]]
    tiers = {
        name: ("AABB"[n] if participants else ["", "R"][align == "time"], said[n]) for n, name in enumerate(names)
    }
    result = read("eaf", ["eng", "heg"], path=spoken(tmp_path / "a.eaf", tiers), tiers=patterns, align=align)
    assert pairs(result) == [("au", "I"), ("batu", "stone"), ("ia", "he"), ("uma", "house")]
    assert len(texts(result)) == 4


@pytest.mark.parametrize("align", ["auto", "parent", "time"])
def test_transcriptions_without_translation_are_monolingual_text(tmp_path: Path, align: str) -> None:
    said = [(0, 900, "au"), (1000, 1900, "batu")]
    path = spoken(tmp_path / "a.eaf", {"tx@A": ("", said), "tx@B": ("", [(100, 800, "ia")])})
    corpus = {"format": "eaf", "path": str(path), "tiers": {"heg": "tx@*"}, "align": align, "languages": ["heg"]}
    rows = read_corpora([corpus], ["eng", "heg"], optional=["eng"])
    assert sorted(row.texts["heg"] for row in rows) == ["au", "batu", "ia"]


def test_a_speaker_without_a_translation_does_not_part_the_others(tmp_path: Path) -> None:
    tiers = {
        "tx@A": ("", [(0, 900, "au")]),
        "ft": ("", [(0, 900, "I"), (1000, 1900, "he")]),
        "tx@B": ("", [(1000, 1900, "ia")]),
    }
    result = read(
        "eaf", ["eng", "heg"], path=spoken(tmp_path / "a.eaf", tiers), tiers={"heg": "tx@*", "eng": "ft"}
    )
    assert pairs(result) == [("au", "I"), ("ia", "he")]


@pytest.mark.parametrize(
    ("tokens", "sentence"),
    [
        ('" Au nia " , ia nodan .', '"Au nia", ia nodan.'),
        ("Ia nodan : \" Au nia ! \" ' batu ' .", "Ia nodan: \"Au nia!\" 'batu'."),
        ("batu - batu ( uma ) , “ muli ” …", "batu-batu (uma), “muli”…"),
        ("ma'a 'au -mu – nia", "ma'a 'au -mu – nia"),
    ],
)
def test_punctuation_of_flextext_is_written_as_people_write_it(tmp_path: Path, tokens: str, sentence: str) -> None:
    words = "".join(
        f"<word>{item('txt' if any(map(str.isalnum, token)) else 'punct', 'heg', token)}</word>"
        for token in tokens.split()
    )
    (tmp_path / "a.flextext").write_text(
        f"<document><phrase><words>{words}</words>{item('gls', 'en', 'free')}</phrase></document>"
    )
    assert pairs(read("flextext", ["eng", "heg"], path=tmp_path / "a.flextext")) == [(sentence, "free")]
