"""Files to translate: their segments, and the same file with translations in their place.

Everything else in a file stays as it is: times, markers, styles, formulas, comments, line ends.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from html import escape, unescape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from instructalign.data.formats.gettext_po import parse_po
from instructalign.data.readers import EXCEL_HINT, SAMPLE, likely_delimiter, read_delimited
from instructalign.errors import DataError, first_line, suggest
from instructalign.files import ZIP_ERRORS, check_file, read_lines
from instructalign.languages import canonical, english_name

_MAX_UNPACKED = 1 << 30  # bytes of a .docx

Render = Callable[[Sequence[str], Sequence[bool]], bytes]
"""Makes the file's content from the segments' translations, and which of them a person must look at."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A text that is translated: a line, a cell, a message, a subtitle, a part of a verse, a paragraph.

    Attributes:
        place: where it is, for the reviewer: `line 3`, `B12`, `GEN 1:3`.
        text: without white space around it.
        finish: puts back what belongs around a translation: marks of lists, tags, line breaks.
        note: what the translation has lost whatever the model writes, such as markup inside the text.
    """

    place: str
    text: str
    finish: Callable[[str], str] = str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Document:
    """A file's segments, how it is written with their translations, and what is left as it was, in words."""

    segments: list[Segment]
    render: Render
    kept: list[str] = field(default_factory=list)


def open_document(path: Path, source: str, target: str, column: str | None, sheet: str | None) -> Document:
    """Reads a file that is to be translated.

    Args:
        path: .txt or .md, .csv or .tsv, .xlsx or .xlsm, .po or .pot, .srt or .vtt, .sfm or .usfm, .docx.
        source, target: codes of the languages.
        column: of a table, the column to translate: its name, or its number from 1; by default the one that is
            named like the source language. Translations go to the one named like the target language, at the end
            if there is none; cells that have text there stay.
        sheet: of a workbook, the sheet; by default the first.

    Raises:
        DataError: it cannot be read, is of another kind, or has no such column or sheet.
    """
    check_file(path)
    kind = path.suffix.lower()
    if kind not in _KINDS:
        raise DataError(f"{path}: files of this kind cannot be translated. Available: {', '.join(_KINDS)}.")
    if column is not None and _KINDS[kind] not in (_table, _workbook):
        raise DataError(f"{path}: --column is for tables: .csv, .tsv, .xlsx, .xlsm.")
    if sheet is not None and _KINDS[kind] is not _workbook:
        raise DataError(f"{path}: --sheet is for workbooks: .xlsx, .xlsm.")
    return _KINDS[kind](path, source, target, column, sheet)


# -- text with pieces that are translated --------------------------------------------------------------------

_AROUND = re.compile(r"(\s*)(.*?)(\s*)\Z", re.DOTALL)


