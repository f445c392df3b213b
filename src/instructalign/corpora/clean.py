"""Drops what should not be trained on, and keeps the account of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files
from typing import IO, Any

import yaml

from instructalign.config import FilterConfig
from instructalign.corpora.filters import PAIR_SCORES, TEXT_SCORES, Score, score_language_by
from instructalign.corpora.normal import normalise
from instructalign.files import atomic, json_line
from instructalign.records import ParallelRow

_EXAMPLES = 5

Filter = tuple[str, Score, float, float]
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
    is dropped, and counts for the filter that took the last one. Filters of pairs compare each text to the
    row's first; where most of several disagree with it, it is the odd one, and is taken out itself.

    Args:
        config: the configuration's block `filter`.
        rejects: takes a line of JSON for each text taken out and each duplicate dropped.
    """

    def __init__(self, config: FilterConfig, rejects: IO[bytes] | None = None) -> None:
        settings = resolve(config)
        self.duplicates: str = settings.get("duplicates", "")
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
        if len(texts) < 2:
            self.removed[last].rows += 1
            return None, last
        return (ParallelRow(row.id, texts) if self._normalise or len(texts) < before else row), ""

    def remove(self, name: str, row: str, language: str, text: str, score: float) -> None:
        """Writes down that a filter took a text out."""
        removed = self.removed.setdefault(name, Removed())
        removed.texts += 1
        example = {"row": row, "language": language, "text": text, "score": round(score, 3)}
        if len(removed.examples) < _EXAMPLES:
            removed.examples.append(example)
        if self._rejects:
            self._rejects.write(json_line({"filter": name, **example}))


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
    text = files("instructalign.corpora").joinpath("presets.yaml").read_text(encoding="utf-8")
    return {name: preset or {} for name, preset in yaml.safe_load(text).items()}


def _with_bounds(scores: Mapping[str, Score], settings: Mapping[str, Any]) -> list[Filter]:
    return [
        (name, score, settings[name].get("min", 0), settings[name].get("max", float("inf")))
        for name, score in scores.items()
        if name in settings
    ]
