"""Callbacks of the Trainer: log.jsonl with progress, monitors and early stopping; and a graceful stop."""

from __future__ import annotations

import json
import logging
import math
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.trainer_callback import TrainerCallback

from instructalign.errors import TrainingError
from instructalign.files import format_bytes, json_line, write_text
from instructalign.progress import Progress
from instructalign.training.checkpoints import explaining_full_disk
from instructalign.training.early_stopping import StoppingRules
from instructalign.training.metrics_log import TrainingCounters
from instructalign.training.monitors import Monitor

logger = logging.getLogger(__name__)


class TrainingLog(TrainerCallback):
    """Writes log.jsonl, shows progress, runs the monitors, and ends a run that the stopping rules end.

    Args:
        path: the run's log.jsonl.
        counters: counts what was trained on.
        progress: called with what is under way, steps done, steps in all and a remark.
        stopping: decides by what is measured and by the loss.

    Attributes:
        monitors: what is measured during training; filled once there is a model.
    """

    def __init__(
        self, path: Path, counters: TrainingCounters, progress: Progress, stopping: StoppingRules
    ) -> None:
        self.monitors: list[Monitor] = []
        self._path = path
        self._counters = counters
        self._progress = progress
        self._stopping = stopping
        self._clock = time.monotonic()
        self._measured: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Removes from the log what came after the checkpoint that training resumes from."""
        if args.should_save:
            truncate_log(self._path, state.global_step)
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Shows progress, runs the monitors that are due, and ends training where their values say so."""
        step = state.global_step
        self._progress("training", step, state.max_steps, "")
        values: dict[str, float] = {}
        for monitor in self.monitors:
            if monitor.due(step, state.max_steps):
                values.update(monitor.measure(kwargs["model"]))
        if not values:
            return
        values = {name: round(value, 6) for name, value in values.items()}
        if args.world_size > 1:
            # All processes decide by the values of the first: theirs may differ in the last digit.
            box = [values]
            torch.distributed.broadcast_object_list(box, src=0)
            [values] = box
        self._measured = values
        control.should_log = True
        rule = self._stopping.early_stopping
        if rule is None:
            return
        rule.update(step, values)
        if rule.reason:
            logger.warning("training ends early: %s", rule.reason)
            control.should_training_stop = True
        if rule.reason or (rule.improved and rule.step_to_keep == step):
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Appends one line to the log.

        Raises:
            TrainingError: the loss is not finite, or training has diverged.
        """
        if "loss" not in (logs or {}):  # the Trainer's own summary at the end
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}. The last checkpoint from before is kept. Lower "
                "training.learning_rate, or set training.precision to float32 or bfloat16, and start over in a "
                "new folder."
            )
        now, means = time.monotonic(), self._counters.drain()
        rate = means.pop("tokens") / max(now - self._clock, 1e-9)
        memory = peak_memory()
        line: dict[str, Any] = {
            "step": state.global_step,
            "loss": round(loss, 6),
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": round(float(logs.get("grad_norm", 0.0)), 6),
            "tokens_per_second": round(rate, 1),
            "peak_memory_mb": round(memory / 1e6, 1),
            **{name: round(value, 6) for name, value in means.items()},
            **{name: round(value, 6) for name, value in logs.items() if name.startswith("strategy/")},
            **self._measured,
        }
        # Integrations that report elsewhere (TensorBoard, wandb) get the same values.
        logs.update({name: value for name, value in line.items() if name not in logs and name != "step"})
        self._clock, self._measured = now, {}
        if args.should_save:
            with explaining_full_disk(self._path.parent, self._path.name), self._path.open("ab") as file:
                file.write(json_line(line))
        remark = f"loss {loss:.3f}, {rate:,.0f} tokens/s, {format_bytes(memory)}"
        self._progress("training", state.global_step, state.max_steps, remark)
        self._stopping.on_loss(state.global_step, loss)


class GracefulStop(TrainerCallback):
    """On SIGTERM or Ctrl-C: finish the step, save a checkpoint, stop."""

    def __init__(self) -> None:
        self.requested = False

    @contextmanager
    def listening(self) -> Iterator[GracefulStop]:
        """Handles the two signals inside the block; a second one has its usual effect."""

        def request(number: int, frame: Any) -> None:
            self.requested = True
            logger.warning("stopping after this step; a checkpoint will be saved")
            for each, usual in before.items():
                signal.signal(each, usual)

        try:
            before = {each: signal.signal(each, request) for each in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not in the main thread, where Python delivers signals
            yield self
            return
        try:
            yield self
        finally:
            for each, usual in before.items():
                signal.signal(each, usual)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks the Trainer for a checkpoint and for the end, in all processes if any of them got a signal."""
        requested = self.requested
        if args.world_size > 1:
            flag = torch.tensor(float(requested), device=args.device)
            torch.distributed.all_reduce(flag)
            requested = bool(flag.item() > 0)
        if requested:
            control.should_save = True
            control.should_training_stop = True


def peak_memory() -> int:
    """The most bytes this process has held so far: of GPU memory where there is a GPU, else of main memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def truncate_log(path: Path, step: int) -> None:
    """Keeps the lines of a log up to a step; a half-written last line goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            continue
        if values.get("step", 0) <= step:
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
