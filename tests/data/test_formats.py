"""Each corpus format on files written here, its options through the configuration's own check."""

# ruff: noqa: E501 (markup)
from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet
from pydantic import ValidationError

from data.reading import read, texts
from instructalign.data.readers import read_json
from instructalign.errors import DataError
from instructalign.mixture.replay_sources import read_hub_examples
from instructalign.plugins import FORMATS
from instructalign.ray_data.arrow_rows import write_part
from instructalign.types import Counts, ParallelRow


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(content, encoding="utf-8", newline="")
    return folder


FLORES = {
    "dev/eng_Latn.dev": "one\ntwo\n",
    "dev/ace_Latn.dev": "sa\ndua\n",
    "dev/ace_Arab.dev": "سا\nدوا\n",
    "dev/README.dev": "not a language\n",
    "devtest/eng_Latn.devtest": "three\n",
    "devtest/ace_Latn.devtest": "lhee\n",
    "devtest/ace_Arab.devtest": "لهي\n",
}


@pytest.mark.parametrize("root", ["", "flores200_dataset/"])
def test_flores_in_both_layouts(tmp_path: Path, root: str) -> None:
    write(tmp_path, {root + name: content for name, content in FLORES.items()})
    result = read("flores", ["ace", "eng"], path=tmp_path)
    assert texts(result) == {
        "dev-0001": {"ace": "sa", "eng": "one"},
        "dev-0002": {"ace": "dua", "eng": "two"},
        "devtest-0001": {"ace": "lhee", "eng": "three"},
    }
    assert result[1] == Counts(read=3)


def test_flores_tells_scripts_of_one_language_apart(tmp_path: Path) -> None:
    write(tmp_path, FLORES)
    rows, _ = read("flores", ["eng", "ace_Arab"], path=tmp_path, splits=["devtest"])
    assert [dict(row.texts) for row in rows] == [{"eng": "three", "ace_Arab": "لهي"}]


def test_flores_files_named_by_the_language_alone(tmp_path: Path) -> None:
    write(tmp_path, {"dev/eng.dev": "one\n", "dev/ind.dev": "satu\n"})
    assert texts(read("flores", ["eng", "ind"], path=tmp_path, splits=["dev"])) == {
        "dev-0001": {"eng": "one", "ind": "satu"}
    }


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"dev/ace_Latn.dev": "sa\n"}, {}, r"ace_Latn.dev has 1, .*eng_Latn.dev has 2"),
        ({}, {"splits": ["devtset"]}, r"no split 'devtset'. Did you mean 'devtest'\? Available: dev, devtest"),
        ({"dev/eng.dev": "one\n"}, {}, "'eng' and 'eng_Latn' are eng"),
        ({"extra/notes.txt": ""}, {"splits": ["extra"]}, "no file such as eng_Latn.extra"),
    ],
)
def test_flores_refuses(tmp_path: Path, change: dict[str, str], options: dict[str, Any], message: str) -> None:
    write(tmp_path, {**FLORES, **change})
    with pytest.raises(DataError, match=message):
        read("flores", ["ace", "eng"], path=tmp_path, **options)


def test_flores_without_enough_languages_says_which_are_there(tmp_path: Path) -> None:
    write(tmp_path, FLORES)
    with pytest.raises(DataError, match=r"\(eng, jav\); found eng\. .*: ace, ace_Arab, eng\."):
        read("flores", ["eng", "jav"], path=tmp_path)


def test_flores_needs_its_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="flores200 is not a folder"):
        read("flores", ["eng", "ind"], path=tmp_path / "flores200")


def test_moses_reads_any_number_of_sides(tmp_path: Path) -> None:
    write(tmp_path, {"c.en": "one\n\nthree\n", "c.id": "satu\ndua\ntiga\n", "c.jv": "siji\nloro\n\n"})
    files = {code: tmp_path / f"c.{code}" for code in ("en", "id", "jv")}
    result = read("moses", ["eng", "ind", "jav"], files=files)
    assert texts(result) == {
        "1": {"eng": "one", "ind": "satu", "jav": "siji"},
        "2": {"ind": "dua", "jav": "loro"},
        "3": {"eng": "three", "ind": "tiga"},
    }
    two = read("moses", ["eng", "ind"], files=files)
    assert list(texts(two)) == ["1", "3"]
    assert two[1] == Counts(read=3, dropped={"text in fewer than two languages": 1})


@pytest.mark.parametrize(("english", "indonesian"), [(3, 5), (5, 3), (0, 1)])
def test_moses_sides_of_unequal_length_are_refused_with_both(
    tmp_path: Path, english: int, indonesian: int
) -> None:
    write(tmp_path, {"c.en": "a\n" * english, "c.id": "b\n" * indonesian})
    with pytest.raises(DataError, match=rf"c.en has {english}, .*c.id has {indonesian}\."):
        read("moses", ["eng", "ind"], files={"en": tmp_path / "c.en", "id": tmp_path / "c.id"})


def test_csv_with_quotes_line_ends_and_ragged_rows(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "a.csv": ',English, ind,note\r\n7,"one, ""two""","satu\r\ndua",x\r\n8,only,,x\r\n'
            "9,too,few\r\n10,a,b,c,d\r\n\r\n11, three ,tiga,\r\n,four,empat,\r\n"
        },
    )
    result = read("csv", ["eng", "ind"], path=path / "a.csv", columns={"en": "English", "ind": "ind"}, id=1)
    assert texts(result) == {
        "7": {"eng": 'one, "two"', "ind": "satu\ndua"},
        "9": {"eng": "too", "ind": "few"},  # an empty last cell is often not written
        "11": {"eng": "three", "ind": "tiga"},
    }
    assert result[1] == Counts(
        read=7,
        dropped={
            "text in fewer than two languages": 1,
            "wrong number of columns": 1,
            "empty": 1,
            "no id": 1,
        },
    )


@pytest.mark.parametrize(
    ("format", "content", "kept", "dropped"),
    [
        ("csv", "eng,ind\na,b,\nc,d,,\ne,f,x\n", ["a", "c"], 1),  # behind the last column: empty, or text
        ("csv", "eng,ind,note\na,b\nc\n", ["a"], 1),  # an empty last cell that was not written; half a row
        ("csv", "eng,ind,\na,b\nc,d,\n", ["a", "c"], 0),  # a last column without a name
        ("tsv", "eng\tind\tnote\na\tb\nc\td\te\n", ["c"], 1),  # a line end within a field makes two such halves
        ("tsv", "eng\tind\t\na\tb\nc\td\t\t\n", ["a", "c"], 0),
    ],
)
def test_cells_at_the_ends_of_lines(
    tmp_path: Path, format: str, content: str, kept: list[str], dropped: int
) -> None:
    path = write(tmp_path, {"a": content}) / "a"
    rows, counts = read(format, ["eng", "ind"], path=path)
    assert [row.texts["eng"] for row in rows] == kept
    assert counts.dropped.get("wrong number of columns", 0) == dropped == counts.read - len(kept)


