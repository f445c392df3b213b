"""Normal forms of text: one to train on, one to compare by."""

from __future__ import annotations

import unicodedata

import regex

# Embeddings, overrides and isolates of the bidirectional algorithm, and the byte-order mark. They steer the
# display of the text around them and mean nothing within a sentence. The marks that spelling needs stay:
# joiners (U+200C, U+200D), the zero-width space between Khmer or Myanmar words, left- and right-to-left marks.
_STEERING = dict.fromkeys([*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF])

_NOT_WORDS = regex.compile(r"[^\p{L}\p{M}\p{N}]+")


def normalise(text: str) -> str:
    """The text in NFC, with single spaces and without display controls.

    NFC changes no letter that a reader could tell apart. The wider NFKC does: it takes Thai and Lao am apart
    and makes superscripts into plain digits.
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", text).translate(_STEERING)
    return " ".join(text.split())


def fingerprint(text: str) -> str:
    """The words of a text alone, without case, punctuation, symbols or line ends.

    Two texts that a reader would call the same sentence, typed differently, have the same fingerprint.
    """
    folded = unicodedata.normalize("NFC", text).casefold()
    return str(_NOT_WORDS.sub(" ", folded)).strip()


def shingles(text: str, length: int = 5) -> set[str]:
    """The set of character n-grams of a text; the text itself where it is shorter."""
    return {text[i : i + length] for i in range(max(1, len(text) - length + 1))}
