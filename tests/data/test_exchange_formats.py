"""TMX, XLIFF, Parquet, OPUS archives, data sets on the Hub, and compressed files."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from data.reading import read, texts
from instructalign.errors import DataError
from instructalign.mixture.replay_sources import read_hub_examples
from instructalign.ray_data.arrow_rows import write_part
from instructalign.types import Counts, ParallelRow

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
    with pytest.raises(DataError, match=r"a/b \(train\) .*Name or service not known\. .*format: jsonl") as caught:
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
