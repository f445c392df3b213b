"""Segmentation of text in any script into the units that noise works on.

A unit is a word where the script puts spaces between words: letters, marks and digits, with the apostrophes
(however typed), hyphens and invisible characters inside them (`don't`, `o‘zbek`, `anak-anak`, `3.5`), otherwise
after Unicode's word boundaries (UAX #29).
Scripts without spaces give orthographic syllables (Thai, Lao, Khmer, Myanmar, Javanese,
Balinese and related scripts) or single characters (Chinese characters and kana). No boundary falls inside a
grapheme.
"""

from __future__ import annotations

import re

import regex

from instructalign.data.normalization import APOSTROPHES

# Blocks of the scripts without spaces between words. A block is faster to test than a script's name.
_UNSPACED = "".join(
    (
        r"\u0e00-\u0eff",  # Thai, Lao
        r"\u1000-\u109f\ua9e0-\ua9ff\uaa60-\uaa7f",  # Myanmar
        r"\u1780-\u17ff",  # Khmer
        r"\u1950-\u19df\u1a20-\u1aaf\uaa80-\uaadf",  # Tai Le, New Tai Lue, Tai Tham, Tai Viet
        r"\u1b00-\u1b7f\u1bc0-\u1bff\ua980-\ua9df",  # Balinese, Batak, Javanese
        r"\uaa00-\uaa5f",  # Cham
        r"\u3005-\u3007\u3040-\u309f",  # Hiragana, and signs used with Chinese characters
        r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff",  # Chinese characters
        r"\ua000-\ua4cf",  # Yi
    )
)
_LETTER = rf"[[{_UNSPACED}]&&\p{{L}}]"
_LEADING = "[\u0e40-\u0e44\u0ec0-\u0ec4]"  # Thai and Lao vowels written before their consonant
# What closes a syllable: Thai and Lao vowels written after it, marks that are graphemes of their own, and
# Myanmar consonants silenced by asat.
_CLOSING = r"(?:(?=[\u0e30\u0e32\u0e45\u0eb0\u0eb2\p{M}]|[\u1000-\u1021]\u1037?\u103a)\X)*+"
_PREPENDED = r"\p{Grapheme_Cluster_Break=Prepend}*+"
_SYLLABLE = rf"(?={_PREPENDED}{_LETTER})(?:{_LEADING}(?={_LETTER}))?\X{_CLOSING}"
_MOST = 1000  # graphemes taken at once; without an end, a line of millions would need gigabytes
_SENTENCE_END = re.compile(r"(\s*\n\s*|(?<=[.!?…])[\"'”’»)\]]*\s+(?=[^\sa-z])|(?<=[。！？।॥።؟۔])\s*)")
_ABBREVIATION = re.compile(r"\b(?:[A-Z]|Mrs?|Ms|Dr|Prof|St|Sr|Jr|Gen|Col|Rev|Vol|Fig|No|e\.g|i\.e|vs|cf)\.$")
_PART = rf"(?:(?={_PREPENDED}[[\p{{L}}\p{{N}}]--{_LETTER}])\X){{1,{_MOST}}}+"
# Between letters: apostrophes, hyphens, Catalan's and Hebrew's, and what is not seen (soft hyphen, joiners).
_INNER = rf"{APOSTROPHES}·\u05f3\u05f4\u2011\xad\u2060\ufeff-"
_JOINT = rf"(?:(?<=\p{{Nd}})[.,](?=\p{{Nd}})|[{_INNER}](?=\p{{L}}))"
_WORD = rf"{_SYLLABLE}|{_PART}(?:{_JOINT}{_PART}){{0,{_MOST}}}+"
_OTHER = rf"(?:(?![\p{{L}}\p{{N}}\p{{Grapheme_Cluster_Break=Prepend}}])\X){{1,{_MOST}}}+|\X"
_UNITS = regex.compile(rf"({_WORD})|{_OTHER}", regex.V1)

# Fast path: in Latin, Greek and Cyrillic without combining marks one grapheme is one character.
_OUTSIDE = re.compile("[^\0-\u02ff\u0370-\u0482\u048a-\u052f\u1e00-\u1fff\u2010-\u2027\u2030-\u203a\u20a0-\u20c0]")
_PLAIN = re.compile(  # words, and joints between a digit and a digit, or before a letter
    rf"(\w+(?:[.,{_INNER}](?:(?<=\d[.,])(?=\d)|(?<![.,])(?=[^\W\d]))\w+)*)"
)


def segment(text: str) -> list[str]:
    """Splits a text into units and the text between them.

    Returns:
        An odd number of strings that join to the text exactly: units at the odd indices, and around them at the
        even indices spaces, punctuation and symbols, or nothing.
    """
    if "_" not in text and (text.isascii() or not _OUTSIDE.search(text)):
        return _PLAIN.split(text)
    return segment_any(text)


def segment_any(text: str) -> list[str]:
    """`segment` without its fast path for plain alphabets; the same result, several times slower."""
    pieces: list[str] = []
    end = 0
    for match in _UNITS.finditer(text):
        if match[1] is not None:
            pieces += (text[end : match.start()], match[1])
            end = match.end()
    pieces.append(text[end:])
    return pieces


def words(text: str) -> list[str]:
    """The units of a text alone."""
    return segment(text)[1::2]


def split_sentences(text: str) -> list[str]:
    """A text as sentences and what is between them, in turn: the even ones are sentences."""
    parts = _SENTENCE_END.split(text.strip())
    joined = parts[:1]
    for between, sentence in zip(parts[1::2], parts[2::2], strict=True):
        goes_on = "\n" not in between and (not _has_letters(sentence) or _ABBREVIATION.search(joined[-1]))
        if goes_on or not _has_letters(joined[-1]):
            joined[-1] += between + sentence
        else:
            mark = between.rstrip()  # a quotation mark belongs to the sentence that it closes
            joined[-1] += mark
            joined += [between[len(mark) :], sentence]
    if len(joined) > 1 and not _has_letters(joined[-1]):
        joined[-3:] = ["".join(joined[-3:])]
    return joined


def _has_letters(text: str) -> bool:
    return any(map(str.isalpha, text))
