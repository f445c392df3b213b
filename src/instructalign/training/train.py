"""Training a run from its configuration, from the start or from where it stopped (`assemble`: what it is)."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.corpora import Guard
from instructalign.progress import Progress, silent
from instructalign.runfolder import open_folder, read_record, training_hash, update_record
from instructalign.training import checkpoint
from instructalign.training.assemble import MakeProbe, Run, make_trainer, measurements, read, setting
from instructalign.training.checks import (
    refuse_half_precision,
    refuse_missing_deepspeed,
    refuse_missing_optimizer,
    refuse_parted,
)
from instructalign.training.model import load_configured
from instructalign.training.origin import check_layout, check_origin, settle_mixture
from instructalign.training.record import at_beginning, at_end
from instructalign.training.save import save_model
from instructalign.training.space import disk_bytes, embedded_weights, refuse_full_disk, writing
from instructalign.training.tally import TALLY
from instructalign.training.trainer import AlignTrainer
from instructalign.training.watch import WATCH


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a call of `train` ended.

    Attributes:
        folder: the run's folder.
        model: the adapted model's folder; exists when `finished`.
        step: optimizer steps done so far.
        finished: whether training is done; if not, the same call goes on from the last checkpoint.
        ended_early: why training ended before its last step; empty where it did not.
    """

    folder: Path
    model: Path
    step: int
    finished: bool
    ended_early: str = ""


def train(
    config: Config,
    out: str | Path,
    report: Progress = silent,
    guard: Guard | None = None,
    probe: MakeProbe | None = None,
) -> TrainResult:
    """Adapts the configured model to the new languages, in the run's folder.

    A folder with an unfinished run of the same configuration is gone on with from its last checkpoint, with
    the same result as without the stop; a finished one is left as it is.

    Args:
        config: the run's configuration.
        out: the run's folder.
        report: called with what is going on, how far it is, of how much, and a remark.
        guard: the test items to look for in the training data; `instructalign.train` reads them.
        probe: makes what `training.probe` asks for, from the base; `instructalign.train` does.

    Raises:
        RunFolderError: the folder belongs to another configuration, or its checkpoints to another model or data.
        DataError, ModelError: what the run needs cannot be read.
        TrainingError: training cannot start or go on.
    """
    out = Path(out)
    open_folder(out, config)
    model_folder = out / "model"
    if is_done(config, out):
        early = read_record(out).get("early_stopping", {})
        step = early.get("stopped_at") or config.training.steps
        return TrainResult(out, model_folder, step, finished=True, ended_early=early.get("reason", ""))
    began = time.monotonic()
    refuse_half_precision(config)
    refuse_missing_optimizer(config)
    refuse_missing_deepspeed()
    run = read(config, out, report, guard)
    last = next(iter(checkpoint.complete(out / "checkpoints")[::-1]), None)
    if last is not None:
        check_origin(last, run.origin)
    settle_mixture(config, run.data.mixture, out, run.origin, report)
    update_record(out, **at_beginning(config, run.data, run.loaded, run.origin.model))
    if run.rows:
        update_record(out, model={"trained_rows": len(run.rows)})
    trainer, stop = make_trainer(run)
    refuse_parted(config, run.loaded, trainer.layout)
    refuse_full_disk(out, _disk_bytes(config, trainer.model))
    trainer.strategies.prepare(setting(run, trainer))
    trainer.watch.measures += measurements(run, trainer, probe)
    if trainer.args.should_save:
        checkpoint.clear_partial(out / "checkpoints")
    trainer.accelerator.wait_for_everyone()
    if last is not None:
        check_layout(last, trainer.layout)
        if trainer.args.process_index == 0:  # what all processes counted together is counted on in one
            trainer.tally.restore(json.loads((last / TALLY).read_text(encoding="utf-8")))
        trainer.strategies.restore(last)
        trainer.watch.restore(json.loads((last / WATCH).read_text(encoding="utf-8")))
    with stop.listening(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    step = int(trainer.state.global_step)
    counts = trainer.tally.total()
    if step < config.training.steps and not trainer.watch.reason:
        return TrainResult(out, model_folder, step, finished=False)
    _save(run, trainer, model_folder)
    if trainer.args.should_save:
        seconds = time.monotonic() - began
        ended = at_end(config, run.data, counts, seconds, trainer.strategies.costs())
        if trainer.watch.stopping:
            ended["early_stopping"] = trainer.watch.stopping.summary(step)
        update_record(out, **ended)
    trainer.accelerator.wait_for_everyone()
    return TrainResult(out, model_folder, step, finished=True, ended_early=trainer.watch.reason)


def is_done(config: Config, out: Path) -> bool:
    """Whether a folder holds the model of a finished run of the configuration."""
    return (out / "model").exists() and read_record(out).get("training_hash") == training_hash(config)


def _save(run: Run, trainer: AlignTrainer, folder: Path) -> None:
    """Ends the strategies and saves the model; every process takes part."""
    stopping = trainer.watch.stopping
    if stopping and stopping.wanted not in (None, trainer.state.global_step):
        trainer.go_back(run.out / "checkpoints" / f"checkpoint-{stopping.wanted}")
    trained: Any = trainer.model
    trainer.strategies.finish(trained)
    state = trainer.whole_state()
    if trainer.args.should_save:
        with writing(run.out, "the model"):
            save_model(
                trained,
                run.loaded,
                run.config.model.adapter,
                folder,
                state=state,
                fresh=lambda: run.adapted(load_configured(run.config.model)),
            )


def _disk_bytes(config: Config, model: Any) -> int:
    """What the run will take on the disk."""
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total, width = sum(weight.numel() for weight in weights), weights[0].element_size()
    return disk_bytes(config, total, trained, width, embedded_weights(model))