def test_tsv_without_header_keeps_quotation_marks(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.tsv": 'cok\t"take\nabee\tash"\n'}) / "a.tsv"
    result = read("tsv", ["ace", "eng"], path=path, columns={"ace": 1, "eng": 2}, header=False)
    assert texts(result) == {"1": {"ace": "cok", "eng": '"take'}, "2": {"ace": "abee", "eng": 'ash"'}}


def test_table_columns_named_by_codes_need_no_map_and_rows_go_by_line(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.csv": 'jv,note,eng\n"si\nji",,one\nloro,,two\n'}) / "a.csv"
    assert texts(read("csv", ["eng", "jav"], path=path)) == {
        "2": {"eng": "one", "jav": "si\nji"},
        "4": {"eng": "two", "jav": "loro"},
    }


@pytest.mark.parametrize("id", ["id", 1])
def test_the_column_that_names_the_rows_is_not_indonesian(tmp_path: Path, id: str | int) -> None:
    path = write(tmp_path, {"a.csv": "id,en,ind\n7,one,satu\n"}) / "a.csv"
    assert texts(read("csv", ["eng", "ind"], path=path, id=id)) == {"7": {"eng": "one", "ind": "satu"}}


TABLE = "id,english,indonesian\n1,one,satu\n"
MAP = {"eng": "english", "ind": "indonesian"}


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (
            TABLE,
            {"columns": {**MAP, "ind": "indonesain"}},
            r"a.csv: no column named 'indonesain'. Did you mean 'indonesian'\? Available: id, english, indon",
        ),
        (TABLE, {"columns": {**MAP, "ind": 4}}, "no column 4; columns are numbered from 1 to 3"),
        (TABLE, {"columns": MAP, "id": "ID"}, "no column named 'ID'"),
        (TABLE, {"columns": MAP, "header": False}, "header: false .* 1 to 3; found 'english'"),
        (TABLE, {"header": False}, "header: false .*columns: .eng: 1"),
        ("text,label\na,b\n", {}, "columns: text, label"),
        ("a,a\nb,c\n", {"columns": {"eng": "a", "ind": "a"}}, "2 columns named 'a'"),
        (TABLE + '2,"open,dua\n', {"columns": MAP}, r"a.csv:3: not CSV .*quoting: false"),
        (TABLE + '2,"a"b,dua\n', {"columns": MAP}, r"a.csv:3: not CSV .*quoting: false"),
        ("", {"columns": MAP}, "a.csv: the file is empty"),
        ("\n" + TABLE, {"columns": MAP}, "a.csv: the first line is empty"),
        ("id,en,jv,ind\n1,a,b,c\n", {}, "'id' could be Indonesian"),
        (TABLE, {"columns": {"eng": "english"}}, "found eng. .*: eng"),
    ],
)
def test_csv_refuses(tmp_path: Path, content: str, options: dict[str, Any], message: str) -> None:
    path = write(tmp_path, {"a.csv": content}) / "a.csv"
    with pytest.raises(DataError, match=message):
        read("csv", ["eng", "ind"], path=path, **options)


def test_a_language_that_is_none_is_refused_with_the_configuration(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"klingonish"):
        FORMATS.check("csv", {"path": tmp_path, "columns": {"klingonish": 1}})


def test_jsonl_with_nested_texts(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        {
            "a.jsonl": '{"id": 5, "translation": {"en": "one", "id": "satu"}}\n\n'
            '{"id": 6, "translation": {"en": "two", "id": null}}\n'
            '{"id": 7, "translation": {"en": ["three"], "id": "tiga"}}\n'
            '{"translation": {"en": "four", "id": "empat"}}\n'
        },
    )
    columns = {"eng": "translation.en", "ind": "translation.id"}
    result = read("jsonl", ["eng", "ind"], path=path / "a.jsonl", columns=columns, id="id")
    assert texts(result) == {"5": {"eng": "one", "ind": "satu"}}
    assert result[1] == Counts(read=4, dropped={"text in fewer than two languages": 1, "not text": 1, "no id": 1})
    by_code = read("jsonl", ["eng", "ind"], path=path / "a.jsonl")
    assert texts(by_code) == {
        "1": {"eng": "one", "ind": "satu"},
        "5": {"eng": "four", "ind": "empat"},
    }


def test_jsonl_with_keys_that_not_every_record_has(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.jsonl": '{"a": "x", "b": "y"}\n{"b": "u", "c": "v"}\n'}) / "a.jsonl"
    result = read("jsonl", ["eng", "ind", "jav"], path=path, columns={"eng": "a", "ind": "b", "jav": "c"})
    assert texts(result) == {"1": {"eng": "x", "ind": "y"}, "2": {"ind": "u", "jav": "v"}}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"eng": "english", "ind": "indo"}, r"no record has the key 'indo'.*Available: english, ind"),
        ({"eng": "english", "ind": "ind.text"}, "no record has the key 'ind.text'"),
        (None, r"\(eng, ind\); found ind\."),
    ],
)
def test_jsonl_refuses_wrong_keys(tmp_path: Path, columns: dict[str, str] | None, message: str) -> None:
    path = (
        write(
            tmp_path,
            {
                "a.jsonl": '{"english": "one", "ind": "satu"}\n'.replace(
                    "english", "english" if columns else "text"
                )
            },
        )
        / "a.jsonl"
    )
    with pytest.raises(DataError, match=message):
        read("jsonl", ["eng", "ind"], path=path, columns=columns)


@pytest.mark.parametrize("broken", ["\\u0000", "\\ud800"])
def test_broken_characters_are_dropped_and_counted(tmp_path: Path, broken: str) -> None:
    path = write(tmp_path, {"a.jsonl": f'{{"eng": "a{broken}b", "ind": "c"}}\n'}) / "a.jsonl"
    rows, counts = read("jsonl", ["eng", "ind"], path=path)
    assert rows == []
    assert counts.dropped == {"invalid characters (NUL or lone surrogate)": 1}


