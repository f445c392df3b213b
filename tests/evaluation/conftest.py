"""Tiny models with large random weights, so that scores differ, and sentiment data in temporary folders."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from instructalign.config import Config
from instructalign.configfile import build_config
from instructalign.training.model import LoadedModel, load_model
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


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Gives the folder of a tiny model of a family."""
    folders: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in folders:
            folder = tmp_path_factory.mktemp("model")
            random_model(family).save_pretrained(folder)
            tiny_tokenizer().save_pretrained(folder)
            folders[family] = folder
        return folders[family]

    return make


@pytest.fixture(scope="session")
def loaded_model(model_folder: Callable[[str], Path]) -> Callable[[str], LoadedModel]:
    """Gives a tiny model of a family, ready for use."""
    loaded: dict[str, LoadedModel] = {}

    def load(family: str) -> LoadedModel:
        if family not in loaded:
            loaded[family] = load_model(str(model_folder(family)))
        return loaded[family]

    return load


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
