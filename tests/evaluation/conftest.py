"""Folders of tiny models, and sentiment data in temporary folders."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_models import LABELS, TEXTS, random_model

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.training.models import LoadedModel, load_model
from tiny import tiny_tokenizer


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
