"""Translated software strings: gettext's PO files, read through polib (https://polib.readthedocs.io)."""

from __future__ import annotations

import gettext
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from instructalign.config import LanguageCode
from instructalign.data.formats import require_two_languages, rows_of_variants
from instructalign.errors import DataError, first_line
from instructalign.files import read_lines
from instructalign.types import Counts, ParallelRow

_PLURALS = re.compile(r"\s*nplurals\s*=\s*(\d{1,2})\s*;\s*plural\s*=([^;]{1,1000});?\s*")
_LINE = re.compile(
    r'\s*(?:#.*|(?:(?:msgctxt|msgid|msgid_plural|msgstr(?:\[\d{1,2}\])?)\s*)?"(?:[^"\\]|\\.)*"\s*)?'
)


def read_po(
    languages: Sequence[str], counts: Counts, *, files: Mapping[LanguageCode, Path], source: LanguageCode = "eng"
) -> Iterator[ParallelRow]:
    """Reads PO files; a row is a message in the source language and its translations.

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
    require_two_languages(languages, {source, *files}, "po")
    rows: dict[tuple[str, str, bool], dict[str, list[str]]] = {}
    for code in [code for code in languages if code in files]:
        for key, texts in _messages(files[code], counts):
            row = rows.setdefault(key, {} if source in files else {source: [key[1]]})
            row.setdefault(code, []).extend(texts)
    for number, row in enumerate(rows.values(), start=1):
        yield from rows_of_variants(str(number), row, languages, counts)


def _messages(path: Path, counts: Counts) -> Iterator[tuple[tuple[str, str, bool], list[str]]]:
    """The context, text and whether it is a plural of each message that is translated, and its translations."""
    import polib

    lines = []
    for number, line in read_lines(path):
        if not _LINE.fullmatch(line):  # polib is lenient where a quotation mark is missing
            raise DataError(
                f'{path}:{number}: expected a comment, or text in quotation marks such as msgid "…", found '
                f"{line[:60]!r}. `msgfmt --check` explains what is wrong."
            )
        lines.append(f"{line}\n")
    content = "".join(lines)
    if not re.search(r"^msgid", content, re.MULTILINE):
        raise DataError(f"{path}: no message (msgid) was found; is this a PO file?")
    try:
        # polib takes a text without line ends for the name of a file.
        messages = polib.pofile(content, check_for_duplicates=False)
    except (OSError, ValueError, IndexError, KeyError, AttributeError, UnicodeError) as error:
        found = re.search(r"\(line (\d+)\)", str(error))
        raise DataError(
            f"{path}:{found[1] if found else 1}: not PO ({first_line(error).removeprefix(' ')}). "
            f"`msgfmt --check` explains what is wrong."
        ) from None
    count, form = _plural_rule(messages.metadata.get("Plural-Forms", ""), path)
    for message in messages:
        reason = "obsolete" if message.obsolete else "fuzzy" if message.fuzzy else ""
        if not reason and not message.translated():
            reason = "untranslated"
        if reason:
            counts.read += 1
            counts.drop(reason, row=str(message.linenum), fields=[message.msgid, message.msgstr])
            continue
        context = message.msgctxt or ""
        if not message.msgid_plural:
            yield (context, message.msgid, False), [message.msgstr]
            continue
        forms = {int(number): text for number, text in message.msgstr_plural.items()}
        one = form(1) if count > 1 else None
        if one in forms:
            yield (context, message.msgid, False), [forms[one]]
        if others := [text for number, text in sorted(forms.items()) if number != one]:
            yield (context, message.msgid_plural, True), others


def _plural_rule(header: str, path: Path) -> tuple[int, Callable[[int], int]]:
    """How many plural forms a language has, and the number of the form for n."""
    match = _PLURALS.fullmatch(header)
    if not match:  # as in English, which gettext takes as the default
        return 2, lambda n: int(n != 1)
    try:
        return int(match[1]), gettext.c2py(match[2].strip())
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: Plural-Forms cannot be read ({error}).") from None
