"""Cleaning of parallel rows: what each filter scores, what it accepts, and what was removed by which."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import IO, Any

import regex
import yaml
from langcodes import Language

from instructalign.config import FilterConfig
from instructalign.data.normalization import fingerprint, normalise
from instructalign.errors import DataError
from instructalign.files import atomic, json_line
from instructalign.languages import canonical, is_private
from instructalign.types import ParallelRow

ScoreFunction = Callable[[str, str], float]

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
    """Number of characters that belong in no text: control, unassigned, private, and replacement ones."""
    # A fast path for most texts: what Python finds printable is none of these but for the replacement character.
    return 0.0 if text.isprintable() and "\ufffd" not in text else len(_CONTROL.findall(text))


def score_length_ratio(reference: str, text: str) -> float:
    """Ratio of the longer to the shorter text in letters; Chinese, Japanese and Korean ones count double.

    Ten letters are added to both, so that short texts may differ by more.
    """
    one, other = sorted((_width(reference) + 10, _width(text) + 10))
    return other / one


def score_identical(reference: str, text: str) -> float:
    """1 where both have the same words, at least three; else 0."""
    words = _word_count(text)
    return float(words.count(" ") >= 2 and words == _word_count(reference))


TEXT_SCORES: dict[str, ScoreFunction] = {
    "control": score_control,
    "length": score_length,
    "alphabetic": score_alphabetic,
    "script": score_script,
}
PAIR_SCORES: dict[str, ScoreFunction] = {
    "identical": score_identical,
    "length_ratio": score_length_ratio,
}


@lru_cache(maxsize=2)
def score_language_by(model: Path) -> ScoreFunction:
    """A score of text and language: the probability that a fastText model gives the language.

    A language that the model does not know scores 1. Any model with labels such as `__label__jav_Latn` will
    do: those of NLLB or GlotLID (Kargaran et al. 2023).

    Raises:
        DataError: fastText is not installed, or the model cannot be read.
    """
    identifier = LanguageIdentifier(model)

    def score(text: str, language: str) -> float:
        if language not in identifier.known:
            return 1.0
        return sum(share for code, share in identifier.predict(text, 10) if code == language)

    return score


class LanguageIdentifier:
    """Language identification with a fastText model of the user's.

    Args:
        model: the file.

    Attributes:
        known: codes of the languages that the model distinguishes.

    Raises:
        DataError: fastText is not installed, the model cannot be read, or its labels are not languages.
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

    def predict(self, text: str, count: int = 1) -> list[tuple[str, float]]:
        """The likeliest languages of a text with their probabilities; the code of an unknown label is empty."""
        found, shares = self._model.predict(text.replace("\n", " "), k=count)
        return [(self._codes[label], float(share)) for label, share in zip(found, shares, strict=True)]


def _language_of(label: str) -> str:
    try:
        return canonical(label.removeprefix("__label__"))
    except DataError:
        return ""


# One text of a row is compared to all others.
_word_count = lru_cache(maxsize=64)(fingerprint)


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


_EXAMPLES = 5

Filter = tuple[str, ScoreFunction, float, float]
"""A filter's name and score, and the lowest and highest score that it accepts."""


@dataclass(slots=True)
class Removed:
    """What one filter took out.

    Attributes:
        texts: texts taken out of rows.
        rows: rows dropped, because fewer than two texts were left.
        examples: the first few texts, each with `row`, `language`, `text` and `score`.
    """

    texts: int = 0
    rows: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)

    def add(self, later: Removed) -> None:
        """Adds what the filter took out of rows that come later."""
        self.texts += later.texts
        self.rows += later.rows
        self.examples += later.examples[: _EXAMPLES - len(self.examples)]


