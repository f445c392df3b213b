"""The demonstration: one base model adapted three ways on the toy family, and one table of what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from instructalign.config import Config
from instructalign.configfile import load_config
from instructalign.pipeline import run, silent
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


def run_demo(out: Path, *, seed: int = 42, progress: Callable[[str, int, int, str], None] = silent) -> Report:
    """Evaluates the shipped base, adapts it three ways and reports them side by side.

    Args:
        out: the folder for the runs and the report; runs that are finished there are not done again.
        seed: of the choice of data and its order.
        progress: told what is under way.

    Raises:
        RunFolderError: `out` holds runs of another seed or version.
    """
    with one_thread():
        folders = _run_all(out, seed, progress)
    return write_report(folders, out)


def _run_all(out: Path, seed: int, progress: Callable[[str, int, int, str], None]) -> list[Path]:
    folders: list[Path] = []
    for number, name in enumerate(RUNS, start=1):
        folder = out / name.replace(" ", "-")

        def tell(what: str, done: int, total: int, remark: str, place: str = f"[{number}/3] {name}") -> None:
            progress(f"{place}: {what}", done, total, remark)

        config = demo_config(name, seed)
        open_folder(folder, config)
        base = folders[0] / "evaluation" / "base" if folders else None
        run(config, folder, base_evaluation=base, progress=tell)
        folders.append(folder)
    return folders


@contextmanager
def one_thread() -> Iterator[None]:
    """Lets torch use one thread: with matrices this small, more only wait for each other."""
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
  instructalign preview {CONFIG}     the examples that the model was trained on
  instructalign init                                   a configuration for your own corpus and model"""
