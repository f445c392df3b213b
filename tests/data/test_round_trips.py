"""Whatever text is written in a format comes back from its reader."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data.reading import read

Pairs = list[tuple[str, str]]

LINES = st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), max_size=30)
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=30)
# XML 1.0 cannot hold other controls, nor the last two characters of the basic plane.
XML = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc"], exclude_characters="\ufffe\uffff"), max_size=30
)


def write_moses(folder: Path, pairs: Pairs) -> dict[str, Any]:
    for place, code in enumerate(("en", "id")):
        (folder / f"c.{code}").write_bytes("".join(pair[place] + "\n" for pair in pairs).encode())
    return {"files": {code: folder / f"c.{code}" for code in ("en", "id")}}


def write_opus(folder: Path, pairs: Pairs) -> dict[str, Any]:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for place, code in enumerate(("en", "id")):
            archive.writestr(f"c.{code}", "".join(pair[place] + "\r\n" for pair in pairs))
    return {"path": folder / "a.zip"}


def write_tsv(folder: Path, pairs: Pairs) -> dict[str, Any]:
    text = "".join(f"{english}\t{indonesian}\n" for english, indonesian in pairs)
    (folder / "a.tsv").write_bytes(text.encode())
    return {"path": folder / "a.tsv", "columns": {"eng": 1, "ind": 2}, "header": False}


def write_csv(folder: Path, pairs: Pairs) -> dict[str, Any]:
    buffer = io.StringIO(newline="")
    csv.writer(buffer, quoting=csv.QUOTE_ALL).writerows([("eng", "ind"), *pairs])
    (folder / "a.csv").write_bytes(buffer.getvalue().encode())
    return {"path": folder / "a.csv"}


def write_jsonl(folder: Path, pairs: Pairs) -> dict[str, Any]:
    lines = (json.dumps({"eng": english, "ind": indonesian}) + "\n" for english, indonesian in pairs)
    (folder / "a.jsonl").write_text("".join(lines))
    return {"path": folder / "a.jsonl"}


def write_parquet(folder: Path, pairs: Pairs) -> dict[str, Any]:
    columns = {code: pa.array([pair[place] for pair in pairs]) for place, code in enumerate(("eng", "ind"))}
    parquet.write_table(pa.table(columns), folder / "a.parquet")
    return {"path": folder / "a.parquet"}


def write_tmx(folder: Path, pairs: Pairs) -> dict[str, Any]:
    units = "".join(
        f'<tu><tuv xml:lang="en"><seg>{escape(english)}</seg></tuv>'
        f'<tuv xml:lang="id"><seg>{escape(indonesian)}</seg></tuv></tu>\n'
        for english, indonesian in pairs
    )
    (folder / "a.tmx").write_text(f"<tmx><body>{units}</body></tmx>", encoding="utf-8")
    return {"path": folder / "a.tmx"}


@pytest.mark.parametrize(
    ("format", "write", "text"),
    [
        ("moses", write_moses, LINES),
        ("opus", write_opus, LINES),
        ("tsv", write_tsv, LINES.map(lambda text: text.replace("\t", " "))),
        ("csv", write_csv, TEXTS),
        ("jsonl", write_jsonl, TEXTS),
        ("parquet", write_parquet, TEXTS),
        ("tmx", write_tmx, XML),
    ],
)
def test_what_is_written_comes_back(
    format: str, write: Callable[[Path, Pairs], dict[str, Any]], text: st.SearchStrategy[str]
) -> None:
    @settings(deadline=None, max_examples=40)
    @given(st.lists(st.tuples(text, text), min_size=1, max_size=8))
    def check(pairs: Pairs) -> None:
        with tempfile.TemporaryDirectory() as folder:
            rows, counts = read(format, ["eng", "ind"], **write(Path(folder), [("a", "b"), *pairs]))
        expected = [(one.strip(), other.strip()) for one, other in [("a", "b"), *pairs]]
        # In a quoted field, the two characters of a line end become one.
        expected = [(one.replace("\r\n", "\n"), other.replace("\r\n", "\n")) for one, other in expected]
        found = [tuple(text.replace("\r\n", "\n") for text in row.texts.values()) for row in rows]
        assert found == [pair for pair in expected if all(pair)]
        assert counts.read == len(expected)

    check()
