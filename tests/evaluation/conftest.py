"""Tiny models of every family with random weights, a tokenizer trained here, and data in temporary folders."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from instructalign.config import Config, build_config

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


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE small enough that most words have several tokens, and `positive` has one."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<pad>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*TEXTS, *["is it positive positive positive"] * 20], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token="<pad>", bos_token="<s>", eos_token="</s>", model_max_length=256
    )


SIZES: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
ENCODER_DECODER: dict[str, Any] = {
    "vocab_size": 400,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "decoder_start_token_id": 0,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "bloom": ("BloomConfig", {"vocab_size": 400, "hidden_size": 32, "n_layer": 2, "n_head": 4}),
    "llama": ("LlamaConfig", SIZES),
    "mistral": ("MistralConfig", {**SIZES, "sliding_window": 24}),
    "qwen2": ("Qwen2Config", SIZES),
    "qwen3": ("Qwen3Config", {**SIZES, "head_dim": 8}),
    "gemma": ("GemmaConfig", {**SIZES, "head_dim": 8}),
    "gemma2": ("Gemma2Config", {**SIZES, "head_dim": 8, "sliding_window": 24}),
    "gpt_neox": ("GPTNeoXConfig", {key: SIZES[key] for key in SIZES if key != "num_key_value_heads"}),
    "mpt": ("MptConfig", {"vocab_size": 400, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 256}),
    "t5": ("T5Config", ENCODER_DECODER),
    "mt5": ("MT5Config", ENCODER_DECODER),
}


@pytest.fixture(scope="session")
def make_model(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: PreTrainedTokenizerFast
) -> Callable[[str], Path]:
    """Gives the folder of a tiny random model of a family; weights are large, so that scores differ."""
    folders: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp(family)
            name, options = FAMILIES[family]
            config = getattr(transformers, name)(pad_token_id=0, bos_token_id=1, eos_token_id=2, **options)
            factory: Any = (
                transformers.AutoModelForSeq2SeqLM
                if config.is_encoder_decoder
                else transformers.AutoModelForCausalLM
            )
            with torch.random.fork_rng():
                torch.manual_seed(7)
                model = factory.from_config(config)
                for parameter in model.parameters():
                    parameter.data = torch.randn_like(parameter) * 0.3
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            folders[family] = folder
        return folders[family]

    return make


@pytest.fixture
def sentiment(tmp_path: Path) -> Path:
    """A data folder with NusaX-like sentiment files in Indonesian, Acehnese and Madurese."""
    for name, shift in (("indonesian", 0), ("acehnese", 1), ("madurese", 2)):
        path = tmp_path / "data" / "nusax" / "sentiment" / name / "test.csv"
        path.parent.mkdir(parents=True)
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["id", "text", "label"])
            for number in range(12):
                text = TEXTS[(number + shift) % len(TEXTS)]
                writer.writerow([f"s{number}", f"{text} {number}", LABELS[number % 3]])
    return tmp_path / "data"


@pytest.fixture
def make_config(sentiment: Path) -> Callable[..., Config]:
    """A configuration of an evaluation on the sentiment files; keywords are keys of `evaluation`."""

    def make(**evaluation: Any) -> Config:
        return build_config(
            {
                "model": {"base": "base"},
                "languages": {"known": ["ind"], "new": ["ace"], "related": ["mad"]},
                "corpora": [{"format": "toy"}],
                "training": {"steps": 1},
                "evaluation": {
                    "tasks": ["nusax_senti"],
                    "data": str(sentiment),
                    "prompts": ["en-1", "id-2"],
                    "bootstrap": 50,
                    **evaluation,
                },
            }
        )

    return make