TMX = """<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE tmx SYSTEM "tmx14.dtd">
<tmx version="1.4"><header srclang="en"><note>no text</note></header><body>
<tu tuid="7"><prop type="x">no text</prop>
 <tuv xml:lang="EN-US">
 <seg>Press <bpt i="1">&lt;b></bpt>the <hi>red</hi> key<ept i="1"/> &amp; <ph/>wait</seg></tuv>
 <tuv xml:lang="id"><seg>Tekan</seg></tuv><tuv xml:lang="id"><seg>Pencet</seg></tuv>
 <tuv xml:lang="jv"><seg>Pencet</seg></tuv><tuv xml:lang="tlh-fantasy-x"><seg>?</seg></tuv></tu>
<tu><tuv lang="en"><seg>One</seg></tuv><tuv lang="jv-Latn"><seg> Siji </seg></tuv></tu>
<tu><tuv lang="en"><seg>Alone</seg></tuv></tu>
</body></tmx>"""


def test_tmx_with_variants_markup_and_several_languages(tmp_path: Path) -> None:
    (tmp_path / "a.tmx").write_text(TMX)
    rows, counts = read("tmx", ["eng", "ind", "jav"], path=tmp_path / "a.tmx")
    english = "Press the red key & wait"
    assert [(row.id, dict(row.texts)) for row in rows] == [
        ("7", {"eng": english, "ind": "Tekan", "jav": "Pencet"}),
        ("7", {"eng": english, "ind": "Pencet", "jav": "Pencet"}),
        ("2", {"eng": "One", "jav": "Siji"}),
    ]
    assert counts == Counts(read=4, dropped={"text in fewer than two languages": 1})


def test_tmx_in_utf16_and_compressed(tmp_path: Path) -> None:
    (tmp_path / "a.tmx.gz").write_bytes(gzip.compress(TMX.replace("UTF-8", "UTF-16").encode("utf-16")))
    assert len(read("tmx", ["eng", "jav"], path=tmp_path / "a.tmx.gz")[0]) == 2


XLIFF_1 = """<xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2">
<file source-language="en-GB" target-language="jv" original="a"><body><group>
<trans-unit id="u1"><source>One <g id="1">big</g> key<x id="2"/></source><target>Siji</target>
<alt-trans><source>Nope</source><target>Ora</target></alt-trans></trans-unit>
<trans-unit id="u2"><source>Two</source></trans-unit></group></body></file></xliff>"""
XLIFF_2 = """<xliff version="2.0" xmlns="urn:oasis:names:tc:xliff:document:2.0" srcLang="en" trgLang="jv">
<file id="f"><unit id="u1"><segment><source>One <pc id="1">big</pc> key</source><target>Siji</target></segment>
<segment><source>Two</source><target/></segment></unit></file></xliff>"""


@pytest.mark.parametrize("content", [XLIFF_1, XLIFF_2])
def test_xliff_in_both_versions(tmp_path: Path, content: str) -> None:
    (tmp_path / "a.xlf").write_text(content)
    result = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert texts(result) == {"u1-1": {"eng": "One big key", "jav": "Siji"}}
    assert result[1] == Counts(read=2, dropped={"text in fewer than two languages": 1})


def test_xliff_between_other_languages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.xlf").write_text(XLIFF_1)
    with pytest.raises(DataError, match=r"\(eng, sun\); found eng\. .*: eng, jav\."):
        read("xliff", ["eng", "sun"], path=tmp_path / "a.xlf")


@pytest.mark.parametrize("tag", ["xx-nothing", "e n", "klingonese"])
def test_what_is_no_language_in_an_xliff_document_is_refused_by_file(tmp_path: Path, tag: str) -> None:
    (tmp_path / "a.xlf").write_text(XLIFF_2.replace('trgLang="jv"', f'trgLang="{tag}"'))
    with pytest.raises(DataError, match=rf"a\.xlf.*{tag}"):
        read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")


RECORDS = [
    {"id": 1, "translation": {"en": "one", "id": "satu"}},
    {"id": 2, "translation": {"en": "two", "id": None}},
    {"id": 3, "translation": {"en": "three", "id": "tiga"}},
]


def test_parquet_file_and_folder(tmp_path: Path) -> None:
    for name, part in (("b", RECORDS[2:]), ("a", RECORDS[:2])):
        parquet.write_table(pa.Table.from_pylist(part), tmp_path / f"{name}.parquet")
    columns = {"en": "translation.en", "id": "translation.id"}
    result = read("parquet", ["eng", "ind"], path=tmp_path, columns=columns, id="id")
    assert texts(result) == {"1": {"eng": "one", "ind": "satu"}, "3": {"eng": "three", "ind": "tiga"}}
    assert result[1] == Counts(read=3, dropped={"text in fewer than two languages": 1})
    assert list(texts(read("parquet", ["eng", "ind"], path=tmp_path / "b.parquet"))) == ["1"]


def test_arrow_files_as_a_cluster_leaves_them(tmp_path: Path) -> None:
    rows = [ParallelRow(f"c/{i}", {"eng": f"stone {i}", "ind": f"batu {i}"}) for i in range(2500)]
    for number in range(2):
        write_part(tmp_path / f"{number}.arrow", rows[number * 1500 :][:1500], ["eng", "ind", "jav"])
    found, counts = read("parquet", ["eng", "ind"], path=tmp_path, id="id")
    assert (found, counts.read) == (rows, 2500)


def test_parquet_with_a_wrong_column(tmp_path: Path) -> None:
    parquet.write_table(pa.Table.from_pylist(RECORDS), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"key 'translation.ind'\. Did you mean 'translation.id'\?"):
        read(
            "parquet",
            ["eng", "ind"],
            path=tmp_path / "a.parquet",
            columns={"en": "translation.en", "id": "translation.ind"},
        )


def test_opus_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "en-id.txt.zip", "w") as archive:
        archive.writestr("README", "A corpus.")
        archive.writestr("Tatoeba.en-id.en", "one\ntwo\n")
        archive.writestr("Tatoeba.en-id.id", "satu\ndua\n")
        archive.writestr("Tatoeba.en-id.ids", "1\n2\n")
    result = read("opus", ["eng", "ind"], path=tmp_path / "en-id.txt.zip")
    assert texts(result) == {"1": {"eng": "one", "ind": "satu"}, "2": {"eng": "two", "ind": "dua"}}


def test_hub_layout_in_a_folder(tmp_path: Path) -> None:
    lines = "".join(json.dumps(record) + "\n" for record in RECORDS)
    (tmp_path / "train.jsonl").write_text(lines)
    for streaming in (True, False):
        result = read("hub", ["eng", "ind"], name=str(tmp_path), id="id", streaming=streaming)
        assert texts(result) == {"1": {"eng": "one", "ind": "satu"}, "3": {"eng": "three", "ind": "tiga"}}


def test_a_dataset_that_is_not_there_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dataset .*missing \(train\) .*jsonl, csv, parquet"):
        read("hub", ["eng", "ind"], name=str(tmp_path / "missing"))


