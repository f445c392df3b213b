"""What is found of a tokenizer, against counts made by hand on tokenizers built for it."""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instructalign.config import LanguagesConfig
from instructalign.data import Corpus, ItemText
from instructalign.doctor.check_tokenizer import LanguageTokens, examine_tokenizer
from instructalign.doctor.findings import Findings
from instructalign.types import Counts, ParallelRow

LANGUAGES = LanguagesConfig(known=["ind", "eng"], new=["jav"], related=["mad"])


def by_word(*words: str) -> PreTrainedTokenizerFast:
    """One token a word; what it does not know is unknown."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", *words])}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<unk>")


def by_byte(*merges: tuple[str, str]) -> PreTrainedTokenizerFast:
    """Byte-level BPE with these merges alone."""
    pieces = sorted(pre_tokenizers.ByteLevel.alphabet()) + ["".join(merge) for merge in merges]
    made = Tokenizer(models.BPE({piece: number for number, piece in enumerate(pieces)}, list(merges)))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=made)


def with_fallback(*characters: str) -> PreTrainedTokenizerFast:
    """Single characters, and bytes for the others, as SentencePiece writes them."""
    pieces = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *characters]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    made = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    made.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>")


def look(
    tokenizer: Any, *rows: dict[str, str], items: tuple[tuple[str, str], ...] = ()
) -> tuple[dict[str, LanguageTokens], Findings]:
    corpus = Corpus([ParallelRow(f"row-{number}", texts) for number, texts in enumerate(rows)], Counts())
    texts = [ItemText("task", str(number), code, text) for number, (code, text) in enumerate(items)]
    found, findings = examine_tokenizer(tokenizer, LANGUAGES, corpus, texts, 100)
    return {each.language: each for each in found}, findings


def messages(findings: Findings) -> dict[str, str]:
    return {f"{each.found} {each.advice}": each.level for each in findings}


def test_texts_that_spell_special_tokens_are_counted() -> None:
    tokenizer = by_byte()
    tokenizer.add_special_tokens({"eos_token": "</s>", "additional_special_tokens": ["<|end|>"]})
    _, findings = look(
        tokenizer,
        {"eng": "a</s>b</s>", "jav": "c"},
        {"eng": "d", "jav": "<|end|> e </s>"},
        {"eng": "f < / s >", "jav": "g"},
        items=(("mad", "h"),),
    )
    [(found, level)] = [each for each in messages(findings).items() if "special tokens" in each[0]]
    assert level == "warning"
    assert "of 7 looked at: </s> in 2, <|end|> in 1." in found


def test_words_and_characters_are_counted() -> None:
    tokenizer = by_byte()
    found, findings = look(tokenizer, {"eng": "ab cd", "jav": "abc ef g"}, items=(("mad", "abcd"), ("ind", "ab")))
    english, javanese, madurese = found["eng"], found["jav"], found["mad"]
    assert (english.tokens, english.words, english.characters) == (5, 2, 5)
    assert (english.per_word, english.per_character, english.relative, english.premium) == (2.5, 1.0, 1.0, 1.0)
    assert (javanese.tokens, javanese.words) == (8, 3)
    assert javanese.relative == pytest.approx((8 / 3) / 2.5)
    assert javanese.premium == pytest.approx(8 / 5)
    assert (madurese.source, madurese.group, madurese.premium) == ("evaluation", "L3", None)
    assert madurese.relative == pytest.approx(4 / 2.5)  # no English among the items: that of the corpus
    assert [each.level for each in findings] == ["ok"]


def test_english_is_the_reference_in_any_position() -> None:
    found, _ = look(by_byte(), {"ind": "abcdefgh", "eng": "ab", "jav": "abcd"})
    assert found["jav"].premium == 2.0
    found, _ = look(by_byte(), {"ind": "abcdefgh", "jav": "abcd"})
    assert found["jav"].premium == 0.5  # without English, the first known language


def test_unknown_words_are_a_problem() -> None:
    found, findings = look(by_word("a", "b", "c"), {"eng": "a b c a", "jav": "a x y b"}, {"eng": "a", "jav": "b"})
    assert (found["jav"].unknown, found["eng"].unknown) == (0.4, 0.0)
    assert found["jav"].lost == 0.5
    [(message, level)] = [(key, level) for key, level in messages(findings).items() if "unknown" in key]
    assert level == "problem"
    assert "jav 40 %" in message
    assert "model.base whose tokenizer falls back to bytes" in message


def test_bytes_that_are_no_characters() -> None:
    # é is two bytes, Javanese ꦗ three; a merge makes whole characters of them.
    found, findings = look(by_byte(), {"eng": "abcd", "jav": "aé"})
    assert found["jav"].bytes == pytest.approx(2 / 3)
    assert any("bytes, not characters: jav 67 %" in key for key in messages(findings))
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str("é")[0][0]
    found, _ = look(by_byte((alphabet[0], alphabet[1])), {"eng": "abcd", "jav": "aé"})
    assert (found["jav"].tokens, found["jav"].bytes) == (2, 0.0)


def test_byte_fallback_pieces() -> None:
    found, _ = look(with_fallback("a", "b"), {"eng": "ab", "jav": "ax"})
    assert (found["jav"].tokens, found["jav"].bytes, found["jav"].unknown, found["jav"].lost) == (2, 0.5, 0.0, 0.0)


def test_texts_that_do_not_round_trip() -> None:
    tokenizer = by_byte()
    lowered = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    from tokenizers import normalizers

    lowered.normalizer = normalizers.Lowercase()
    changing = PreTrainedTokenizerFast(tokenizer_object=lowered)
    found, findings = look(changing, {"eng": "abc", "jav": "Abc"}, {"eng": "abc", "jav": "abc"})
    assert (found["jav"].lost, found["eng"].lost) == (0.5, 0.0)
    [message] = [key for key in messages(findings) if "not the same after encoding" in key]
    assert "jav 50 %" in message


def test_a_language_with_a_high_premium_is_named() -> None:
    _, findings = look(by_byte(), {"eng": "ab", "jav": "abcdefg"}, items=(("mad", "a"), ("ind", "a")))
    [finding] = findings
    assert (finding.level, finding.about) == ("warning", "tokenizer")
    assert finding.found == "High tokenizer premium relative to eng: jav 3.5."
    assert "training.max_length" in finding.advice


def test_languages_without_text_are_named() -> None:
    _, findings = look(by_byte(), {"eng": "ab", "jav": "ab"})
    assert findings[0].found.endswith(": ind, mad.")
    assert "evaluation.tasks" in findings[0].advice
