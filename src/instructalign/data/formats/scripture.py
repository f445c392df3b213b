"""Bible translations in USFM and USX, verse by verse, and as line-aligned files with verse references (vref).

USFM 3.1 (https://docs.usfm.bible) marks text with backslashes, USX 3.1 is the same in XML. What is read is the
text of verses: headings, introductions, footnotes, cross-references, figures and attributes are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from instructalign.data.formats import lines_side_by_side, make_row, select_languages
from instructalign.data.formats.xml_events import read_document, read_events
from instructalign.errors import DataError
from instructalign.files import hidden, read_lines
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow

# Character and note markers; every other marker starts a paragraph. USFM 3.1, "Characters" and "Notes".
_CHARACTERS = re.compile(
    r"add(pn)?|b[dk]|bdit|dc|em|efm|f[klmpqtvw]|fdc|fqa|ior|iqt|it|k|jmp|lik[1-3]?|li[tv]l|liv[1-5]?|nd|ndx|no|ord|png?|"
    r"qac|q[st]|rb|rt|sc|sig|sls|sup|tl|w[aghj]?|xdc|x[knqt]|xnt|xop|xot|xta"
)
_HIDDEN_CHARACTERS = re.compile(r"f|fe|efe?|ex?|x|fig|v[ap]|ca|pro|rq|cat|fr|xo")
"""Markers whose text, up to their end, is not the verse's."""
_HEADINGS = re.compile(
    r"(?:m?s[1-9]?|sd[1-9]?|m?r|d|sp|sr|c[lpd]|mte?[1-9]?|rem|sts|ide|usfm|h[1-3]?|toca?[1-3]|qa|lit|iex|id|"
    r"i(?:mte?[1-9]?|s[1-9]?|p|pi|m|mi|pq|mq|pr|q[1-9]?|b|li[1-9]?|ot|o[1-9]?|e)|restore)"
)
_CELL = re.compile(r"t[hc][cr]?\d+(-\d+)?")
_MARKER = re.compile(r"\\(\+?)([A-Za-z][A-Za-z0-9-]*)(\*?)|\\\*")
_SEGMENT = r"[A-Za-z]?[\u200b-\u200f]*"  # of a verse (3a), and marks of direction
_VERSE = re.compile(rf"(\d{{1,3}}){_SEGMENT}(?:\s*[-–,]\s*[\u200b-\u200f]*(\d{{1,3}}){_SEGMENT})*$")
_LATER_SEGMENT = re.compile(r"\d+[b-zB-Z]")
_ENDINGS = (".sfm", ".usfm", ".usx")
_VALUE = re.compile(r"\s*([^\s\\]*)")  # of a marker: a note may follow it without a space
_BOOK = re.compile(r"[A-Z0-9]{3}")

_Place = tuple[str, int]
"""A book and a chapter."""
_REFERENCE = re.compile(r"(\S+) (\d+):(\d+)\S*")


@dataclass(slots=True)
class _Verse:
    first: int
    last: int
    text: list[str] = field(default_factory=list)


