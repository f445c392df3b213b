"""What is done for one cell of a sweep, in a process of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

from instructalign.config_file import load_config
from instructalign.errors import InstructAlignError
from instructalign.files import copy_folder
from instructalign.pipeline import run
from instructalign.run_folder import read_record, training_hash, update_record


def evaluate_base(config: Path, out: Path) -> None:
    """Evaluates the base of a cell, for all cells that have the same one and ask the same."""
    from instructalign.evaluation import evaluate

    cell = load_config(config)
    evaluate(cell.model.base, cell, out, run="base")


def run_cell(folder: Path, base: Path | None, twin: Path | None) -> None:
    """Runs the configuration that lies in a run's folder; once that is finished, its checkpoints go.

    Args:
        folder: the run's folder.
        base: an evaluation of its base, to take over.
        twin: the folder of a cell that trains the same and differs in its evaluation alone; its model is taken
            over.

    Raises:
        InstructAlignError: anything that keeps a stage from being done; or it was stopped.
    """
    from instructalign.mixture.training_data import keep_corpora

    keep_corpora()
    config = load_config(folder / "config.yaml")
    if twin is not None:
        _adopt(twin, folder, training_hash(config))
    usable = base is not None and (base / "predictions" / "manifest.json").exists()
    result = run(config, folder, base_evaluation=base if usable else None)
    if not result.finished:
        raise InstructAlignError(f"stopped at step {result.step}; the same command goes on from there.")
    if (
        config.training.keep_checkpoints == 1
    ):  # those that it takes to go on; more are kept because they are wanted
        _clear_checkpoints(folder)


def _clear_checkpoints(folder: Path) -> None:
    """Removes what a finished run, or its stages, would have gone on from: each is several times its model."""
    for checkpoints in (folder / "checkpoints", *folder.glob("stages/*/checkpoints")):
        if checkpoints.is_dir():
            shutil.rmtree(checkpoints)


def _adopt(twin: Path, folder: Path, training: str) -> None:
    """Takes over the trained model of another cell, with the record of its training, if it is there."""
    if (folder / "model").exists() or not (twin / "model").exists():
        return
    record = read_record(twin)
    if record.get("training_hash") != training:
        return
    update_record(folder, **record, trained_in=twin.name)
    if (twin / "log.jsonl").exists():
        shutil.copyfile(twin / "log.jsonl", folder / "log.jsonl")
    copy_folder(twin / "model", folder / "model", link=True)
