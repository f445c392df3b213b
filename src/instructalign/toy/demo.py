"""The demo: one base model adapted three ways on the toy family, and one table of the results."""

from __future__ import annotations

from pathlib import Path

from instructalign.config import Config
from instructalign.config_file import load_config
from instructalign.errors import TrainingError
from instructalign.progress import Progress, silent
from instructalign.report import Report, write_report
from instructalign.run_folder import open_folder
from instructalign.sweeps.run_sweep import evaluate_base, run_cell, steps_done
from instructalign.sweeps.workers import Job, local_executor, run_jobs

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

    The runs are trained in parallel, as many as there are processors.

    Args:
        out: the folder for the runs and the report; finished runs in it are not repeated.
        seed: of the choice of data and its order.
        progress: called with each step's progress.

    Raises:
        RunFolderError: `out` holds runs of another seed or version.
        TrainingError: a run failed.
    """
    folders = {name: Path(out) / name.replace(" ", "-") for name in RUNS}
    for name, folder in folders.items():
        open_folder(folder, demo_config(name, seed))
    base, logs = Path(out) / ".base", Path(out) / ".logs"
    jobs = [Job("base", evaluate_base, (folders["replay"] / "config.yaml", base), logs / "base.log")]
    jobs += [
        Job(name, run_cell, (folder, base, None), logs / f"{folder.name}.log", ("base",))
        for name, folder in folders.items()
    ]
    failed: dict[str, str] = {}

    def ended(job: Job, error: str, seconds: float) -> None:
        if error:
            failed[job.name] = error

    total = len(folders) * demo_config("replay", seed).training.steps

    def tick() -> None:
        progress("adapting the base three ways", sum(map(steps_done, folders.values())), total, "")

    run_jobs(jobs, local_executor(None, len(RUNS)), ended, tick)
    if failed:
        raise TrainingError("; ".join(f"{name}: {error}" for name, error in failed.items()))
    return write_report(list(folders.values()), Path(out))


def next_steps(out: Path) -> str:
    """What to try after the demo."""
    return f"""What to try next:
  open {out / "report.html"}                           the same with plots, by language
  instructalign preview {out / "replay" / "config.yaml"}       the examples that the model was trained on
  instructalign init                                   a configuration for your own corpus and model"""