class _Pieces:
    """A text in pieces, some of which are segments."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._spots: list[int] = []
        self.segments: list[Segment] = []

    def keep(self, text: str) -> None:
        self._pieces.append(text)

    def translate(self, place: str, text: str, finish: Callable[[str], str] = str, note: str = "") -> None:
        """Adds a text to translate; white space around it, and text without a letter, stay as they are."""
        before, inside, after = _AROUND.match(text).groups()  # type: ignore[union-attr]  # it matches always
        if not any(map(str.isalpha, inside)):
            self.keep(text)
            return
        self.segments.append(Segment(place, inside, lambda made: f"{before}{finish(made)}{after}", note))
        self._spots.append(len(self._pieces))
        self._pieces.append("")

    def render(self, made: Sequence[str]) -> str:
        pieces = list(self._pieces)
        for spot, segment, text in zip(self._spots, self.segments, made, strict=True):
            pieces[spot] = segment.finish(text)
        return "".join(pieces)


def _lines_of(path: Path) -> tuple[list[str], Callable[[str], bytes]]:
    """The lines of a text file, and what makes bytes of their text: its byte-order mark and line ends."""
    lines = [line for _, line in read_lines(path)]
    data = path.read_bytes()
    mark = codecs.BOM_UTF8 if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else b""
    mark = codecs.BOM_UTF8 if data.startswith(codecs.BOM_UTF8) else mark
    end = "\r\n" if b"\r\n" in data or b"\r\0\n\0" in data else "\n"
    last = end if data.rstrip(b"\0").endswith(b"\n") else ""

    def encode(text: str) -> bytes:
        return mark + (text.removesuffix("\n").replace("\n", end) + last).encode()

    return lines, encode


def _of_pieces(pieces: _Pieces, encode: Callable[[str], bytes], kept: Sequence[str] = ()) -> Document:
    return Document(pieces.segments, lambda made, _: encode(pieces.render(made)), list(kept))


_LIST_MARK = re.compile(r"\s*(?:(?:[-*+>]|#{1,6}|\d{1,3}[.)])\s+)*")


def _text(path: Path, *_: Any) -> Document:
    """Plain text and Markdown, line by line; marks of lists, headings and quotations stay."""
    lines, encode = _lines_of(path)
    pieces, fenced = _Pieces(), False
    for number, line in enumerate(lines, start=1):
        fence = path.suffix.lower() == ".md" and line.lstrip().startswith("```")
        fenced ^= fence
        if fence or fenced:
            pieces.keep(f"{line}\n")
            continue
        mark = _LIST_MARK.match(line)[0]  # type: ignore[index]  # it matches always
        pieces.keep(mark)
        pieces.translate(f"line {number}", line[len(mark) :])
        pieces.keep("\n")
    return _of_pieces(pieces, encode)


_TIMES = re.compile(r"\s*(?:\d+:)?\d+:\d\d[.,]\d+\s*-->")
_TAG = re.compile(r"</?[A-Za-z\d][^<>]{0,200}>|\{\\[^{}]{0,200}\}")
_TAGS_BEFORE, _TAGS_AFTER = re.compile(rf"(?:{_TAG.pattern}|\s)*"), re.compile(rf"(?:{_TAG.pattern}|\s)*\Z")
_SPEAKER = re.compile(r"\s*[-–—]\s*")


def _subtitles(path: Path, *_: Any) -> Document:
    """SubRip and WebVTT: a subtitle is a segment, whose translation has as many lines; speakers are kept apart."""
    lines, encode = _lines_of(path)
    pieces, number = _Pieces(), 0
    while number < len(lines):
        pieces.keep(f"{lines[number]}\n")
        number += 1
        if not _TIMES.match(lines[number - 1]):
            continue
        end = next((n for n in range(number, len(lines)) if not lines[n].strip()), len(lines))
        cue, place = lines[number:end], lines[number - 1].split("-->")[0].strip()
        speakers = len(cue) > 1 and all(_SPEAKER.match(_TAG.sub("", line)) for line in cue)
        for part in [[line] for line in cue] if speakers else [cue] if cue else []:
            _subtitle(pieces, place, part)
        number = end
    if not any(map(_TIMES.match, lines)):
        raise DataError(f"{path}: no subtitle was found; is this SubRip or WebVTT?")
    return _of_pieces(pieces, encode)


def _subtitle(pieces: _Pieces, place: str, lines: Sequence[str]) -> None:
    text = " ".join(line.strip() for line in lines)
    before = _TAGS_BEFORE.match(text)[0]  # type: ignore[index]  # it matches always
    after = _TAGS_AFTER.search(text, len(before))[0]  # type: ignore[index]
    inside = text[len(before) : len(text) - len(after)]
    speaker = _SPEAKER.match(inside)
    mark = speaker[0] if speaker else ""
    plain = _TAG.sub("", inside[len(mark) :])
    note = "" if plain == inside[len(mark) :] else "tags inside the text left out"
    pieces.keep(f"{before}{mark}")
    pieces.translate(place, plain, lambda made: _broken(made, len(lines)), note)
    pieces.keep(f"{after}\n")


def _broken(text: str, lines: int) -> str:
    """A text on at most `lines` lines of about the same length."""
    words, made = text.split(), [""]
    for word in words:
        if made[-1] and len(made) < lines and len(made[-1]) + len(word) / 2 > len(text) / lines:
            made.append("")
        made[-1] += f"{' ' if made[-1] else ''}{word}"
    return "\n".join(made)


# USFM 3.1: markers whose line is no text, notes and figures, and those that begin a verse.
_USFM = re.compile(
    r"\\(?P<line>id|ide|usfm|sts|rem|toca?[123]|restore|lit)\b[^\n]*"
    r"|\\(?P<note>f|fe|ef|efe|x|ex|fig|va|vp|ca|rq|cat|jmp|pro)[ \n].*?\\(?P=note)\*"
    r"|\\c\s+(?P<chapter>\d+)|\\v\s+(?P<verse>\S+)|\\cp\s+\S+|\\(?P<stone>[\w-]+-[se])\b[^\\\n]*\\\*"
    r"|\\\+?(?P<end>[a-z]+\d?)\*|\\\+?(?P<name>[a-z]+\d?)(?=[\s\\]|$)",
    re.DOTALL | re.MULTILINE,
)


_LINE_ENDS = re.compile(r"(?<=\S)\s*\n\s*(?=\S)")


def _scripture(path: Path, *_: Any) -> Document:
    """USFM: the text between two markers of paragraphs or verses is a segment; notes stay untranslated."""
    lines, encode = _lines_of(path)
    content = "\n".join(lines)
    if "\\id " not in content and "\\v " not in content:
        raise DataError(f"{path}: neither \\id nor \\v was found; is this USFM?")
    characters = set(re.findall(r"\\\+?([a-z]+\d?)\*", content))  # what is closed is no paragraph
    pieces, book, chapter, verse = _Pieces(), "", "", ""
    text, notes, marked, counted, at = "", "", False, 0, 0

    def flush() -> None:
        nonlocal text, notes, marked
        place = f"{book} {chapter}:{verse}" if verse else f"{book} {chapter}".strip()
        bare = text.rstrip()  # a note stands behind the words, before the line's end
        pieces.translate(
            place, _LINE_ENDS.sub(" ", bare), note="markers inside the text left out" if marked else ""
        )
        pieces.keep(notes + text[len(bare) :])
        text, notes, marked = "", "", False

    for match in _USFM.finditer(content):
        piece = content[at : match.start()]
        at = match.end()
        inside = marked and "|" in piece
        text += piece.partition("|")[0] if inside else piece
        if match["note"]:
            notes, counted = notes + match[0], counted + 1
        elif match["end"] or match["name"] in characters:
            marked = True
            at += bool(match["name"]) and content[at : at + 1] == " "
        else:
            flush()
            if match["line"] == "id":
                book, chapter, verse = match[0].split()[1] if len(match[0].split()) > 1 else "", "", ""
            chapter, verse = (match["chapter"], "") if match["chapter"] else (chapter, match["verse"] or verse)
            pieces.keep(match[0])
    text += f"{content[at:]}\n"
    flush()
    return _of_pieces(pieces, encode, [f"{counted} notes left in the source language"] if counted else [])


# -- tables ---------------------------------------------------------------------------------------------------


def _table(path: Path, source: str, target: str, column: str | None, _: Any) -> Document:
    """CSV and TSV: the delimiter, the byte-order mark and the line ends stay, quotation marks where needed."""
    tabs = path.suffix.lower() == ".tsv"  # where quotation marks are text
    lines, encode = _lines_of(path)
    hint = EXCEL_HINT.fullmatch(lines[0]) if lines else None  # a line that the reader skips
    delimiter = "\t" if tabs else hint[1] if hint else likely_delimiter(lines[:SAMPLE]) or ","
    rows = [fields for _, fields in read_delimited(path, delimiter, not tabs)]
    if not rows:
        raise DataError(f"{path}: the file is empty; expected the names of the columns.")
    used = _columns(rows[0], source, target, column, str(path))
    segments, spots, filled = [], [], 0
    for number, row in enumerate(rows[1:], start=2):
        if not row:  # an empty line
            continue
        row += [""] * (used.into + 1 - len(row))
        filled += bool(row[used.into].strip())
        if row[used.of].strip() and not row[used.into].strip():
            segments.append(Segment(f"row {number}", row[used.of].strip()))
            spots.append(number - 1)

    def render(made: Sequence[str], _: Sequence[bool]) -> bytes:
        full = [list(row) for row in rows]
        full[0] += [""] * (used.into + 1 - len(full[0]))
        full[0][used.into] = used.title
        for spot, text in zip(spots, made, strict=True):
            full[spot][used.into] = text
        buffer = io.StringIO()
        buffer.write(f"{hint[0]}\n" if hint else "")
        plain: dict[str, Any] = {"quoting": csv.QUOTE_NONE, "quotechar": None} if tabs else {}
        csv.writer(buffer, delimiter=delimiter, lineterminator="\n", **plain).writerows(full)
        return encode(buffer.getvalue())

    return Document(segments, render, _filled(filled))


@dataclass(frozen=True, slots=True)
class _Columns:
    """Places of the column to translate and of that for the translations, from 0, and the latter's name."""

    of: int
    into: int
    title: str


