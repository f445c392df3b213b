"""Scores by which rows are kept or dropped.

A filter is a score and the bounds within which a text is accepted; `presets.yaml` has the bounds and why they
are so. Scores of a text take (text, language), scores of a pair two texts, in either order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
from langcodes import Language

from instructalign.corpora.normal import fingerprint
from instructalign.errors import DataError
from instructalign.languages import canonical, is_private

Score = Callable[[str, str], float]

_LETTERS = regex.compile(r"[\p{L}\p{M}]+")
_NOT_LETTERS = regex.compile(r"[^\p{L}]+")
_SPACE = regex.compile(r"\s+")
_CONTROL = regex.compile(r"[\p{Cn}\p{Co}\uFFFD\x00-\x08\x0E-\x1F\x7F-\x84\x86-\x9F\u202A-\u202E\u2066-\u2069]")
_WIDE = regex.compile(r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]")
_UNITED = {"Jpan": "Hani Hira Kana", "Kore": "Hang Hani", "Hans": "Hani", "Hant": "Hani", "Hrkt": "Hira Kana"}


def score_length(text: str, _language: str) -> float:
    """Characters."""
    return len(text)


def score_alphabetic(text: str, _language: str) -> float:
    """Share of letters, with their marks, in all characters but space."""
    solid = _SPACE.sub("", text)
    return 1 - len(_LETTERS.sub("", solid)) / len(solid) if solid else 0.0


def score_script(text: str, language: str) -> float:
    """Share of letters in the language's script; 1 where there are none, or where the script is not known."""
    pattern = _script_pattern(language)
    letters = _NOT_LETTERS.sub("", text) if pattern else ""
    return 1 - len(pattern.sub("", letters)) / len(letters) if pattern and letters else 1.0


def score_control(text: str, _language: str) -> float:
    """Number of characters that no text has: controls, unassigned and private ones, replacements of lost ones."""
    # What Python finds printable is none of these but for the replacement; most texts go no further.
    return 0.0 if text.isprintable() and "\ufffd" not in text else len(_CONTROL.findall(text))


def score_length_ratio(reference: str, text: str) -> float:
    """How many times longer the longer text is, in letters; Chinese, Japanese and Korean ones count double.

    Ten letters are added to both, so that short texts may differ by more.
    """
    one, other = sorted((_width(reference) + 10, _width(text) + 10))
    return other / one


def score_identical(reference: str, text: str) -> float:
    """1 where both say the same in the same words, of which there are at least three; else 0."""
    words = _words(text)
    return float(words.count(" ") >= 2 and words == _words(reference))


TEXT_SCORES: dict[str, Score] = {
    "control": score_control,
    "length": score_length,
    "alphabetic": score_alphabetic,
    "script": score_script,
}
PAIR_SCORES: dict[str, Score] = {
    "identical": score_identical,
    "length_ratio": score_length_ratio,
}


@lru_cache(maxsize=2)
def score_language_by(model: Path) -> Score:
    """A score of text and language: the probability that a fastText model gives the language.

    A language that the model does not know scores 1. Any model with labels such as `__label__jav_Latn` will
    do: those of NLLB or GlotLID (Kargaran et al. 2023).

    Raises:
        DataError: fastText is not installed, or the model cannot be read.
    """
    identifier = Identifier(model)

    def score(text: str, language: str) -> float:
        if language not in identifier.known:
            return 1.0
        return sum(share for code, share in identifier.guesses(text, 10) if code == language)

    return score


class Identifier:
    """Says which language a text is in, by a fastText model of the user's.

    Args:
        model: the file.

    Attributes:
        known: codes of the languages that the model tells apart.

    Raises:
        DataError: fastText is not installed, the model cannot be read, or it tells no languages apart.
    """

    def __init__(self, model: Path) -> None:
        try:
            import fasttext
        except ImportError:
            raise DataError(
                "identifying languages (filter.language, evaluation.language_id) needs fastText, which is not "
                "installed: pip install 'instructalign[lid]'"
            ) from None
        try:
            self._model: Any = fasttext.load_model(str(model))
        except (ValueError, OSError) as error:
            raise DataError(f"{model}: not a fastText model that can be read ({error}).") from None
        self._codes = {label: _language_of(label) for label in self._model.predict("a", k=-1)[0]}
        self.known = frozenset(self._codes.values()) - {""}
        if not self.known:
            raise DataError(
                f"{model}: a fastText model, but none of its labels is a language's, such as __label__jav_Latn; "
                f"found {', '.join(list(self._codes)[:5]) or 'none'}."
            )

    def guesses(self, text: str, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest languages of a text with their probabilities; the code of an unknown label is empty."""
        found, shares = self._model.predict(text.replace("\n", " "), k=count)
        return [(self._codes[label], float(share)) for label, share in zip(found, shares, strict=True)]


def _language_of(label: str) -> str:
    try:
        return canonical(label.removeprefix("__label__"))
    except DataError:
        return ""


# One text of a row is compared to all others.
_words = lru_cache(maxsize=64)(fingerprint)


@lru_cache(maxsize=64)
def _width(text: str) -> int:
    letters = _NOT_LETTERS.sub("", text)
    return len(letters) if letters.isascii() else len(letters) + len(_WIDE.findall(letters))


@lru_cache(maxsize=4096)
def _script_pattern(language: str) -> Any:
    """Matches letters in the language's script; None where that is not known."""
    script = None if is_private(language) else Language.get(language).maximize().script
    if not script:
        return None
    names = _UNITED.get(script, script).split()
    try:
        return regex.compile("[" + "".join(rf"\p{{Script={name}}}" for name in names) + "]+")
    except regex.error:
        return None
