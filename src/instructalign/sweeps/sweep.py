"""Runs a sweep: what cells share is done once, what is done is not done again, a failure stops nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from instructalign.config import Config
from instructalign.errors import ConfigError, RunFolderError
from instructalign.files import text_hash, write_json
from instructalign.progress import Progress, silent
from instructalign.report import Report, write_report
from instructalign.run_folder import open_folder, training_hash, versions
from instructalign.sweeps.grid import Cell, Plan, plan_sweep
from instructalign.sweeps.run_cell import evaluate_base, run_cell
from instructalign.sweeps.workers import Job, run_jobs

RECORD = "sweep.json"
CELLS, LOGS = "cells", "logs"

Executor = Callable[[Sequence[Job], Callable[[Job, str, float], None], Callable[[], None]], None]
"""Does jobs: gets the jobs, what to call when one has ended, and what to call now and then."""


@dataclass(frozen=True, slots=True)
class SweepResult:
    """How a sweep ended.

    Attributes:
        folder: the sweep's folder.
        failed: the error of every cell that failed, by the name of its run folder.
        report: the comparison of the cells that are done; None where there is none.
    """

    folder: Path
    failed: Mapping[str, str]
    report: Report | None


def sweep(
    config: str | Path,
    out: str | Path,
    *,
    settings: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Progress = silent,
) -> SweepResult:
    """Runs every cell of a sweep and compares them in one report.

    Each cell is an ordinary run in `out/cells`. The same call goes on where it was stopped, whatever stopped it:
    finished cells stay, unfinished ones go on from their checkpoint, failed ones are tried again. Cells with the
    same base and the same questions share its evaluation; cells that train the same share the model.

    On this machine, cells run side by side in processes of their own: one a GPU, or one a core. A program that
    calls this needs the guard `if __name__ == "__main__":`, as always with `multiprocessing`.

    Args:
        config: a configuration file, with or without a `sweep` block.
        out: the sweep's folder.
        settings, seeds: as for `plan_sweep`.
        workers: how many cells at a time; as many as there are GPUs, or cores, by default.
        executor: does the jobs elsewhere, on a cluster; see `sweeps.cluster`.
        progress: told how many steps of all cells are done.

    Raises:
        ConfigError: a cell's configuration is wrong; nothing was done.
        RunFolderError: `out` holds something else, or another process is at work in it.
    """
    out = Path(out)
    plan = plan_sweep(config, settings, seeds)
    with _sole(out):
        for cell in plan.cells:
            open_folder(out / CELLS / cell.folder, cell.config)
        record = _Record(out, plan, Path(config))
        jobs = _jobs(out, plan, record)
        tick = _steps(out, plan, record, progress)
        (executor or local(workers, len(jobs)))(jobs, record.ended, tick)
        report = write_report([out]) if record.done() else None
    return SweepResult(out, record.failed(), report)


def local(workers: int | None, jobs: int) -> Executor:
    """Does jobs on this machine: one a GPU, or one a core, each with its share of the cores as threads."""
    environments = _environments(workers, jobs)

    def execute(some: Sequence[Job], ended: Callable[[Job, str, float], None], tick: Callable[[], None]) -> None:
        run_jobs(some, ended, tick, environments=environments)

    return execute


def _environments(workers: int | None, jobs: int) -> list[dict[str, str]]:
    """The environment variables of each process.

    Processes that share cores must not have more threads than there are, and threads that wait for each other must
    not do so in a loop, which on a machine that does other work beside takes many times as long (docs/LOG.md).
    """
    if workers is not None and workers < 1:
        raise ConfigError([f"--workers: must be at least 1, found {workers}"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    devices = _devices()
    count = max(1, min(workers or len(devices) or cores, jobs))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // count))
    waiting = os.environ.get("OMP_WAIT_POLICY") or "PASSIVE"
    chosen = [{"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": waiting} for _ in range(count)]
    for number, environment in enumerate(chosen):
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return chosen


def _devices() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def _jobs(out: Path, plan: Plan, record: _Record) -> list[Job]:
    """What is to be done: bases first, then cells; of cells that train the same, one before the others."""
    bases: dict[str, Job] = {}
    cells: list[Job] = []
    trained: dict[str, Cell] = {}
    for cell in plan.cells:
        # The stages of a cell lie in its own folder, so such a cell shares none of them.
        first = cell if cell.config.stages else trained.setdefault(training_hash(cell.config), cell)
        if record.is_done(cell):
            continue
        base, after = None, []
        if cell.config.evaluation.tasks:
            key = _asked(cell.config)
            base = out / "bases" / key
            name = f"base-{key}"
            arguments = (out / CELLS / cell.folder / "config.yaml", base)
            bases.setdefault(name, Job(name, evaluate_base, arguments, out / LOGS / f"{name}.log"))
            after.append(name)
        twin = None if first is cell else out / CELLS / first.folder
        if twin is not None and not record.is_done(first):
            after.append(first.folder)
        folder = out / CELLS / cell.folder
        cells.append(
            Job(cell.folder, run_cell, (folder, base, twin), out / LOGS / f"{cell.folder}.log", tuple(after))
        )
    return [*bases.values(), *cells]


def _asked(config: Config) -> str:
    """A hash of everything that the answers of a cell's base depend on."""
    plain = yaml.safe_load(config.to_yaml())
    plain["model"].pop("adapter", None)
    plain["evaluation"].pop("bootstrap", None)
    return text_hash([plain["model"], plain["languages"], plain["evaluation"]])[:12]


