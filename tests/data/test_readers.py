"""Each reader on files written here, its options through the configuration's own check."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from data.reading import read, texts
from instructalign.errors import DataError
from instructalign.plugins import FORMATS
from instructalign.types import Counts


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
        ({"dev/eng.dev": "one\n"}, {}, "eng is given twice"),
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
        "11": {"eng": "three", "ind": "tiga"},
    }
    assert result[1] == Counts(
        read=7,
        dropped={
            "text in fewer than two languages": 1,
            "wrong number of columns": 2,
            "empty": 1,
            "no id": 1,
        },
    )


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
    path = write(tmp_path, {"a.jsonl": '{"english": "one", "ind": "satu"}\n'}) / "a.jsonl"
    with pytest.raises(DataError, match=message):
        read("jsonl", ["eng", "ind"], path=path, columns=columns)


@pytest.mark.parametrize("broken", ["\\u0000", "\\ud800"])
def test_broken_characters_are_dropped_and_counted(tmp_path: Path, broken: str) -> None:
    path = write(tmp_path, {"a.jsonl": f'{{"eng": "a{broken}b", "ind": "c"}}\n'}) / "a.jsonl"
    rows, counts = read("jsonl", ["eng", "ind"], path=path)
    assert rows == []
    assert counts.dropped == {"invalid characters (NUL or lone surrogate)": 1}
