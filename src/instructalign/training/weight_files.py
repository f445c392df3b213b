"""Whether the files of a model or of a checkpoint are whole: seen without loading them, nor reading large ones."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from instructalign.file_kinds import whose_place

_WEIGHTS = ("*.safetensors", "*.bin")
_HEAD = 1024  # bytes that show what was saved in the place of a file
_INDICES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")  # of a model saved in several files


def damage_of(path: Path) -> str:
    """What is wrong with a file, to be read behind its name; empty if nothing is, or nothing shows.

    Args:
        path: JSON, weights or what PyTorch saved, by its ending; of others it shows only what was saved in their
            place, such as a Git LFS pointer.
    """
    with path.open("rb") as file:
        if other := whose_place(file.read(_HEAD)):
            return f"is {other.rstrip('.')}"
    known = path.suffix in (".json", ".safetensors", ".bin", ".pt", ".pth")
    if known and not path.stat().st_size:
        return "is empty"
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy"):  # compares the file's length with what its header says
                pass
        elif path.suffix in (".bin", ".pt", ".pth"):
            with path.open("rb") as file:
                archive = path.suffix != ".bin" or file.read(2) == b"PK"  # older `.bin` are no archives
            if archive and not zipfile.is_zipfile(path):  # its table of contents is at the end
                return "is damaged or truncated"
    except (ValueError, SafetensorError, OSError) as error:
        return f"is damaged or truncated ({error})"
    return ""


def damaged_weights(folder: Path) -> str:
    """What is wrong with the weight files in a model's folder, as a sentence; empty if nothing is."""
    files = sorted(path for kind in _WEIGHTS for path in folder.glob(kind))
    if not files:
        return f"{folder} contains no weights: neither {' nor '.join(_WEIGHTS)}."
    for name in _INDICES:
        try:
            needed = set(json.loads((folder / name).read_text(encoding="utf-8"))["weight_map"].values())
        except (OSError, ValueError, KeyError, AttributeError):
            continue
        if missing := sorted(needed - {path.name for path in files}):
            return f"{folder / name} lists {', '.join(missing)}, which does not exist."
    return next((f"{path} {damage}." for path in files if (damage := damage_of(path))), "")
