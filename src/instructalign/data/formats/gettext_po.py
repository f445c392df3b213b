"""Translated software strings: gettext's PO files, read through polib (https://polib.readthedocs.io)."""

from __future__ import annotations

import gettext
import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.data.formats import require_languages, rows_of_variants
from instructalign.errors import DataError, first_line
from instructalign.files import check_file, read_lines
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow

_PLURALS = re.compile(r"\s*nplurals\s*=\s*(\d{1,2})\s*;\s*plural\s*=([^;]{1,1000});?\s*")
_CREDITS = re.compile(
    r"translator[-_]credits|(your )?(names?|emails?) of (the )?translators?|your (names|emails)", re.I
)
_KDE_CONTEXT = re.compile(r"\A_: ([^\n]*)\n")  # before a message of KDE 3
_LINE = re.compile(
    r'\s*(?:#.*|(?:(?:domain|msgctxt|msgid|msgid_plural|msgstr(?:\[\d{1,2}\])?)\s*)?"(?:[^"\\]|\\.)*"\s*)?'
)


def read_po(
    languages: Sequence[str], counts: Counts, *, files: Mapping[LanguageCode, Path], source: LanguageCode = "eng"
) -> Iterator[ParallelRow]:
    """Reads PO files, also compiled ones (.mo); a row is a message in the source language and its translations.

    Fuzzy, obsolete and untranslated messages are left out, with a count. Where the source language has a file of
    its own, its texts are that file's, and the messages are only keys (`menu.open`). Of a plural, the singular
    goes with the form for one, and the plural with each of the others, by the file's `Plural-Forms`.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        files: the PO file of each language, in UTF-8; that of the source only where it has texts of its own.
        source: the language of the messages themselves (`msgid`).

    Raises:
        DataError: a file is missing, not UTF-8 or not PO.

    Example:
        {format: po, files: {jav: po/jv.po, sun: po/su.po}, source: eng}
    """
    require_languages(languages, {source, *files}, "po")
    if source in files and not any(_messages(files[source], Counts())):  # msginit's: the messages are the text
        files = {code: path for code, path in files.items() if code != source}
    rows: dict[tuple[str, str, bool], dict[str, list[str]]] = {}
    for code in [code for code in languages if code in files]:
        for key, texts in _messages(files[code], counts):
            row = rows.setdefault(key, {} if source in files else {source: [key[1]]})
            row.setdefault(code, []).extend(texts)
    for number, row in enumerate(rows.values(), start=1):
        yield from rows_of_variants(str(number), row, languages, counts)


def parse_po(path: Path) -> Any:
    """A PO file as a `polib.POFile`.

    Raises:
        DataError: the file is missing, not UTF-8 or not PO; the message names the line.
    """
    import polib

    try:
        content = str(polib.mofile(str(path))) if _is_compiled(path) else _content(path)
        # polib takes a text without line ends for the name of a file.
        return polib.pofile(content, check_for_duplicates=False)
    except (OSError, ValueError, IndexError, KeyError, AttributeError, UnicodeError, struct.error) as error:
        found = re.search(r"\(line (\d+)\)", str(error))
        raise DataError(
            f"{path}:{found[1] if found else 1}: not PO ({first_line(error).removeprefix(' ')}). "
            f"`msgfmt --check` explains what is wrong."
        ) from None


def _messages(path: Path, counts: Counts) -> Iterator[tuple[tuple[str, str, bool], list[str]]]:
    """The context, text and whether it is a plural of each message that is translated, and its translations."""
    messages = parse_po(path)
    count, form = _plural_rule(messages.metadata.get("Plural-Forms", ""), path)
    for message in messages:
        reason = "obsolete" if message.obsolete else "fuzzy" if message.fuzzy else ""
        if not reason and not message.translated():
            reason = "untranslated"
        if reason:
            counts.read += 1
            counts.drop(reason, row=str(message.linenum), fields=[message.msgid, message.msgstr])
            continue
        said = _KDE_CONTEXT.match(message.msgid)
        context = message.msgctxt or (said[1] if said else "")
        text, plural = _KDE_CONTEXT.sub("", message.msgid), message.msgid_plural
        if _CREDITS.fullmatch(text) or _CREDITS.fullmatch(context):
            counts.read += 1
            counts.drop("names of translators", row=str(message.linenum), fields=[message.msgid, message.msgstr])
            continue
        forms = {int(number): each for number, each in message.msgstr_plural.items()}
        if text.startswith("_n: ") and "\n" in text:  # KDE 3's plurals, a line each
            text, plural = text[4:].split("\n", 1)
            forms = dict(enumerate(message.msgstr.split("\n")))
        if not plural:
            yield (context, text, False), [_KDE_CONTEXT.sub("", message.msgstr)]
            continue
        one = form(1) if count > 1 else None
        if one in forms:
            yield (context, text, False), [forms[one]]
        if others := [each for number, each in sorted(forms.items()) if number != one]:
            yield (context, plural, True), others


def _is_compiled(path: Path) -> bool:
    """Whether a file is a compiled one (.mo); polib would believe its numbers, whatever they are."""
    check_file(path)
    with path.open("rb") as file:
        order = {b"\xde\x12\x04\x95": "<", b"\x95\x04\x12\xde": ">"}.get(file.read(4))
        data = file.read() if order else b""
    if order:
        try:
            count, *tables = struct.unpack_from(f"{order}3I", data, 4)
            places = [
                struct.unpack_from(f"{order}{2 * count}I", data, at - 4) for at in tables if 8 * count < len(data)
            ]
            whole = all(
                length + at <= len(data) + 4
                for each in places
                for length, at in zip(each[::2], each[1::2], strict=True)
            )
        except struct.error:
            places, whole = [], False
        if not whole or not places:
            raise DataError(f"{path}: compiled messages (.mo) that are damaged or cut off. Get the file again.")
    return bool(order)


def _content(path: Path) -> str:
    """The text of a PO file, each line of it checked: polib is lenient where a quotation mark is missing."""
    lines = []
    for number, line in read_lines(path):
        if not _LINE.fullmatch(line):
            raise DataError(
                f'{path}:{number}: expected a comment, or text in quotation marks such as msgid "…", found '
                f"{line[:60]!r}. `msgfmt --check` explains what is wrong."
            )
        lines.append("\n" if line.lstrip().startswith("domain") else f"{line}\n")  # which polib does not know
    content = "".join(lines)
    if not re.search(r"^msgid", content, re.MULTILINE):
        raise DataError(f"{path}: no message (msgid) was found; is this a PO file?")
    return content


def _plural_rule(header: str, path: Path) -> tuple[int, Callable[[int], int]]:
    """How many plural forms a language has, and the number of the form for n."""
    match = _PLURALS.fullmatch(header)
    if not match:  # as in English, which gettext takes as the default
        return 2, lambda n: int(n != 1)
    try:
        return int(match[1]), gettext.c2py(match[2].strip())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: Plural-Forms cannot be read ({error}).") from None
