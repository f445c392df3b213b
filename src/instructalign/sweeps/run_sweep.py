"""Runs a sweep: what cells share is done once, what is done is not done again, a failure stops nothing else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from instructalign.config_file import ConfigSource, load_config
from instructalign.errors import InstructAlignError, RunFolderError
from instructalign.files import copy_folder, text_hash, write_json
from instructalign.mixture.training_data import CorpusCache
from instructalign.notebooks import default_progress, html_table
from instructalign.pipeline import run
from instructalign.progress import Progress
from instructalign.report import Report, write_report
from instructalign.run_folder import open_folder, read_run_metadata, training_hash, update_run_metadata, versions
from instructalign.sweeps.grid import SweepCell, SweepPlan, base_key, plan_sweep
from instructalign.sweeps.workers import Executor, Job, local_executor, run_jobs

_STATUS_FILE = "sweep.json"
_CELLS, _LOGS, _LOCK = "cells", "logs", ".lock"
_corpora = CorpusCache()  # for the cells that one worker process runs one after another


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        folder: the sweep's folder.
        failed: the error of every cell that failed, by the name of its run folder.
        report: the comparison of the finished cells; None where there are none.
    """

    folder: Path
    failed: Mapping[str, str]
    report: Report | None

    def _repr_html_(self) -> str:
        failed = html_table(["failed", "error"], self.failed.items()) if self.failed else ""
        return (self.report._repr_html_() if self.report else "") + failed


def sweep(
    config: ConfigSource,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    plan: SweepPlan | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress | None = None,
) -> SweepResult:
    """Runs every cell of a sweep and compares them in one report.

    Each cell is an ordinary run in `out/cells`. The same call resumes a sweep, whatever stopped it: finished cells
    are kept, unfinished ones resume from their checkpoint, failed ones are tried again. Cells with the same base
    and the same evaluation share its results; cells with the same training share the model.

    On this machine, cells run in parallel in processes of their own: one for each GPU, or core. A program that
    calls this needs the guard `if __name__ == "__main__":`, as always with `multiprocessing`.

    Args:
        config: a configuration's file, with or without a `sweep` block, or what it holds; or a configuration.
        out: the sweep's folder.
        settings, seeds: as for `plan_sweep`.
        plan: what that made of them, where it was called before.
        workers: cells at a time; by default as many as there are GPUs, or cores.
        executor: runs the jobs elsewhere, such as `SlurmExecutor`.
        progress: called with the steps of all cells that are done; by default in a notebook's cell, where there
            is one.

    Raises:
        ConfigError: a cell's configuration is wrong; nothing was done.
        RunFolderError: `out` holds something else, or another process is at work in it.
    """
    out, progress = Path(out), progress or default_progress()
    plan = plan or plan_sweep(config, settings, seeds)
    with _locked(out):
        for cell in plan.cells:
            open_folder(out / _CELLS / cell.folder, cell.config)
        status = _Status(out, plan, Path(config).name if isinstance(config, (str, Path)) else "")
        jobs = _jobs(out, plan, status)
        steps_of = {
            cell.folder: cell.config.training.steps * len(cell.config.stages or [0]) for cell in plan.cells
        }

        def tick() -> None:
            finished, failed = status.finished(), status.failed()
            steps = sum(
                total if folder in finished else steps_done(out / _CELLS / folder)
                for folder, total in steps_of.items()
            )
            remark = f"{len(finished)} of {len(plan.cells)} cells done" + (
                f", {len(failed)} failed" if failed else ""
            )
            progress("sweep", steps, sum(steps_of.values()), remark)

        run_jobs(jobs, executor or local_executor(workers, len(jobs)), status.ended, tick)
        report = write_report([out]) if status.finished() else None
    return SweepResult(out, status.failed(), report)


def evaluate_base(config: Path, out: Path) -> None:
    """A job: evaluates the base of a cell, for all cells with the same base and the same evaluation."""
    from instructalign.evaluation import evaluate

    cell = load_config(config)
    evaluate(cell.model.base, cell, out, run="base")


def run_cell(folder: Path, base: Path | None, twin: Path | None) -> None:
    """A job: runs the configuration in a run's folder, and deletes its checkpoints once that is finished.

    Args:
        folder: the run's folder.
        base: an evaluation of its base, to reuse.
        twin: the folder of a cell with the same training and another evaluation, whose model is reused.

    Raises:
        InstructAlignError: a stage failed, or the run was stopped.
    """
    config = load_config(folder / "config.yaml")
    if twin is not None and (twin / "model").exists() and not (folder / "model").exists():
        record = read_run_metadata(twin)
        if record.get("training_hash") == training_hash(config):
            update_run_metadata(folder, **record, trained_in=twin.name)
            if (twin / "log.jsonl").exists():
                shutil.copyfile(twin / "log.jsonl", folder / "log.jsonl")
            copy_folder(twin / "model", folder / "model", link=True)
    usable = base is not None and (base / "predictions" / "manifest.json").exists()
    result = run(config, folder, base_evaluation=base if usable else None, cache=_corpora)
    if not result.finished:
        raise InstructAlignError(f"stopped at step {result.step}; rerun the same command to resume.")
    if config.training.keep_checkpoints == 1:  # the one to resume from; more are kept for their own sake
        apart = config.model.adapter is not None and not config.model.adapter.merge  # it belongs to `extended`
        for name in ("checkpoints", *([] if apart else ["extended"])):  # several times as large as the model
            for spent in (folder / name, *folder.glob(f"stages/*/{name}")):
                shutil.rmtree(spent, ignore_errors=True)