class Cleaner:
    """Applies the filters of a configuration to rows, one at a time.

    A text that a filter does not accept is taken out of its row; a row that is left with fewer than two texts
    (of monolingual text, none) is dropped, and counts for the filter that took the last one. Filters of pairs
    compare each text to the row's first; where most of several disagree with it, it is the odd one, and is taken
    out itself.

    Args:
        config: the configuration's block `filter`.
        rejects: takes a line of JSON for each text taken out and each duplicate dropped.
    """

    def __init__(self, config: FilterConfig, rejects: IO[bytes] | None = None) -> None:
        settings = resolve(config)
        self.duplicates: str = settings.get("duplicates", "")
        self.placeholders: bool = "placeholders" in settings
        self.removed: dict[str, Removed] = {}
        self._normalise = settings.get("normalise") == "nfc"
        self._rejects = rejects
        scores = dict(TEXT_SCORES)
        if "language" in settings:
            scores["language"] = score_language_by(settings["language"]["model"])
        self._text_filters = _with_bounds(scores, settings)
        self._pair_filters = _with_bounds(PAIR_SCORES, settings)

    def clean(self, row: ParallelRow) -> tuple[ParallelRow | None, str]:
        """The row without the texts that are not accepted, or None and the filter that dropped it."""
        if not (self._normalise or self._text_filters or self._pair_filters):
            return row, ""
        texts = dict(row.texts)
        before = len(texts)
        last = ""
        if self._normalise:
            for code, text in row.texts.items():
                texts[code] = normalise(text)
                if not texts[code]:  # it was of display controls alone
                    self.remove("normalise", row.id, code, text, 0)
                    del texts[code]
                    last = "normalise"
        for name, score, low, high in self._text_filters:
            for code, text in list(texts.items()):
                value = score(text, code)
                if not low <= value <= high:
                    self.remove(name, row.id, code, texts.pop(code), value)
                    last = name
        for filter in self._pair_filters:
            while odd := _odd_ones(texts, filter):
                last = filter[0]
                for code, value in odd.items():
                    self.remove(last, row.id, code, texts.pop(code), value)
        if len(texts) < min(2, len(row.texts)):
            self.removed[last].rows += 1
            return None, last
        return (ParallelRow(row.id, texts) if self._normalise or len(texts) < before else row), ""

    def reject(self, corpus: str, reason: str, count: int, what: Mapping[str, Any]) -> None:
        """Writes what a reader dropped to the rejects (`reject_line`)."""
        if self._rejects:
            self._rejects.write(reject_line(corpus, reason, count, what))

    def remove(self, name: str, row: str, language: str, text: str, score: float) -> None:
        """Counts a text that a filter took out, and writes it to the rejects."""
        removed = self.removed.setdefault(name, Removed())
        removed.texts += 1
        example = {"row": row, "language": language, "text": text, "score": round(score, 3)}
        if len(removed.examples) < _EXAMPLES:
            removed.examples.append(example)
        if self._rejects:
            self._rejects.write(json_line({"filter": name, **example}))


def reject_line(corpus: str, reason: str, count: int, what: Mapping[str, Any]) -> bytes:
    """A line of the file of rejects for what a reader dropped.

    Args:
        corpus: the corpus's name.
        reason: why it was dropped.
        count: of how many records.
        what: what is known of them: `row`, `texts` or `fields`.
    """
    several = {"count": count} if count > 1 else {}
    return json_line({"filter": reason, "corpus": corpus, **several, **what})


def _odd_ones(texts: Mapping[str, str], filter: Filter) -> dict[str, float]:
    """The texts to take out of a row, with their scores."""
    _, score, low, high = filter
    codes = list(texts)
    scores = {code: score(texts[codes[0]], texts[code]) for code in codes[1:]}
    odd = {code: value for code, value in scores.items() if not low <= value <= high}
    return {codes[0]: max(odd.values())} if len(scores) > 1 and 2 * len(odd) > len(scores) else odd


@contextmanager
def cleaning(config: FilterConfig) -> Iterator[Cleaner]:
    """A cleaner whose reject file, if one is asked for, is complete when the block ends."""
    if config.rejects is None:
        yield Cleaner(config)
        return
    with atomic(config.rejects) as file:
        yield Cleaner(config, file)


def resolve(config: FilterConfig) -> dict[str, Any]:
    """The filters that are on, with their bounds: those of the preset, changed by the configuration's own."""
    own = config.model_dump(exclude={"preset", "without", "rejects"}, exclude_none=True)
    settings = {**_presets()[config.preset], **own}
    return {name: value for name, value in settings.items() if name not in config.without}


@lru_cache(maxsize=1)
def _presets() -> Mapping[str, Mapping[str, Any]]:
    text = files("instructalign.data").joinpath("presets.yaml").read_text(encoding="utf-8")
    return {name: preset or {} for name, preset in yaml.safe_load(text).items()}


def _with_bounds(scores: Mapping[str, ScoreFunction], settings: Mapping[str, Any]) -> list[Filter]:
    return [
        (name, score, settings[name].get("min", 0), settings[name].get("max", float("inf")))
        for name, score in scores.items()
        if name in settings
    ]
