from __future__ import annotations

import errno
import json
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructalign.errors import DataError
from instructalign.files import (
    atomic,
    file_hash,
    read_jsonl,
    read_lines,
    text_hash,
    write_json,
    write_jsonl,
    write_text,
)


def test_a_folder_that_takes_no_file_is_told_by_the_name_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / ".mine.yaml.abc.tmp"))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(PermissionError) as caught:
        write_text(tmp_path / "mine.yaml", "a")
    assert caught.value.filename == str(tmp_path / "mine.yaml")


def test_a_long_folder_is_listed_in_part(tmp_path: Path) -> None:
    for number in range(15):
        (tmp_path / f"{number:02}.txt").touch()
    with pytest.raises(DataError, match=r"contains: 00\.txt, .*, 11\.txt and 3 more\.$"):
        list(read_lines(tmp_path / "no.txt"))


def test_a_file_appears_only_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic(path) as file:
        file.write(b"half")
        assert not path.exists()
    assert path.read_bytes() == b"half"
    assert [child.name for child in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def write_half() -> None:
        with atomic(path) as file:
            file.write(b"new")
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        write_half()
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["file.txt"]


def test_json_is_written_for_people_and_without_nan(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Bahasa Jawa ꦗꦮ", "n": 1})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "ꦗꦮ" in text
    assert json.loads(text) == {"name": "Bahasa Jawa ꦗꦮ", "n": 1}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", float("nan"))
    assert json.loads((tmp_path / "a.json").read_text())["n"] == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20)), max_size=5))
def test_json_lines_come_back(tmp_path: Path, records: list[dict[str, str]]) -> None:
    path = tmp_path / "a.jsonl"
    try:
        assert write_jsonl(path, records) == len(records)
    except UnicodeEncodeError:
        return  # half of a surrogate pair has no UTF-8 form
    assert list(read_jsonl(path)) == list(enumerate(records, start=1))


def test_lines_end_in_lf_or_crlf_only(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffa\r\nb\u2028c\x0bd\x85e\n f\rg \n\nh".encode())
    assert list(read_lines(path)) == [(1, "a"), (2, "b\u2028c\x0bd\x85e"), (3, " f\rg "), (4, ""), (5, "h")]


def test_an_empty_file_has_no_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert list(read_lines(tmp_path / "a.txt")) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"fine\nna\xefve\n", r"a.txt:2: not UTF-8 \(byte 0xef at column 3\).*iconv"),
        (b"\xff\xfea\x00\n\x00", r"a.txt:1: UTF-16 .*iconv -f UTF-16"),
        (b"one\rtwo\rthree", "a.txt:1: .*CR alone"),
        (b"\xed\xa0\x80", r"a.txt:1: not UTF-8"),
    ],
)
def test_what_is_not_utf8_text_is_refused_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        list(read_lines(path))


def test_a_missing_file_is_named_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").touch()
    with pytest.raises(DataError, match=r"trian.tsv does not exist.*contains: train.tsv"):
        list(read_lines(tmp_path / "trian.tsv"))
    with pytest.raises(DataError, match="is a folder"):
        list(read_lines(tmp_path))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": 1', r"a.jsonl:2: not JSON \("),
        ("[1]", "a.jsonl:2: expected a JSON object, found list"),
        ("null", "a.jsonl:2: expected a JSON object, found NoneType"),
        ("[" * 100_000, "a.jsonl:2: .*recursion"),
        ('{"a": ' + "9" * 5000 + "}", "a.jsonl:2: .*digits"),
    ],
)
def test_a_bad_json_line_is_refused_by_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_jsonl(path))


def test_hashes(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 3_000_000)
    assert file_hash(path) == sha256(b"x" * 3_000_000).hexdigest()
    assert text_hash({"a": 1, "b": 2}) == text_hash({"b": 2, "a": 1}) != text_hash({"a": 1, "b": 3})
