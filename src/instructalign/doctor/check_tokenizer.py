"""The tokenizer, language by language: what it makes of each, and what it loses.

Fertility is tokens per word (Ács 2019, "Exploring BERT's vocabulary"); the premium is how many times more tokens
the same sentences take than in the reference language (Petrov et al. 2023, arXiv 2305.15425).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from instructalign.config import LanguagesConfig
from instructalign.data import Corpus, ItemText
from instructalign.data.normalization import normalise
from instructalign.doctor.check_corpus import spread
from instructalign.doctor.findings import Findings, listed, percent
from instructalign.instructions.segmentation import words

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COSTLY = 2.0
"""Times the reference's tokens: from here on a text is cut twice as early, and costs twice as much."""
BYTES = 0.1  # share of tokens
UNKNOWN, UNKNOWN_MUCH = 0.001, 0.01  # share of tokens
LOST = 0.01  # share of texts

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, slots=True)
class LanguageTokens:
    """What a tokenizer makes of one language.

    Attributes:
        language: its code.
        group: `L1`, `L2` or `L3`.
        source: whether the texts are of the `corpus` or of the `evaluation`.
        texts, words, characters, tokens: how much was looked at; words as `instructions.segment` has them.
        per_word, per_character: tokens per word and per character.
        relative: tokens per word over those of the reference language, in texts of the same source if it has
            any; None where there is no reference.
        premium: tokens over those of the same sentences in the reference language; None without such.
        bytes: share of tokens that are a single byte, or do not stand for whole characters.
        unknown: share of tokens that stand for text which the tokenizer does not know.
        lost: share of texts that are not the same after encoding and decoding.
    """

    language: str
    group: str
    source: str
    texts: int
    words: int
    characters: int
    tokens: int
    per_word: float
    per_character: float
    relative: float | None
    premium: float | None
    bytes: float
    unknown: float
    lost: float


@dataclass(frozen=True, slots=True)
class _Measured:
    """What was counted in the texts of one language and source."""

    words: int
    characters: int
    by_text: Mapping[str, int]
    parts: int
    unknown: int
    lost: int

    @property
    def tokens(self) -> int:
        return sum(self.by_text.values())

    @property
    def fertility(self) -> float:
        return self.tokens / max(1, self.words)


def examine_tokenizer(
    tokenizer: PreTrainedTokenizerBase,
    languages: LanguagesConfig,
    corpus: Corpus | None,
    items: Iterable[ItemText],
    sample: int,
) -> tuple[tuple[LanguageTokens, ...], Findings]:
    """Measures a tokenizer on every language that has text.

    Args:
        tokenizer: the base's.
        languages: those of the configuration; the reference is English, or the first known one that has text.
        corpus: the rows to train on.
        items: the texts of the evaluation, which related languages are seen in alone.
        sample: how many texts to look at in each language.
    """
    texts = _gather(corpus, items, sample)
    measured = {key: _measure(tokenizer, found) for key, found in texts.items()}
    known = sorted(languages.known, key=lambda code: code != "eng")
    reference = next((code for code in known if any(language == code for _, language in measured)), None)
    rows = []
    for group, codes in languages.groups.items():
        for code in codes:
            source = "corpus" if ("corpus", code) in measured else "evaluation"
            if (source, code) in measured:
                rows.append(_row(measured, source, code, group, reference))
    findings = Findings("tokenizer")
    without = [
        code for codes in languages.groups.values() for code in codes if code not in {r.language for r in rows}
    ]
    _judge(rows, without, reference, findings)
    return tuple(rows), findings