@pytest.mark.parametrize("late", [False, True], ids=["when it is opened", "while it is read"])
def test_an_error_of_any_library_below_the_hub_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, late: bool
) -> None:
    """httpx, fsspec, huggingface_hub and datasets share no base class of their errors."""

    class ConnectError(Exception):
        pass

    def records() -> Iterator[dict[str, str]]:
        yield {"inputs": "q", "targets": "a"}
        raise ConnectError("[Errno -2] Name or service not known\nwith many lines")

    def load(*_: object, **__: object) -> Iterator[dict[str, str]]:
        if not late:
            raise ConnectError("[Errno -2] Name or service not known\nwith many lines")
        return records()

    monkeypatch.setattr("datasets.load_dataset", load)
    examples = read_hub_examples(name="a/b")
    if late:
        assert next(examples).prompt == "q"
    with pytest.raises(
        DataError, match=r"a/b \(train\) .*the Hub does not answer.*check the network.*format: jsonl"
    ) as caught:
        next(examples)
    assert "\n" not in str(caught.value)


FLORES_PLUS = {
    "eng_Latn": [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}],
    "ace_Latn": [{"id": 1, "text": "sa"}, {"id": 2, "text": "dua"}],
    "ace_Arab": [{"id": 1, "text": "سا"}, {"id": 2, "text": "دوا"}],
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """A data set with a subset for each language in place of the network."""
    content = {name: [dict(record) for record in records] for name, records in FLORES_PLUS.items()}

    def load(name: str, subset: str, **_: Any) -> list[dict[str, Any]]:
        return content[subset]

    monkeypatch.setattr("datasets.load_dataset", load)
    monkeypatch.setattr("datasets.get_dataset_config_names", lambda name, revision: list(content))
    return content


def test_flores_plus_joins_the_subsets_of_the_languages(hub: dict[str, list[dict[str, Any]]]) -> None:
    assert texts(read("flores_plus", ["eng", "ace_Arab"], splits=["dev"])) == {
        "dev-1": {"eng": "one", "ace_Arab": "سا"},
        "dev-2": {"eng": "two", "ace_Arab": "دوا"},
    }


@pytest.mark.parametrize("change", [lambda rows: rows.pop(), lambda rows: rows.reverse()])
def test_flores_plus_refuses_subsets_that_do_not_match(
    hub: dict[str, list[dict[str, Any]]], change: Callable[[list[dict[str, Any]]], object]
) -> None:
    change(hub["ace_Latn"])
    with pytest.raises(DataError, match="eng, ace do not have the same sentences in dev"):
        read("flores_plus", ["eng", "ace"], splits=["dev"])


@pytest.mark.parametrize(
    ("ending", "compress"),
    [
        ("gz", gzip.compress),
        ("bz2", bz2.compress),
        ("xz", lzma.compress),
        ("zst", lambda data: bytes(pa.compress(data, codec="zstd"))),
    ],
)
def test_moses_compressed(tmp_path: Path, ending: str, compress: Callable[[bytes], bytes]) -> None:
    (tmp_path / "c.en").write_bytes(b"one\ntwo\n")
    (tmp_path / f"c.id.{ending}").write_bytes(compress(b"satu\ndua\n"))
    files = {"eng": tmp_path / "c.en", "ind": tmp_path / f"c.id.{ending}"}
    assert texts(read("moses", ["eng", "ind"], files=files))["2"] == {"eng": "two", "ind": "dua"}


TMX_PARTS = {
    "code at both ends": ("<seg><bpt i='1'>&lt;b></bpt>red<ept i='1'>&lt;/b></ept> key</seg>", ["red key"]),
    "isolated tag": ("<seg><it pos='begin'>&lt;i></it>red key</seg>", ["red key"]),
    "placeholder": ("<seg>red <ph x='1'>{0}</ph>key</seg>", ["red key"]),
    "unknown tag": ("<seg>red <ut>{\\cs6</ut>key</seg>", ["red key"]),
    "highlight": ("<seg>red <hi type='x'>key <hi>now</hi></hi></seg>", ["red key now"]),
    "text within code": ("<seg>red<ph>note <sub>a <bpt i='1'/>foot</sub></ph> key</seg>", ["red key"]),
    "line break": ("<seg>red<ph type='lb'>&lt;br/></ph>key</seg>", ["red key"]),
    "note and property": ("<note>n</note><prop type='p'>p</prop><seg>red key</seg>", ["red key"]),
    "several of one language": (
        "<seg>red</seg></tuv><tuv xml:lang='en-GB'><seg>crimson</seg>",
        ["red", "crimson"],
    ),
    "language of TMX 1.1": ("<seg>red</seg></tuv><tuv lang='EN-AU'><seg>ruddy</seg>", ["red", "ruddy"]),
    "no language": ("<seg>red</seg></tuv><tuv><seg>lost</seg>", ["red"]),
    "empty": ("<seg/>", []),
}


@pytest.mark.parametrize("part", TMX_PARTS)
def test_each_element_of_tmx(tmp_path: Path, part: str) -> None:
    content, expected = TMX_PARTS[part]
    (tmp_path / "a.tmx").write_text(
        f"""<tmx version="1.4"><header srclang="*all*"><note>n</note><prop type="p">p</prop></header><body>
        <tu srclang="jv"><note>n</note><prop type="p">p</prop>
        <tuv xml:lang="en">{content}</tuv><tuv xml:lang="jv"><seg>abang</seg></tuv></tu>
        <tu><tuv xml:lang="en"><seg>last</seg></tuv><tuv xml:lang="jv"><seg>pungkasan</seg></tuv></tu>
        </body></tmx>"""
    )
    rows, counts = read("tmx", ["eng", "jav"], path=tmp_path / "a.tmx")
    assert [row.texts["eng"] for row in rows] == [*expected, "last"]
    lost = {"no language": "variant without a language (xml:lang)", "empty": "text in fewer than two languages"}
    assert counts.dropped == ({lost[part]: 1} if part in lost else {})


UNTRANSLATED = "marked untranslated (often identical to the source)"


def target(attributes: str, unit: str = "") -> str:
    return f"<trans-unit id='u' {unit}><source>red</source><target {attributes}>abang</target></trans-unit>"