class _Bible:
    """The verses of one translation by book and chapter; USFM and USX are both told to it piece by piece."""

    def __init__(self) -> None:
        self.chapters: dict[_Place, list[_Verse]] = {}
        self.dropped = Counter[str]()
        self._files: dict[_Place, Path] = {}
        self._place: _Place | None = None
        self._verse: _Verse | None = None
        self._book = ""
        self._heading = self._sidebar = False

    def start_book(self, code: str, path: Path, line: object = "") -> None:
        if not _BOOK.fullmatch(code.upper()):
            where = f"{path}:{line}" if line else str(path)
            raise DataError(f"{where}: {code!r} is not the three-letter code of a book, such as GEN.")
        self._book, self._place, self._verse = code.upper(), None, None

    def start_chapter(self, number: str, path: Path, line: object) -> None:
        if not self._book:
            raise DataError(f"{path}:{line}: a chapter before the book is named (\\id GEN).")
        if not re.fullmatch(r"\d{1,3}", number):
            raise DataError(f"{path}:{line}: expected the number of a chapter, found {number[:20]!r}.")
        self._place, self._verse = (self._book, int(number)), None
        if self._files.setdefault(self._place, path) != path:
            raise DataError(
                f"{self._book} {number} is in both {self._files[self._place]} and {path}. "
                "Keep one of the two files."
            )

    def start_verse(self, number: str, path: Path, line: object) -> None:
        match = _VERSE.match(number)
        if self._place is None or not match:
            problem = "a verse before its chapter" if match else f"expected a verse number, found {number[:20]!r}"
            raise DataError(f"{path}:{line}: {problem}.")
        first, last = int(match[1]), int(match[2] or match[1])
        self._heading = self._sidebar = False
        verses = self.chapters.setdefault(self._place, [])
        same = next((verse for verse in verses if verse.first <= last and first <= verse.last), None)
        if same is not None and _LATER_SEGMENT.search(number) and (first, last) == (same.first, same.last):
            self._verse = same  # 3b goes on with 3a
        elif same is not None and _LATER_SEGMENT.match(number) and same.last == first <= last:
            self._verse = same  # and with 2-3a; 3b-4 takes it further
            others = [verse.first for verse in verses if verse.first > first]
            same.last = max(first, min([last, *(other - 1 for other in others)]))
        elif same is not None or last < first:
            self.dropped["verse number repeated"] += 1
            self._verse = None
        elif "," in number and len(_numbers(number)) <= last - first:
            self.dropped["verses that do not follow one another"] += 1  # 1,3: 2 stands elsewhere
            self._verse = None
        else:
            self._verse = _Verse(first, last)
            verses.append(self._verse)
        self.add_text(" ")

    def end_verse(self) -> None:
        self._verse = None

    def start_paragraph(self, style: str) -> None:
        self._sidebar = style == "esb" or (self._sidebar and style != "esbe")
        self._heading = self._sidebar or style == "esbe" or bool(_HEADINGS.fullmatch(style))
        if style == "periph":  # an appendix
            self.end_verse()
        self.add_text(" ")

    def add_text(self, text: str) -> None:
        if self._verse is not None and not self._heading:
            self._verse.text.append(text)


def _numbers(verse: str) -> set[int]:
    """The numbers that a list of verses and ranges names: 1,3-4."""
    ranges = ([int(number) for number in re.findall(r"\d+", part)] for part in verse.split(","))
    return {number for each in ranges if each for number in range(each[0], each[-1] + 1)}


def read_scripture(
    languages: Sequence[str], counts: Counts, *, files: Mapping[LanguageCode, Path]
) -> Iterator[ParallelRow]:
    """Reads Bible translations in USFM or USX; a row is a verse, its id the reference, as in `GEN 1:3`.

    Where one translation joins verses that another has apart, they are one row (`GEN 1:3-4`). Verses are matched
    by their printed numbers; versifications are not converted. Headings, footnotes and markers are left out.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        files: for each language a file (.sfm, .usfm, .usx), or a folder of them, such as a Paratext project.

    Raises:
        DataError: a file is missing or not USFM or USX, or a chapter is in two files of a folder.

    Example:
        {format: usfm, files: {eng: bibles/ENG, heg: bibles/HEG}}
    """
    bibles: dict[str, _Bible] = {}
    for code, path in select_languages(languages, files, "scripture").items():
        bibles[code] = _read_bible(path)
        for reason, count in bibles[code].dropped.items():
            counts.read += count
            counts.drop(reason, count)
    places = {place: None for bible in bibles.values() for place in bible.chapters}
    for place in places:
        chapters = {code: bible.chapters.get(place, []) for code, bible in bibles.items()}
        for first, last, verses in _joined(chapters):
            numbers = {
                code: {number for verse in verses[code] for number in range(verse.first, verse.last + 1)}
                for code in verses
            }
            if any(each and each != set(range(first, last + 1)) for each in numbers.values()):
                counts.read += 1
                counts.drop("part of a verse range is missing")
                continue
            fields = [(code, " ".join("".join(v.text) for v in each)) for code, each in verses.items()]
            name = f"{place[0]} {place[1]}:{first}" + (f"-{last}" if last > first else "")
            if row := make_row(name, [(code, " ".join(text.split())) for code, text in fields], counts):
                yield row


