"""Bad input of every format: an error that names the file and line, or a counted drop; never silence.

Each case gives the files, the format with its options, and either the message of the error or the rows left
and the reasons counted.
"""

# ruff: noqa: E501 (one case a line)
from __future__ import annotations

import gzip
import io
import json
import lzma
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from pyarrow import parquet

from data.reading import read, texts
from instructalign.errors import DataError

FEWER = "text in fewer than two languages"
INVALID = "invalid characters (NUL or lone surrogate)"
WIDTH = "wrong number of columns"
BOMB = 12 << 20
BYTES = b"one\ttwo\n" * 2000


class Case(NamedTuple):
    name: str
    format: str
    files: dict[str, bytes | None]  # None: a folder
    error: str = ""
    left: int = 0
    dropped: dict[str, int] = {}  # noqa: RUF012
    options: dict[str, Any] = {}  # noqa: RUF012


def tmx(body: str, head: str = "") -> dict[str, bytes | None]:
    return {"a.tmx": f'<?xml version="1.0"?>\n{head}<tmx><body>\n{body}\n</body></tmx>'.encode()}


def unit(english: str, indonesian: str) -> str:
    return (
        f'<tu><tuv xml:lang="en"><seg>{english}</seg></tuv><tuv xml:lang="id"><seg>{indonesian}</seg></tuv></tu>'
    )


def archive(members: dict[str, bytes]) -> dict[str, bytes | None]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return {"a.zip": buffer.getvalue()}


def table(**columns: list[Any]) -> bytes:
    buffer = io.BytesIO()
    parquet.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def arrow(**columns: list[Any]) -> bytes:
    buffer, made = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_file(buffer, made.schema) as writer:
        writer.write_table(made)
    return buffer.getvalue()


GOOD_ZIP = archive({"c.en": BYTES, "c.id": BYTES})["a.zip"] or b""
BILLION_LAUGHS = (
    '<!DOCTYPE tmx [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>\n"
)
NUMBERS = {"columns": {"eng": 1, "ind": 2}, "header": False}
ENGLISH = "one\ntwo\nthree\n"