RED = [("red", "abang")]
XLIFF_PARTS = {  # version 1.2: what is in <body>, and the pairs
    **{
        f"{tag} is markup": (
            f"<trans-unit><source><{tag} id='1'>code <sub>foot</sub></{tag}>red</source>"
            f"<target><{tag} id='1'>code</{tag}>abang</target></trans-unit>",
            RED,
        )
        for tag in ("bpt", "ept", "it", "ph")
    },
    "g and mrk are text": (
        "<trans-unit><source><g id='1'>red</g></source>"
        "<target><mrk mtype='term'>abang</mrk></target></trans-unit>",
        RED,
    ),
    "x, bx and ex are empty": (
        "<trans-unit><source><bx id='1'/>red<ex id='1'/></source><target>abang<x id='2'/></target></trans-unit>",
        RED,
    ),
    "line break": (
        "<trans-unit><source>red<x ctype='lb'/>key</source><target>abang</target></trans-unit>",
        [("red key", "abang")],
    ),
    "segments": (
        "<trans-unit><source>A. B.</source><seg-source><mrk mtype='seg' mid='1'>A.</mrk> "
        "<mrk mtype='seg' mid='2'>B <mrk mtype='term'>b</mrk>.</mrk></seg-source><target>"
        "<mrk mtype='seg' mid='2'>D.</mrk> <mrk mtype='seg' mid='1'>C.</mrk></target></trans-unit>",
        [("A.", "C."), ("B b.", "D.")],
    ),
    "segments on one side": (
        "<trans-unit><source>A. B.</source><seg-source><mrk mtype='seg' mid='1'>A. B.</mrk></seg-source>"
        "<target>C. D.</target></trans-unit>",
        [("A. B.", "C. D.")],
    ),
    "a segment not translated": (
        "<trans-unit><source>A. B.</source><seg-source><mrk mtype='seg' mid='1'>A.</mrk> "
        "<mrk mtype='seg' mid='2'>B.</mrk></seg-source><target><mrk mtype='seg' mid='1'>C.</mrk> "
        "<mrk mtype='seg' mid='2'/></target></trans-unit>",
        [("A.", "C.")],
    ),
    "alternatives": (
        "<trans-unit><source>red</source><target>abang</target><alt-trans match-quality='70'><source>rod</source>"
        "<target>tongkat</target></alt-trans></trans-unit>",
        RED,
    ),
    "an alternative is no translation": (
        "<trans-unit><source>red</source><alt-trans><target>abang</target></alt-trans></trans-unit>",
        [],
    ),
    "notes, contexts and counts": (
        "<trans-unit><source>red</source><target>abang</target><note>n</note><context-group><context>c</context>"
        "</context-group><count-group><count>1</count></count-group></trans-unit>",
        RED,
    ),
    "binary units": (
        "<bin-unit id='b' translate='no'><bin-source><internal-file>x</internal-file></bin-source>"
        "<trans-unit><source>blue</source><target>biru</target></trans-unit></bin-unit>" + target(""),
        RED,
    ),
    "translate no": (target("", "translate='no'"), []),
    "translate yes within no": ("<group translate='no'>" + target("", "translate='yes'") + "</group>", RED),
    "not approved": (target("", "approved='no'"), RED),
    "no equivalent": (target("equiv-trans='no'"), []),
    **{f"state {state}": (target(f"state='{state}'"), []) for state in ("new", "needs-translation", "needs-l10n")},
    **{
        f"state {state}": (target(f"state='{state}'"), RED)
        for state in ("translated", "signed-off", "final", "needs-review-translation", "needs-adaptation", "x-own")
    },
    "fuzzy match": (target("state='needs-review-translation' state-qualifier='fuzzy-match'"), []),
    "machine suggestion": (target("state-qualifier='mt-suggestion'"), []),
    "accepted suggestion": (target("state='signed-off' state-qualifier='tm-suggestion'"), RED),
    "approved suggestion": (target("state-qualifier='fuzzy-match'", "approved='yes'"), RED),
    "rejected": (target("state='final' state-qualifier='rejected-inaccurate'"), []),
    "exact match": (target("state-qualifier='exact-match'"), RED),
}


@pytest.mark.parametrize("part", XLIFF_PARTS)
def test_each_element_of_xliff_1(tmp_path: Path, part: str) -> None:
    body, expected = XLIFF_PARTS[part]
    (tmp_path / "a.xlf").write_text(
        f"""<xliff version="1.2"><file source-language="en" target-language="jv"><header><note>n</note><skl>
        <internal-file>s</internal-file></skl><phase-group/></header><body>{body}</body></file></xliff>"""
    )
    rows, counts = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert [(row.texts["eng"], row.texts["jav"]) for row in rows] == expected
    assert counts.read == len(rows) + sum(counts.dropped.values())
    assert counts.read > 0


XLIFF_2_PARTS = {  # version 2: what is in <file>, and the pairs
    "pc and mrk are text": (
        "<segment><source><pc id='1'>red</pc></source><target><mrk id='2'>abang</mrk></target></segment>",
        RED,
    ),
    "ph, sc, ec, sm, em and cp are empty": (
        "<segment><source><ph id='1' disp='x'/><sc id='2'/>red<ec startRef='2'/><cp hex='0007'/></source>"
        "<target><sm id='3'/>abang<em startRef='3'/></target></segment>",
        RED,
    ),
    "line break": (
        "<segment><source>red<ph id='1' type='fmt' subType='xlf:lb'/>key</source><target>abang</target></segment>",
        [("red key", "abang")],
    ),
    "code data and notes": (
        "<notes><note>n</note></notes><originalData><data id='d'>&lt;b></data></originalData>"
        "<segment><source>red</source><target>abang</target></segment>",
        RED,
    ),
    "ignorable": (
        "<ignorable><source>x</source><target>y</target></ignorable>"
        "<segment><source>red</source><target order='2'>abang</target></segment>",
        RED,
    ),
    **{
        f"module {name}": (
            f"<{name}><m:x><m:source>x</m:source><m:target>y</m:target></m:x></{name}>"
            "<segment><source>red</source><target>abang</target></segment>",
            RED,
        )
        for name in ("m:matches", "m:glossary", "m:metadata", "m:changeTrack", "m:resourceData")
    },
    "state initial": ("<segment state='initial'><source>red</source><target>red</target></segment>", []),
    **{
        f"state {state}": (
            f"<segment state='{state}' subState='m:x'><source>red</source><target>abang</target></segment>",
            RED,
        )
        for state in ("translated", "reviewed", "final")
    },
    "no target": ("<segment><source>red</source></segment>", []),
}


@pytest.mark.parametrize("part", XLIFF_2_PARTS)
def test_each_element_of_xliff_2(tmp_path: Path, part: str) -> None:
    body, expected = XLIFF_2_PARTS[part]
    (tmp_path / "a.xlf").write_text(
        f"""<xliff version="2.1" srcLang="en" trgLang="jv" xmlns:m="urn:m"><file id="f">
        <notes><note>n</note></notes>
        <group id="g"><unit id="u">{body}</unit></group></file><file id="g"><unit id="v" translate="no">
        <segment><source>blue</source><target>biru</target></segment></unit></file></xliff>"""
    )
    rows, counts = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert [(row.texts["eng"], row.texts["jav"]) for row in rows] == expected
    assert counts.dropped.pop(UNTRANSLATED) == 1 + (part == "state initial")
    assert counts.dropped == ({"text in fewer than two languages": 1} if part == "no target" else {})