def _joined(chapters: Mapping[str, Sequence[_Verse]]) -> Iterator[tuple[int, int, dict[str, list[_Verse]]]]:
    """The verses of a chapter in groups that cover the same numbers in every translation."""
    every = sorted(
        ((verse.first, verse.last, code, verse) for code, verses in chapters.items() for verse in verses),
        key=lambda item: item[:3],
    )
    group: dict[str, list[_Verse]] = {}
    first = last = 0
    for start, end, code, verse in every:
        if group and start > last:
            yield first, last, group
            group = {}
        if not group:
            group, first, last = {code: [] for code in chapters}, start, end
        group[code].append(verse)
        last = max(last, end)
    if group:
        yield first, last, group


def _read_bible(path: Path) -> _Bible:
    files = _books_in(path) if path.is_dir() else [path]
    bible = _Bible()
    for file in files:
        if ".usx" in [suffix.lower() for suffix in file.suffixes]:
            _read_usx(file, bible)
        else:
            _read_usfm(file, bible)
    if not bible.chapters:
        raise DataError(f"{path}: no verse (\\v) was found; is this USFM or USX?")
    return bible


def _books_in(folder: Path) -> list[Path]:
    """The files that a Paratext project's Settings.xml names, or else those with the usual endings, by name."""
    before = after = ""
    settings = folder / "Settings.xml"
    if settings.is_file():
        opened = ""
        for event in read_events(settings):
            opened = event.value if event.kind == "start" else opened if event.kind == "text" else ""
            if opened == "naming" and event.kind == "start":
                before, after = event.attributes.get("prepart", ""), event.attributes.get("postpart", "")
            elif opened in ("filenameprepart", "filenamepostpart") and event.kind == "text":  # Paratext 7
                before, after = (event.value, after) if "pre" in opened else (before, event.value)
    every = sorted(file for file in folder.iterdir() if file.is_file() and not hidden(file))
    named = [file for file in every if after and file.name.startswith(before) and file.name.endswith(after)]
    if books := named or [file for file in every if file.suffix.lower() in _ENDINGS]:
        return books
    wanted = ", ".join(
        [*([f"{before}*{after} (Settings.xml)"] if after else []), *(f"*{end}" for end in _ENDINGS)]
    )
    raise DataError(f"{folder} contains no {wanted} file. A single book can be given by its file.")


def _read_usfm(path: Path, bible: _Bible) -> None:
    hidden = ""  # the marker whose end is waited for
    inside = attributes = False  # a character marker; behind "|" within it
    for number, line in read_lines(path):
        at = 0
        if hidden and re.match(r"\s*\\(?:id|c|v|p|q\d?|m)\b", line):  # a note that was never closed
            raise DataError(f"{path}:{number}: \\{hidden} is not closed before this line; expected \\{hidden}*.")
        while at < len(line):
            match = _MARKER.search(line, at)
            text = line[at : match.start()] if match else line[at:]
            if not hidden and not attributes:
                text, bar, _ = text.partition("|") if inside else (text, "", "")
                bible.add_text(text.replace("~", " ").replace("//", " "))
                attributes = bool(bar)
            if match is None:
                break
            at = match.end()
            _, name, star = match.groups(default="")
            if star or not name:  # the end of a character marker or of a milestone
                inside = attributes = False
                hidden = "" if name in ("", hidden) else hidden
                continue
            if hidden or name == "ts" or name.endswith(("-s", "-e")):
                hidden = hidden or name
                continue
            following = _MARKER.search(line, at)
            if following and following[0] == "\\*":  # a milestone of somebody's own (\zpage|n="3"\*)
                at = following.end()
                continue
            inside = attributes = False
            if name in ("id", "c", "v"):
                value = _VALUE.match(line, at)[1]  # type: ignore[index]  # which matches always
                if name == "id":
                    bible.start_book(value, path, number)
                    at = len(line)
                    continue
                (bible.start_chapter if name == "c" else bible.start_verse)(value, path, number)
                at = line.index(value, at) + len(value)
            elif _HIDDEN_CHARACTERS.fullmatch(name):
                hidden = name
            elif _CELL.fullmatch(name):
                bible.add_text(" ")
            elif _CHARACTERS.fullmatch(name) or f"\\{name}*" in line:
                inside = True
            else:
                bible.start_paragraph(name)
            at += line[at : at + 1] == " "
        bible.add_text(" ")
    if hidden:
        raise DataError(f"{path}: ends within \\{hidden}; the file is truncated, or \\{hidden}* is missing.")