def _columns(head: Sequence[str], source: str, target: str, column: str | None, where: str) -> _Columns:
    names = [name.strip() for name in head]
    codes = [_code_of(name) for name in names]
    if column is None:
        if codes.count(source) != 1:
            found = f"{codes.count(source) or 'no'} columns named like {english_name(source)} ({source})"
            example = next(filter(None, names), "1")
            raise DataError(
                f"{where}: {found}. Name the one to translate, for example --column {example!r}. "
                f"Columns: {', '.join(names)}."
            )
        of = codes.index(source)
    elif column in names:
        of = names.index(column)
    elif column.isdecimal() and 1 <= int(column) <= len(names):
        of = int(column) - 1
    else:
        raise DataError(f"{where}: no column {column!r} (--column). {suggest(column, names)}")
    if target in codes and codes.index(target) != of:
        return _Columns(of, codes.index(target), names[codes.index(target)])
    return _Columns(of, len(names), target if names[of].lower() == codes[of] else english_name(target))


def _code_of(name: str) -> str:
    try:
        return canonical(name) if name else ""
    except DataError:
        return ""


def _filled(count: int) -> list[str]:
    return [f"{count} cells that had a translation already"] if count else []


def _workbook(path: Path, source: str, target: str, column: str | None, sheet: str | None) -> Document:
    """Excel's workbooks: styles, formulas, comments and other sheets stay."""
    if find_spec("openpyxl") is None:
        raise DataError(f"{path}: writing workbooks needs openpyxl: pip install 'instructalign[xlsx]'")
    import openpyxl

    try:
        book = openpyxl.load_workbook(path, keep_vba=path.suffix.lower() == ".xlsm", rich_text=True)
    except Exception as error:  # zipfile's, its own, XML's
        raise DataError(f"{path}: not a workbook that can be read ({first_line(error)}).") from None
    if sheet is not None and sheet not in book.sheetnames:
        raise DataError(f"{path}: no sheet {sheet!r} (--sheet). {suggest(sheet, book.sheetnames)}")
    cells = book[sheet or book.sheetnames[0]]
    where = f"{path}, sheet {cells.title!r}"
    rows: list[Any] = [list(row) for row in cells.iter_rows()]
    wanted: set[str] = {column} if column else set()
    head: list[Any] = next(
        (
            row
            for row in rows[:50]
            if any(
                str(cell.value or "").strip() in wanted or _code_of(str(cell.value or "")) == source
                for cell in row
            )
        ),
        next((row for row in rows if any(cell.value for cell in row)), []),
    )
    if not head:
        raise DataError(f"{where} has no cells.")
    used = _columns([str(cell.value or "") for cell in head], source, target, column, where)
    segments, targets, filled, formulas = [], [], 0, 0
    for row in rows[rows.index(head) + 1 :]:
        there = cells.cell(row[0].row, row[0].column + used.into)
        text = row[used.of].value
        filled += there.value is not None
        formulas += row[used.of].data_type == "f"
        free = there.value is None and type(there).__name__ != "MergedCell"  # which is a part of another
        if free and row[used.of].data_type in ("s", "inlineStr") and str(text).strip():
            segments.append(Segment(row[used.of].coordinate, str(text).strip()))
            targets.append(there)

    def render(made: Sequence[str], _: Sequence[bool]) -> bytes:
        cells.cell(head[0].row, head[0].column + used.into).value = used.title
        for cell, text in zip(targets, made, strict=True):
            cell.value = text
            if cell.data_type == "f":  # a text that begins with = is no formula
                cell.data_type = "s"
        buffer = io.BytesIO()
        book.save(buffer)
        return buffer.getvalue()

    return Document(segments, render, _filled(filled) + ([f"{formulas} formulas"] if formulas else []))


