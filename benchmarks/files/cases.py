r"""Files that people really have: public reports, each rebuilt as a small input of our own.

A case has a name, a kind, its source (a public issue), files, a configuration, and the right behaviour, decided
before it was tried: which pairs must come out of `generate`, or what a refusal must say.
"""

# ruff: noqa: E501 (files on one line)
from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Pair = tuple[str, str]
"""A text in the first configured language and its translation in the second."""

EN = [
    "The river is wide.",
    "Two goats eat grass.",
    "Where is my hat?",
    "It rains in the hills.",
    "We sing at night.",
]
JV = [
    "Kali kuwi amba.",
    "Wedhus loro mangan suket.",
    "Topiku neng endi?",
    "Udan neng gunung.",
    "Bengi aku nembang.",
]
PAIRS = tuple(zip(EN, JV, strict=True))


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did.

    Attributes:
        code: its exit status; 70 where it ended in a traceback, 71 where it took too long.
        said: everything it printed.
        pairs: the pairs of texts in the instructions that it wrote.
    """

    code: int
    said: str
    pairs: frozenset[Pair] = frozenset()


Check = Callable[[Outcome], str]
"""Says what is wrong, or nothing."""


@dataclass(frozen=True)
class Case:
    """A file from a public report.

    Attributes:
        name: in lower case, with hyphens.
        kind: the kind of difficulty; cases of one kind are mended together.
        source: where it was reported, as `owner/repository#issue`.
        right: the right behaviour, in words.
        files: content by path.
        corpus: the entry under `corpora`.
        check: whether what happened is right.
        new: the second language; the first is English.
        more: further keys of the configuration.
        command: `generate` (on the corpus), or what to run instead, with `c.yaml` as the configuration.
        model: whether it needs a model folder, which makes it slow.
    """

    name: str
    kind: str
    source: str
    right: str
    files: Mapping[str, str | bytes]
    corpus: Mapping[str, Any]
    check: Check
    new: str = "jav"
    more: Mapping[str, Any] = field(default_factory=dict)
    command: tuple[str, ...] = ("generate",)
    model: bool = False


def pairs_are(*wanted: Pair) -> Check:
    """Exactly these pairs come out."""

    def check(outcome: Outcome) -> str:
        if outcome.code:
            return f"exit {outcome.code}: {last_line(outcome)}"
        lacks, more = set(wanted) - outcome.pairs, outcome.pairs - set(wanted)
        return "; ".join([f"lacks {pair}" for pair in sorted(lacks)] + [f"has {pair}" for pair in sorted(more)])

    return check


def refused(*words: str) -> Check:
    """Refused with an error that has all of these words; alternatives are separated by `|`."""

    def check(outcome: Outcome) -> str:
        if outcome.code not in (1, 2):
            return f"exit {outcome.code}, pairs {sorted(outcome.pairs)}: {last_line(outcome)}"
        said = outcome.said.lower()
        missing = [word for word in words if not any(each in said for each in word.lower().split("|"))]
        return f"does not say {', '.join(missing)}: {last_line(outcome)}" if missing else ""

    return check


def any_of(*checks: Check) -> Check:
    """One of several behaviours is right."""

    def check(outcome: Outcome) -> str:
        found = [each(outcome) for each in checks]
        return "" if "" in found else found[0]

    return check


def says(*words: str, without: Sequence[str] = ()) -> Check:
    """Ends well, and prints these words, and none of some others; space counts once, line ends as space."""

    def check(outcome: Outcome) -> str:
        said = " ".join(outcome.said.split())
        if outcome.code:
            return f"exit {outcome.code}: {last_line(outcome)}"
        missing = [word for word in words if not any(each in said for each in word.split("|"))]
        return "; ".join([f"lacks {word!r}" for word in missing] + [f"has {w!r}" for w in without if w in said])

    return check


def last_line(outcome: Outcome) -> str:
    """The error, or else the last line that was printed."""
    said = " ".join(outcome.said.split())
    return said[said.rfind("error:") :][:300] if "error:" in said else said[-200:]


def table(rows: Sequence[Sequence[str]], separator: str = "\t") -> str:
    """Lines of fields."""
    return "".join(separator.join(row) + "\n" for row in rows)


def workbook(*rows: Sequence[str | None], merged: str = "") -> bytes:
    """An Excel workbook with these rows and, of some cells, one (`A1:B1`)."""
    import openpyxl

    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    if merged:
        book.active.merge_cells(merged)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def with_phonetic_guide(book: bytes, text: str, reading: str) -> bytes:
    """A workbook in which Excel's reading aid is beside a text."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(book)) as old, zipfile.ZipFile(buffer, "w") as new:
        for name in old.namelist():
            guide = f'<t>{text}</t><rPh sb="0" eb="{len(text)}"><t>{reading}</t></rPh><phoneticPr fontId="1"/>'
            new.writestr(name, old.read(name).replace(f"<t>{text}</t>".encode(), guide.encode()))
    return buffer.getvalue()


