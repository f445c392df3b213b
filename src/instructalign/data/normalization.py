"""Normal forms of text: one to train on, and one to compare by, which all of the package uses (`fold`)."""

from __future__ import annotations

import re
import unicodedata

import regex

# Embeddings, overrides and isolates of the bidirectional algorithm, and the byte-order mark. They steer the
# display of the text around them and mean nothing within a sentence. The marks that spelling needs stay:
# joiners (U+200C, U+200D), the zero-width space between Khmer or Myanmar words, left- and right-to-left marks.
_STEERING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF])

# What is typed for an apostrophe, or for the letter that it is in Uzbek (o‘), Hawaiian (okina), Tlapanec
# (saltillo) …: which one a text has depends on the keyboard. UAX #29 has the quotation mark inside words as well.
APOSTROPHES = (
    "'`\u00b4\u02b9\u02bb\u02bc\u02bd\u02be\u02bf\u02c8\u02ca\u02cb\u2018\u2019\u201b\u2032\ua78b\ua78c\uff07"
)
_APOSTROPHE = re.compile(f"[{APOSTROPHES}]")

# Unicode's default-ignorable code points: soft hyphens, joiners, zero-width spaces, directional marks, variation
# selectors … As ranges for `re`, which is several times faster than `regex` with the property.
_INVISIBLE = re.compile(
    "[\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f"
    "\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_NOT_WORDS = regex.compile(r"(?:[^\p{L}\p{M}\p{N}]+\p{M}*)+")  # a mark without its letter is none
_ASCII_WORDS = {code: " " for code in range(128) if not chr(code).isalnum()}


def normalise(text: str) -> str:
    """The text in NFC, with single spaces and without display controls.

    NFC changes no letter that a reader could tell apart. The wider NFKC does: it takes Thai and Lao am apart
    and makes superscripts into plain digits.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_STEERING)
    return " ".join(text.split())


def plain(text: str) -> str:
    """The text as one keyboard would have it: one kind of apostrophe and of space, nothing invisible, and plain
    letters for full-width ones, ligatures and presentation forms (NFKC). For comparison, not to train on."""
    if text.isascii():
        return " ".join(text.replace("`", "'").split())
    text = _INVISIBLE.sub("", text).replace("\u00b4", "'")  # which NFKC would make a space and a mark
    return " ".join(_APOSTROPHE.sub("'", unicodedata.normalize("NFKC", text)).split())


def fold(text: str) -> str:
    """The plain text without case: equal for two words or sentences that are one, typed differently."""
    folded = plain(text).casefold()
    return folded if folded.isascii() else unicodedata.normalize("NFKC", folded)


def fingerprint(text: str) -> str:
    """The words of the folded text alone, without punctuation, symbols or line ends."""
    if text.isascii():
        return " ".join(text.casefold().translate(_ASCII_WORDS).split())
    return str(_NOT_WORDS.sub(" ", fold(text))).strip()


def shingles(text: str, length: int = 5) -> set[str]:
    """The set of character n-grams of a text; the text itself where it is shorter."""
    return {text[i : i + length] for i in range(max(1, len(text) - length + 1))}