def _jobs(out: Path, plan: SweepPlan, status: _Status) -> list[Job]:
    """What is to be done: bases first, then cells; of cells with the same training, one before the others."""
    bases: dict[str, Job] = {}
    cells: list[Job] = []
    trained: dict[str, SweepCell] = {}
    for cell in plan.cells:
        folder = out / _CELLS / cell.folder
        # The stages of a cell are in its own folder, so such a cell shares none of them.
        first = cell if cell.config.stages else trained.setdefault(training_hash(cell.config), cell)
        if status.is_done(cell):
            continue
        base, after = None, []
        if cell.config.evaluation.tasks:
            key = base_key(cell.config)
            base, name = out / "bases" / key, f"base-{key}"
            log = out / _LOGS / f"{name}.log"
            bases.setdefault(name, Job(name, evaluate_base, (folder / "config.yaml", base), log))
            after.append(name)
        twin = None if first is cell else out / _CELLS / first.folder
        if twin is not None and not status.is_done(first):
            after.append(first.folder)
        log = out / _LOGS / f"{cell.folder}.log"
        cells.append(Job(cell.folder, run_cell, (folder, base, twin), log, tuple(after)))
    return [*bases.values(), *cells]


class _Status:
    """`sweep.json`: what the cells are, and the status of each."""

    def __init__(self, out: Path, plan: SweepPlan, config: str) -> None:
        self._path = out / _STATUS_FILE
        try:
            before = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        except ValueError as error:
            raise RunFolderError(
                f"{self._path} is not JSON ({error}). Delete it: the cells themselves are kept."
            ) from None
        earlier = {cell["folder"]: cell for cell in before.get("cells", [])}
        self._cells: dict[str, dict[str, Any]] = {}
        for cell in plan.cells:
            key = text_hash(cell.config.to_yaml())
            old = earlier.get(cell.folder, {})
            same = old.get("key") == key
            self._cells[cell.folder] = {
                "name": cell.name,
                "seed": cell.seed,
                "at": dict(cell.at),
                "folder": cell.folder,
                "key": key,
                "status": "done" if same and old.get("status") == "done" else "waiting",
                "error": "",
                "seconds": old.get("seconds", 0.0) if same else 0.0,
            }
        self._head = {
            "config": config,
            "versions": versions(),
            "axes": [
                {"name": axis.name, "labels": list(axis.labels), "numbers": axis.numbers and list(axis.numbers)}
                for axis in plan.axes
            ],
        }
        self._write()

    def is_done(self, cell: SweepCell) -> bool:
        """Whether a cell was finished, with this configuration, and its results are still there."""
        folder = self._path.parent / _CELLS / cell.folder
        return self._cells[cell.folder]["status"] == "done" and (folder / "report.json").exists()

    def ended(self, job: Job, error: str, seconds: float) -> None:
        """Notes how a cell ended; the bases' evaluations are no cells."""
        if job.name in self._cells:
            entry = self._cells[job.name]
            entry.update(status="failed" if error else "done", error=error)
            entry["seconds"] = round(entry["seconds"] + seconds, 1)
            self._write()

    def finished(self) -> set[str]:
        """The folders of the cells that are done."""
        return {folder for folder, entry in self._cells.items() if entry["status"] == "done"}

    def failed(self) -> dict[str, str]:
        """The errors of the cells that failed, by folder."""
        return {folder: entry["error"] for folder, entry in self._cells.items() if entry["status"] == "failed"}

    def _write(self) -> None:
        write_json(self._path, {**self._head, "cells": list(self._cells.values())})


def steps_done(folder: Path) -> int:
    """The steps that a run has done, from the last lines of its logs: one, or one of each stage."""
    steps = 0
    for log in (folder / "log.jsonl", *folder.glob("stages/*/log.jsonl")):
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        with suppress(json.JSONDecodeError):  # while the line is being written
            steps += int(json.loads(lines[-1])["step"]) if lines else 0
    return steps


@contextmanager
def _locked(out: Path) -> Iterator[None]:
    """Makes sure that the folder is one of a sweep, and that no other process works in it."""
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file; a sweep needs a folder. Give another name with --out.")
    present = {path.name for path in out.iterdir()} if out.is_dir() else set()
    strangers = sorted(present - {_LOGS})
    if strangers and not {_STATUS_FILE, _CELLS, _LOCK} & present:
        raise RunFolderError(
            f"{out} is not empty and holds no sweep (found: {', '.join(strangers[:8])}). "
            "Give an empty or new folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(out / _LOCK).acquire(blocking=False)
    except Timeout:
        raise RunFolderError(
            f"another process runs a sweep in {out}. Wait for it, or give another folder with --out."
        ) from None
    with lock:
        yield