def ods(rows: str) -> bytes:
    """An OpenDocument spreadsheet with these rows in XML."""
    spaces = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    content = (
        f'<?xml version="1.0"?><office:document-content{spaces}><office:body><office:spreadsheet>'
        f'<table:table table:name="S">{rows}</table:table>'
        "</office:spreadsheet></office:body></office:document-content>"
    )
    manifest = (
        '<?xml version="1.0"?><manifest:manifest xmlns:manifest='
        '"urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry manifest:full-path="/" '
        'manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>'
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        archive.writestr("META-INF/manifest.xml", manifest)
        archive.writestr("content.xml", content)
    return buffer.getvalue()


def ods_row(*cells: str, row: str = "") -> str:
    """A row; a cell is its text, or XML."""
    made = [
        cell
        if cell.startswith("<")
        else f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
        for cell in cells
    ]
    return f"<table:table-row{row}>{''.join(made)}</table:table-row>"


def parquet(records: Sequence[Mapping[str, Any]]) -> bytes:
    """A Parquet file with a row group for each record."""
    import pyarrow
    from pyarrow.parquet import write_table

    buffer = io.BytesIO()
    write_table(pyarrow.Table.from_pylist(list(records)), buffer, row_group_size=1)
    return buffer.getvalue()


def cues(times: Sequence[str], texts: Sequence[str]) -> str:
    """SubRip."""
    return "".join(
        f"{number}\n{time}\n{text}\n\n" for number, (time, text) in enumerate(zip(times, texts, strict=True), 1)
    )


TIMES = [f"00:00:0{i}.000 --> 00:00:0{i}.900" for i in range(1, 6)]
SRT_TIMES = [time.replace(".", ",") for time in TIMES]
BIBLE_EN = "\\id MRK\n\\c 1\n\\p\n" + "".join(f"\\v {i} {text}\n" for i, text in enumerate(EN, 1))


def usfm(body: str, english: str = BIBLE_EN) -> dict[str, str | bytes]:
    """Mark 1 in English, and in Javanese as it is given."""
    return {"en.usfm": english, "jv.usfm": f"\\id MRK\n\\c 1\n\\p\n{body}"}


def scripture(**more: Any) -> dict[str, Any]:
    """The entry for `usfm`."""
    return {"format": "usfm", "files": {"eng": "en.usfm", "jav": "jv.usfm"}, **more}


def flextext(phrases: str) -> str:
    """A FieldWorks text."""
    return (
        '<?xml version="1.0" encoding="utf-8"?><document version="2"><interlinear-text><paragraphs><paragraph>'
        f"<phrases>{phrases}</phrases></paragraph></paragraphs></interlinear-text></document>"
    )


def lift(entries: str) -> str:
    """A dictionary."""
    return f'<?xml version="1.0" encoding="utf-8"?><lift version="0.13">{entries}</lift>'


def eaf(tiers: str, slots: int = 4) -> str:
    """Annotations of a recording."""
    times = "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{i}" TIME_VALUE="{i * 1000}"/>' for i in range(1, slots + 1))
    return (
        '<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT FORMAT="3.0" VERSION="3.0" AUTHOR="" DATE="">'
        f'<HEADER TIME_UNITS="milliseconds"/><TIME_ORDER>{times}</TIME_ORDER>{tiers}</ANNOTATION_DOCUMENT>'
    )


def eaf_annotation(id: str, text: str, *, slots: Pair | None = None, parent: str = "", previous: str = "") -> str:
    """An annotation with times of its own, or below another."""
    value = f"<ANNOTATION_VALUE>{text}</ANNOTATION_VALUE>"
    if slots:
        return (
            f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{id}" TIME_SLOT_REF1="{slots[0]}" '
            f'TIME_SLOT_REF2="{slots[1]}">{value}</ALIGNABLE_ANNOTATION></ANNOTATION>'
        )
    before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
    return (
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="{id}" ANNOTATION_REF="{parent}"{before}>{value}'
        "</REF_ANNOTATION></ANNOTATION>"
    )


def replay(records: Sequence[Any]) -> dict[str, str | bytes]:
    """A corpus and replay data as JSON lines."""
    return {
        "corpus.tsv": table([("eng", "jav"), *PAIRS]),
        "past.jsonl": "".join(json.dumps(record) + "\n" for record in records),
    }


def turns(
    *said: str, role: str = "from", text: str = "value", names: Pair = ("human", "gpt")
) -> list[dict[str, str]]:
    """A conversation that begins with the user."""
    return [{role: names[number % 2], text: each} for number, each in enumerate(said)]


REPLAY = {"replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 3, "share": 0.9}}
TSV = {"format": "tsv", "path": "corpus.tsv"}
PREVIEW = ("preview", "-n", "24")

CASES: tuple[Case, ...] = (
    Case(
        "csv-comma-ends-lines",
        "tables: cells at the ends of lines",
        "dataculturegroup/DataBasic#176",
        "read: an empty cell behind the last column is nothing",
        {"a.csv": "eng,jav\n" + "".join(f'"{a}","{b}",\n' for a, b in PAIRS)},
        {"format": "csv", "path": "a.csv"},
        pairs_are(*PAIRS),
    ),
    Case(
        "csv-empty-cells-left-out",
        "tables: cells at the ends of lines",
        "ddeboer/data-import#33",
        "read: Outlook and Excel leave empty last cells out",
        {
            "a.csv": "eng,jav,note\n"
            + "".join(f'"{a}","{b}"\n' for a, b in PAIRS[:3])
            + f'"{EN[3]}","{JV[3]}",old\n'
        },
        {"format": "csv", "path": "a.csv"},
        pairs_are(*PAIRS[:4]),
    ),
    Case(
        "tsv-words-null-and-na",
        "tables: words taken for nothing",
        "huggingface/datasets#4467; pandas-dev/pandas#32084",
        "null, NA and None are words here",
        {"a.tsv": table([("eng", "jav"), ("zero", "null"), ("mother", "NA"), ("None", "ora ana")])},
        {"format": "tsv", "path": "a.tsv"},
        pairs_are(("zero", "null"), ("mother", "NA"), ("None", "ora ana")),
    ),
    Case(
        "tsv-blank-lines-between-documents",
        "tables: lines that are no row",
        "databricks/lilac#1018",
        "read, without a header; a blank line between documents is no row",
        {"a.tsv": table(PAIRS[:2]) + "\t\n\n" + table(PAIRS[2:])},
        {"format": "tsv", "path": "a.tsv", "header": False, "columns": {"eng": 1, "jav": 2}},
        pairs_are(*PAIRS),
    ),
    Case(
        "tsv-quotation-marks-left-open",
        "tables: quotation marks",
        "common-voice/common-voice#5189",
        "read, with the marks as they are",
        {"a.tsv": table([("eng", "jav"), ('"Come, he said.', 'Mrenea" jare.'), *PAIRS[:2]])},
        {"format": "tsv", "path": "a.tsv"},
        pairs_are(('"Come, he said.', 'Mrenea" jare.'), *PAIRS[:2]),
    ),
    Case(
        "json-records-over-several-lines",
        "files that are something else",
        "huggingface/datasets#8086; huggingface/datasets#1784",
        "read, or refused with a word on JSON lines: one object a line",
        {"a.json": "\n".join(json.dumps({"eng": a, "jav": b}, indent=2) for a, b in PAIRS)},
        {"format": "jsonl", "path": "a.json"},
        any_of(pairs_are(*PAIRS), refused("object a line|object per line|object on each line|several lines")),
    ),
    Case(
        "jsonl-without-last-line-end",
        "tables: lines that are no row",
        "Modalities/modalities#395",
        "the last record is read",
        {"a.jsonl": "\n".join(json.dumps({"translation": {"en": a, "jv": b}}) for a, b in PAIRS)},
        {"format": "jsonl", "path": "a.jsonl"},
        pairs_are(*PAIRS),
    ),
    Case(
        "codes-jw",
        "codes",
        "speechbrain/speechbrain#2396",
        "jw is Javanese",
        {"a.tsv": table([("en", "jw"), *PAIRS])},
        {"format": "tsv", "path": "a.tsv"},
        pairs_are(*PAIRS),
    ),
    Case(
        "codes-in",
        "codes",
        "MenoData/Time4J#195",
        "in is Indonesian, as Java and Android write it",
        {"a.tsv": table([("en", "in"), ("The river is wide.", "Sungai itu lebar.")])},
        {"format": "tsv", "path": "a.tsv"},
        pairs_are(("The river is wide.", "Sungai itu lebar.")),
        new="ind",
    ),
    Case(
        "codes-country-for-language",
        "codes",
        "omwn/omw-data#2",
        "jp is no language code; the error says ja or jpn",
        {"a.tsv": table([("en", "jp"), ("The river is wide.", "川は広い。")])},
        {"format": "tsv", "path": "a.tsv"},
        refused("jp", "jpn|'ja'| ja "),
        new="jp",
    ),
    Case(
        "parquet-empty-at-first",
        "tables: words taken for nothing",
        "huggingface/datasets#4491",
        "rows whose translation is null are left out, the others are read",
        {
            "a.parquet": parquet(
                [{"translation": {"en": a, "jv": b if i > 2 else None}} for i, (a, b) in enumerate(PAIRS)]
            )
        },
        {"format": "parquet", "path": "a.parquet"},
        pairs_are(*PAIRS[3:]),
    ),
    Case(
        "moses-line-separator-in-a-line",
        "line-aligned texts",
        "src-d/style-analyzer#519; Helsinki-NLP/OpusTools#30",
        "U+2028 ends no line, so that the lines stay aligned",
        {"c.en": "\n".join([f"{EN[0]}\u2028Yes.", *EN[1:]]) + "\n", "c.jv": "\r\n".join(JV) + "\r\n"},
        {"format": "moses", "files": {"eng": "c.en", "jav": "c.jv"}},
        any_of(*(pairs_are((f"{EN[0]}{space}Yes.", JV[0]), *PAIRS[1:]) for space in ("\u2028", " "))),
    ),
    Case(
        "moses-one-line-more",
        "line-aligned texts",
        "moses-smt/mosesdecoder#93",
        "refused with both numbers of lines",
        {"c.en": "\n".join(EN) + "\n", "c.jv": "\n".join(JV) + "\n\n"},
        {"format": "moses", "files": {"eng": "c.en", "jav": "c.jv"}},
        refused("5", "6", "line"),
    ),
    Case(
        "xlsx-formula-errors",
        "spreadsheets",
        "roo-rb/roo#269; iliaal/php_excel#12",
        "a formula's error (#N/A) is no text; the row is left out",
        {"a.xlsx": workbook(("eng", "jav"), PAIRS[0], (EN[1], "#N/A"), ("#REF!", JV[2]), PAIRS[3])},
        {"format": "xlsx", "path": "a.xlsx"},
        pairs_are(PAIRS[0], PAIRS[3]),
    ),
    Case(
        "xlsx-merged-header-of-two-rows",
        "spreadsheets",
        "frictionlessdata/tabulator-py#320",
        "the row that has the names is found below a merged title",
        {"a.xlsx": workbook(("Text", None, "Who"), ("English", "Javanese", None), *PAIRS, merged="A1:B1")},
        {"format": "xlsx", "path": "a.xlsx", "columns": {"eng": "English", "jav": "Javanese"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "xlsx-one-cell-for-two-rows",
        "spreadsheets",
        "HXLStandard/libhxl-python#90; SheetJS/sheetjs#133",
        "an English cell merged over two rows goes with both translations, or the second is left out with a count",
        {"a.xlsx": workbook(("eng", "jav"), PAIRS[0], (None, "Ombo kaline."), PAIRS[1], merged="A2:A3")},
        {"format": "xlsx", "path": "a.xlsx"},
        any_of(pairs_are(*PAIRS[:2]), pairs_are(*PAIRS[:2], (EN[0], "Ombo kaline."))),
    ),
    Case(
        "ods-repeated-cells",
        "spreadsheets",
        "SheetJS/sheetjs#383; ropensci/readODS#81",
        "cells and rows that the file writes once for several keep every place",
        {
            "a.ods": ods(
                ods_row("No", "Note", "eng", "jav")
                + ods_row('<table:table-cell table:number-columns-repeated="2"/>', *PAIRS[0])
                + ods_row("2", *['<table:table-cell table:number-columns-repeated="1"/>'], *PAIRS[1])
                + ods_row(
                    "",
                    '<table:table-cell table:number-columns-repeated="3"/>',
                    row=' table:number-rows-repeated="4"',
                )
                + ods_row("3", "x", *PAIRS[2])
            )
        },
        {"format": "ods", "path": "a.ods"},
        pairs_are(*PAIRS[:3]),
    ),
    Case(
        "ods-a-million-empty-rows",
        "spreadsheets",
        "tdf/odftoolkit#64",
        "read within seconds: formats reach to the sheet's last row",
        {
            "a.ods": ods(
                "".join(ods_row(*row) for row in [("eng", "jav"), *PAIRS])
                + ods_row(
                    '<table:table-cell table:number-columns-repeated="1024"/>',
                    row=' table:number-rows-repeated="1048568"',
                )
            )
        },
        {"format": "ods", "path": "a.ods"},
        pairs_are(*PAIRS),
    ),
    Case(
        "ods-two-paragraphs-in-a-cell",
        "spreadsheets",
        "jazzband/tablib#615",
        "both paragraphs are the cell's text; a comment on it is not",
        {
            "a.ods": ods(
                ods_row("eng", "jav")
                + ods_row(
                    EN[0],
                    '<table:table-cell office:value-type="string"><office:annotation><text:p>Check this!</text:p>'
                    f"</office:annotation><text:p>{JV[0]}</text:p><text:p>Jero.</text:p></table:table-cell>",
                )
                + ods_row(*PAIRS[1])
            )
        },
        {"format": "ods", "path": "a.ods"},
        any_of(
            *(pairs_are((EN[0], f"{JV[0]}{space}Jero."), PAIRS[1]) for space in (" ", "\n", "\r\n")),
        ),
    ),
    Case(
        "usfm-half-a-bridge",
        "scripture: numbers of verses",
        "unfoldingWord/translationCore#5391; ubsicap/usfm#126",
        "4-5a and 5b are verses 4 and 5, whole",
        usfm("\\v 1 Siji.\n\\v 2-3 Loro telu.\n\\v 4-5a Papat lan\n\\v 5b lima.\n"),
        scripture(),
        pairs_are((EN[0], "Siji."), (f"{EN[1]} {EN[2]}", "Loro telu."), (f"{EN[3]} {EN[4]}", "Papat lan lima.")),
    ),
    Case(
        "usfm-note-at-the-number",
        "scripture: numbers of verses",
        "usfm-bible/tcdocs#17",
        "read: a note may follow the number without a space",
        usfm("\\v 1\\f + \\ft Utawa: siji\\f*Siji.\n\\v 2 Loro.\n"),
        scripture(),
        pairs_are((EN[0], "Siji."), (EN[1], "Loro.")),
    ),
    Case(
        "usfm-note-mark-left-open",
        "scripture: markers",
        "sillsdev/machine.py#155",
        r"\fm without an end loses no text",
        usfm("\\v 1 Siji\\f + \\fr 1:1 \\ft Bab.\\f* loro\\fm \\f + \\fr 1:1 \\ft Bab.\\f* telu.\n\\v 2 Papat.\n"),
        scripture(),
        pairs_are((EN[0], "Siji loro telu."), (EN[1], "Papat.")),
    ),
    Case(
        "usfm-verses-in-a-table",
        "scripture: markers",
        "Bridgeconn/usfm-grammar#326; sillsdev/silnlp#329",
        "text in a table is the verse's",
        usfm(
            "\\v 1 Iki kabeh:\n\\b\n\\tr \\tc1 \\tcr2\n\\tr \\tc1\n\\v 2 piring \\tcr2 30\n\\tr \\tc1 mangkok \\tcr2 410\n\\b\n\\p\n\\v 3 Rampung.\n"
        ),
        scripture(),
        pairs_are((EN[0], "Iki kabeh:"), (EN[1], "piring 30 mangkok 410"), (EN[2], "Rampung.")),
    ),
    Case(
        "usfm-nested-without-plus",
        "scripture: markers",
        "Bridgeconn/usfm-grammar#297",
        r"\em within \wj loses no text",
        usfm(
            "\\v 1 Aku \\nd Gusti\\nd*, \\wj krungu \\em apa sing\\em* ditindakake,\\wj*\n\\q2 lan wedi.\n\\v 2 Loro.\n"
        ),
        scripture(),
        pairs_are((EN[0], "Aku Gusti, krungu apa sing ditindakake, lan wedi."), (EN[1], "Loro.")),
    ),
    Case(
        "usfm-several-verses-on-a-line",
        "scripture: numbers of verses",
        "unfoldingWord/translationCore#2714",
        "verses may follow one another on a line",
        usfm("\\v 1 Siji, \\v 2 loro, \\v 3 telu.\n"),
        scripture(),
        pairs_are((EN[0], "Siji,"), (EN[1], "loro,"), (EN[2], "telu.")),
    ),
    Case(
        "usfm-reference-first",
        "scripture: markers",
        "Bridgeconn/usfm-grammar#106",
        "a verse that begins with a cross-reference is kept, without it",
        usfm("\\v 1 \\x - \\xo 1.1 \\xt Yoh 1.1\\x* Siji.\n\\v 2 Loro.\n"),
        scripture(),
        pairs_are((EN[0], "Siji."), (EN[1], "Loro.")),
    ),
    Case(
        "usfm-chapter-left-out",
        "scripture: numbers of verses",
        "friendsofagape/autographa-lite#48",
        "verses that begin again without a chapter are not added to those of the chapter before",
        usfm("\\v 1 Siji.\n\\v 2 Loro.\n\\v 1 Salah.\n\\v 2 Klera.\n"),
        scripture(),
        any_of(pairs_are((EN[0], "Siji."), (EN[1], "Loro.")), refused("jv.usfm:")),
    ),
    Case(
        "usfm-empty-verses",
        "scripture: numbers of verses",
        "sillsdev/silnlp#166; adapt-it/adapt-it-mobile#454",
        "verses that are not translated yet are left out, and no other text takes their place",
        usfm("\\v 1\n\\v 2\n\\v 3\n\\p\n\\v 4 Papat.\n\\v 5\n"),
        scripture(),
        pairs_are((EN[3], "Papat.")),
    ),
    Case(
        "usfm-dots-for-text",
        "placeholders",
        "sillsdev/silnlp#153",
        "a verse of three dots is no translation (preset standard)",
        usfm(
            "".join(f"\\v {i} {text}\n" for i, text in enumerate([*JV[:3], "...", "..."], 1))
            + "\\c 2\n\\p\n"
            + "".join(f"\\v {i} ...\n" for i in range(1, 25)),
            BIBLE_EN + "\\c 2\n\\p\n" + "".join(f"\\v {i} There were {i} of them.\n" for i in range(1, 25)),
        ),
        scripture(),
        pairs_are(*PAIRS[:3]),
        more={"filter": {"preset": "standard"}},
    ),
    Case(
        "usfm-folder-with-endings-of-its-own",
        "scripture: folders",
        "sillsdev/silnlp#604",
        "a Paratext project names its files in Settings.xml (.PT7, .GRK); they are read",
        {
            "en.usfm": BIBLE_EN,
            "JAV/42MRKJAV.PT7": "\\id MRK\n\\c 1\n\\p\n" + "".join(f"\\v {i} {b}\n" for i, b in enumerate(JV, 1)),
            "JAV/Settings.xml": "<ScriptureText><Encoding>65001</Encoding><Language>Javanese</Language>"
            '<Naming PrePart="" PostPart="JAV.PT7" BookNameForm="41MAT"/></ScriptureText>',
        },
        {"format": "usfm", "files": {"eng": "en.usfm", "jav": "JAV"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "usfm-folder-of-ebible",
        "scripture: folders",
        "BibleNLP/ebible#50",
        "books named otherwise (MRKjav.usfm) and what lies beside them do no harm",
        {
            "en.usfm": BIBLE_EN,
            "JAV/MRKjav.usfm": "\\id MRK\n\\c 1\n\\p\n" + "".join(f"\\v {i} {b}\n" for i, b in enumerate(JV, 1)),
            "JAV/FRTjav.usfm": "\\id FRT\n\\mt1 Kitab\n\\ip Pambuka.\n",
            "JAV/copr.htm": "<html></html>",
            "JAV/keys.asc": "-----BEGIN",
        },
        {"format": "usfm", "files": {"eng": "en.usfm", "jav": "JAV"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "usfm-project-in-another-encoding",
        "scripture: folders",
        "sillsdev/silnlp#340",
        "the encoding that Settings.xml names is used, or the refusal names the file and how to convert it",
        {
            "en.usfm": BIBLE_EN,
            "JAV/42MRK.SFM": "\\id MRK\n\\c 1\n\\p\n\\v 1 Sij\u00e9.\n".encode("cp1252"),
            "JAV/Settings.xml": '<ScriptureText><Encoding>1252</Encoding><Naming PrePart="" PostPart=".SFM" '
            'BookNameForm="41MAT"/></ScriptureText>',
        },
        {"format": "usfm", "files": {"eng": "en.usfm", "jav": "JAV"}},
        any_of(pairs_are((EN[0], "Sij\u00e9.")), refused("42MRK.SFM:4", "1252")),
    ),
    Case(
        "usx-text-outside-paragraphs",
        "scripture: markers",
        "sillsdev/web-languageforge#499",
        "verses and text outside of paragraphs are read",
        {
            "en.usfm": BIBLE_EN,
            "jv.usx": '<?xml version="1.0"?><usx version="3.0"><book code="MRK" style="id">Mark</book>'
            '<chapter number="1" style="c" sid="MRK 1"/><verse number="1" style="v" sid="MRK 1:1"/>Siji '
            '<note caller="+" style="f"><char style="ft">Bab</char></note>tok.<verse eid="MRK 1:1"/>'
            '<para style="s">Bab</para><para style="p"><verse number="2" style="v" sid="MRK 1:2"/>Loro.'
            '<verse eid="MRK 1:2"/></para><chapter eid="MRK 1"/></usx>',
        },
        {"format": "usx", "files": {"eng": "en.usfm", "jav": "jv.usx"}},
        pairs_are((EN[0], "Siji tok."), (EN[1], "Loro.")),
    ),
    Case(
        "vref-range-without-text",
        "scripture: ranges of lines",
        "sillsdev/silnlp#142",
        "a range behind an empty line is no text, and costs no other verse",
        {"en.txt": "\n".join(EN) + "\n", "jv.txt": f"{JV[0]}\n\n<range>\n<range>\n{JV[4]}\n"},
        {"format": "vref", "files": {"eng": "en.txt", "jav": "jv.txt"}},
        pairs_are(PAIRS[0], PAIRS[4]),
    ),
    Case(
        "vref-range-into-the-next-book",
        "scripture: ranges of lines",
        "sillsdev/silnlp#522",
        "no row joins verses of two books",
        {
            "vref.txt": "MAL 4:5\nMAL 4:6\nMAT 1:1\nMAT 1:2\nMAT 1:3\n",
            "en.txt": "\n".join(EN) + "\n",
            "jv.txt": f"{JV[0]}\n{JV[1]}\n<range>\n<range>\n{JV[4]}\n",
        },
        {"format": "vref", "vref": "vref.txt", "files": {"eng": "en.txt", "jav": "jv.txt"}},
        any_of(pairs_are(PAIRS[0], PAIRS[4]), refused("MAL 4:6|jv.txt:")),
    ),
    Case(
        "srt-without-milliseconds",
        "subtitles",
        "Aegisub/Aegisub#250; AlexPoint/SubtitlesParser#5",
        "whole seconds are times too",
        {
            "a.srt": cues(
                [
                    time.replace(".000", "").replace(".900", "")
                    for time in (f"00:00:0{i}.000 --> 00:00:0{i + 1}.000" for i in range(1, 6))
                ],
                EN,
            ),
            "b.srt": cues(SRT_TIMES, JV),
        },
        {"format": "srt", "files": {"eng": "a.srt", "jav": "b.srt"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "srt-points-in-times",
        "subtitles",
        "GavalasDev/srtlib#9",
        "a point before the milliseconds is read as a comma",
        {"a.srt": "\n" + cues(TIMES, EN), "b.srt": cues(SRT_TIMES, JV)},
        {"format": "srt", "files": {"eng": "a.srt", "jav": "b.srt"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "srt-blank-line-within",
        "subtitles",
        "SubtitleEdit/subtitleedit#2147",
        "text behind a blank line belongs to the subtitle before it",
        {
            "a.srt": cues(SRT_TIMES, [EN[0], f"{EN[1]}\n\nYes.", *EN[2:]]),
            "b.srt": cues(SRT_TIMES, JV),
        },
        {"format": "srt", "files": {"eng": "a.srt", "jav": "b.srt"}},
        pairs_are(PAIRS[0], (f"{EN[1]} Yes.", JV[1]), *PAIRS[2:]),
    ),
    Case(
        "srt-subtitle-that-is-a-number",
        "subtitles",
        "SubtitleEdit/subtitleedit#2147",
        "a subtitle that is only a number is text",
        {
            "a.srt": cues(SRT_TIMES, [EN[0], "Two thousand", *EN[2:]]),
            "b.srt": cues(SRT_TIMES, [JV[0], "2000", *JV[2:]]),
        },
        {"format": "srt", "files": {"eng": "a.srt", "jav": "b.srt"}},
        pairs_are(PAIRS[0], ("Two thousand", "2000"), *PAIRS[2:]),
    ),
    Case(
        "srt-empty-subtitles",
        "subtitles",
        "tkarabela/pysubs2#11; ripose-jp/Memento#68; noophq/subtitle#13",
        "the number of a subtitle without text is not the text of another",
        {
            "a.srt": cues(
                [SRT_TIMES[0], "00:00:00,00 --> 00:00:00,00", "00:00:00,00 --> 00:00:00,00", *SRT_TIMES[1:]],
                [EN[0], "", "", *EN[1:]],
            ),
            "b.srt": cues(SRT_TIMES, JV),
        },
        {"format": "srt", "files": {"eng": "a.srt", "jav": "b.srt"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "vtt-styles-and-regions",
        "subtitles",
        "w3c/webvtt.js#26; w3c/webvtt.js#27",
        "styles, regions and notes are no text; voices and classes are left out",
        {
            "a.vtt": "WEBVTT - talk\n\nREGION\nid:bill\nwidth:40%\n\nSTYLE\n::cue {\n  color: papayawhip;\n}\n\nNOTE a note\n"
            "of two lines\n\n"
            + "".join(
                f"{i}\n{time} region:bill align:right\n<v Ann><c.loud>{text}</c>\n\n"
                for i, (time, text) in enumerate(zip(TIMES, EN, strict=True))
            ),
            "b.vtt": "WEBVTT\n\n" + "".join(f"{t[3:13]}{t[16:]}\n{b}\n\n" for t, b in zip(TIMES, JV, strict=True)),
        },
        {"format": "vtt", "files": {"eng": "a.vtt", "jav": "b.vtt"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "vtt-character-references",
        "subtitles",
        "xbmc/inputstream.adaptive#224; asticode/go-astisub#85; ableplayer/ableplayer#126",
        "&amp; is &, &gt; is >",
        {
            "a.vtt": f"WEBVTT\n\n{TIMES[0]}\n&gt;&gt; Salt &amp; pepper &lt;3\n",
            "b.vtt": f"WEBVTT\n\n{TIMES[0]}\nUyah&nbsp;&amp; mrica\n",
        },
        {"format": "vtt", "files": {"eng": "a.vtt", "jav": "b.vtt"}},
        any_of(
            pairs_are((">> Salt & pepper <3", "Uyah & mrica")),
            pairs_are((">> Salt & pepper <3", "Uyah\xa0& mrica")),
        ),
    ),
    Case(
        "ass-drawings-and-overrides",
        "subtitles",
        "tkarabela/pysubs2#37; tkarabela/pysubs2#31",
        "drawings and formatting are no text",
        {
            f"{name}.ass": "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name, Fontname, Fontsize\n"
            "Style: Default,Arial,20\n\n[Events]\nFormat: Layer, Start, End, Style, Name, MarginL, "
            "MarginR, MarginV, Effect, Text\n"
            "Dialogue: 0,0:00:01.00,0:00:02.00,Op,,0,0,0,,{\\an5\\p1}m 0 0 l 20 0 20 20{\\p0}\n"
            f"Dialogue: 0,0:00:03.00,0:00:04.00,S,,0,0,0,,{{\\fnArial\\b0\\pos(96.6,65.1)}}{text}\n"
            for name, text in (("a", "The river\\Nis wide."), ("b", JV[0]))
        },
        {"format": "ass", "files": {"eng": "a.ass", "jav": "b.ass"}},
        pairs_are(PAIRS[0]),
    ),
    Case(
        "po-keys-for-messages",
        "software strings",
        "WeblateOrg/weblate#1566; WeblateOrg/weblate#3973; translate/translate#314",
        "where English has a file of its own, its texts are the English ones, not the keys",
        {
            f"{name}.po": 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
            + "".join(f'msgid "menu.item{i}"\nmsgstr "{text}"\n\n' for i, text in enumerate(texts))
            for name, texts in (("en", EN), ("jv", JV))
        },
        {"format": "po", "files": {"eng": "en.po", "jav": "jv.po"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "po-obsolete-with-former-text",
        "software strings",
        "translate/translate#1593; smhg/gettext-parser#9",
        "obsolete messages, also with their former text, are left out",
        {
            "jv.po": 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n'
            f'msgid "{EN[0]}"\nmsgstr "{JV[0]}"\n\n#, fuzzy\n#~| msgid "Old"\n#~ msgctxt "menu"\n#~ msgid "New"\n'
            f'#~ msgstr "Anyar"\n\n#| msgid "The hat"\nmsgid "{EN[2]}"\nmsgstr "{JV[2]}"\n'
        },
        {"format": "po", "files": {"jav": "jv.po"}},
        pairs_are(PAIRS[0], PAIRS[2]),
    ),
    Case(
        "po-without-header",
        "software strings",
        "translate/translate#467",
        "read",
        {"jv.po": "".join(f'#: a.c:{i}\nmsgid "{a}"\nmsgstr ""\n"{b}"\n\n' for i, (a, b) in enumerate(PAIRS))},
        {"format": "po", "files": {"jav": "jv.po"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "sdlxliff-segments",
        "TMX and XLIFF",
        "modernmt/modernmt#356; modernmt/modernmt#350",
        "a unit, or its segments, in pairs; the segmented source is not a second source",
        {
            "a.sdlxliff": '<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2"><file '
            'source-language="en" target-language="jv"><body><trans-unit id="1">'
            f'<source>{EN[0]} {EN[1]}</source><seg-source><mrk mid="1" mtype="seg">{EN[0]}</mrk> '
            f'<mrk mid="2" mtype="seg">{EN[1]}</mrk></seg-source><target><mrk mid="1" mtype="seg">{JV[0]}</mrk> '
            f'<mrk mid="2" mtype="seg">{JV[1]}</mrk></target></trans-unit></body></file></xliff>'
        },
        {"format": "xliff", "path": "a.sdlxliff"},
        any_of(pairs_are((f"{EN[0]} {EN[1]}", f"{JV[0]} {JV[1]}")), pairs_are(*PAIRS[:2])),
    ),
    Case(
        "sdlxliff-a-segment-untranslated",
        "TMX and XLIFF",
        "modernmt/modernmt#356",
        "where one segment of a unit has no translation, no pair has the whole source with a part of the target",
        {
            "a.sdlxliff": '<?xml version="1.0"?><xliff version="1.2" xmlns="urn:oasis:names:tc:xliff:document:1.2"><file '
            'source-language="en" target-language="jv"><body><trans-unit id="1">'
            f'<source>{EN[0]} {EN[1]}</source><seg-source><mrk mid="1" mtype="seg">{EN[0]}</mrk> '
            f'<mrk mid="2" mtype="seg">{EN[1]}</mrk></seg-source><target><mrk mid="1" mtype="seg">{JV[0]}</mrk> '
            '<mrk mid="2" mtype="seg"/></target></trans-unit>'
            f'<trans-unit id="2"><source>{EN[2]}</source><target>{JV[2]}</target></trans-unit></body></file></xliff>'
        },
        {"format": "xliff", "path": "a.sdlxliff"},
        any_of(pairs_are(PAIRS[2]), pairs_are(PAIRS[0], PAIRS[2])),
    ),
    Case(
        "xliff-2-spaces-apart",
        "TMX and XLIFF",
        "locize/xliff#39",
        "what is ignorable between segments is no segment",
        {
            "a.xlf": '<?xml version="1.0"?><xliff version="2.0" srcLang="en" trgLang="jv" '
            'xmlns="urn:oasis:names:tc:xliff:document:2.0"><file id="f"><unit id="k">'
            + "".join(
                f"<segment><source>{a}</source><target>{b}</target></segment><ignorable>"
                '<source xml:space="preserve"> </source><target xml:space="preserve"> </target></ignorable>'
                for a, b in PAIRS[:2]
            )
            + "</unit></file></xliff>"
        },
        {"format": "xliff", "path": "a.xlf"},
        pairs_are(*PAIRS[:2]),
    ),
    Case(
        "tmx-without-seg",
        "TMX and XLIFF",
        "briacp/SDLPPXPackager#2",
        "read, or refused with a word on <seg>",
        {
            "a.tmx": '<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body>'
            + "".join(f'<tu><tuv xml:lang="en">{a}</tuv><tuv xml:lang="jv">{b}</tuv></tu>' for a, b in PAIRS)
            + "</body></tmx>"
        },
        {"format": "tmx", "path": "a.tmx"},
        any_of(pairs_are(*PAIRS), refused("<seg>")),
    ),
    Case(
        "tmx-with-codes-of-xliff",
        "TMX and XLIFF",
        "matecat/MateCat#1526",
        "the text within <g> is text",
        {
            "a.tmx": '<?xml version="1.0"?><tmx version="1.4"><header srclang="en"/><body>'
            '<tu><tuv xml:lang="en"><seg><g id="1">The river</g> is wide.<x id="2"/></seg></tuv>'
            '<tuv xml:lang="jv"><seg><g id="1">Kali</g> kuwi amba.</seg></tuv></tu></body></tmx>'
        },
        {"format": "tmx", "path": "a.tmx"},
        pairs_are(PAIRS[0]),
    ),
    Case(
        "flextext-without-words",
        "language documentation",
        "ropensci/phonfieldwork#28",
        "phrases are read where nobody has entered their words",
        {
            "a.flextext": flextext(
                "".join(
                    f'<phrase><item type="segnum" lang="en">{i}</item><item type="txt" lang="jv">{b}</item>'
                    f'<item type="gls" lang="en">{a}</item><item type="note" lang="en">Ask Siti</item></phrase>'
                    for i, (a, b) in enumerate(PAIRS)
                )
            )
        },
        {"format": "flextext", "path": "a.flextext"},
        pairs_are(*PAIRS),
    ),
    Case(
        "lift-spans",
        "language documentation",
        "sillsdev/SpeechAnalyzer#75",
        "a span within a text is text, without the file's line ends",
        {
            "a.lift": lift(
                "".join(
                    f'<entry><lexical-unit><form lang="jv"><text>\n  <span lang="jv">{b}</span>\n</text></form></lexical-unit>'
                    f'<sense><gloss lang="en"><text>{a}</text></gloss></sense></entry>'
                    for a, b in (("river", "kali"), ("goat", "wedhus"))
                )
            )
        },
        {"format": "lift", "path": "a.lift"},
        pairs_are(("river", "kali"), ("goat", "wedhus")),
    ),
    Case(
        "lift-several-glosses",
        "language documentation",
        "sillsdev/web-languageforge#778",
        "each gloss of a sense is a translation",
        {
            "a.lift": lift(
                '<entry><lexical-unit><form lang="jv"><text>kali</text></form></lexical-unit><sense id="river; stream_1">'
                '<grammatical-info value="n"/><gloss lang="en"><text>river</text></gloss><gloss lang="en"><text>stream'
                "</text></gloss></sense></entry>"
            )
        },
        {"format": "lift", "path": "a.lift"},
        pairs_are(("river", "kali"), ("stream", "kali")),
    ),
    Case(
        "lift-definitions-only",
        "language documentation",
        "sillsdev/web-languageforge#12",
        "WeSay writes definitions and no glosses: read, or refused with a word on definitions",
        {
            "a.lift": lift(
                '<entry><lexical-unit><form lang="jv"><text>kali</text></form></lexical-unit><sense><definition>'
                '<form lang="en"><text>river</text></form></definition></sense></entry>'
            )
        },
        {"format": "lift", "path": "a.lift"},
        any_of(pairs_are(("river", "kali")), refused("of: definitions")),
    ),
    Case(
        "lift-two-scripts",
        "language documentation",
        "goldendict/goldendict#1307",
        "the headword in the script that is asked for",
        {
            "a.lift": lift(
                '<entry><lexical-unit><form lang="jv"><text>kali</text></form><form lang="jv-Arab"><text>كالي</text></form>'
                '</lexical-unit><sense><gloss lang="en"><text>river</text></gloss><gloss lang="fr"><text>fleuve</text>'
                "</gloss></sense></entry>"
            )
        },
        {"format": "lift", "path": "a.lift", "writing_systems": {"jav": "jv-Arab", "eng": "en"}},
        pairs_are(("river", "كالي")),
    ),
    Case(
        "eaf-words-in-another-order",
        "language documentation",
        "dopefishh/pympi#7",
        "words below an utterance are in the order of their links, not of the file",
        {
            "a.eaf": eaf(
                '<TIER TIER_ID="ref">' + eaf_annotation("a1", "1", slots=("ts1", "ts2")) + "</TIER>"
                '<TIER TIER_ID="wd" PARENT_REF="ref">'
                + eaf_annotation("a4", "amba.", parent="a1", previous="a3")
                + eaf_annotation("a2", "Kali", parent="a1")
                + eaf_annotation("a3", "kuwi", parent="a1", previous="a2")
                + '</TIER><TIER TIER_ID="ft" PARENT_REF="ref">'
                + eaf_annotation("a5", EN[0], parent="a1")
                + "</TIER>"
            )
        },
        {"format": "eaf", "path": "a.eaf", "tiers": {"eng": "ft", "jav": "wd"}},
        pairs_are(PAIRS[0]),
    ),
    Case(
        "eaf-times-below-a-parent",
        "language documentation",
        "Exmaralda-Org/exmaralda#52",
        "annotations with times of their own belong to the one that spans them, in the order of time",
        {
            "a.eaf": eaf(
                '<TIER TIER_ID="ft">' + eaf_annotation("a1", EN[0], slots=("ts1", "ts3")) + "</TIER>"
                '<TIER TIER_ID="tx" PARENT_REF="ft">'
                + eaf_annotation("a3", "kuwi amba.", slots=("ts2", "ts3"))
                + eaf_annotation("a2", "Kali", slots=("ts1", "ts2"))
                + "</TIER>"
            )
        },
        {"format": "eaf", "path": "a.eaf", "tiers": {"eng": "ft", "jav": "tx"}},
        pairs_are(PAIRS[0]),
    ),
    Case(
        "eaf-translation-below-transcription",
        "language documentation",
        "dopefishh/pympi#47",
        "annotations without times, below others, are read through their links",
        {
            "a.eaf": eaf(
                '<TIER TIER_ID="ref@SP">' + eaf_annotation("a1", "BEJ_001", slots=("ts1", "ts3")) + "</TIER>"
                '<TIER TIER_ID="tx@SP" PARENT_REF="ref@SP">' + eaf_annotation("a2", JV[0], parent="a1") + "</TIER>"
                '<TIER TIER_ID="ft@SP" PARENT_REF="tx@SP">' + eaf_annotation("a3", EN[0], parent="a2") + "</TIER>"
            )
        },
        {"format": "eaf", "path": "a.eaf", "tiers": {"eng": "ft@*", "jav": "tx@*"}},
        pairs_are(PAIRS[0]),
    ),
    Case(
        "toolbox-as-elan-exports-it",
        "language documentation",
        "cldf/cldf#10",
        "read with the markers that ELAN writes",
        {
            "a.txt": "".join(
                f"\\utterance_id {i}\n\\ELANBegin {i}.708\n\\ELANEnd {i}.974\n\\ELANParticipant\n\\utterance {b}\n"
                f"\\gramm_units x -y\n\\ft {a}\n\\comment none\n\n"
                for i, (a, b) in enumerate(PAIRS)
            )
        },
        {
            "format": "toolbox",
            "path": "a.txt",
            "record": "utterance_id",
            "markers": {"jav": "utterance", "eng": "ft"},
        },
        pairs_are(*PAIRS),
    ),
    Case(
        "tatoeba-a-file-for-each-language",
        "Tatoeba",
        "LBeaudoux/tatoebatools#11",
        "the downloads by language: two files of sentences and one of links",
        {
            "eng_sentences.tsv": table([(str(i), "eng", a) for i, a in enumerate(EN, 1)]),
            "jav_sentences.tsv": table([(str(i), "jav", b) for i, b in enumerate(JV, 11)]),
            "jav-eng_links.tsv": table([(str(i + 10), str(i)) for i in range(1, 6)]),
        },
        {
            "format": "tatoeba",
            "sentences": ["eng_sentences.tsv", "jav_sentences.tsv"],
            "links": "jav-eng_links.tsv",
        },
        pairs_are(*PAIRS),
    ),
    Case(
        "replay-assistant-speaks-first",
        "replay data",
        "axolotl-ai-cloud/axolotl#723",
        "read, with the roles kept, or refused in words",
        replay(
            [
                {
                    "conversations": turns(
                        "I greet you.", f"Name number {i}.", f"It is {i}.", names=("gpt", "human")
                    )
                }
                for i in range(6)
            ]
        ),
        TSV,
        any_of(says("Name number", "It is "), refused("assistant|gpt")),
        more=REPLAY,
        command=PREVIEW,
        model=True,
    ),
    Case(
        "replay-system-turn",
        "replay data",
        "NVIDIA-NeMo/Automodel#3144",
        "a system turn is kept, or refused in words",
        replay(
            [
                {
                    "messages": [
                        {"role": "system", "content": "Answer like a pirate."},
                        *turns(
                            f"Name number {i}.",
                            f"It is {i}.",
                            role="role",
                            text="content",
                            names=("user", "assistant"),
                        ),
                    ]
                }
                for i in range(6)
            ]
        ),
        TSV,
        any_of(says("Answer like a pirate.", "Name number", "It is "), refused("system")),
        more=REPLAY,
        command=PREVIEW,
        model=True,
    ),
    Case(
        "replay-many-turns",
        "replay data",
        "ai-dynamo/aiperf#798",
        "all turns of a conversation are kept",
        replay(
            [
                {
                    "conversations": turns(
                        f"Name number {i}.", f"It is {i}.", "And the next?", f"Then comes {i + 1}."
                    )
                }
                for i in range(6)
            ]
        ),
        TSV,
        says("Name number", "And the next?", "Then comes"),
        more=REPLAY,
        command=PREVIEW,
        model=True,
    ),
    Case(
        "replay-alpaca-with-history",
        "replay data",
        "hiyouga/LlamaFactory#3351",
        "the earlier turns under `history` are kept, or the file is refused with that word",
        replay(
            [
                {
                    "instruction": "And the next?",
                    "input": "",
                    "output": f"Then comes {i + 1}.",
                    "history": [[f"Name number {i}.", f"It is {i}."]],
                }
                for i in range(6)
            ]
        ),
        TSV,
        any_of(says("Name number", "And the next?", "Then comes"), refused("history", "turns")),
        more=REPLAY,
        command=PREVIEW,
        model=True,
    ),
    Case(
        "model-with-a-part-missing",
        "model folders",
        "sgl-project/sglang#32279; liltom-eth/llama2-webui#7",
        "the index names a file of weights that is not there: refused with its name",
        {"corpus.tsv": table([("eng", "jav"), *PAIRS])},
        TSV,
        refused("model-00002-of-00002.safetensors"),
        command=("train",),
        model=True,
    ),
    Case(
        "xlsx-phonetic-guides",
        "spreadsheets",
        "jsonkenl/xlsxir#104; use-agent-os/agent-os#2053",
        "the reading that Excel keeps beside a word is no part of the cell",
        {
            "a.xlsx": with_phonetic_guide(
                workbook(("eng", "jpn"), ("a university", "大学"), ("a bird", "鳥")), "大学", "ダイガク"
            )
        },
        {"format": "xlsx", "path": "a.xlsx"},
        pairs_are(("a university", "大学"), ("a bird", "鳥")),
        new="jpn",
    ),
    Case(
        "vtt-rolling-captions",
        "subtitles",
        "ytdl-org/youtube-dl#9038; yt-dlp/yt-dlp#1734; ytdl-org/youtube-dl#21914",
        "YouTube's automatic captions show each line twice; it is one text, said once",
        {
            "a.vtt": "WEBVTT\nKind: captions\nLanguage: en\n\n"
            + "".join(
                f"{time} align:start position:0%\n{EN[i - 1] if i else ' '}\n"
                + f"{a.split()[0]}<{time[:12]}><c> {' '.join(a.split()[1:])}</c>\n\n"
                f"{time[17:]} --> {time[17:-3]}910 align:start position:0%\n{a}\n \n\n"
                for i, (time, a) in enumerate(zip(TIMES, EN, strict=True))
            ),
            "b.srt": cues(SRT_TIMES, JV),
        },
        {"format": "vtt", "files": {"eng": "a.vtt", "jav": "b.srt"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "usfm-with-word-alignment",
        "scripture: markers",
        "unfoldingWord/translationCore#5799; bibledit/cloud#161",
        "words with attributes, within milestones, a word a line: the text of the verse, spaced as printed",
        usfm(
            '\\v 1 \\zaln-s |x-strong="H1" x-lemma="a" x-content="b"\\*\\w Kali|x-occurrence="1" x-occurrences="1"\\w*\n'
            '\\w kuwi|x-occurrence="1"\\w*\\zaln-e\\*,\n\\zaln-s |x-strong="H2"\\*\\w amba|amba\\w*\\zaln-e\\*.”\n\\v 2 Loro.\n'
        ),
        scripture(),
        pairs_are((EN[0], "Kali kuwi, amba.”"), (EN[1], "Loro.")),
    ),
    Case(
        "po-indented",
        "software strings",
        "izimobil/polib#24",
        "several spaces behind a keyword, as gettext writes with --indent",
        {"jv.po": "".join(f'msgid   "{a}"\nmsgstr  ""\n        "{b}"\n\n' for a, b in PAIRS)},
        {"format": "po", "files": {"jav": "jv.po"}},
        pairs_are(*PAIRS),
    ),
    Case(
        "po-former-text-over-lines",
        "software strings",
        "izimobil/polib#100",
        "a fuzzy message whose former text was rewrapped is left out, or the file is refused by line",
        {
            "jv.po": f'msgid "{EN[0]}"\nmsgstr "{JV[0]}"\n\n#, fuzzy\n#| msgid "" "You do not need to\n#| duplicate" " it"\n'
            f'msgid "You need not copy it"\nmsgstr "Aja"\n\nmsgid "{EN[1]}"\nmsgstr "{JV[1]}"\n'
        },
        {"format": "po", "files": {"jav": "jv.po"}},
        any_of(pairs_are(*PAIRS[:2]), refused("jv.po:")),
    ),
    Case(
        "po-quotation-marks-unescaped",
        "software strings",
        "izimobil/polib#27; izimobil/polib#161",
        "refused with the line",
        {"jv.po": f'msgid "{EN[0]}"\nmsgstr "{JV[0]}"\n\nmsgid "Press "Go" now"\nmsgstr "Pencet "Go""\n'},
        {"format": "po", "files": {"jav": "jv.po"}},
        refused("jv.po:4"),
    ),
    Case(
        "po-obsolete-over-lines",
        "software strings",
        "python-babel/babel#27",
        "left out, however many lines it has",
        {
            "jv.po": f'msgid "{EN[0]}"\nmsgstr "{JV[0]}"\n\n#~ msgid ""\n#~ "An old "\n#~ "text"\n#~ msgstr ""\n#~ "Teks "\n'
            f'#~ "lawas"\n\nmsgid "{EN[1]}"\nmsgstr "{JV[1]}"\n'
        },
        {"format": "po", "files": {"jav": "jv.po"}},
        pairs_are(*PAIRS[:2]),
    ),
    Case(
        "csv-mark-before-a-quoted-header",
        "tables: quotation marks",
        "pandas-dev/pandas#4793; biolab/orange3#7000",
        "Excel's byte-order mark is no part of the first column's name",
        {"a.csv": ('\ufeff"eng","jav"\r\n' + "".join(f'"{a}","{b}"\r\n' for a, b in PAIRS)).encode()},
        {"format": "csv", "path": "a.csv"},
        pairs_are(*PAIRS),
    ),
    Case(
        "tmx-languages-in-capitals",
        "TMX and XLIFF",
        "maxprograms-com/TMXValidator#4; translate/virtaal#751",
        "EN-US, en and lang without xml: are the same language",
        {
            "a.tmx": '<?xml version="1.0"?><tmx version="1.1"><header srclang="EN"/><body>'
            + "".join(
                f'<tu><tuv {tag}><seg>{a}</seg></tuv><tuv xml:lang="JV-id"><seg>{b}</seg></tuv></tu>'
                for tag, (a, b) in zip(('lang="EN-US"', 'xml:lang="en"', 'xml:lang="EN"'), PAIRS, strict=False)
            )
            + "</body></tmx>"
        },
        {"format": "tmx", "path": "a.tmx"},
        pairs_are(*PAIRS[:3]),
    ),
    Case(
        "eaf-times-left-out",
        "language documentation",
        "dopefishh/pympi#39",
        "a slot without a time lies between its neighbours",
        {
            "a.eaf": eaf(
                '<TIER TIER_ID="ft">'
                + eaf_annotation("a1", EN[0], slots=("ts1", "ts2"))
                + eaf_annotation("a2", EN[1], slots=("ts2", "ts3"))
                + '</TIER><TIER TIER_ID="tx">'
                + eaf_annotation("a3", JV[0], slots=("ts1", "ts4"))
                + eaf_annotation("a4", JV[1], slots=("ts4", "ts3"))
                + "</TIER>"
            )
            .replace('"ts2" TIME_VALUE="2000"/>', '"ts2"/>')
            .replace('"ts4" TIME_VALUE="4000"', '"ts4" TIME_VALUE="2000"')
        },
        {"format": "eaf", "path": "a.eaf", "tiers": {"eng": "ft", "jav": "tx"}},
        pairs_are(*PAIRS[:2]),
    ),
    Case(
        "model-with-fewer-embeddings-than-tokens",
        "model folders",
        "huggingface/transformers#12763; meta-llama/llama-cookbook#189",
        "refused in words with both numbers, or the embeddings are extended; no index error",
        {"corpus.tsv": table([("eng", "jav"), *PAIRS])},
        TSV,
        any_of(refused("token", "embedding|vocab"), says()),
        command=("train", "--out", "run"),
        model=True,
    ),
)
