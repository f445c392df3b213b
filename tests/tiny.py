"""Tiny random models of every family, with a tokenizer trained on the spot: nothing is downloaded."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    MT5Config,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    T5Config,
)

DECODER_ONLY = ("bloom", "llama", "gpt_neox", "qwen2", "gemma2", "mistral")
ENCODER_DECODER = ("mt5", "t5")
FAMILIES = DECODER_ONLY + ENCODER_DECODER
NEWER = ("gemma3", "qwen3")  # where a test of training shall cover generations that differ in their layers
TEXTS = [
    "the food is good and the place is clean",
    "makanan di sini enak sekali dan tempatnya bersih",
    "panganane enak lan panggonane resik",
    "translate from English to Javanese: positive negative neutral yes no ___",
]


@lru_cache(maxsize=1)
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=360, special_tokens=["<pad>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer.to_str()


def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of about 360 tokens that can write any text."""
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained()), pad_token="<pad>", eos_token="</s>"
    )


def tiny_model(family: str, seed: int = 0, width: int = 32) -> Any:
    """A random model of two layers in float32."""
    vocabulary = len(tiny_tokenizer())
    common: dict[str, Any] = {"vocab_size": vocabulary, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": None}
    decoder: dict[str, Any] = {
        **common,
        "hidden_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 2 * width,
        "max_position_embeddings": 512,
    }
    grouped = {**decoder, "num_key_value_heads": 1}
    seq2seq: dict[str, Any] = {
        **common,
        "d_model": width,
        "d_kv": width // 2,
        "d_ff": 2 * width,
        "num_layers": 2,
        "num_heads": 2,
        "decoder_start_token_id": 0,
        "dropout_rate": 0.0,
    }
    configs: dict[str, Any] = {
        "bloom": lambda: BloomConfig(**common, hidden_size=width, n_layer=2, n_head=2),
        "llama": lambda: LlamaConfig(**grouped),
        "gpt_neox": lambda: GPTNeoXConfig(**decoder),
        "qwen2": lambda: Qwen2Config(**grouped, tie_word_embeddings=True),
        "gemma3": lambda: Gemma3TextConfig(**grouped, head_dim=width // 2, sliding_window=64),
        "qwen3": lambda: Qwen3Config(**grouped, head_dim=width // 2),
        "gemma2": lambda: Gemma2Config(**grouped, head_dim=width // 2, sliding_window=64),
        "mistral": lambda: MistralConfig(**grouped, sliding_window=None),
        "mt5": lambda: MT5Config(**seq2seq, feed_forward_proj="gated-gelu", tie_word_embeddings=False),
        "t5": lambda: T5Config(**seq2seq),
    }
    torch.manual_seed(seed)
    factory: Any = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
    return factory.from_config(configs[family]()).eval()


def save_tiny(folder: Path, family: str = "llama", seed: int = 0, width: int = 32) -> Path:
    """A tiny model in a folder, as the Hub would have it."""
    tiny_model(family, seed, width).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