class _Record:
    """`sweep.json`: what the cells are, and how each of them stands."""

    def __init__(self, out: Path, plan: Plan, config: Path) -> None:
        self._path = out / RECORD
        before = {cell["folder"]: cell for cell in _read(self._path).get("cells", [])}
        self._cells: dict[str, dict[str, Any]] = {}
        for cell in plan.cells:
            key = text_hash(cell.config.to_yaml())
            entry = {"name": cell.name, "seed": cell.seed, "at": dict(cell.at), "folder": cell.folder, "key": key}
            old = before.get(cell.folder, {})
            done = old.get("status") == "done" and old.get("key") == key
            self._cells[cell.folder] = {
                **entry,
                "status": "done" if done else "waiting",
                "error": "",
                "seconds": old.get("seconds", 0.0) if old.get("key") == key else 0.0,
            }
        self._head = {
            "config": config.name,
            "versions": versions(),
            "axes": [
                {"name": axis.name, "labels": list(axis.labels), "numbers": axis.numbers and list(axis.numbers)}
                for axis in plan.axes
            ],
        }
        self._write()

    def is_done(self, cell: Cell) -> bool:
        """Whether a cell was finished, by this configuration, and its results are still there."""
        folder = self._path.parent / CELLS / cell.folder
        return self._cells[cell.folder]["status"] == "done" and (folder / "report.json").exists()

    def ended(self, job: Job, error: str, seconds: float) -> None:
        """Notes how a cell ended; the bases' evaluations are no cells."""
        if job.name in self._cells:
            entry = self._cells[job.name]
            entry.update(status="failed" if error else "done", error=error)
            entry["seconds"] = round(entry["seconds"] + seconds, 1)
            self._write()

    def done(self) -> list[str]:
        """The folders of the cells that are finished."""
        return [folder for folder, entry in self._cells.items() if entry["status"] == "done"]

    def failed(self) -> dict[str, str]:
        """The errors of the cells that failed, by folder."""
        return {folder: entry["error"] for folder, entry in self._cells.items() if entry["status"] == "failed"}

    def _write(self) -> None:
        write_json(self._path, {**self._head, "cells": list(self._cells.values())})


def _read(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except ValueError as error:
        raise RunFolderError(f"{path} is not JSON ({error}). Delete it: the cells themselves are kept.") from None


def _steps(out: Path, plan: Plan, record: _Record, progress: Progress) -> Callable[[], None]:
    """Tells the steps of all cells that are done, from their logs."""
    steps_of = {cell.folder: cell.config.training.steps * len(cell.config.stages or [0]) for cell in plan.cells}

    def tick() -> None:
        finished = set(record.done())
        steps = sum(
            whole if folder in finished else steps_done(out / CELLS / folder) for folder, whole in steps_of.items()
        )
        failed = f", {len(record.failed())} failed" if record.failed() else ""
        progress(
            "sweeping", steps, sum(steps_of.values()), f"{len(finished)} of {len(plan.cells)} cells done{failed}"
        )

    return tick


def steps_done(folder: Path) -> int:
    """How far a run is, from the last lines of its logs: one, or one a stage."""
    return sum(_last_step(log) for log in (folder / "log.jsonl", *folder.glob("stages/*/log.jsonl")))


def _last_step(log: Path) -> int:
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except json.JSONDecodeError:  # the line is being written
        return 0


@contextmanager
def _sole(out: Path) -> Iterator[None]:
    """Makes sure that nobody else works in a sweep's folder, and that it is one."""
    if out.exists() and not out.is_dir():
        raise RunFolderError(f"{out} is a file; a sweep needs a folder. Give another name with --out.")
    found = {path.name for path in out.iterdir()} if out.is_dir() else set()
    strangers = sorted(found - {LOGS})
    if strangers and not {RECORD, CELLS, ".lock"} & found:
        raise RunFolderError(
            f"{out} is not empty and holds no sweep (found: {', '.join(strangers[:8])}). "
            "Give an empty or new folder with --out."
        )
    out.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # a system without it
        yield
        return
    with (out / ".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunFolderError(
                f"another process runs a sweep in {out}. Wait for it, or give another folder with --out."
            ) from None
        yield
