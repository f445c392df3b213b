"""What a file is by its first bytes: compressed, a workbook, a pointer, an error page, text in UTF-16."""

from __future__ import annotations

import codecs
import re

COMPRESSED = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""By the ending of a name, the compression that is read."""

MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""By byte-order mark, the encoding, which takes the order of the bytes from it."""

_STARTS = {
    "gzip": rb"\x1f\x8b\x08",
    "bzip2": rb"BZh[1-9](1AY&SY|\x17rE8P\x90)",
    "xz": rb"\xfd7zXZ\x00",
    "zstd": rb"[\x28\x22-\x27]\xb5\x2f\xfd",
}
_CONTROLS = re.compile(rb"[\0-\x08\x0e-\x1f]")  # no text has them, but the digits and letters of UTF-16 do

_WORKBOOK = "For a corpus, set format: {}; elsewhere, save the sheet as CSV."
_UNPACK = "Unpack it and give the files in it"

# What a file begins with, what it is then, and what to do.
_OTHERS: list[tuple[bytes, str, str]] = [
    (rb"PK\x03\x04.*opendocument\.spreadsheet", "an OpenDocument spreadsheet", _WORKBOOK.format("ods")),
    (rb"PK\x03\x04.*xl/(workbook|worksheets|_rels)", "an Excel workbook", _WORKBOOK.format("xlsx")),
    (rb"PK\x03\x04.*(word/document|opendocument\.text)", "a word processor's document", "Save it as plain text."),
    (rb"PK\x03\x04", "a zip archive", f"{_UNPACK}; format: opus reads those of OPUS as they are."),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an Excel workbook (.xls) or another document of Microsoft Office",
        _WORKBOOK.format("xlsx"),
    ),
    (rb"PAR1", "a Parquet file", "Set format: parquet."),
    (rb"ARROW1\x00", "an Arrow file", "Set format: parquet, which reads it."),
    (rb"%PDF-", "a PDF document", "Save its text as plain text."),
    (rb"\{\\rtf", "an RTF document", "Save it as plain text."),
    (rb"SQLite format 3\x00", "an SQLite database", "Export the table as CSV."),
    (rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07", "a 7z or RAR archive", f"{_UNPACK}."),
    (rb".{257}ustar", "a tar archive", f"{_UNPACK}."),
]

# What stands where a file should be, what it is, and how to get the file.
_STAND_INS: list[tuple[bytes, str, str]] = [
    (
        rb"version https://(git-lfs|hawser)\.github\.com/spec/",
        "a Git LFS pointer in the place of the file",
        "Run `git lfs pull` in its repository, or download the file from the repository's page.",
    ),
    (
        rb"/annex/objects/",
        "a git-annex pointer in the place of the file",
        "Run `git annex get` in its repository.",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*(?i:<!doctype html|<html|<head>)",
        "a web page (HTML) in the place of the file",
        "Open it in a browser: it may say why the download failed (a login, a limit, a wrong address).",
    ),
    (
        rb"(\xef\xbb\xbf)?\s*(<\?xml[^>]*>\s*)?<Error>\s*<Code>",
        "a file server's error message in the place of the file",
        "Read it, and download the file again.",
    ),
    (
        rb"(404: Not Found|Not Found|Entry not found|Repository not found|Invalid username or password\.|"
        rb"Access to (model|dataset) \S+ is restricted[^\n]*)\s*\Z",
        "a server's error message in the place of the file",
        "Check the address, and for a gated file your access; then download the file again.",
    ),
]


def compression_of(head: bytes, named: str) -> str:
    """How a file is compressed; empty where it is not.

    Args:
        head: its first bytes.
        named: what its name says, or empty; believed where the content is neither compressed nor text, so that a
            damaged file is called so.
    """
    for kind, start in _STARTS.items():
        if re.match(start, head):
            return kind
    return "" if not head or _is_text(head) else named


def unlike_text(head: bytes) -> str:
    """What a file is that is obviously no text, and what to do; empty if it may be text.

    Args:
        head: its first bytes; of a zip file also the last, which name what is in it.
    """
    return whose_place(head) or _first_match(_OTHERS, head, ", not text")


def whose_place(head: bytes) -> str:
    """What was saved in the place of a file, and what to do; empty if it may be the file itself.

    Args:
        head: its first bytes.
    """
    return _first_match(_STAND_INS, head, "")


def unmarked_encoding(head: bytes) -> str:
    """`UTF-16LE` or the like where text looks like that and has no byte-order mark; empty otherwise."""
    controls = [match.start() for match in _CONTROLS.finditer(head)]
    # Without a zero byte it is not even a line of such text: other control characters may be anybody's.
    if head.startswith(tuple(MARKS)) or b"\0" not in head or len(controls) < max(2, len(head) / 5):
        return ""
    width = 32 if 2 * head.count(0) > len(head) + 2 else 16
    odd = sum(place % 2 for place in controls)
    little = head[:1] != b"\0" if width == 32 else 2 * odd > len(controls)
    return f"UTF-{width}{'LE' if little else 'BE'}"


def _first_match(kinds: list[tuple[bytes, str, str]], head: bytes, but: str) -> str:
    for start, what, advice in kinds:
        if re.match(start, head, re.DOTALL):
            return f"{what}{but}. {advice}"
    return ""


def _is_text(head: bytes) -> bool:
    if head.startswith(tuple(MARKS)):
        return True
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not _CONTROLS.search(head)
