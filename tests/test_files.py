from __future__ import annotations

import bz2
import codecs
import errno
import gzip
import io
import json
import lzma
import tracemalloc
import zipfile
from hashlib import sha256
from pathlib import Path

import pyarrow as pa
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


LINES = ["one", "two ꦲ"]
TEXT = "one\ntwo ꦲ\n"


@pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst", "txt"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_content_decides_how_a_file_is_read(
    tmp_path: Path, ending: str, encoding: str, caplog: pytest.LogCaptureFixture
) -> None:
    data = TEXT.encode(encoding)
    kinds = {"gz": gzip.compress(data), "bz2": bz2.compress(data), "xz": lzma.compress(data), "txt": data}
    kinds["zst"] = bytes(pa.compress(data, codec="zstd", asbytes=True))
    for made, content in kinds.items():
        path = tmp_path / f"{made}.{ending}"
        path.write_bytes(content)
        caplog.clear()
        assert [line for _, line in read_lines(path)] == LINES
        assert (f"{path}: " in caplog.text) == (made != ending)  # the user is told


def test_big_endian_text_is_read_by_its_mark(tmp_path: Path) -> None:
    for encoding, mark in {"utf-16-be": codecs.BOM_UTF16_BE, "utf-32-be": codecs.BOM_UTF32_BE}.items():
        (tmp_path / "a.txt").write_bytes(mark + TEXT.encode(encoding))
        assert [line for _, line in read_lines(tmp_path / "a.txt")] == LINES


def workbook(*members: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for member in members:
            archive.writestr(member, "x" * 9000)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (workbook("[Content_Types].xml", "xl/workbook.xml"), "an Excel workbook, not text.* format: xlsx"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "an Excel workbook .* format: xlsx"),
        (workbook("[Content_Types].xml", "word/document.xml"), "a word processor's document"),
        (workbook("a.csv"), "a zip archive, not text. Unpack it"),
        (b"PAR1\x15\x04", "a Parquet file, not text.* format: parquet"),
        (b"%PDF-1.7\n", "a PDF document"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:a1\nsize 9\n",
            "a Git LFS pointer .*git lfs pull",
        ),
        (b"/annex/objects/SHA256E-s9--a1.tsv\n", "a git-annex pointer .*git annex get"),
        (b"\n <!doctype HTML>\n<title>Sign in</title>", "a web page"),
        (b'<?xml version="1.0"?>\n<Error><Code>AccessDenied</Code></Error>', "a file server's error message"),
        (b"404: Not Found", "a server's error message"),
        (b"Access to dataset a/b is restricted and you are not in the authorized list.", "a server's error"),
    ],
)
def test_what_is_obviously_another_file_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.csv"
    for compressed in (content, gzip.compress(content)):
        path.write_bytes(compressed)
        if compressed is content or b"PK" not in content:  # the end of a compressed archive is not looked at
            with pytest.raises(DataError, match=rf"a\.csv: {message}"):
                list(read_lines(path))
        with pytest.raises(DataError, match=r"a\.csv: "):
            list(read_jsonl(path))


def test_texts_that_look_like_another_file_are_text(tmp_path: Path) -> None:
    lines = [
        "par1 ar mor",
        "PKO dela",
        "version https of it",
        "404: Not Found, it said.",
        "bzh2 1AY",
        "Rar!",
        "<b>x</b>",
    ]
    for line in lines:
        (tmp_path / "a.txt").write_text(f"{line}\nmore\n", encoding="utf-8")
        assert [text for _, text in read_lines(tmp_path / "a.txt")] == [line, "more"]


RECORDS = st.lists(
    st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.lists(st.text())), max_size=8
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(RECORDS, st.sampled_from([None, 0, 2]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]), st.booleans())
def test_a_json_array_is_read_as_json_lines_are(
    tmp_path: Path, records: list[dict[str, object]], indent: int | None, encoding: str, escaped: bool
) -> None:
    text = json.dumps(records, indent=indent, ensure_ascii=escaped)
    (tmp_path / "a.json").write_bytes(text.encode(encoding, "surrogatepass" if encoding == "utf-8" else "replace"))
    assert list(read_jsonl(tmp_path / "a.json")) == list(enumerate(records, start=1))


def test_a_large_json_array_is_read_as_a_stream(tmp_path: Path) -> None:
    count, text = 30_000, "text " * 40
    with (tmp_path / "a.json").open("w") as file:  # 6 MB in one line, with elements across the blocks
        file.write("[" + ",".join(json.dumps({"no": i, "text": text}) for i in range(count)) + "]")
    tracemalloc.start()
    numbers = [record["no"] for _, record in read_jsonl(tmp_path / "a.json")]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert numbers == list(range(count))
    assert peak < 4 << 20