def test_languages_of_one_file_of_an_xliff_document_do_not_hold_for_the_next(tmp_path: Path) -> None:
    (tmp_path / "a.xlf").write_text(
        f"""<xliff version="1.2"><file source-language="en" target-language="jv"><body>{target("")}</body></file>
        <file source-language="en"><body>{target("")}</body></file></xliff>"""
    )
    with pytest.raises(DataError, match=r"a\.xlf: unit 'u' has no target language"):
        read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")


UNITS_1 = """<xliff version="1.2"><file source-language="en"><body>
<trans-unit id="own"><source xml:lang="en">One</source><target xml:lang="jv">Siji</target>
<note>One target too</note>
<alt-trans><source>Uno</source><target xml:lang="es">Unu</target></alt-trans></trans-unit>
<trans-unit id="copy"><source>Two</source><target xml:lang="jv" state="needs-translation">Two</target></trans-unit>
<trans-unit id="new"><source>Three</source><target xml:lang="jv" state="new">Three</target></trans-unit>
<trans-unit id="final"><source>Four <g id="1">big</g> <x id="2"/>cats</source>
<seg-source><mrk mtype="seg" mid="1">Four big cats</mrk></seg-source>
<target xml:lang="jv" state="final">Papat <mrk mtype="seg" mid="1">kucing</mrk>
<ph id="3">%s</ph>gedhe</target></trans-unit>
<group translate="no"><trans-unit id="name"><source>ACME</source><target xml:lang="jv">ACME</target></trans-unit>
<trans-unit id="back" translate="yes"><source>Five</source><target xml:lang="jv">Lima</target></trans-unit></group>
</body></file></xliff>"""
UNITS_2 = """<xliff version="2.0" srcLang="en" trgLang="jv"><file id="f"><unit id="u">
<notes><note>A note</note></notes><originalData><data id="d">&lt;b&gt;</data></originalData>
<segment state="initial"><source>Two</source><target>Two</target></segment>
<ignorable><source> </source><target> leftover </target></ignorable>
<segment><source>Three</source></segment>
<segment state="reviewed"><source>Four <pc id="1">big</pc> cats</source>
<target>Papat <mrk id="m">kucing</mrk> gedhe</target></segment></unit>
<unit id="n" translate="no"><segment><source>ACME</source><target>ACME</target></segment>
</unit></file></xliff>"""


def test_xliff_without_a_target_language_and_with_states(tmp_path: Path) -> None:
    (tmp_path / "a.xlf").write_text(UNITS_1, encoding="utf-8")
    result = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert texts(result) == {
        "own-1": {"eng": "One", "jav": "Siji"},
        "final-1": {"eng": "Four big cats", "jav": "Papat kucing\ngedhe"},
        "back-1": {"eng": "Five", "jav": "Lima"},
    }
    assert result[1] == Counts(read=6, dropped={UNTRANSLATED: 3})


def test_xliff_2_states_and_ignorable_text(tmp_path: Path) -> None:
    (tmp_path / "a.xlf").write_text(UNITS_2, encoding="utf-8")
    result = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert list(texts(result).values()) == [{"eng": "Four big cats", "jav": "Papat kucing gedhe"}]
    assert result[1] == Counts(read=4, dropped={UNTRANSLATED: 2, "text in fewer than two languages": 1})


def test_columns_that_clash_matter_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "t.tsv").write_text("en\tjv\tpt\tpt-br\nOne\tSiji\tUm\tUma\n", encoding="utf-8")
    found = read("tsv", ["eng", "jav"], path=tmp_path / "t.tsv")
    assert list(texts(found).values()) == [{"eng": "One", "jav": "Siji"}]
    with pytest.raises(DataError, match=r"'pt' and 'pt-br' are por.*columns"):
        read("tsv", ["eng", "por"], path=tmp_path / "t.tsv")


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("hint", ["", "sep={0}\r\n", '"sep={0}"\n'])
@pytest.mark.parametrize("quoting", [True, False])
def test_the_delimiter_of_a_table_is_found_and_said(
    tmp_path: Path, delimiter: str, hint: str, quoting: bool, caplog: pytest.LogCaptureFixture
) -> None:
    quoted = '"a{0} b"{0}c\n' if quoting else "a{0}c\n"
    lines = (
        hint + "eng{0}ind\n" + "one; two{0}dua: 2\n" * (delimiter == ",") + "one, two{0}dua\n" * (delimiter != ",")
    )
    path = write(tmp_path, {"a.csv": (lines + quoted).format(delimiter)}) / "a.csv"
    result = read("csv", ["eng", "ind"], path=path, quoting=quoting)
    first = "one; two" if delimiter == "," else "one, two"
    assert [row["eng"] for row in texts(result).values()] == [first, f"a{delimiter} b" if quoting else "a"]
    assert list(texts(result)) == (["3", "4"] if hint else ["2", "3"])  # ids are the numbers of lines
    name = {",": "commas", ";": "semicolons", "\t": "tabs"}[delimiter]
    assert (f"a.csv: its columns are separated by {name}" in caplog.text) == (delimiter != "," and not hint)


def test_a_table_whose_quotation_marks_stand_behind_backslashes(tmp_path: Path) -> None:
    table = 'eng,ind,jav\n"He said \\"go, now\\".","a\\\\b",\\N\n"a ""b""","c,\\\\N,d",e\\\nf\n'
    path = write(tmp_path, {"a.csv": table}) / "a.csv"
    [first, second] = read("csv", ["eng", "ind", "jav"], path=path, escape="\\")[0]
    assert first.texts == {"eng": 'He said "go, now".', "ind": "a\\b"}
    assert second.texts == {"eng": 'a "b"', "ind": "c,\\N,d", "jav": "e\nf"}


EXCEL = 'eng\tind\n"He said ""go"""\t"Dia bilang ""pergi"""\nA house\tRumah\n'
ALL = '"eng"\t"ind"\n"one"\t"satu"\n'
COMMAS = 'eng\tind\n"one, a"\t"satu, a"\nthree\ttiga\n"two, b"\t"dua"\n'
DIALOGUE = 'eng\tind\n"Go!" he said.\t"Pergi!" katanya.\n"Go!"\t"Pergi!"\nA house, a road\tRumah, jalan\n'
REPLIES = 'eng\tind\n"Go, now!"\t"Pergi, cepat!"\nYes, he did.\tYa, dia pergi.\n'


