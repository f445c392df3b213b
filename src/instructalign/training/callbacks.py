"""What a run says while it trains: log.jsonl, progress lines, and a stop that loses nothing."""

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
from instructalign.training.disk_space import writing
from instructalign.training.early_stopping import StoppingRules
from instructalign.training.metrics_log import TrainingCounters

logger = logging.getLogger(__name__)


class TrainingLog(TrainerCallback):
    """Writes log.jsonl, reports progress, takes measurements, and ends a run that they say should end.

    Args:
        path: the run's log.jsonl.
        tally: counts what was trained on.
        report: called with what is going on, steps done, steps in all and a remark.
        watch: what is measured now and then, and what follows from it.
    """

    def __init__(
        self,
        path: Path,
        tally: TrainingCounters,
        report: Progress,
        watch: StoppingRules,
    ) -> None:
        self._path = path
        self._tally = tally
        self._report = report
        self._watch = watch
        self._clock = time.monotonic()
        self._extra: dict[str, float] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Takes out of the log what came after the checkpoint that training goes on from."""
        if args.should_save:
            truncate_log(self._path, state.global_step)
        self._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Reports progress, measures what is due, and ends training where that says so."""
        step = state.global_step
        self._report("training", step, state.max_steps, "")
        values: dict[str, float] = {}
        for measure in self._watch.measures:
            if measure.due(step, state.max_steps):
                values.update(measure.take(kwargs["model"]))
        if not values:
            return
        self._extra = _agreed({name: round(value, 6) for name, value in values.items()}, args)
        control.should_log = True
        stopping = self._watch.stopping
        if stopping is None:
            return
        stopping.see(step, self._extra)
        if stopping.reason:
            logger.warning("training ends early: %s", stopping.reason)
            control.should_training_stop = True
        if stopping.reason or (stopping.improved and stopping.wanted == step):
            control.should_save = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Appends one line to the log."""
        if "loss" not in (logs or {}):
            return
        loss = float(logs["loss"])
        if not math.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss} at step {state.global_step}. The last good checkpoint is kept; lower "
                "training.learning_rate, or use precision float32 or bfloat16, and start again in a new folder."
            )
        now, learned = time.monotonic(), self._tally.drain()
        rate = learned.pop("tokens") / max(now - self._clock, 1e-9)
        memory = peak_memory()
        record: dict[str, Any] = {
            "step": state.global_step,
            "loss": round(loss, 6),
            "learning_rate": logs.get("learning_rate"),
            "grad_norm": round(float(logs.get("grad_norm", 0.0)), 6),
            "tokens_per_second": round(rate, 1),
            "peak_memory_mb": round(memory / 1e6, 1),
            **{name: round(value, 6) for name, value in learned.items()},
            **{name: round(value, 6) for name, value in logs.items() if name.startswith("strategy/")},
            **self._extra,
        }
        logs.update({name: value for name, value in record.items() if name not in logs and name != "step"})
        self._clock = now
        self._extra = {}
        if args.should_save:
            with writing(self._path.parent, self._path.name), self._path.open("ab") as file:
                file.write(json_line(record))
        remark = f"loss {loss:.3f}, {rate:,.0f} tokens/s, {format_bytes(memory)}"
        self._report("training", state.global_step, state.max_steps, remark)
        self._watch.line(state.global_step, loss)


class GracefulStop(TrainerCallback):
    """On SIGTERM or Ctrl-C: finish the step, save a checkpoint, stop."""

    def __init__(self) -> None:
        self.asked = False

    @contextmanager
    def listening(self) -> Iterator[GracefulStop]:
        """Handles the two signals inside the block; a second one has its usual effect."""

        def ask(number: int, frame: Any) -> None:
            self.asked = True
            logger.warning("stopping after this step; a checkpoint will be saved")
            for each, usual in before.items():
                signal.signal(each, usual)

        try:
            before = {each: signal.signal(each, ask) for each in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not in the main thread, where Python delivers signals
            yield self
            return
        try:
            yield self
        finally:
            for each, usual in before.items():
                signal.signal(each, usual)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Asks the Trainer for a checkpoint and for the end."""
        if self._anyone_asked(args):
            control.should_save = True
            control.should_training_stop = True

    def _anyone_asked(self, args: Any) -> bool:
        if args.world_size == 1:
            return self.asked
        flag = torch.tensor(float(self.asked), device=args.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item() > 0)


def peak_memory() -> int:
    """Bytes that this process held at most so far: of the GPU where there is one, else of the machine's memory."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _agreed(values: dict[str, float], args: Any) -> dict[str, float]:
    """What the first process measured, in all: a last digit that differs must not make them decide otherwise."""
    if args.world_size == 1:
        return values
    box = [values]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


def truncate_log(path: Path, step: int) -> None:
    """Keeps the lines of a log up to a step; a half-written last line goes too."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if record.get("step", 0) <= step:
            kept.append(line)
    write_text(path, "".join(f"{line}\n" for line in kept))