# -- messages and paragraphs ---------------------------------------------------------------------------------


def _messages(path: Path, source: str, target: str, *_: Any) -> Document:
    """gettext's PO: untranslated messages are filled in; what a person must look at is marked as fuzzy."""
    po, encode = parse_po(path), _lines_of(path)[1]
    segments: list[Segment] = []
    fills: list[tuple[Any, list[int] | None]] = []  # the message, and which of its plural forms
    done = fuzzy = 0
    for entry in po:
        if entry.obsolete or entry.fuzzy or entry.translated():
            done, fuzzy = done + entry.translated(), fuzzy + entry.fuzzy
            continue
        forms = sorted(entry.msgstr_plural)
        parts: list[tuple[str, list[int] | None]] = [(entry.msgid, None)]
        if entry.msgid_plural:
            parts = [(entry.msgid, forms[:1])] if len(forms) > 1 else []
            parts.append((entry.msgid_plural, forms[len(parts) :]))
        for text, some in parts:
            piece = _Pieces()
            piece.translate(f"line {entry.linenum}", text)
            segments += piece.segments
            fills += [(entry, some)] * len(piece.segments)

    def render(made: Sequence[str], doubtful: Sequence[bool]) -> bytes:
        for (entry, some), segment, text, doubt in zip(fills, segments, made, doubtful, strict=True):
            if some is None:
                entry.msgstr = segment.finish(text)
            else:
                entry.msgstr_plural.update(dict.fromkeys(some, segment.finish(text)))
            if doubt and not entry.fuzzy:
                entry.flags.append("fuzzy")
        po.metadata["Language"] = po.metadata.get("Language") or target
        return encode(str(po))

    kept = [f"{done} messages that were translated already"] if done else []
    return Document(segments, render, kept + ([f"{fuzzy} fuzzy messages"] if fuzzy else []))


