"""Whether a model's weights are there and whole, without loading them or fetching any."""

from __future__ import annotations

import json
from pathlib import Path

from instructalign.config import ModelConfig
from instructalign.training.models import resolve_model

INDEX = "model.safetensors.index.json"
KINDS = ("*.safetensors", "*.bin")


def at_hand(model: ModelConfig) -> bool:
    """Whether the weights lie on this machine: in a folder, or in the cache of the Hub."""
    place = resolve_model(model.base)
    if Path(place).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(place, name, revision=model.revision), str)
        for name in ("model.safetensors", "pytorch_model.bin")
    )


def damage(model: ModelConfig) -> str:
    """What is wrong with the files of weights in a model's folder; empty where nothing is, or it is on the Hub."""
    folder = Path(resolve_model(model.base))
    if not folder.is_dir():
        return ""
    files = sorted(path for kind in KINDS for path in folder.glob(kind))
    if not files:
        return f"{folder} holds no weights: neither {' nor '.join(KINDS)}."
    missing = sorted(_listed(folder / INDEX) - {path.name for path in files})
    if missing:
        return f"{folder / INDEX} lists {', '.join(missing)}, which is not there."
    return next((reason for path in files if (reason := _unreadable(path))), "")


def _listed(index: Path) -> set[str]:
    """The files of a model that is saved in several."""
    if not index.is_file():
        return set()
    try:
        return set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, AttributeError):
        return set()


def _unreadable(path: Path) -> str:
    """Why a file of weights cannot be opened; its head says how long it must be."""
    if path.suffix != ".safetensors":
        return "" if path.stat().st_size else f"{path} is empty."
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt"):
            return ""
    except (SafetensorError, OSError) as error:
        return f"{path} is damaged or cut off ({error})."