def _gather(
    corpus: Corpus | None, items: Iterable[ItemText], sample: int
) -> dict[tuple[str, str], dict[str, str]]:
    """Texts by their id, for each source and language."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for row in spread(corpus, sample) if corpus else ():
        for code, text in row.texts.items():
            found.setdefault(("corpus", code), {})[row.id] = text
    for number, item in enumerate(items):
        some = found.setdefault(("evaluation", item.language), {})
        if len(some) < sample:
            some[f"{item.task}/{item.item}/{number}"] = item.text
    return found


def _measure(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, str]) -> _Measured:
    written = list(texts.values())
    encoded: Sequence[Sequence[int]] = tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"]
    is_part = lru_cache(maxsize=None)(lambda token: _is_part(tokenizer, token))
    lost = sum(
        normalise(_decode(tokenizer, ids)) != normalise(text) for text, ids in zip(written, encoded, strict=True)
    )
    return _Measured(
        words=sum(len(words(text)) for text in written),
        characters=sum(len(text) for text in written),
        by_text={id: len(ids) for id, ids in zip(texts, encoded, strict=True)},
        parts=sum(is_part(token) for ids in encoded for token in ids),
        unknown=sum(token == tokenizer.unk_token_id for ids in encoded for token in ids),
        lost=lost,
    )


def _is_part(tokenizer: PreTrainedTokenizerBase, token: int) -> bool:
    """Whether a token is a byte, or a run of bytes that are not whole characters."""
    piece: Any = tokenizer.convert_ids_to_tokens(token)
    return bool(_BYTE.fullmatch(str(piece))) or "\ufffd" in _decode(tokenizer, [token])


def _decode(tokenizer: PreTrainedTokenizerBase, ids: Sequence[int]) -> str:
    return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))


def _row(
    measured: Mapping[tuple[str, str], _Measured], source: str, code: str, group: str, reference: str | None
) -> LanguageTokens:
    here = measured[source, code]
    places = [(place, reference) for place in (source, "corpus", "evaluation")] if reference else []
    there = next((measured[place] for place in places if place in measured), None)
    same = [id for id in here.by_text if id in there.by_text] if there and source == "corpus" else []
    tokens = max(1, here.tokens)
    return LanguageTokens(
        language=code,
        group=group,
        source=source,
        texts=len(here.by_text),
        words=here.words,
        characters=here.characters,
        tokens=here.tokens,
        per_word=here.fertility,
        per_character=here.tokens / max(1, here.characters),
        relative=here.fertility / there.fertility if there and there.fertility else None,
        premium=_ratio(here, there, same) if there and same else None,
        bytes=here.parts / tokens,
        unknown=here.unknown / tokens,
        lost=here.lost / max(1, len(here.by_text)),
    )


def _ratio(here: _Measured, there: _Measured, same: Sequence[str]) -> float:
    return sum(here.by_text[id] for id in same) / max(1, sum(there.by_text[id] for id in same))


def _judge(rows: Sequence[LanguageTokens], without: list[str], reference: str | None, findings: Findings) -> None:
    def those(level: Any, measure: Any) -> str:
        return listed([f"{row.language} {level(row)}" for row in rows if measure(row)])

    if without:
        findings.warn(
            f"No text at hand to try the tokenizer on: {listed(without)}.",
            "Name a task under evaluation.tasks that has them, or the folder of its data with evaluation.data.",
        )
    unknown = max((row.unknown for row in rows), default=0.0)
    if unknown > UNKNOWN:
        note = findings.problem if unknown > UNKNOWN_MUCH else findings.warn
        note(
            "The tokenizer does not know some of the text (share of its tokens): "
            f"{those(lambda row: percent(row.unknown), lambda row: row.unknown > UNKNOWN)}.",
            "The model can neither read nor write it: take a model.base whose tokenizer falls back to bytes.",
        )
    elif lost := those(lambda row: percent(row.lost), lambda row: row.lost > LOST):
        findings.warn(
            f"Texts are not the same after encoding and decoding: {lost}.",
            "The model cannot learn what the tokenizer changes; look at such texts, or take another model.base.",
        )
    if parts := those(lambda row: percent(row.bytes), lambda row: row.bytes > BYTES):
        findings.warn(
            f"Tokens that are bytes, not characters: {parts}.",
            "The tokenizer hardly knows the script: expect slow learning, or take another model.base.",
        )
    if costly := those(lambda row: f"{_cost(row):.1f}", lambda row: _cost(row) >= COSTLY):
        findings.warn(
            f"Texts take many times the tokens that they take in {reference}: {costly}.",
            "Give room with training.max_length (see lengths), or take a model.base that knows these languages.",
        )
    if rows and not findings:
        most = max(rows, key=_cost)
        findings.ok(
            f"No language takes more than {_cost(most):.1f} times the tokens of {reference}; nothing is lost."
        )


def _cost(row: LanguageTokens) -> float:
    return row.premium or row.relative or 0.0
