"""Files damaged at random: each gives rows with honest counts or a `DataError`, nothing else."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.reading import read
from data.test_formats import TMX, XLIFF_1, XLIFF_2
from data.test_malformed import archive, table
from instructalign.errors import DataError

LINES = 'one\tsatu\ntwo, or more\tdua\n"three"\ttiga\n'
MAP = {"columns": {"eng": 1, "ind": 2}, "header": False}

VALID: list[tuple[str, str, bytes, dict[str, Any]]] = [
    ("tsv", "a.tsv", LINES.encode(), MAP),
    ("tsv", "a.tsv.gz", gzip.compress(LINES.encode(), mtime=0), MAP),
    ("csv", "a.csv", b'en,id\n"one, two","sa\ntu"\nthree,tiga\n', {}),
    ("jsonl", "a.jsonl", b'{"translation": {"en": "one", "id": "satu"}}\n{"translation": {"en": "two"}}\n', {}),
    ("tmx", "a.tmx", TMX.encode(), {}),
    ("xliff", "a.xlf", XLIFF_1.encode(), {}),
    ("xliff", "b.xlf", XLIFF_2.encode(), {}),
    ("opus", "a.zip", archive({"c.en": b"one\ntwo\n", "c.id": b"satu\ndua\n"})["a.zip"] or b"", {}),
    ("parquet", "a.parquet", table(en=["one", "two"], id=["satu", "dua"]), {}),
]

PLACES = st.floats(0, 1, exclude_max=True)
WAYS = st.sampled_from(["flip", "cut", "insert", "drop"])
CHANGES = st.lists(st.tuples(PLACES, WAYS, st.binary(max_size=4)), min_size=1, max_size=4)


def damage(content: bytes, changes: list[tuple[float, str, bytes]]) -> bytes:
    for where, how, extra in changes:
        at = int(where * len(content))
        if how == "flip" and content:
            content = content[:at] + bytes([content[at] ^ 0x5A]) + content[at + 1 :]
        elif how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + extra + content[at:]
        else:
            content = content[:at] + content[at + len(extra) + 1 :]
    return content


@pytest.mark.parametrize(("format", "name", "content", "options"), VALID, ids=[name for _, name, _, _ in VALID])
def test_damage_gives_rows_or_a_data_error(
    format: str, name: str, content: bytes, options: dict[str, Any]
) -> None:
    @settings(deadline=None, max_examples=80)
    @given(CHANGES)
    def check(changes: list[tuple[float, str, bytes]]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / name
            path.write_bytes(damage(content, changes))
            try:
                rows, counts = read(format, ["eng", "ind", "jav"], path=path, **options)
            except DataError:
                return
        assert counts.read == len(rows) + sum(counts.dropped.values())
        assert all(len(row.texts) >= 2 and row.id for row in rows)

    check()
