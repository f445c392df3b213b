"""Checks of the tokenizer by language: fertility, premium, byte tokens, unknown tokens, and texts it changes.

Fertility is tokens per word (Ács 2019, "Exploring BERT's vocabulary"); the premium is the ratio of tokens to those
of the same sentences in the reference language (Petrov et al. 2023, arXiv 2305.15425).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from instructalign.config import LanguagesConfig
from instructalign.data import Corpus, ItemText
from instructalign.data.normalization import normalise
from instructalign.doctor.check_corpus import evenly_spaced
from instructalign.doctor.findings import Findings, first_few, percent
from instructalign.instructions.segmentation import words
from instructalign.training.special_tokens import literal_tokenizer
from instructalign.training.vocabulary import Extension

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_COSTLY = 2.0
"""Premium from which on a warning is due: a text is then truncated twice as early, and costs twice as much."""
_MANY_BYTES = 0.1  # share of tokens
_UNKNOWN, _MANY_UNKNOWN = 0.001, 0.01  # share of tokens
_LOST = 0.01  # share of texts
_SAVED = 0.1  # share of tokens below which new pieces do not pay
_SEEN_OFTEN = 10  # times that a piece should occur, to have its row trained

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")


@dataclass(frozen=True, slots=True)
class LanguageTokens:
    """What a tokenizer makes of one language.

    Attributes:
        language: its code.
        group: `L1`, `L2` or `L3`.
        source: whether the texts are from the `corpus` or from the `evaluation`.
        texts, words, characters, tokens: how much was measured; words as of `instructions.segmentation`.
        per_word, per_character: tokens per word (fertility) and per character.
        relative: fertility relative to the reference language, in texts of the same source if it has any; None
            without a reference.
        premium: tokens relative to the same sentences in the reference language; None without such sentences.
        bytes: share of tokens that are a single byte, or not whole characters.
        unknown: share of unknown tokens.
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
class _TokenCounts:
    """What was counted in the texts of one language and source."""

    words: int
    characters: int
    by_text: Mapping[str, int]  # tokens by the text's id
    bytes: int
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
        items: the texts of the evaluation, the only ones in related languages.
        sample: how many texts to measure in each language.
    """
    texts: dict[tuple[str, str], dict[str, str]] = {}  # by source and language, the texts by their ids
    for row in evenly_spaced(corpus, sample) if corpus else ():
        for code, text in row.texts.items():
            texts.setdefault(("corpus", code), {})[row.id] = text
    for number, item in enumerate(items):
        some = texts.setdefault(("evaluation", item.language), {})
        if len(some) < sample:
            some[f"{item.task}/{item.item}/{number}"] = item.text
    counts = {key: _count(tokenizer, found) for key, found in texts.items()}
    known = sorted(languages.known, key=lambda code: code != "eng")
    reference = next((code for code in known if any(language == code for _, language in counts)), None)
    rows, without = [], []
    for group, codes in languages.groups.items():
        for code in codes:
            source = "corpus" if ("corpus", code) in counts else "evaluation"
            if (source, code) in counts:
                rows.append(_row(counts, source, code, group, reference))
            else:
                without.append(code)
    findings = Findings("tokenizer")
    _judge(rows, without, reference, findings)
    literal = literal_tokenizer(tokenizer)
    if literal is not None:
        every = [text for found in texts.values() for text in found.values()]
        spelled = Counter(name for text in every for name in set(literal.spelled(text)))
        if spelled:
            names = first_few([f"{name} in {count:,}" for name, count in spelled.most_common()])
            findings.warn(
                f"Texts that spell special tokens of the tokenizer, of {len(every):,} looked at: {names}.",
                "They are read as text, not as tokens; look whether they are remains of markup.",
            )
    return tuple(rows), findings


def examine_extension(extension: Extension, new: Sequence[str]) -> Findings:
    """Whether new pieces pay: how many tokens they save in the new languages, and how often they are seen.

    Args:
        extension: the base's tokenizer with the pieces of `model.vocabulary`.
        new: the new languages.
    """
    findings, record = Findings("vocabulary"), extension.record
    counted = {code: each for code, each in record["languages"].items() if each}
    saved = {code: 1 - counted[code]["after"] / counted[code]["before"] for code in new if code in counted}
    listed = first_few(
        [
            f"{code} {counted[code]['before']:.2f} → {counted[code]['after']:.2f} ({percent(max(0, share))} fewer)"
            for code, share in saved.items()
        ]
    )
    kept = record["protected"]
    findings.ok(
        f"{record['added']:,} new pieces; tokens a word: {listed}. Of {kept['texts']:,} texts of the known "
        f"languages, {kept['unchanged']:,} keep their tokens."
    )
    if saved and max(saved.values()) < _SAVED:
        findings.warn(
            f"The new pieces save less than {percent(_SAVED)} of the tokens in every new language.",
            "They cost more to learn than they save: leave model.vocabulary out.",
        )
    if record["median_occurrences"] < _SEEN_OFTEN:
        findings.warn(
            f"Half of the new pieces occur at most {record['median_occurrences']} times in the training text.",
            "Their rows will hardly be trained: lower model.vocabulary.add, or add corpora.",
        )
    return findings


def _count(tokenizer: PreTrainedTokenizerBase, texts: Mapping[str, str]) -> _TokenCounts:
    def decode(ids: Sequence[int]) -> str:
        return str(tokenizer.decode(list(ids), clean_up_tokenization_spaces=False))

    @cache
    def is_bytes(token: int) -> bool:
        """Whether a token is a byte, or a run of bytes that are not whole characters."""
        piece: Any = tokenizer.convert_ids_to_tokens(token)
        return bool(_BYTE.fullmatch(str(piece))) or "\ufffd" in decode([token])

    written = list(texts.values())
    encoded: Sequence[Sequence[int]] = tokenizer(written, add_special_tokens=False, verbose=False)["input_ids"]
    return _TokenCounts(
        words=sum(len(words(text)) for text in written),
        characters=sum(len(text) for text in written),
        by_text={id: len(ids) for id, ids in zip(texts, encoded, strict=True)},
        bytes=sum(is_bytes(token) for ids in encoded for token in ids),
        unknown=sum(token == tokenizer.unk_token_id for ids in encoded for token in ids),
        lost=sum(normalise(decode(ids)) != normalise(text) for text, ids in zip(written, encoded, strict=True)),
    )


def _row(
    counts: Mapping[tuple[str, str], _TokenCounts], source: str, code: str, group: str, reference: str | None
) -> LanguageTokens:
    here = counts[source, code]
    places = [(place, reference) for place in (source, "corpus", "evaluation")] if reference else []
    there = next((counts[place] for place in places if place in counts), None)
    same = [id for id in here.by_text if id in there.by_text] if there and source == "corpus" else []
    tokens, premium = max(1, here.tokens), None
    if there and same:
        premium = sum(here.by_text[id] for id in same) / max(1, sum(there.by_text[id] for id in same))
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
        premium=premium,
        bytes=here.bytes / tokens,
        unknown=here.unknown / tokens,
        lost=here.lost / max(1, len(here.by_text)),
    )


def _judge(rows: Sequence[LanguageTokens], without: list[str], reference: str | None, findings: Findings) -> None:
    def above(limit: float, measure: Callable[[LanguageTokens], float], show: Callable[[float], str]) -> str:
        return first_few([f"{row.language} {show(measure(row))}" for row in rows if measure(row) > limit])

    if without:
        findings.warn(
            f"No text to try the tokenizer on: {first_few(without)}.",
            "Add a task in these languages to evaluation.tasks, or set evaluation.data to the folder of its data.",
        )
    if unknown := above(_UNKNOWN, lambda row: row.unknown, percent):
        findings.warn(
            f"Share of tokens unknown to the tokenizer: {unknown}.",
            "The model can neither read nor write it: take a model.base whose tokenizer falls back to bytes.",
            severe=any(row.unknown > _MANY_UNKNOWN for row in rows),
        )
    elif lost := above(_LOST, lambda row: row.lost, percent):
        findings.warn(
            f"Share of texts that are not the same after encoding and decoding: {lost}.",
            "The model cannot learn what the tokenizer changes; check such texts, or take another model.base.",
        )
    if parts := above(_MANY_BYTES, lambda row: row.bytes, percent):
        findings.warn(
            f"Share of tokens that are bytes, not characters: {parts}.",
            "The tokenizer hardly covers the script: expect slow learning, or take another model.base.",
        )
    premiums = {row.language: row.premium or row.relative or 0.0 for row in rows}
    if costly := [f"{code} {premium:.1f}" for code, premium in premiums.items() if premium >= _COSTLY]:
        findings.warn(
            f"High tokenizer premium relative to {reference}: {first_few(costly)}.",
            "Raise training.max_length (see lengths), add pieces (model.vocabulary: {add: 2000}), or take a "
            "model.base that covers these languages.",
        )
    if rows and not findings:
        findings.ok(
            f"Tokenizer premium relative to {reference}: at most {max(premiums.values()):.1f}; texts round-trip."
        )