@pytest.mark.parametrize(
    ("table", "told"), [(EXCEL, True), (ALL, True), (COMMAS, True), (DIALOGUE, False), (REPLIES, False)]
)
def test_fields_in_quotation_marks_are_noticed(
    tmp_path: Path, table: str, told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, {"a.tsv": table}) / "a.tsv"
    columns = {"eng": 1, "ind": 2}
    read("tsv", ["eng", "ind"], path=path, columns=columns)
    assert ("a.tsv: fields are in quotation marks" in caplog.text) == told
    caplog.clear()
    read("tsv", ["eng", "ind"], path=path, columns=columns, quoting=True) if told else None
    assert not caplog.text


@pytest.mark.parametrize(
    ("format", "content", "options"),
    [
        ("csv", '"eng", "ind"\n"one, 1", "satu"\n"two",  "d""ua"\n', {}),
        ("csv", 'eng|ind\none, 1|satu\ntwo|"d""ua"\n', {}),
        ("csv", 'eng;ind\none, 1;satu\ntwo;"d""ua"\n', {}),
        ("csv", 'Our sentences\nof 2024\n\neng,ind\n"one, 1",satu\ntwo,"d""ua"\n', {}),
        ("csv", 'Words, phrases, and more\neng,ind\n"one, 1",satu\ntwo,"d""ua"\n', {}),
        ("csv", 'Our list;;\nNo;English;Bahasa Indonesia\n1;one, 1;satu\n2;two;"d""ua"\n', {}),
        ("tsv", 'Our list\nEnglish\tIndonesian\none, 1\tsatu\ntwo\td"ua\n', {}),
        ("csv", 'Our list\nA,B\n"one, 1",satu\ntwo,"d""ua"\n', {"columns": {"eng": "A", "ind": "B"}}),
        ("csv", 'Our list\nA,B\n"one, 1",satu\ntwo,"d""ua"\n', {"columns": {"eng": 1, "ind": 2}}),
        ("jsonl", '{"eng": ["one, 1", "two"], "ind": ["satu", "d\\"ua"], "name": "a"}', {}),
        ("jsonl", '{"eng": {"0": "one, 1", "1": "two"}, "ind": {"0": "satu", "1": "d\\"ua"}}', {}),
        ("jsonl", '{"data": [{"eng": "one, 1", "ind": "satu"}, {"en": "two", "ind": "d\\"ua"}]}', {}),
        ("jsonl", '{"7": {"eng": "one, 1", "ind": "satu"}, "12": {"en": "two", "ind": "d\\"ua"}}', {}),
        ("jsonl", '{"v": 1, "a": {"x": {"en": "one, 1", "id": "satu"}, "y": {"en": "two", "id": "d\\"ua"}}}', {}),
        ("jsonl", '{"en": {"a": "one, 1", "b": "two"}, "id": {"b": "d\\"ua", "a": "satu"}}', {}),
        ("jsonl", '{"en": {"a": {"x": "one, 1"}, "b": "two"}, "id": {"a": {"x": "satu"}, "b": "d\\"ua"}}', {}),
        ("csv", '| eng | ind |\n| --- | :-: |\n| one, 1 | satu |\n| two | d"ua |\n', {}),
        ("csv", 'eng | ind\n--|--\none, 1 | satu\ntwo | d"ua', {}),
        ("csv", '+--+--+\n|eng|ind|\n+--+--+\n|one, 1|satu|\n|two|d"ua|\n+--+--+\n', {}),
    ],
)
def test_tables_as_people_write_them(tmp_path: Path, format: str, content: str, options: dict[str, Any]) -> None:
    """Spaces before quotation marks, vertical bars, titles, names of languages, JSON by column: one content."""
    path = write(tmp_path, {"a": content}) / "a"
    result = read(format, ["eng", "ind"], path=path, **options)
    expected = [("one, 1", "satu"), ("two", 'd"ua')]
    assert [(row.texts["eng"], row.texts["ind"]) for row in result[0]] == expected
    assert result[1] == Counts(read=2)


def test_rows_of_one_object_by_id_keep_it_and_a_conversation_is_one_row(tmp_path: Path) -> None:
    path = (
        write(tmp_path, {"a.json": '{"x7": {"eng": "a", "jav": "b"}, "x9": {"eng": "c", "jav": "d"}}'}) / "a.json"
    )
    assert texts(read("jsonl", ["eng", "jav"], path=path, id="_id")) == {
        "x7": {"eng": "a", "jav": "b"},
        "x9": {"eng": "c", "jav": "d"},
    }
    path.write_text(
        '{"eng": {"a": "one", "b": "two"}, "jav": {"b": "loro", "c": "telu"}}'
    )  # not all are translated
    result = read("jsonl", ["eng", "jav"], path=path, id="_id")
    assert texts(result) == {"b": {"eng": "two", "jav": "loro"}}
    assert result[1] == Counts(read=3, dropped={"text in fewer than two languages": 2})
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
    path.write_text(json.dumps(talk))
    assert [record for _, record in read_json(path)] == [talk]
    path.write_text('{"translation": {"en": "one", "jv": "siji"}}')
    assert texts(read("jsonl", ["eng", "jav"], path=path)) == {"1": {"eng": "one", "jav": "siji"}}


def test_dashes_and_bars_in_markdown_tables(tmp_path: Path) -> None:
    table = '| en | jv |\n|:--|--:|\n| "a" \\| b | \\| c |\n| -- | d |\n'
    path = write(tmp_path, {"a.csv": table}) / "a.csv"
    assert texts(read("csv", ["eng", "jav"], path=path)) == {
        "3": {"eng": '"a" | b', "jav": "| c"},
        "4": {"eng": "--", "jav": "d"},
    }
    cells = 'en,jv\n"| a | b |\n| --- | --- |\n| c | d |","one, two"\ne,f\n'  # a table within a field is text
    path.write_text(cells)
    found = texts(read("csv", ["eng", "jav"], path=path))
    assert found["2"] == {"eng": "| a | b |\n| --- | --- |\n| c | d |", "jav": "one, two"}


def test_errors_of_formulas_are_empty_cells(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path, {"a.csv": "en,jv,su\na,#N/A,b\nc, #REF! ,\nd,e #N/A,#NAME?\n"}) / "a.csv"
    result = read("csv", ["eng", "jav", "sun"], path=path)
    assert texts(result) == {"2": {"eng": "a", "sun": "b"}, "4": {"eng": "d", "jav": "e #N/A"}}
    assert result[1] == Counts(read=3, dropped={"text in fewer than two languages": 1})
    assert "empty: 3" in caplog.text