def _read_usx(path: Path, bible: _Bible) -> None:
    hidden = 0
    stack: list[bool] = []
    for event in read_document(path, "usx", "usfm"):
        name, attributes = event.value, event.attributes
        style = attributes.get("style", "")
        if event.kind == "text":
            if not hidden:
                bible.add_text(name)
        elif event.kind == "end":
            hidden -= stack.pop()
            if name in ("cell", "para"):
                bible.add_text(" ")
        else:
            stack.append(
                name in ("note", "figure", "sidebar", "periph") or bool(_HIDDEN_CHARACTERS.fullmatch(style))
            )
            hidden += stack[-1]
            if name == "book":
                bible.start_book(attributes.get("code", ""), path)
                bible.start_paragraph("id")
            elif name == "chapter" and "number" in attributes:
                bible.start_chapter(attributes["number"], path, event.line)
            elif name == "verse":
                if "number" in attributes:
                    bible.start_verse(attributes["number"], path, event.line)
                else:
                    bible.end_verse()
            elif name == "para":
                bible.start_paragraph(style or "p")
            elif name in ("row", "optbreak"):
                bible.add_text(" ")


def read_vref(
    languages: Sequence[str],
    counts: Counts,
    *,
    files: Mapping[LanguageCode, Path],
    vref: Path | None = None,
    ranges: Literal["join", "drop"] = "join",
) -> Iterator[ParallelRow]:
    """Reads line-aligned Bibles as eBible's corpus has them: one file a language, line i of each the same verse.

    A line `<range>` belongs to the verse before it: the translation has the two as one.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        files: the file of each language.
        vref: the file with the references, `vref.txt`; by default a row's id is its line number.
        ranges: join the other translations' verses as well, to one row; or drop such verses.

    Raises:
        DataError: a file is missing or not UTF-8, or the files differ in length.

    Example:
        {format: vref, vref: vref.txt, files: {eng: eng-engwebp.txt, heg: heg.txt}}
    """
    chosen = select_languages(languages, files, "vref")
    sides: dict[str, tuple[object, Iterator[tuple[int, str]]]] = {
        code: (path, read_lines(path)) for code, path in chosen.items()
    }
    if vref is not None:
        sides[""] = (vref, read_lines(vref))
    group: list[dict[str, str]] = []
    for number, texts in lines_side_by_side(sides):
        texts.setdefault("", str(number))
        if group and not any(texts[code].strip() == "<range>" for code in chosen):
            yield from _row_of_range(group, list(chosen), ranges, counts)
            group = []
        group.append(texts)
        if len(group) > 200:  # longer than the longest chapter
            raise DataError(
                f"{vref or 'vref'}:{number}: more than 200 lines in one <range>; the files are damaged."
            )
    if group:
        yield from _row_of_range(group, list(chosen), ranges, counts)


def _row_of_range(
    group: Sequence[Mapping[str, str]], languages: Iterable[str], ranges: str, counts: Counts
) -> Iterator[ParallelRow]:
    name = group[0][""].strip()
    fields = []
    partial = False
    for code in languages:
        lines = [texts[code].strip() for texts in group]
        partial |= (any(lines) and not all(lines)) or lines[0] == "<range>"
        fields.append((code, " ".join(line for line in lines if line not in ("", "<range>"))))
    if len(group) > 1:
        start, end = _REFERENCE.fullmatch(name), _REFERENCE.fullmatch(group[-1][""].strip())
        reason = "verse range" if ranges == "drop" else "part of a verse range is missing" if partial else ""
        if start and end and start[1] != end[1]:
            reason = "verse range over two books"
        if reason:
            counts.read += len(group)
            counts.drop(reason, len(group))
            return
        if start and end and start.groups()[:2] == end.groups()[:2]:
            name = f"{name}-{end[3]}"
    if row := make_row(name, fields, counts):
        yield row
