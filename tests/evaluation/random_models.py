"""Texts, and tiny models with large random weights, so that scores differ; for the tests and their fixtures."""

from __future__ import annotations

from typing import Any

import torch
import transformers

from tiny import FAMILIES, tiny_model, tiny_tokenizer

TEXTS = [
    "Iya benar, dia sedang jaga warung.",
    "Makanannya enak sekali, tempatnya luas dan menyenangkan!",
    "I did not like the room; the breakfast was cold.",
    "Toe ngon hotel lon dom, jak ngon tapak, disinoe le that pilehan makananjih.",
    "Cepak saka hotelku nginep.",
    'A text with "quotes", {braces} and ꦲꦏ꧀ꦱꦫꦗꦮ.',
    "Ae beneh, iye sedeng nyaga warung",
    "good",
    "Ido toho, ibana manjaga kode " * 4,
]
LABELS = ["positive", "neutral", "negative"]

SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "bos_token_id": None,
}
# Beside the usual families: windows shorter than the prompts, and a model that is not told positions.
MORE: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 8}),
    "gemma": ("GemmaConfig", {**SIZES, "head_dim": 8}),
    "mistral, window of 24": ("MistralConfig", {**SIZES, "sliding_window": 24}),
    "gemma2, window of 24": ("Gemma2Config", {**SIZES, "head_dim": 8, "sliding_window": 24}),
    "mpt": ("MptConfig", {"d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 512}),
}
ALL = [*FAMILIES, *MORE]


def random_model(family: str) -> Any:
    if family in MORE:
        name, options = MORE[family]
        config = getattr(transformers, name)(vocab_size=len(tiny_tokenizer()), **options)
        model = transformers.AutoModelForCausalLM.from_config(config)
    else:
        model = tiny_model(family)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        for parameter in model.parameters():
            parameter.data = torch.randn_like(parameter) * 0.2
    return model
