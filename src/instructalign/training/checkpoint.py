"""Checkpoints that exist whole or not at all."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from collections.abc import Collection
from pathlib import Path

from safetensors import SafetensorError, safe_open

_NAME = re.compile(r"checkpoint-(\d+)")
PARTIAL = ".partial"


def partial_folder(folder: Path) -> Path:
    """Where checkpoints are written before they are complete."""
    return folder / PARTIAL


def publish(folder: Path, step: int, keep: int, spared: Collection[int] = ()) -> Path:
    """Moves a completely written checkpoint to its own name and removes the oldest ones.

    Args:
        folder: the run's `checkpoints` folder; the new checkpoint lies in its partial folder.
        step: the checkpoint's step.
        keep: how many checkpoints stay, the new one included.
        spared: steps whose checkpoints stay beside them.
    """
    written = partial_folder(folder) / f"checkpoint-{step}"
    final = folder / f"checkpoint-{step}"
    if final.exists():  # the same, since step s of a run is the same whenever it is done
        shutil.rmtree(written)
        return final
    for path in written.rglob("*"):
        if path.is_file():
            _sync(path)
    _sync(written)
    written.rename(final)
    _sync(folder)
    kept = {f"checkpoint-{each}" for each in spared}
    for old in [path for path in complete(folder)[:-keep] if path.name not in kept]:
        # Renamed first: a removal cut short must not leave half a checkpoint under a checkpoint's name.
        doomed = partial_folder(folder) / old.name
        old.rename(doomed)
        shutil.rmtree(doomed)
    return final


def complete(folder: Path) -> list[Path]:
    """The complete checkpoints of a run, oldest first."""
    if not folder.is_dir():
        return []
    named = [(int(match[1]), path) for path in folder.iterdir() if (match := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(named)]


def clear_partial(folder: Path) -> None:
    """Removes what an interrupted write left behind."""
    shutil.rmtree(partial_folder(folder), ignore_errors=True)


def damaged(folder: Path) -> list[str]:
    """The files of a checkpoint that are cut off, or not what their names say; few of them are read whole."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and _is_broken(path)
    )


def _is_broken(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".safetensors":
            with safe_open(path, "numpy"):  # compares the file's length with what its header says
                pass
        elif path.suffix in (".pt", ".pth"):  # PyTorch's are zip archives, with the table of contents at the end
            return not zipfile.is_zipfile(path)
    except (ValueError, SafetensorError):
        return True
    return False


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
