"""The strategies of a run together: called in order, timed, kept in checkpoints."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers.trainer_callback import TrainerCallback

from instructalign.errors import TrainingError
from instructalign.files import write_json
from instructalign.training.strategies.strategy import Setting, Strategy

STATE, COSTS = "strategies.safetensors", "strategies.json"


class StrategyGroup(TrainerCallback):
    """Calls every hook of every strategy of a run, and counts what that takes.

    Args:
        strategies: the strategies by name, in the order in which they are called.
    """

    def __init__(self, strategies: Mapping[str, Strategy]) -> None:
        self._all = dict(strategies)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._added: dict[str, torch.Tensor] = {}
        self._steps = 0

    def prepare(self, setting: Setting) -> None:
        """Before training; see `Strategy.prepare`.

        Raises:
            TrainingError: a strategy needs whole weights, and they are sharded.
        """
        for name, strategy in self._all.items():
            if strategy.whole and setting.sharded:
                raise TrainingError(
                    f"training.strategy.{name} needs the whole weights in every process, but FSDP or DeepSpeed "
                    "shards them here. Train without sharding (DDP), or leave the strategy out."
                )
        for name in self._that("prepare"):
            with self._timed(name):
                self._all[name].prepare(setting)

    @property
    def reads_logits(self) -> bool:
        """Whether any strategy needs the logits of each micro-batch."""
        return bool(self._that("token_loss"))

    def token_loss(
        self, model: Any, batch: dict[str, Any], logits: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor | None:
        """What the strategies add at the counted positions of a micro-batch, summed up; None for nothing.

        Args:
            model, batch, logits: as for `Strategy.token_loss`.
            shares: what each position counts in the loss of the whole step, [counted].
        """
        total = None
        for name in self._that("token_loss"):
            with self._timed(name):
                losses = self._all[name].token_loss(model, batch, logits)
            if losses is not None:
                loss = (losses * shares).sum()
                self._note(name, loss)
                total = loss if total is None else total + loss
        return total

    def penalty(self, model: Any) -> torch.Tensor | None:
        """The sum of the strategies' penalties; None for none."""
        total = None
        for name in self._that("penalty"):
            with self._timed(name):
                penalty = self._all[name].penalty(model)
            if penalty is not None:
                self._note(name, penalty)
                total = penalty if total is None else total + penalty
        return total

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gradients are complete."""
        self._steps += 1
        for name in self._that("before_update"):
            with self._timed(name):
                self._all[name].before_update(kwargs["model"], int(state.global_step))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Weights have changed."""
        for name in self._that("after_update"):
            with self._timed(name):
                self._all[name].after_update(kwargs["model"], int(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Adds to what is logged the mean of each strategy's part of the loss since the last line."""
        if "loss" in (logs or {}):
            logs.update(
                {f"strategy/{name}": float(sum_) / max(self._steps, 1) for name, sum_ in self._added.items()}
            )
            self._added, self._steps = {}, 0

    def finish(self, model: Any) -> None:
        """After the last step; see `Strategy.finish`."""
        for name in self._that("finish"):
            with self._timed(name):
                self._all[name].finish(model)

    def save(self, folder: Path) -> None:
        """Writes what a resumed run needs into a checkpoint's folder."""
        tensors = {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name in self._that("state")
            for key, value in self._all[name].state().items()
        }
        if tensors:
            save_file(tensors, folder / STATE)
        if self._seconds:
            write_json(folder / COSTS, dict(self._seconds))

    def restore(self, folder: Path) -> None:
        """Takes over what `save` wrote into a checkpoint's folder."""
        if (folder / COSTS).exists():
            self._seconds.update(json.loads((folder / COSTS).read_text(encoding="utf-8")))
        tensors = load_file(folder / STATE) if (folder / STATE).exists() else {}
        for name in self._that("state"):
            mine = {key.partition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{name}/")}
            self._all[name].restore(mine)

    def costs(self) -> dict[str, dict[str, float]]:
        """By strategy: seconds in its hooks (its share of the backward pass not counted), and its own record."""
        return {
            name: {"seconds": round(self._seconds[name], 3), **strategy.record()}
            for name, strategy in self._all.items()
        }

    def _that(self, hook: str) -> list[str]:
        """The names of the strategies that override a hook."""
        default = getattr(Strategy, hook)
        return [name for name, strategy in self._all.items() if getattr(type(strategy), hook) is not default]

    def _note(self, name: str, value: torch.Tensor) -> None:
        before = self._added.get(name)
        self._added[name] = value.detach() if before is None else before + value.detach()

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        _wait_for_device()
        began = time.monotonic()
        try:
            yield
        finally:
            _wait_for_device()
            self._seconds[name] += time.monotonic() - began


def _wait_for_device() -> None:
    """A GPU computes behind our back; the clock must not stop before it is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
