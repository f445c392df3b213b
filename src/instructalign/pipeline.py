"""All stages in order: evaluate the base, train, evaluate the adapted model, report."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from instructalign.config import Config
from instructalign.progress import Progress, silent
from instructalign.report import Report, write_report
from instructalign.runfolder import open_folder


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        finished: whether training is done; if not, the same call goes on from its last checkpoint.
        step: optimizer steps done.
        report: the report; None while training is unfinished.
    """

    folder: Path
    finished: bool
    step: int
    report: Report | None


def run(
    config: Config, out: str | Path, *, base_evaluation: Path | None = None, progress: Progress = silent
) -> RunResult:
    """Evaluates the base, trains, evaluates the adapted model and writes the report.

    Whatever of it is already done in the folder, by the same configuration, is not done again.

    Args:
        config: the run's configuration.
        out: the run's folder.
        base_evaluation: an evaluation of the same base on the same tasks, to take over instead of repeating it;
            it is checked before use.
        progress: told what is under way.

    Raises:
        InstructAlignError: anything that keeps a stage from being done.
    """
    from instructalign.evaluation import evaluate
    from instructalign.training.train import train

    out = Path(out)
    open_folder(out, config)

    def tell(what: str) -> Callable[[str, int, int], None]:
        return lambda part, done, total: progress(f"evaluating {what}", done, total, part)

    base_folder = out / "evaluation" / "base"
    if config.evaluation.tasks:
        if base_evaluation is not None and not base_folder.exists():
            shutil.copytree(base_evaluation, base_folder)
        evaluate(config.model.base, config, base_folder, run="base", progress=tell("the base"))
    trained = train(config, out, progress)
    if not trained.finished:
        return RunResult(out, False, trained.step, None)
    if config.evaluation.tasks:
        adapted = out / "evaluation" / "adapted"
        evaluate(str(trained.model), config, adapted, run=out.name, progress=tell("the adapted model"))
    return RunResult(out, True, trained.step, write_report([out]))
