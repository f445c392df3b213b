"""The demonstration: one base model adapted three ways on the toy family, and one table of what came of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from instructalign.config import Config
from instructalign.configfile import load_config
from instructalign.pipeline import run
from instructalign.progress import Progress, silent
from instructalign.report import Report, write_report
from instructalign.runfolder import open_folder

CONFIG = Path(__file__).parent / "demo.yaml"

RUNS: dict[str, list[str]] = {
    "no replay": ["replay.size=0"],
    "replay": [],
    "monolingual": ["instructions.objectives={mlm: 1}"],
}
"""The demo's runs: what each changes in `demo.yaml`."""


def demo_config(name: str, seed: int = 42) -> Config:
    """The configuration of one of the demo's runs."""
    return load_config(CONFIG, [*RUNS[name], f"seed={seed}"])


def run_demo(out: Path, *, seed: int = 42, progress: Progress = silent) -> Report:
    """Evaluates the shipped base, adapts it three ways and reports them side by side.

    The runs go on at the same time, as many as there are processors, on one thread each: with matrices this
    small, more threads only wait for each other.

    Args:
        out: the folder for the runs and the report; runs that are finished there are not done again.
        seed: of the choice of data and its order.
        progress: told what is under way.

    Raises:
        RunFolderError: `out` holds runs of another seed or version.
    """
    from instructalign.evaluation import evaluate

    folders = {name: Path(out) / name.replace(" ", "-") for name in RUNS}
    for name, folder in folders.items():
        open_folder(folder, demo_config(name, seed))
    config = demo_config("replay", seed)
    base = folders["replay"] / "evaluation" / "base"
    with one_thread():
        evaluate(
            config.model.base,
            config,
            base,
            run="base",
            progress=lambda part, done, total: progress("evaluating the base", done, total, part),
        )
    workers = min(len(RUNS), os.cpu_count() or 1)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(_adapt, name, seed, folder, base) for name, folder in folders.items()]
        total = len(jobs) * config.training.steps
        while wait(jobs, timeout=1, return_when=FIRST_EXCEPTION).not_done:
            progress("adapting it three ways", sum(map(_steps_done, folders.values())), total, "")
            if any(job.done() and job.exception() for job in jobs):
                break
        for job in jobs:
            job.result()
    return write_report(list(folders.values()), Path(out))


def _adapt(name: str, seed: int, folder: Path, base: Path) -> None:
    """One run, in a process of its own."""
    with one_thread():
        run(demo_config(name, seed), folder, base_evaluation=base)


def _steps_done(folder: Path) -> int:
    """How far a run is, from the last line of its log."""
    log = folder / "log.jsonl"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    try:
        return int(json.loads(lines[-1])["step"]) if lines else 0
    except json.JSONDecodeError:  # the line is being written
        return 0


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread inside."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def next_steps(out: Path) -> str:
    """What to try after the demo."""
    return f"""What to try next:
  open {out / "report.html"}                           the same with plots, by language
  instructalign preview {out / "replay" / "config.yaml"}       the examples that the model was trained on
  instructalign init                                   a configuration for your own corpus and model"""
