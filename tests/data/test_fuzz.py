"""Files damaged at random: each gives rows with honest counts or a `DataError`, nothing else."""

# ruff: noqa: E501 (markup)
from __future__ import annotations

import gzip
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.reading import read
from data.test_fieldwork_formats import TOOLBOX, flextext, lift
from data.test_formats import TMX, XLIFF_1, XLIFF_2
from data.test_malformed import archive, table
from data.test_scripture import ENGLISH, OTHER
from data.test_spreadsheets import ods
from instructalign.errors import DataError

LINES = 'one\tsatu\ntwo, or more\tdua\n"three"\ttiga\n'
MAP = {"columns": {"eng": 1, "ind": 2}, "header": False}

VALID: list[tuple[str, str, bytes, dict[str, Any]]] = [
    ("tsv", "a.tsv", LINES.encode(), MAP),
    ("tsv", "a.tsv.gz", gzip.compress(LINES.encode(), mtime=0), MAP),
    ("csv", "a.csv", b'en,id\n"one, two","sa\ntu"\nthree,tiga\n', {}),
    ("jsonl", "a.jsonl", b'{"translation": {"en": "one", "id": "satu"}}\n{"translation": {"en": "two"}}\n', {}),
    ("jsonl", "b.json", b'{"7": {"en": "one", "id": "satu"}, "9": {"en": "two", "id": "dua"}}', {}),
    ("jsonl", "c.json", b'{"en": {"a": "one", "b": {"c": "two"}}, "id": {"a": "satu", "b": {"c": "dua"}}}', {}),
    ("csv", "b.csv", b"| en | id |\n| --- | :-: |\n| one \\| two | satu |\n| three | tiga |\n", {}),
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


USX = (
    '<usx version="3.0"><book code="GEN" style="id">GEN</book><chapter number="1" style="c"/><para style="p">'
    + "".join(f'<verse number="{i}" style="v"/>Verse {i}.<note>no</note> ' for i in range(1, 9))
    + "</para></usx>"
)
EAF = (
    "<ANNOTATION_DOCUMENT><TIME_ORDER>"
    + "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{i * 500}"/>' for i in range(9))
    + '</TIME_ORDER><TIER TIER_ID="tx">'
    + "".join(
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{i}" TIME_SLOT_REF1="ts{i}" TIME_SLOT_REF2="ts{i + 1}">'
        f"<ANNOTATION_VALUE>Au {i}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i in range(8)
    )
    + '</TIER><TIER TIER_ID="ft" PARENT_REF="tx">'
    + "".join(
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="b{i}" ANNOTATION_REF="a{i}">'
        f"<ANNOTATION_VALUE>I {i}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>"
        for i in range(8)
    )
    + "</TIER></ANNOTATION_DOCUMENT>"
)
PO = 'msgid ""\nmsgstr "Plural-Forms: nplurals=2; plural=(n != 1);\\n"\n\n#: a.c:1\nmsgid "one"\nmsgstr "siji"\n\n'
PO += '#, fuzzy\nmsgid "two"\nmsgid_plural "twos"\nmsgstr[0] "loro"\nmsgstr[1] "loro"\n\n#~ msgid "old"\n#~ msgstr "lawas"\n'
SRT = "".join(f"{i}\n00:00:0{i},000 --> 00:00:0{i},900\n<i>Line</i> {i}\n\n" for i in range(1, 9))
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    + "".join(f"Dialogue: 0,0:00:0{i}.00,0:00:0{i}.90,Default,,0,0,0,,Line {i}\n" for i in range(1, 9))
)

# Formats that more than one file belongs to: name → content, and the options; the first file is damaged.
COMMUNITY: list[tuple[str, dict[str, bytes], dict[str, Any]]] = [
    ("ods", {"a.ods": ods([["en", "jv"], *([f"one {i}", f"siji {i}"] for i in range(20))])}, {"path": "a.ods"}),
    ("usfm", {"a.sfm": ENGLISH.encode(), "b.sfm": OTHER.encode()}, {"files": {"eng": "a.sfm", "heg": "b.sfm"}}),
    ("usx", {"a.usx": USX.encode(), "b.usx": USX.encode()}, {"files": {"eng": "a.usx", "heg": "b.usx"}}),
    (
        "vref",
        {"a.txt": b"one\ntwo\n<range>\nfour\n", "b.txt": b"siji\nloro\ntelu\npapat\n"},
        {"files": {"eng": "a.txt", "heg": "b.txt"}},
    ),
    ("flextext", {"a.flextext": flextext().encode()}, {"path": "a.flextext"}),
    ("lift", {"a.lift": lift().encode()}, {"path": "a.lift"}),
    ("toolbox", {"a.txt": TOOLBOX.encode()}, {"path": "a.txt", "markers": {"heg": "tx", "eng": "ft"}}),
    ("eaf", {"a.eaf": EAF.encode()}, {"path": "a.eaf", "tiers": {"heg": "tx", "eng": "ft"}}),
    ("po", {"a.po": PO.encode()}, {"files": {"jav": "a.po"}}),
    ("srt", {"a.srt": SRT.encode(), "b.srt": SRT.encode()}, {"files": {"eng": "a.srt", "jav": "b.srt"}}),
    ("ass", {"a.ass": ASS.encode(), "b.srt": SRT.encode()}, {"files": {"eng": "a.ass", "jav": "b.srt"}}),
    (
        "tatoeba",
        {"s.csv": b"1\teng\tOne.\n2\tjav\tSiji.\n", "l.csv": b"1\t2\n2\t1\n"},
        {"sentences": "s.csv", "links": "l.csv"},
    ),
]


def in_folder(value: Any, folder: str, files: dict[str, bytes]) -> Any:
    if isinstance(value, dict):
        return {key: in_folder(each, folder, files) for key, each in value.items()}
    return f"{folder}/{value}" if value in files else value


@pytest.mark.parametrize(("format", "files", "options"), COMMUNITY, ids=[format for format, *_ in COMMUNITY])
def test_damage_and_every_prefix_of_what_communities_have(
    format: str, files: dict[str, bytes], options: dict[str, Any]
) -> None:
    def outcome(content: bytes) -> int | None:
        """How many rows there are; None where the file is refused."""
        with tempfile.TemporaryDirectory() as folder:
            for name, whole in {**files, next(iter(files)): content}.items():
                (Path(folder) / name).write_bytes(whole)
            placed = {key: in_folder(value, folder, files) for key, value in options.items()}
            try:
                rows, counts = read(format, ["eng", "jav", "heg"], **placed)
            except DataError as error:
                if folder in str(error):  # the message names the file
                    return None
                raise
        assert counts.read == len(rows) + sum(counts.dropped.values())
        assert all(len(row.texts) >= 2 and row.id for row in rows)
        return len(rows)

    whole = next(iter(files.values()))
    assert outcome(whole)
    for length in range(0, len(whole), max(1, len(whole) // 150)):
        outcome(whole[:length])

    @settings(deadline=None, max_examples=50)
    @given(CHANGES)
    def check(changes: list[tuple[float, str, bytes]]) -> None:
        outcome(damage(whole, changes))

    check()