CASES = [
    # Moses: line-aligned text
    Case("no file", "moses", {"c.en": b"one\n"}, r"c.id does not exist\..*: c.en\."),
    Case("no folder", "moses", {}, "c.en does not exist"),
    Case("a folder", "moses", {"c.en": b"one\n", "c.id": None}, "c.id is a folder"),
    Case("one side longer", "moses", {"c.en": b"a\nb\n", "c.id": b"a\n"}, "c.en has 2, .*c.id has 1"),
    Case("one side empty", "moses", {"c.en": b"a\nb\n", "c.id": b""}, "c.en has 2, .*c.id has 0"),
    Case(
        "a blank line lost at the end",
        "moses",
        {"c.en": b"a\n\n", "c.id": b"a\n"},
        "c.en has 2, .*c.id has 1",
    ),
    Case("both sides empty", "moses", {"c.en": b"", "c.id": b""}, left=0),
    Case("Latin-1", "moses", {"c.en": b"a\ncaf\xe9\n", "c.id": b"a\nb\n"}, r"c.en:2: not UTF-8 \(byte 0xe9 at"),
    Case("Windows-1252", "moses", {"c.en": b"\x93a\x94\n", "c.id": b"a\n"}, "c.en:1: not UTF-8 .*iconv"),
    Case("overlong UTF-8", "moses", {"c.en": b"\xc0\xaf\n", "c.id": b"a\n"}, "c.en:1: not UTF-8"),
    Case("UTF-8 cut in a letter", "moses", {"c.en": b"a\nb\xc3", "c.id": b"a\nb"}, "c.en:2: not UTF-8"),
    Case("a surrogate in UTF-8", "moses", {"c.en": b"\xed\xa0\x80\n", "c.id": b"a\n"}, "c.en:1: not UTF-8"),
    Case("UTF-16", "moses", {"c.en": ENGLISH.encode("utf-16"), "c.id": b"a\nb\nc\n"}, left=3),
    Case("UTF-16 cut in a letter", "moses", {"c.en": ENGLISH.encode("utf-16")[:-1], "c.id": b"a\nb\nc\n"}, "c.en:3: begins as UTF-16.*truncated"),
    Case(
        "UTF-16 without mark",
        "moses",
        {"c.en": "a\nb".encode("utf-16-le"), "c.id": b"a\nb"},
        "c.en:1: .*UTF-16LE without a byte-order mark.*iconv -f UTF-16LE",
    ),
    Case("UTF-32", "moses", {"c.en": ENGLISH.encode("utf-32"), "c.id": b"a\nb\nc\n"}, left=3),
    Case("UTF-32 without mark", "moses", {"c.en": ENGLISH.encode("utf-32-be"), "c.id": b"a\n"}, "c.en:1: .*UTF-32BE without"),
    Case("Cyrillic UTF-16 without mark", "moses", {"c.en": "дом\n".encode("utf-16-be"), "c.id": b"a\n"}, "c.en:1: .*UTF-16BE without"),
    Case("a byte-order mark", "moses", {"c.en": b"\xef\xbb\xbfone\n", "c.id": b"satu\n"}, left=1),
    Case("CR alone", "moses", {"c.en": b"a\rb\rc", "c.id": b"a\nb\nc\n"}, "c.en:1: lines end in CR alone"),
    Case("CRLF on one side", "moses", {"c.en": b"a\r\nb\r\n", "c.id": b"a\nb\n"}, left=2),
    Case("mixed line ends", "moses", {"c.en": b"a\r\nb\nc\r\n", "c.id": b"a\nb\nc"}, left=3),
    Case("a line separator in text", "moses", {"c.en": "a\u2028b\n".encode(), "c.id": b"a\n"}, left=1),
    Case("a NUL", "moses", {"c.en": b"a\0b\nc\n", "c.id": b"a\nc\n"}, left=1, dropped={INVALID: 1}),
    Case("nothing but space", "moses", {"c.en": b"a\n \t\n", "c.id": b"a\n\xc2\xa0\n"}, left=1, dropped={"empty": 1}),
    Case("a line of 10 MB", "moses", {"c.en": b"a" * 10_000_000, "c.id": b"a\n"}, left=1),
    Case(
        "bidirectional controls",
        "moses",
        {"c.en": "a\u202eb\n".encode(), "c.id": "c\u2066d\u2069\n".encode()},
        left=1,
    ),
    # compressed
    Case("gzip cut off", "moses", {"c.en.gz": gzip.compress(BYTES)[:-12], "c.id": BYTES}, r"gz:\d+: .*damaged"),
    Case("gzip with a wrong sum", "moses", {"c.en.gz": gzip.compress(BYTES)[:-8] + b"\0" * 8, "c.id": BYTES}, "gz:2001: .*damaged .*CRC"),
    Case("text named gzip", "moses", {"c.en.gz": BYTES, "c.id": BYTES}, left=2000),
    Case("no gzip named gzip", "moses", {"c.en.gz": b"\x1f\x8c\x08", "c.id": BYTES}, "gz:1: .*damaged .*Not a gzipped file"),
    Case("an empty gzip file", "moses", {"c.en.gz": b"", "c.id": b"a\n"}, "c.en.gz has 0, .*c.id has 1"),
    Case("xz cut off", "moses", {"c.en.xz": lzma.compress(BYTES)[:-20], "c.id": BYTES}, r"xz:\d+: .*damaged"),
    Case("zstd cut off", "moses", {"c.en.zst": bytes(pa.compress(BYTES, codec="zstd"))[:-4], "c.id": BYTES}, r"zst:\d+: .*damaged"),
    Case("zeros without end", "moses", {"c.en.gz": gzip.compress(b"0" * BOMB, 1), "c.id": b"a\n"}, "gz:1: a line of more than 11 MiB"),
    # FLORES
    Case("no folder of a split", "flores", {"x/eng_Latn.x": b"a\n"}, "no split 'dev'. Available: x"),
    Case("a file for a folder", "flores", {"dev": b""}, "has no split 'dev'"),
    Case("an empty split", "flores", {"dev": None}, r"no file such as eng_Latn\.dev"),
    Case("one language", "flores", {"dev/eng_Latn.dev": b"a\n"}, "found eng. .*: eng"),
    Case("files of unequal length", "flores", {"dev/eng_Latn.dev": b"a\n", "dev/ind_Latn.dev": b"a\nb\n"}, "eng_Latn.dev has 1, .*ind_Latn.dev has 2"),
    Case("not UTF-8", "flores", {"dev/eng_Latn.dev": b"\xff\n", "dev/ind_Latn.dev": b"a\n"}, "eng_Latn.dev:1: not UTF-8"),
    # CSV and TSV
    Case("an empty file", "csv", {"a.csv": b""}, "a.csv: .*is empty"),
    Case("only a mark", "csv", {"a.csv": b"\xef\xbb\xbf"}, "a.csv: .*is empty"),
    Case("a mark before the header", "csv", {"a.csv": b"\xef\xbb\xbfeng,ind\na,b\n"}, left=1),
    Case("only a header", "csv", {"a.csv": b"eng,ind\n"}),
    Case("ragged", "csv", {"a.csv": b"eng,ind\na\na,b\na,b,c\n"}, left=1, dropped={WIDTH: 2}),
    Case("an open quote", "csv", {"a.csv": b'eng,ind\na,b\n"c,d\ne,f\n'}, r"a.csv:3: not CSV \(unexpected end"),
    Case("an open quote in a long file", "csv", {"a.csv": b'eng,ind\n"c,d\n' + b"e,f\n" * 60_000}, r"a.csv:2: not CSV .*field larger.*quoting: false"),
    Case("a quote within a field", "csv", {"a.csv": b'eng,ind\n"a"b,c\n'}, "a.csv:2: not CSV"),
    Case("semicolons", "csv", {"a.csv": b"eng;ind\na, c;b\n"}, left=1),
    Case("the wrong delimiter", "csv", {"a.csv": b"eng;ind\na;b\n"}, "by semicolons. Set .*delimiter: \";\"", options={"delimiter": ","}),
    Case("commas for tabs", "tsv", {"a.tsv": b"eng,ind\na,b\n"}, "not separated by tabs but by commas. Set format: csv"),
    Case("Excel's hint", "csv", {"a.csv": b"sep=;\neng;ind\na;b\n\"c;d\n"}, "a.csv:4: not CSV .*line 4"),
    Case("Excel's hint and more", "csv", {"a.csv": "sep=;\r\neng;ind\r\na;b\r\n".encode("utf-16")}, left=1),
    Case("backslashes before quotation marks", "csv", {"a.csv": b'eng,ind\n"a \\"b\\", c",d\n'}, r'a.csv:2: .*set escape: "\\\\"'),
    Case("an escape without quoting", "tsv", {"a.tsv": b"eng\tind\n"}, "escape: .*quoting: true", options={"escape": "\\"}),
    Case("a NUL in quotes", "csv", {"a.csv": b'eng,ind\n"a\0",b\nc,d\n'}, left=1, dropped={INVALID: 1}),
    Case("not UTF-8", "csv", {"a.csv": b'eng,ind\n"a\nb",caf\xe9\n'}, "a.csv:3: not UTF-8"),
    Case("blank lines", "csv", {"a.csv": b"eng,ind\n\n\na,b\n\n"}, left=1, dropped={"empty": 3}),
    Case("a field of 10 MB", "csv", {"a.csv": b"eng,ind\n" + b"a" * 10_000_000 + b",b\n"}, "a.csv:2: not CSV .*field larger"),
    Case("a field of 10 MB", "tsv", {"a.tsv": b"a\tb\n" + b"a" * 10_000_000 + b"\tb\n"}, left=2, options=NUMBERS),
    Case("ragged", "tsv", {"a.tsv": b"a\tb\na\na\tb\tc\n"}, left=1, dropped={WIDTH: 2}, options=NUMBERS),
    Case("a column too many asked for", "tsv", {"a.tsv": b"a\tb\n"}, "no column 3; columns are numbered from 1 to 2", options={**NUMBERS, "id": 3}),
    Case("no names in the id column", "tsv", {"a.tsv": b"a\tb\t\n"}, dropped={"no id": 1}, options={**NUMBERS, "id": 3}),
    # JSON lines
    Case("a cut object", "jsonl", {"a.jsonl": b'{"eng": "a", "ind": "b"}\n{"eng": "a'}, r"a.jsonl:2: not JSON \(Unterm"),
    Case("objects over several lines", "jsonl", {"a.jsonl": b'{\n "eng": "a",\n "ind": "b"\n}\n{\n "eng": "c", "ind": "d"}\n'}, left=2),
    Case("an object over several lines cut off", "jsonl", {"a.jsonl": b'{"eng": "a",\n "ind": "b"\n}\n{\n "eng": "c"'}, "a.jsonl:5: not JSON objects .Expecting ',' del"),
    Case("an array of texts", "jsonl", {"a.jsonl": b'\n["a", "b"]\n'}, "a.jsonl:2: not a JSON array of objects .expected { or ], found"),
    Case("an array", "jsonl", {"a.jsonl": b'[\n{"eng": "a", "ind": "b"},\n{"eng": "c",\n"ind": "d"}\n]\n'}, left=2),
    Case("an array damaged", "jsonl", {"a.jsonl": b'[{"eng": "a", "ind": "b"},\n{"eng": "c" "ind": "d"},\n{}, {}, {}]'}, "a.jsonl:2: not a JSON array of objects .Expecting ',' del"),
    Case("an array cut off", "jsonl", {"a.jsonl": b'[{"eng": "a", "ind": "b"},\n{"eng": "c'}, "a.jsonl:2: not a JSON array of objects .Unterminated"),
    Case("an array not closed", "jsonl", {"a.jsonl": b'[{"eng": "a", "ind": "b"}\n'}, "a.jsonl:2: .*ends where , or ] is expected"),
    Case("an array and more", "jsonl", {"a.jsonl": b'[{"eng": "a", "ind": "b"}]\n[]'}, "a.jsonl:2: .*expected the end"),
    Case("an array not UTF-8", "jsonl", {"a.jsonl": b'[\n{"eng": "\xe9"}]'}, "a.jsonl:.*not UTF-8"),
    Case("an endless element", "jsonl", {"a.jsonl": b'[{"eng": "' + b"a" * BOMB}, "a.jsonl:1: .*object of more than 11 MiB"),
    Case("numbers for text", "jsonl", {"a.jsonl": b'{"eng": 1, "ind": "b"}\n'}, dropped={"not text": 1}),
    Case("lists for text", "jsonl", {"a.jsonl": b'{"eng": ["a"], "ind": "b"}\n'}, dropped={"not text": 1}),
    Case("half a surrogate pair", "jsonl", {"a.jsonl": b'{"eng": "\\ud800", "ind": "b"}\n'}, dropped={INVALID: 1}),
    Case("endless nesting", "jsonl", {"a.jsonl": b"[" * 200_000}, "a.jsonl:1: .*expected { or ]"),
    Case("objects without end", "jsonl", {"a.jsonl": b'{"a":' * 200_000}, "a.jsonl:1: .*recursion"),
    Case("objects without end in an array", "jsonl", {"a.jsonl": b"[" + b'{"a":' * 200_000}, "a.jsonl:1: .*recursion"),
    Case("a huge number", "jsonl", {"a.jsonl": b'{"n": ' + b"9" * 9000 + b"}"}, "a.jsonl:1: .*digits"),
    Case("an empty object", "jsonl", {"a.jsonl": b"{}\n"}, "columns: none"),
    Case("single quotes", "jsonl", {"a.jsonl": b"{'eng': 'a'}\n"}, r"a.jsonl:1: not JSON \(Expecting property name"),
    Case("not UTF-8", "jsonl", {"a.jsonl": b'{"eng": "\xe9"}\n'}, "a.jsonl:1: not UTF-8"),
    # TMX
    Case("an empty file", "tmx", {"a.tmx": b""}, r"a.tmx:1: not XML \(no element found"),
    Case("not XML", "tmx", {"a.tmx": b"one\ttwo\n"}, "a.tmx:1: not XML"),
    Case("text without seg", "tmx", tmx('<tu><tuv xml:lang="en">x</tuv></tu>'), "a.tmx:3: <tuv> has the text 'x' without <seg>"),
    Case("another XML", "tmx", {"a.tmx": b"<xliff/>"}, "the document is <xliff>, not <tmx>"),
    Case("cut off", "tmx", {"a.tmx": b"<tmx><body>\n<tu>\n"}, "a.tmx:3: not XML"),
    Case("tags that cross", "tmx", tmx("<tu><tuv></tu></tuv>"), "a.tmx:3: not XML .mismatched tag"),
    Case("a bare ampersand", "tmx", tmx(unit("a & b", "c")), "a.tmx:3: not XML .not well-formed"),
    Case("a control character", "tmx", tmx(unit("a\x01", "c")), "a.tmx:3: not XML"),
    Case("an entity bomb", "tmx", tmx(unit("&i;", "c"), BILLION_LAUGHS), "a.tmx:2: the entity 'a'"),
    Case("an entity from a file", "tmx", tmx(unit("&x;", "c"), '<!DOCTYPE tmx [<!ENTITY x SYSTEM "file:///etc/passwd">]>\n'), "a.tmx:2: the entity 'x'"),
    Case("an entity of an outside definition", "tmx", tmx(unit("a&nbsp;b", "c"), '<!DOCTYPE tmx SYSTEM "tmx14.dtd">\n'), "a.tmx:4: the entity 'nbsp'"),
    Case("a parameter entity", "tmx", tmx(unit("a", "b"), '<!DOCTYPE tmx [<!ENTITY % x SYSTEM "http://localhost/x">%x;]>\n'), "a.tmx:2: the entity 'x'"),
    Case("an unknown encoding", "tmx", {"a.tmx": b'<?xml version="1.0" encoding="klingon"?><tmx/>'}, "a.tmx:1: not XML that can be read .unknown encoding"),
    Case("another encoding than declared", "tmx", {"a.tmx": b'<?xml version="1.0" encoding="UTF-8"?>\n<tmx>caf\xe9 x</tmx>'}, "a.tmx:2: not XML"),
    Case("an encoding declared rightly", "tmx", {"a.tmx": b'<?xml version="1.0" encoding="ISO-8859-1"?><tmx><body>' + unit("caf\xe9", "kopi").encode("latin-1") + b"</body></tmx>"}, left=1),
    Case("no languages", "tmx", tmx("<tu><tuv><seg>a</seg></tuv><tuv><seg>b</seg></tuv></tu>"), "found none of them"),
    Case("a unit without text", "tmx", tmx(unit("", " ") + unit("a", "b")), left=1, dropped={"empty": 1}),
    Case("gzip cut off", "tmx", {"a.tmx.gz": gzip.compress(b"<tmx>" + BYTES)[:-12]}, r"a.tmx.gz:\d+: .*damaged"),
    Case("text without end", "tmx", {"a.tmx.gz": gzip.compress(b"<tmx>" + b"0" * BOMB, 1)}, "more than 11 MiB without a tag"),
    Case("a comment without end", "tmx", {"a.tmx.gz": gzip.compress(b"<tmx><!--" + b"0" * BOMB, 1)}, "more than 11 MiB without a tag"),
    # XLIFF
    Case("TMX for XLIFF", "xliff", {"a.xlf": b"<tmx/>"}, "the document is <tmx>, not <xliff>"),
    Case("no languages", "xliff", {"a.xlf": b"<xliff><file><trans-unit id='1'><source>a</source><target>b</target></trans-unit></file></xliff>"}, "unit '1' has no source and target language"),
    Case("a language that is none", "xliff", {"a.xlf": b"<xliff srcLang='klingonish' trgLang='id'><unit id='1'><segment><source>a</source><target>b</target></segment></unit></xliff>"}, "a.xlf: .*found ind.*klingonish"),
    Case("an entity", "xliff", {"a.xlf": b"<!DOCTYPE x [<!ENTITY a 'b'>]><xliff/>"}, "a.xlf:1: the entity 'a'"),
    # OPUS archives
    Case("not a zip file", "opus", {"a.zip": b"one\n"}, r"a.zip: .*zip file \(File is not"),
    Case("zip cut off", "opus", {"a.zip": GOOD_ZIP[:-40]}, "a.zip: not a readable zip file"),
    Case("zip damaged", "opus", {"a.zip": GOOD_ZIP[:60] + b"\0\1\2\3" + GOOD_ZIP[64:]}, r"a.zip"),
    Case("a name that leads out", "opus", archive({"../c.en": b"a\n", "c.id": b"b\n"}), r"'../c.en', a path outside"),
    Case("an absolute name", "opus", archive({"/etc/c.en": b"a\n", "c.id": b"b\n"}), "'/etc/c.en', a path outside"),
    Case("a Windows path", "opus", archive({"..\\c.en": b"a\n", "c.id": b"b\n"}), "a path outside"),
    Case("resource forks of a Mac", "opus", archive({"c.en": b"a\n", "c.id": b"b\n", "__MACOSX/._c.en": b"\0\5\x16\7", "__MACOSX/._c.id": b"\0\5\x16\7", "._c.en": b"\0\5"}), left=1),
    Case("a pointer in an archive", "opus", archive({"c.en": b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "c.id": b"b\n"}), "a.zip:c.en: a Git LFS pointer"),
    Case("a web page for an archive", "opus", {"a.zip": b"<!DOCTYPE html>\n<title>Log in</title>"}, "a.zip: a web page"),
    Case("no texts", "opus", archive({"README": b"a\n"}), "found 0 .*README"),
    Case("an empty archive", "opus", archive({}), "found 0 .*no files"),
    Case("two corpora", "opus", archive({f"{c}.{code}": b"a\n" for c in "ab" for code in ("en", "id")}), "found 2 "),
    Case("unequal lengths", "opus", archive({"c.en": b"a\n", "c.id": b"a\nb\n"}), "c.en has 1, c.id has 2"),
    Case("not UTF-8", "opus", archive({"c.en": b"\xe9\n", "c.id": b"a\n"}), "a.zip:c.en:1: not UTF-8"),
    *(
        Case("a name that is not UTF-8", format, {f"a.{ending}": (archive({"ä.en": b"a\n", "c.id": b"a\n"})["a.zip"] or b"").replace("ä".encode(), b"\xff\xff")}, f"a.{ending}.*(not a readable zip|damaged)")
        for format, ending in (("opus", "zip"), ("ods", "ods"))
    ),
    Case("other languages", "opus", archive({"c.en": b"a\n", "c.fr": b"a\n"}), "found eng. .*: eng, fra"),
    Case("zeros without end", "opus", archive({"c.en": b"0" * BOMB, "c.id": b"a\n"}), "a.zip:c.en:1: a line of more than"),
    # Parquet
    Case("a pointer", "parquet", {"a.parquet": b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n"}, "a.parquet: a Git LFS pointer"),
    Case("a pointer", "xlsx", {"a.xlsx": b"version https://git-lfs.github.com/spec/v1\noid sha256:a\n"}, "a.xlsx: a Git LFS pointer"),
    Case("not Parquet", "parquet", {"a.parquet": b"one\n"}, "a.parquet: not Parquet, or damaged"),
    Case("an empty file", "parquet", {"a.parquet": b""}, "a.parquet: not Parquet, or damaged"),
    Case("cut off", "parquet", {"a.parquet": table(eng=["a"], ind=["b"])[:-20]}, "a.parquet: not Parquet, or damaged"),
    Case("not Arrow", "parquet", {"a.arrow": b"one\n"}, "a.arrow: not Arrow, or damaged"),
    Case("Arrow cut off", "parquet", {"a.arrow": arrow(eng=["a"], ind=["b"])[:-20]}, "a.arrow: not Arrow, or damaged"),
    Case("an empty folder", "parquet", {"a.parquet": None}, r"contains no \*\.parquet or \*\.arrow file"),
    Case("numbers for text", "parquet", {"a.parquet": table(eng=[1, 2], ind=["a", "b"])}, dropped={"not text": 2}),
    Case("no language columns", "parquet", {"a.parquet": table(a=["a"], b=["b"])}, "columns: a, b"),
    Case("nothing in a column", "parquet", {"a.parquet": table(eng=["a", None], ind=["b", "c"])}, left=1, dropped={FEWER: 1}),
]  # fmt: skip


def options_of(case: Case, folder: Path) -> dict[str, Any]:
    if case.format == "moses":
        found = {Path(name).name.split(".")[1]: folder / name for name in case.files}
        return {"files": {code: found.get(code, folder / f"c.{code}") for code in ("en", "id")}}
    if case.format == "flores":
        return {"path": folder, "splits": ["dev"]}
    return {"path": folder / next(iter(case.files)), **case.options}


@pytest.mark.parametrize("case", CASES, ids=[f"{case.format}: {case.name}" for case in CASES])
def test_bad_input_is_named_or_counted(tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("files", "data.formats.xml_events"):  # a smaller limit, for smaller bombs
        monkeypatch.setattr(f"instructalign.{module}.MAX_LINE_BYTES", 11 << 20)
    for name, content in case.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
    options = options_of(case, tmp_path)
    if case.error:
        with pytest.raises(DataError, match=case.error):
            read(case.format, ["eng", "ind"], **options)
        return
    rows, counts = read(case.format, ["eng", "ind"], **options)
    assert (len(rows), counts.dropped) == (case.left, case.dropped)
    assert counts.read == case.left + sum(case.dropped.values())


def test_an_archive_with_a_password_is_refused(tmp_path: Path) -> None:
    """The flag bit of a stored member is set by hand, as the standard library writes no such archives."""
    content = bytearray(archive({"c.en": b"a\n", "c.id": b"b\n"})["a.zip"] or b"")
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = content.find(mark)
        while at >= 0:
            content[at + offset] |= 1
            at = content.find(mark, at + 1)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DataError, match="is encrypted, password required"):
        read("opus", ["eng", "ind"], path=tmp_path / "a.zip")


def test_what_is_dropped_leaves_the_rest_in_place(tmp_path: Path) -> None:
    lines = [json.dumps({"no": i, "eng": f"e{i}" if i % 3 else None, "ind": f"i{i}"}) for i in range(9)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    result = read("jsonl", ["eng", "ind"], path=tmp_path / "a.jsonl", id="no")
    assert list(texts(result)) == ["1", "2", "4", "5", "7", "8"]
