"""Reading corpora: speed, and memory from ten thousand to ten million pairs.

    python benchmarks/read.py --out docs/results/read.md

Made-up pairs of sentences (13 words, 60 to 70 characters a side) are written in each format and read by a process
of its own, which then holds 1 000 sentences out and reads 100 000 rows at random places. Memory is the most that
the process ever had in use (VmHWM, its peak resident set), with the interpreter and all libraries.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from machine import describe, put

WORDS = [first + last for first in ("ka", "lo", "mi", "nu", "re", "sa") for last in ("bang", "du", "lim", "ra")]
UNIT = '<tu><tuv xml:lang="en"><seg>{}</seg></tuv><tuv xml:lang="id"><seg>{}</seg></tuv></tu>\n'
PHRASE = (
    '<phrase><words><word><item type="txt" lang="id">{1}</item></word></words>'
    '<item type="gls" lang="en">{0}</item></phrase>\n'
)
LEXEME = (
    '<entry><lexical-unit><form lang="id"><text>{1}</text></form></lexical-unit><sense><gloss lang="en"><text>{0}'
    "</text></gloss></sense></entry>\n"
)
TRANSLATION = '<trans-unit id="{0}"><source>{0}</source><target>{1}</target></trans-unit>\n'  # ids must differ
MESSAGE = 'msgid "{}"\nmsgstr "{}"\n\n'
KIND = "application/vnd.oasis.opendocument.spreadsheet"
MANIFEST = (
    '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
    f'<m:file-entry m:full-path="/" m:media-type="{KIND}"/>'
    '<m:file-entry m:full-path="content.xml" m:media-type="text/xml"/></m:manifest>'
)
HEAD = (
    "| format | pairs | file, MB | filter | CPU µs a pair | memory to read, MB | with split, MB "
    "| µs to read a row |\n| --- | ---: | ---: | --- | ---: | ---: | ---: | ---: |"
)


def sentences(pairs: int) -> Iterator[tuple[str, str]]:
    """Pairs of sentences, each with the pair's number in it."""
    draw = random.Random(1)
    parts = [" ".join(draw.choices(WORDS, k=6)) for _ in range(100_000)]
    for number in range(pairs):
        one, two, three, four = draw.choices(parts, k=4)
        yield f"{one} {two} {number}.", f"{number} {three} {four}."


def write_moses(folder: Path, pairs: int) -> dict[str, Any]:
    """Two files, a sentence a line."""
    files = {"en": folder / "c.en", "id": folder / "c.id"}
    with files["en"].open("w") as english, files["id"].open("w") as indonesian:
        for one, other in sentences(pairs):
            english.write(one + "\n")
            indonesian.write(other + "\n")
    return {"files": {code: str(path) for code, path in files.items()}}


def write_vref(folder: Path, pairs: int) -> dict[str, Any]:
    """Two files, a verse a line, every tenth a range on one side."""
    files = {"en": folder / "c.en", "id": folder / "c.id"}
    with files["en"].open("w") as english, files["id"].open("w") as indonesian:
        for number, (one, other) in enumerate(sentences(pairs)):
            english.write(one + "\n")
            indonesian.write(("<range>" if number % 10 == 9 else other) + "\n")
    return {"files": {code: str(path) for code, path in files.items()}}


def write_toolbox(folder: Path, pairs: int) -> dict[str, Any]:
    """Records with a reference, a text and a free translation."""
    path = folder / "c.txt"
    with path.open("w") as file:
        file.write("\\_sh v3.0  400  Text\n")
        for number, (one, other) in enumerate(sentences(pairs)):
            file.write(f"\\ref T.{number}\n\\tx {other}\n\\ft {one}\n\n")
    return {"path": str(path), "markers": {"en": "ft", "id": "tx"}}


def write_tatoeba(folder: Path, pairs: int) -> dict[str, Any]:
    """Sentences, and links in both directions."""
    paths = {"sentences": folder / "sentences.csv", "links": folder / "links.csv"}
    with paths["sentences"].open("w") as texts, paths["links"].open("w") as links:
        for number, (one, other) in enumerate(sentences(pairs)):
            texts.write(f"{2 * number}\teng\t{one}\n{2 * number + 1}\tind\t{other}\n")
            links.write(f"{2 * number}\t{2 * number + 1}\n{2 * number + 1}\t{2 * number}\n")
    return {name: str(path) for name, path in paths.items()}


