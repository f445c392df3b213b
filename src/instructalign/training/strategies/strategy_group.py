"""The strategies of a run together: called in order, timed, saved in checkpoints."""

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
from instructalign.training.strategies.strategy import Strategy, StrategyContext

_STATE, _SECONDS = "strategies.safetensors", "strategies.json"


class StrategyGroup(TrainerCallback):
    """Calls every hook of every strategy of a run and measures the time it takes.

    Args:
        strategies: the strategies by name, in the order in which they are called.
    """

    def __init__(self, strategies: Mapping[str, Strategy]) -> None:
        self._strategies = dict(strategies)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._loss_terms: dict[str, torch.Tensor] = {}  # summed over the steps since the last log line
        self._steps = 0

    def prepare(self, context: StrategyContext) -> None:
        """Before training; see `Strategy.prepare`.

        Raises:
            TrainingError: a strategy needs all weights in every process, and they are sharded.
        """
        for name, strategy in self._strategies.items():
            if strategy.needs_full_weights and context.sharded:
                raise TrainingError(
                    f"training.strategy.{name} needs all weights in every process, but FSDP or DeepSpeed shards "
                    "them here. Train without sharding (DDP), or remove the strategy."
                )
        for _, prepare in self._hooks("prepare"):
            prepare(context)

    @property
    def reads_logits(self) -> bool:
        """Whether any strategy needs the logits of each micro-batch."""
        return [*self._overrides("token_loss"), *self._overrides("replace_loss")] != []

    def step_batches(self, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches of a step as the strategies change them; see `Strategy.step_batches`."""
        for _, change in self._hooks("step_batches"):
            batches = change(batches)
        return batches

    def replace_loss(
        self, model: Any, batch: dict[str, Any], logits: torch.Tensor, losses: torch.Tensor
    ) -> torch.Tensor:
        """The losses of a micro-batch's counted positions; see `Strategy.replace_loss`."""
        for _, replace in self._hooks("replace_loss"):
            losses = replace(model, batch, logits, losses)
        return losses

    def token_loss(
        self, model: Any, batch: dict[str, Any], logits: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor | None:
        """The sum of the strategies' terms at the counted positions of a micro-batch; None for none.

        Args:
            model, batch, logits: as for `Strategy.token_loss`.
            shares: the weight of each position in the loss of the whole step, [counted].
        """
        terms = ((name, hook(model, batch, logits)) for name, hook in self._hooks("token_loss"))
        return self._total((name, (losses * shares).sum()) for name, losses in terms if losses is not None)

    def penalty(self, model: Any) -> torch.Tensor | None:
        """The sum of the strategies' penalties; None for none."""
        terms = ((name, hook(model)) for name, hook in self._hooks("penalty"))
        return self._total((name, penalty) for name, penalty in terms if penalty is not None)

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gradients are complete."""
        self._steps += 1
        for _, before_update in self._hooks("before_update"):
            before_update(kwargs["model"], int(state.global_step))

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Weights have changed."""
        for hook in ("undo_update", "after_update"):
            for _, called in self._hooks(hook):
                called(kwargs["model"], int(state.global_step))

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Logs the mean of each strategy's loss term since the last line."""
        if "loss" in (logs or {}):
            logs.update(
                {f"strategy/{name}": float(sum_) / max(self._steps, 1) for name, sum_ in self._loss_terms.items()}
            )
            self._loss_terms, self._steps = {}, 0

    def finish(self, model: Any) -> None:
        """After the last step; see `Strategy.finish`."""
        for _, finish in self._hooks("finish"):
            finish(model)

    def save(self, folder: Path) -> None:
        """Writes what a resumed run needs into a checkpoint's folder."""
        tensors = {
            f"{name}/{key}": value.detach().cpu().contiguous()
            for name in self._overrides("state")
            for key, value in self._strategies[name].state().items()
        }
        if tensors:
            save_file(tensors, folder / _STATE)
        if self._seconds:
            write_json(folder / _SECONDS, dict(self._seconds))

    def restore(self, folder: Path) -> None:
        """Restores what `save` wrote into a checkpoint's folder."""
        if (folder / _SECONDS).exists():
            self._seconds.update(json.loads((folder / _SECONDS).read_text(encoding="utf-8")))
        tensors = load_file(folder / _STATE) if (folder / _STATE).exists() else {}
        for name in self._overrides("state"):
            prefix = f"{name}/"
            self._strategies[name].restore(
                {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
            )

    def costs(self) -> dict[str, dict[str, float]]:
        """By strategy: seconds in its hooks (its share of the backward pass not included) and its own costs."""
        return {
            name: {"seconds": round(self._seconds[name], 3), **strategy.costs()}
            for name, strategy in self._strategies.items()
        }

    def _overrides(self, hook: str) -> list[str]:
        """The names of the strategies that override a hook."""
        default = getattr(Strategy, hook)
        return [name for name, each in self._strategies.items() if getattr(type(each), hook) is not default]

    def _hooks(self, hook: str) -> Iterator[tuple[str, Any]]:
        """Each strategy's name and its override of a hook, timed."""
        for name in self._overrides(hook):
            yield name, self._timed(name)(getattr(self._strategies[name], hook))

    def _total(self, terms: Iterator[tuple[str, torch.Tensor]]) -> torch.Tensor | None:
        """The sum of loss terms, each of which is also added up for the log."""
        total = None
        for name, term in terms:
            before = self._loss_terms.get(name)
            self._loss_terms[name] = term.detach() if before is None else before + term.detach()
            total = term if total is None else total + term
        return total

    @contextmanager
    def _timed(self, name: str) -> Iterator[None]:
        began = _clock()
        try:
            yield
        finally:
            self._seconds[name] += _clock() - began


def _clock() -> float:
    """Seconds, once a GPU, which computes asynchronously, has finished what was launched before."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.monotonic()
