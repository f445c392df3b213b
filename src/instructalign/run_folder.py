"""A run's folder: which configuration it belongs to, and its metadata in run.json."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from instructalign.config import DATA_KEYS, Config, known_model_keys
from instructalign.errors import RunFolderError
from instructalign.files import read_object, text_hash, write_json, write_text
from instructalign.progress import is_main_process

NEUTRAL_KEYS = {
    "training": ["workers", "report_to", "log_every", "keep_checkpoints", "checkpoint_every", "divergence"],
    "filter": ["rejects"],
}
"""Keys by block that change neither what a run learns nor how it is scored."""

_ITEM_KEYS = ("tasks", "data", "languages", "items")  # of evaluation: which test items are dropped
_PACKAGES = ("instructalign", "torch", "transformers", "peft", "accelerate", "datasets", "numpy")
_MAX_SHOWN = 60  # characters of a value in an error


def open_folder(folder: Path, config: Config) -> None:
    """Creates a run's folder, or checks that an existing one is of the same configuration.

    A folder in which nothing was trained yet adopts the new configuration. Evaluation settings may differ in any
    case: they are checked where results are reused.

    Raises:
        RunFolderError: the folder holds another run, or something that is no run.
    """
    saved = folder / "config.yaml"
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file; a run needs a folder. Choose another --out.")
    if not saved.exists():
        strangers = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if not is_main_process():
            return
        if strangers and not (folder / "run.json").exists():
            raise RunFolderError(
                f"{folder} is not empty and holds no run (found: {', '.join(sorted(strangers)[:8])}). "
                "Choose an empty or new folder with --out."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write_text(saved, config.to_yaml())
        _write_recipe(folder)
        return
    before = read_object(saved, yaml.safe_load)
    after = config.to_dict()
    changed = config_differences(_learned(before), _learned(after))
    began = any((folder / name).exists() for name in ("checkpoints", "model"))
    if began and len(changed) == 1 and after["training"]["steps"] > before.get("training", {}).get("steps", 0):
        if reasons := _not_prolonged(after, folder):
            raise RunFolderError(
                f"{folder} holds a run of {before['training']['steps']} steps, which cannot go on to "
                f"{after['training']['steps']} as if asked for from the start: {'; '.join(reasons)}. "
                "Choose another folder with --out; to train its model further as it is, set model.base to "
                f"{folder / 'model'} there."
            )
        scores = folder / "evaluation" / "adapted"
        if is_main_process() and scores.exists():  # they are of the shorter training
            scores.rename(scores.with_name(f"adapted-{before['training']['steps']}-steps"))
    elif changed and began:
        raise RunFolderError(
            f"{folder} holds a run of another configuration; different: {'; '.join(changed[:8])}. "
            "Choose another folder with --out, or remove this one."
        )
    if is_main_process():
        write_text(saved, config.to_yaml())
        _write_recipe(folder)


def _not_prolonged(plain: dict[str, Any], folder: Path) -> list[str]:
    """What would have made the first steps of a run others, had more been asked for; empty if nothing."""
    reasons = []
    scheduler = plain["training"]["scheduler"]
    if scheduler != "constant":
        reasons.append(
            f"training.scheduler {scheduler} gives every step another learning rate where there are more"
        )
    shape = ((plain.get("replay") or {}).get("schedule") or {}).get("shape", "staged")
    if shape != "staged":
        reasons.append(f"replay.schedule {shape} gives every step another share of replay")
    if plain.get("stages"):
        reasons.append("each of its stages would begin with another model")
    if read_run_metadata(folder).get("early_stopping", {}).get("reason"):
        reasons.append("training.early_stopping ended it")
    return reasons


def _write_recipe(folder: Path) -> None:
    """Writes `reproduce.sh` into a run's folder: the versions it began with, and the command that repeats it."""
    path = folder / "reproduce.sh"
    if path.exists():
        return
    found = {name: number.partition("+")[0] for name, number in versions().items()}  # +cpu names a build
    pinned = " ".join(f"{name}=={found[name]}" for name in _PACKAGES if name in found)
    write_text(
        path,
        f"""#!/bin/sh
# Repeats the run of this folder. `install` first gets the versions it began with (Python {found["python"]}).
# The data must be where config.yaml says; run.json has the hashes of its files, and the commit of instructalign.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
if [ "${{1:-}}" = install ]; then
  python -m pip install {pinned}
  shift
fi
instructalign run "$here/config.yaml" --out "${{1:-$here-again}}"
""",
    )
    path.chmod(path.stat().st_mode | 0o111)


def config_differences(before: Any, after: Any, path: str = "") -> list[str]:
    """The paths of the keys whose values differ between two nested dictionaries, with both values."""
    if not (isinstance(before, dict) and isinstance(after, dict)):
        return [] if before == after else [f"{path} ({_short(before)} there, {_short(after)} here)"]
    found = []
    for key in sorted({*before, *after}, key=str):
        inner = f"{path}.{key}" if path else str(key)
        found += config_differences(before.get(key), after.get(key), inner)
    return found


def _short(value: Any) -> str:
    """A value as JSON that does not fill a line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def training_hash(config: Config) -> str:
    """A hash of everything in a configuration that the trained weights depend on."""
    return text_hash(_learned(config.to_dict()))


def _learned(plain: dict[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the trained weights depend on."""
    kept = {
        block: dict(value) if isinstance(value, dict) else value for block, value in _without_terms(plain).items()
    }
    evaluation = kept.pop("evaluation", {})
    if kept.get("contamination") == "drop":
        kept["evaluation"] = {key: evaluation.get(key) for key in _ITEM_KEYS}
    else:
        kept.pop("contamination", None)
    if not (kept.get("replay") or {}).get("heldout"):
        (kept.get("replay") or {}).pop("heldout", None)  # 0 is the behaviour of runs from before this key existed
    if kept.get("instruction_data") is None:
        kept.pop("instruction_data", None)  # earlier versions had no such block
    elif not kept["instruction_data"].get("crosslingual"):
        kept["instruction_data"].pop("crosslingual", None)  # nor this key
    if isinstance(kept.get("model"), dict):
        kept["model"] = known_model_keys(kept["model"])
    for block, keys in NEUTRAL_KEYS.items():
        for key in keys:
            kept.get(block, {}).pop(key, None)
    return kept


def _without_terms(value: Any) -> Any:
    """A configuration without what it says of the licences and provenance of data."""
    if isinstance(value, dict):
        return {key: _without_terms(inner) for key, inner in value.items() if key not in DATA_KEYS}
    return [_without_terms(inner) for inner in value] if isinstance(value, list) else value


def read_run_metadata(folder: Path) -> dict[str, Any]:
    """The run.json of a folder; empty where there is none yet.

    Raises:
        DataError: it is damaged.
    """
    return read_object(folder / "run.json", json.loads)


def update_run_metadata(folder: Path, **entries: Any) -> None:
    """Adds entries to a folder's run.json; dictionaries are merged into those already there."""
    if not is_main_process():
        return
    metadata = read_run_metadata(folder)
    for key, value in entries.items():
        if isinstance(value, dict) and isinstance(metadata.get(key), dict):
            metadata[key] = {**metadata[key], **value}
        else:
            metadata[key] = value
    write_json(folder / "run.json", metadata)


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that numbers depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