def write_scripture(head: str, chapter: str, verse: str, foot: str, ending: str) -> Any:
    """A function that writes two translations of one book, a hundred verses a chapter."""

    def write(folder: Path, pairs: int) -> dict[str, Any]:
        files = {"en": folder / f"c.en.{ending}", "id": folder / f"c.id.{ending}"}
        with files["en"].open("w") as english, files["id"].open("w") as indonesian:
            sides = english, indonesian
            for file in sides:
                file.write(head)
            for number, pair in enumerate(sentences(pairs)):
                for file, text in zip(sides, pair, strict=True):
                    if number % 100 == 0:
                        file.write(chapter.format(number // 100 + 1))
                    file.write(verse.format(number % 100 + 1, text))
            for file in sides:
                file.write(foot)
        return {"files": {code: str(path) for code, path in files.items()}}

    return write


def write_subtitles(head: str, line: str, stamp: str, ending: str) -> Any:
    """A function that writes two files of subtitles, two seconds each; the times are filled into `stamp`."""

    def at(seconds: int) -> str:
        return stamp.format(seconds // 3600, seconds // 60 % 60, seconds % 60)

    def write(folder: Path, pairs: int) -> dict[str, Any]:
        files = {"en": folder / f"c.en.{ending}", "id": folder / f"c.id.{ending}"}
        with files["en"].open("w") as english, files["id"].open("w") as indonesian:
            sides = english, indonesian
            for file in sides:
                file.write(head)
            for number, pair in enumerate(sentences(pairs)):
                for file, text in zip(sides, pair, strict=True):
                    file.write(line.format(number + 1, at(2 * number), at(2 * number + 1), text))
        return {"files": {code: str(path) for code, path in files.items()}}

    return write


def write_eaf(folder: Path, pairs: int) -> dict[str, Any]:
    """A recording with a tier of text and one of translations under it."""
    path = folder / "c.eaf"
    with path.open("w") as file:
        file.write("<ANNOTATION_DOCUMENT><TIME_ORDER>")
        for number in range(2 * pairs):
            file.write(f'<TIME_SLOT TIME_SLOT_ID="t{number}" TIME_VALUE="{1000 * number}"/>')
        file.write('</TIME_ORDER><TIER TIER_ID="tx@A" LINGUISTIC_TYPE_REF="text">')
        for number, (_, other) in enumerate(sentences(pairs)):
            file.write(
                f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a{number}" TIME_SLOT_REF1="t{2 * number}" '
                f'TIME_SLOT_REF2="t{2 * number + 1}"><ANNOTATION_VALUE>{other}</ANNOTATION_VALUE>'
                "</ALIGNABLE_ANNOTATION></ANNOTATION>\n"
            )
        file.write('</TIER><TIER TIER_ID="ft@A" PARENT_REF="tx@A" LINGUISTIC_TYPE_REF="translation">')
        for number, (one, _) in enumerate(sentences(pairs)):
            file.write(
                f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="b{number}" ANNOTATION_REF="a{number}">'
                f"<ANNOTATION_VALUE>{one}</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>\n"
            )
        file.write("</TIER></ANNOTATION_DOCUMENT>")
    return {"path": str(path), "tiers": {"en": "ft@*", "id": "tx@*"}}


def write_po(folder: Path, pairs: int) -> dict[str, Any]:
    """Messages in English with their translations."""
    write = writer("po", 'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\n', MESSAGE.format)
    return {"files": {"id": write(folder, pairs)["path"]}, "source": "en"}


def write_opus(folder: Path, pairs: int) -> dict[str, Any]:
    """An archive of two files, a sentence a line."""
    files = write_moses(folder, pairs)["files"]
    with zipfile.ZipFile(folder / "en-id.txt.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for code, path in files.items():
            archive.write(path, f"made-up.en-id.{code}")
            Path(path).unlink()
    return {"path": str(folder / "en-id.txt.zip")}


def write_ods(folder: Path, pairs: int) -> dict[str, Any]:
    """A sheet of an OpenDocument file."""
    row = "".join(
        f'<table:table-cell office:value-type="string"><text:p>{{{n}}}</text:p></table:table-cell>' for n in (0, 1)
    )
    row = f"<table:table-row>{row}</table:table-row>\n"
    spaces = "".join(
        f' xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in ("office", "table", "text")
    )
    with zipfile.ZipFile(folder / "c.ods", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", KIND, zipfile.ZIP_STORED)
        archive.writestr("META-INF/manifest.xml", MANIFEST)
        with archive.open("content.xml", "w") as file:
            file.write(f"<office:document-content{spaces}><office:body><office:spreadsheet>".encode())
            file.write(b'<table:table table:name="Pairs">' + row.format("en", "id").encode())
            for pair in sentences(min(pairs, 1_000_000)):
                file.write(row.format(*pair).encode())
            file.write(b"</table:table></office:spreadsheet></office:body></office:document-content>")
    return {"path": str(folder / "c.ods")}


def write_xlsx(folder: Path, pairs: int) -> dict[str, Any]:
    """A workbook; a sheet has at most 1 048 576 rows."""
    from openpyxl import Workbook

    book = Workbook(write_only=True)
    sheet = book.create_sheet()
    sheet.append(["en", "id"])
    for pair in sentences(min(pairs, 1_000_000)):
        sheet.append(pair)
    book.save(folder / "c.xlsx")
    return {"path": str(folder / "c.xlsx")}


def writer(ending: str, head: str, line: Callable[[str, str], str], foot: str = "") -> Any:
    """A function that writes a file of one record a line."""

    def write(folder: Path, pairs: int) -> dict[str, Any]:
        path = folder / f"c.{ending}"
        with path.open("w") as file:
            file.write(head)
            file.writelines(line(one, other) for one, other in sentences(pairs))
            file.write(foot)
        return {"path": str(path)}

    return write


def write_parquet(folder: Path, pairs: int) -> dict[str, Any]:
    """A file in groups of rows."""
    import pyarrow as pa
    from pyarrow import parquet

    path = folder / "c.parquet"
    schema = pa.schema([("en", pa.string()), ("id", pa.string())])
    with parquet.ParquetWriter(path, schema) as file:
        batch: list[dict[str, str]] = []
        for number, (one, other) in enumerate(sentences(pairs), start=1):
            batch.append({"en": one, "id": other})
            if len(batch) == 50_000 or number == pairs:
                file.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
    return {"path": str(path)}


WRITERS: dict[str, Callable[[Path, int], dict[str, Any]]] = {
    "moses": write_moses,
    "tsv": writer("tsv", "en\tid\n", lambda one, other: f"{one}\t{other}\n"),
    "csv": writer("csv", "en,id\n", lambda one, other: f'"{one}","{other}"\n'),
    "jsonl": writer("jsonl", "", lambda one, other: json.dumps({"en": one, "id": other}) + "\n"),
    "parquet": write_parquet,
    "vref": write_vref,
    "flextext": writer(
        "flextext",
        "<document><interlinear-text><paragraphs><paragraph><phrases>",
        PHRASE.format,
        "</phrases></paragraph></paragraphs></interlinear-text></document>",
    ),
    "lift": writer("lift", '<lift version="0.13">', LEXEME.format, "</lift>"),
    "toolbox": write_toolbox,
    "tatoeba": write_tatoeba,
    "xlsx": write_xlsx,
    "tmx": writer("tmx", "<tmx><body>", UNIT.format, "</body></tmx>"),
    "xliff": writer(
        "xlf",
        '<xliff version="1.2"><file source-language="en" target-language="id" datatype="plaintext"><body>',
        TRANSLATION.format,
        "</body></file></xliff>",
    ),
    "opus": write_opus,
    "ods": write_ods,
    "po": write_po,
    "usfm": write_scripture("\\id GEN\n", "\\c {}\n\\p\n", "\\v {} {}\n", "", "sfm"),
    "usx": write_scripture(
        '<usx version="3.0"><book code="GEN" style="id"/>',
        '<chapter number="{}" style="c"/>',
        '<para style="p"><verse number="{}" style="v"/>{}</para>\n',
        "</usx>",
        "usx",
    ),
    "srt": write_subtitles("", "{}\n{} --> {}\n{}\n\n", "{:02}:{:02}:{:02},000", "srt"),
    "vtt": write_subtitles("WEBVTT\n\n", "{}\n{} --> {}\n{}\n\n", "{:02}:{:02}:{:02}.000", "vtt"),
    "ass": write_subtitles(
        "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\nStyle: Default\n\n[Events]\n"
        "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n",
        "Dialogue: 0,{1},{2},Default,,0,0,0,,{3}\n",
        "{}:{:02}:{:02}.00",
        "ass",
    ),
    "eaf": write_eaf,
}
WHOLE = ("xlsx", "ods", "po", "usfm", "usx", "srt", "vtt", "ass", "eaf")  # formats of files that are never large


def read(entry: dict[str, Any], preset: str) -> dict[str, float]:
    """Reads a corpus in this process, and says what that took."""
    from instructalign.config import FilterConfig
    from instructalign.data import read_corpora

    def peak() -> float:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

    start = time.process_time()
    corpus = read_corpora([entry], ["eng", "ind"], FilterConfig.model_validate({"preset": preset}))
    seconds, memory = time.process_time() - start, peak()
    train, _ = corpus.split(min(1000, len(corpus) // 10), 1)
    draw = random.Random(2)
    places = [draw.randrange(len(train)) for _ in range(100_000)]
    start = time.process_time()
    for place in places:
        train[place]
    access = (time.process_time() - start) / len(places)
    return {"seconds": seconds, "memory": memory, "all": peak(), "access": access * 1e6, "rows": len(corpus)}


def measure(format: str, pairs: int, preset: str, folder: Path) -> str:
    """One line of the table."""
    options = WRITERS[format](folder, pairs)
    size = sum(path.stat().st_size for path in folder.iterdir())
    entry = json.dumps({"format": format, **options})
    command = [sys.executable, __file__, "--entry", entry, "--preset", preset]
    found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    for path in folder.iterdir():
        path.unlink()
    if preset == "none" and found["rows"] != (pairs - pairs // 10 if format == "vref" else pairs):
        raise SystemExit(f"{format}: {pairs} pairs were written, and {found['rows']} read.")
    return (
        f"| {format} | {pairs:,} | {size / 1e6:,.0f} | {preset} | {found['seconds'] / pairs * 1e6:.1f} "
        f"| **{found['memory']:.0f}** | {found['all']:.0f} | {found['access']:.1f} |"
    )


def main() -> None:
    """Measures, and writes the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=10_000_000, help="pairs of the largest corpus")
    parser.add_argument("--only", nargs="*", choices=WRITERS, default=list(WRITERS), help="these formats")
    parser.add_argument("--out", type=Path, help="Markdown file for the result; printed otherwise")
    parser.add_argument("--entry", help=argparse.SUPPRESS)
    parser.add_argument("--preset", default="none", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.entry:
        print(json.dumps(read(json.loads(given.entry), given.preset)))
        return
    about = describe("pyarrow", "numpy")
    most = given.pairs
    turns = [(format, pairs, "none") for format in ("moses", "tmx") for pairs in (most // 1000, most // 10, most)]
    turns += [
        (format, most // (200 if format in WHOLE else 10), "none")
        for format in WRITERS
        if format not in ("moses", "tmx")
    ]
    turns += [("moses", most, "basic"), ("moses", most // 100, "standard"), ("moses", most // 100, "strict")]
    lines = [HEAD]
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as folder:
        for turn in turns:
            if turn[0] in given.only:
                lines.append(measure(*turn, Path(folder)))
                print(lines[-1], file=sys.stderr)
    parts = [
        "# Reading corpora: speed and memory",
        f"Made by `python benchmarks/read.py {' '.join(sys.argv[1:])}` on {about}.",
        " ".join((__doc__ or "").split("\n\n", 2)[2].split()),
        "\n".join(lines),
    ]
    put(parts, given.out)


if __name__ == "__main__":
    main()