@pytest.mark.parametrize(
    "content", ["source,target\na,b\n", '{"src": "a", "tgt": "b"}\n', '{"x": {"src": "a", "TGT": "b"}}']
)
def test_sides_of_a_corpus_are_no_languages(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, {"a": content}) / "a"
    format = "jsonl" if content[0] == "{" else "csv"
    with pytest.raises(DataError, match=r"columns: \{eng: (x\.)?(source|src), jav: (x\.)?(target|tgt|TGT)\}"):
        read(format, ["eng", "jav"], path=path)
    if format == "jsonl" and "x" not in content:
        path.write_text('{"src": "a", "en": "b"}')
        assert texts(read(format, ["src", "eng"], path=path)) == {"1": {"src": "a", "eng": "b"}}


def test_a_lexicon_without_a_header_loses_no_row_to_words_that_are_codes(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.tsv": "kata\tword\nen\tid\nlain\tother\n"}) / "a.tsv"
    with pytest.raises(DataError, match="no column is a language code"):
        read("tsv", ["eng", "ind"], path=path)
    columns = {"ind": 1, "eng": 2}
    assert len(read("tsv", ["eng", "ind"], path=path, columns=columns, header=False)[0]) == 3


def test_an_id_column_is_no_question_where_indonesian_is_not_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.csv": "id,en,jv\n1,one,siji\n"}) / "a.csv"
    assert texts(read("csv", ["eng", "jav"], path=path)) == {"2": {"eng": "one", "jav": "siji"}}


def test_jsonl_whose_keys_change_from_record_to_record(tmp_path: Path) -> None:
    lines = [{"eng": "a", "min": "x"}, {"eng": "b", "jav": "c"}, {"en": "d", "sun": "e"}, {"jv": "f", "su": "g"}]
    path = write(tmp_path, {"a.jsonl": "".join(json.dumps(line) + "\n" for line in lines)}) / "a.jsonl"
    result = read("jsonl", ["eng", "jav", "sun"], path=path)
    assert texts(result) == {
        "2": {"eng": "b", "jav": "c"},
        "3": {"eng": "d", "sun": "e"},
        "4": {"jav": "f", "sun": "g"},
    }
    assert result[1] == Counts(read=4, dropped={"text in fewer than two languages": 1})
    path.write_text('{"eng": "a", "jav": "b"}\n{"en": "c", "eng": "d", "jav": "e"}\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2: both 'en' and 'eng' are eng"):
        read("jsonl", ["eng", "jav"], path=path)


LONG = [
    (1, "en", "one"),
    (1, "jv", "siji"),
    (2, "English", "two"),
    (3, "jav", "telu"),
    (2, "Javanese", "loro"),
    (2, "jav_Latn", "kalih"),
    (4, "min", "ampek"),
    ("", "en", "five"),
]


@pytest.mark.parametrize("format", ["csv", "jsonl"])
def test_a_row_for_each_text(tmp_path: Path, format: str) -> None:
    named = [dict(zip(("id", "lang", "text"), row, strict=True)) for row in LONG]
    content = "".join(json.dumps(row) + "\n" for row in named)
    if format == "csv":
        content = "id,lang,text\n" + "".join(",".join(map(str, row)) + "\n" for row in LONG)
    path = write(tmp_path, {"a": content}) / "a"
    options = {"id": "id", "language_column": "lang", "text_column": "text"}
    result = read(format, ["eng", "jav"], path=path, **options)
    assert [(row.id, row.texts["eng"], row.texts["jav"]) for row in result[0]] == [
        ("1", "one", "siji"),
        ("2", "two", "loro"),
        ("2", "two", "kalih"),
    ]
    assert result[1] == Counts(read=5, dropped={"text in fewer than two languages": 1, "no id": 1})
    with pytest.raises(DataError, match="id, language_column"):
        read(format, ["eng", "jav"], path=path, id="id", language_column="lang")
    with pytest.raises(DataError, match=r"no column is a language code.*language_column: lang"):
        read(format, ["eng", "jav"], path=path, id="id")
    with pytest.raises(DataError, match=r"'txt'.*Did you mean 'text'"):
        read(format, ["eng", "jav"], path=path, **{**options, "text_column": "txt"})
    with pytest.raises(DataError, match=r"\(eng, sun\); found eng"):
        read(format, ["eng", "sun"], path=path, **options)


def test_lists_of_one_object_that_differ_in_length_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, {"a.json": '{"eng": ["a", "b"], "jav": ["c"]}'}) / "a.json"
    with pytest.raises(DataError, match=r"a\.json: .*eng has 2, jav has 1"):
        read("jsonl", ["eng", "jav"], path=path)


def test_segments_of_xliff_2_are_pairs_wherever_their_targets_go(tmp_path: Path) -> None:
    """`order` says where a target is put in the document; the pairs stay."""
    segments = "".join(
        f'<segment id="{n}"><source>s{n}</source><target order="{4 - n}">t{n}</target></segment>'
        for n in (1, 2, 3)
    )
    (tmp_path / "a.xlf").write_text(
        '<xliff version="2.0" srcLang="en" trgLang="jv" xmlns="urn:oasis:names:tc:xliff:document:2.0"><file id="f">'
        f'<unit id="u">{segments}</unit></file></xliff>'
    )
    found = texts(read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf"))
    assert [(row["eng"], row["jav"]) for row in found.values()] == [("s1", "t1"), ("s2", "t2"), ("s3", "t3")]


def test_states_of_memoq_and_trados(tmp_path: Path) -> None:
    states = ("NotStarted", "Pretranslated", "Rejected", "ManuallyConfirmed", "PartiallyEdited")
    units = "".join(
        f'<trans-unit id="{s}" mq:status="{s}"><source>en {s}</source><target>jv {s}</target></trans-unit>'
        for s in states
    )
    marks = "".join(f'<mrk mtype="seg" mid="{n}">{{0}} {n} </mrk>' for n in (1, 2, 3))
    confirmed = '<sdl:seg id="1" conf="Translated"/><sdl:seg id="2" conf="Draft" origin="mt"/><sdl:seg id="3" conf="ApprovedSignOff"/>'
    units += (
        f'<trans-unit id="t"><seg-source>{marks.format("en")}</seg-source><source>x</source><target>{marks.format("jv")}</target>'
        f"<sdl:seg-defs>{confirmed}</sdl:seg-defs></trans-unit>"
    )
    (tmp_path / "a.xlf").write_text(
        '<xliff version="1.2" xmlns:mq="MQXliff" xmlns:sdl="SdlXliff"><file source-language="en" target-language="jv">'
        f"<body>{units}</body></file></xliff>"
    )
    result = read("xliff", ["eng", "jav"], path=tmp_path / "a.xlf")
    assert [row.texts["jav"] for row in result[0]] == [
        "jv ManuallyConfirmed",
        "jv PartiallyEdited",
        "jv 1",
        "jv 3",
    ]
    assert result[1].dropped == {"marked untranslated (often identical to the source)": 4}