_DOCX_TEXT = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes)\.xml")
_DOCX = re.compile(
    r"<w:t(?:\s[^>]*)?>(?P<text>[^<]*)</w:t>|(?P<style><w:rPr>.*?</w:rPr>|<w:r(?:\s[^>]*)?>)"
    r"|(?P<border><w:p[ >]|</w:p>|<w:tab/>|<w:br[ />]|<w:instrText)",
    re.DOTALL,
)


def _word(path: Path, *_: Any) -> Document:
    """Word's .docx: a paragraph is a segment, up to tabs and line breaks; its first words' style is its style."""
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MAX_UNPACKED:
                raise DataError(f"{path}: unpacks to more than {_MAX_UNPACKED >> 30} GiB.")
            members = [(member, archive.read(member)) for member in archive.infolist()]
    except ZIP_ERRORS as error:
        raise DataError(f"{path}: not a .docx that can be read ({first_line(error)}).") from None
    if "word/document.xml" not in [member.filename for member, _ in members]:
        raise DataError(f"{path}: no word/document.xml in it: not a .docx. Save it as .docx again.")
    texts = {member.filename: _Pieces() for member, _ in members if _DOCX_TEXT.fullmatch(member.filename)}
    for member, data in members:
        if member.filename in texts:
            _paragraphs(texts[member.filename], data.decode("utf-8-sig"), Path(member.filename).stem)
    segments = [segment for pieces in texts.values() for segment in pieces.segments]

    def render(made: Sequence[str], _: Sequence[bool]) -> bytes:
        rest: Iterator[str] = iter(made)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for member, data in members:
                pieces = texts.get(member.filename)
                if pieces:
                    data = pieces.render([escape(next(rest), quote=False) for _ in pieces.segments]).encode()
                archive.writestr(member, data, member.compress_type)
        return buffer.getvalue()

    return Document(segments, render)


def _paragraphs(pieces: _Pieces, xml: str, name: str) -> None:
    """The texts of a part of a .docx, each in the first of its runs."""
    paragraph, at, style = 0, 0, ""
    runs: list[re.Match[str]] = []
    styles: set[str] = set()

    def flush() -> None:
        nonlocal at, runs, styles
        text = unescape("".join(run["text"] for run in runs))
        for number, run in enumerate(runs if any(map(str.isalpha, text)) else ()):
            pieces.keep(f'{xml[at : run.start()]}<w:t xml:space="preserve">')
            if number == 0:
                note = "one style for the whole paragraph" if len(styles) > 1 else ""
                pieces.translate(f"{name}, paragraph {paragraph}", text, note=note)
            pieces.keep("</w:t>")
            at = run.end()
        runs, styles = [], set()

    for match in _DOCX.finditer(xml):
        if match["text"] is not None:
            runs.append(match)
            styles.add(style)
        elif match["style"]:
            style = match["style"] if match["style"].startswith("<w:rPr>") else ""
        else:
            flush()
            paragraph += match["border"].startswith("<w:p")
    flush()
    pieces.keep(xml[at:])


_KINDS: dict[str, Callable[..., Document]] = {
    ".txt": _text,
    ".md": _text,
    ".csv": _table,
    ".tsv": _table,
    ".xlsx": _workbook,
    ".xlsm": _workbook,
    ".po": _messages,
    ".pot": _messages,
    ".srt": _subtitles,
    ".vtt": _subtitles,
    ".sfm": _scripture,
    ".usfm": _scripture,
    ".docx": _word,
}
