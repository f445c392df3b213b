"""Special tokens that texts spell are text, for every kind of tokenizer; all other texts keep their ids."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from instructalign.training.special_tokens import LiteralTokenizer
from tiny import TEXTS, tiny_tokenizer

SPECIAL = ["<pad>", "<unk>", "<s>", "</s>"]
KINDS = ("byte BPE", "unigram", "SentencePiece BPE", "WordPiece", "bytes in Python")


@lru_cache(maxsize=8)
def tokenizer_of(kind: str) -> Any:
    """A tokenizer of a kind, made as that kind's own tools make it."""
    if kind == "byte BPE":
        return tiny_tokenizer()
    if kind == "bytes in Python":
        return ByT5Tokenizer(extra_ids=2)
    letters = sorted(set("".join(TEXTS)) | set("<>/spadunk"))
    if kind == "unigram":  # T5, mT5, XLM-R: a normaliser, and the special tokens in the vocabulary
        pieces = [(token, 0.0) for token in SPECIAL] + [("▁the", -3.0), ("▁food", -4.0), ("▁", -5.0)]
        pieces += [(letter, -6.0 - place / 100) for place, letter in enumerate(letters) if letter != " "]
        backend = Tokenizer(models.Unigram(pieces, unk_id=1))
        backend.normalizer = normalizers.NFKC()
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    elif kind == "SentencePiece BPE":  # Llama 2, Mistral: merges that would make `</s>`, unknown letters as bytes
        byte = [f"<0x{number:02X}>" for number in range(256)]
        words = [*SPECIAL, *byte, "▁", *(letter for letter in letters if letter != " "), "</", "s>", "th", "the"]
        merges = [("<", "/"), ("s", ">"), ("</", "s>"), ("t", "h"), ("th", "e")]
        vocabulary = {word: number for number, word in enumerate(words)}
        backend = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True))
        backend.pre_tokenizer = pre_tokenizers.Metaspace(split=False)
        backend.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(), decoders.Fuse()])
    else:
        backend = Tokenizer(models.WordPiece(unk_token="<unk>"))
        backend.pre_tokenizer, backend.decoder = pre_tokenizers.BertPreTokenizer(), decoders.WordPiece()
        trainer = trainers.WordPieceTrainer(vocab_size=200, special_tokens=SPECIAL, show_progress=False)
        backend.train_from_iterator([*TEXTS, "< / s > p a d"], trainer)
    backend.add_special_tokens(SPECIAL)
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", SPECIAL.index("<s>")), ("</s>", SPECIAL.index("</s>"))]
    )
    names = {"pad_token": "<pad>", "unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    return PreTrainedTokenizerFast(tokenizer_object=backend, **names)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spelled_special_token_is_text(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    literal = LiteralTokenizer(tokenizer)
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    text = "the</s> food <pad>"
    assert special & set(tokenizer.encode(text, add_special_tokens=False)) == {
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
    }
    ids = literal.encode(text, add_special_tokens=False)
    assert not special & set(ids)
    assert tokenizer.unk_token_id not in ids
    assert str(tokenizer.decode(ids)).replace(" ", "") == text.replace(" ", "")
    closed = literal.encode(text)  # what the tokenizer adds by itself is real
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    last = [] if kind == "byte BPE" else [tokenizer.eos_token_id]
    assert closed == [*first, *ids, *last]


@given(text=st.text(st.sampled_from("the fod<>/spa_|é語\n"), max_size=24))
@pytest.mark.parametrize("kind", KINDS)
def test_ordinary_texts_keep_their_ids(kind: str, text: str) -> None:
    tokenizer = tokenizer_of(kind)
    literal = LiteralTokenizer(tokenizer)
    if not literal.spelled(text):
        assert literal.encode(text) == tokenizer.encode(text)


def test_tokens_that_a_chat_template_writes_are_text_too() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<think>", "user", "food"])  # which the tokenizer does not call special
    tokenizer.chat_template = "<think>user: {{ messages[0].content }}"
    think, word = tokenizer.convert_tokens_to_ids(["<think>", "user"])
    ids = LiteralTokenizer(tokenizer).encode("the user <think>")
    assert think not in ids
    assert word in ids  # a word is no mark of a turn
    assert LiteralTokenizer(tokenizer).spelled("a <think> <think> user") == ["<think>", "<think>"]
