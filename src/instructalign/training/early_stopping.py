"""What the measurements of a run mean: whether it ends early, whether it diverges, which checkpoints must stay.

Both rules are functions of what the log says and of a state that is part of each checkpoint, so that a resumed run
decides as it would have without the stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from instructalign.config import DivergenceConfig, EarlyStoppingConfig
from instructalign.errors import TrainingError

WATCH = "watch.json"
MARGIN = 2.0  # nats; a loss near 0 multiplies by chance
_INERTIA = 0.9  # of the running level, from one line of the log to the next
_KEYS = {"heldout": "heldout_loss", "kl": "kl_to_base", "probe": "probe"}


@dataclass(frozen=True, slots=True)
class Monitor:
    """Something that is measured now and then while a model trains.

    Attributes:
        take: from the model to names and values.
        every: steps between two measurements; None for one after the last step.
        last: whether it is measured after the last step in any case.
    """

    take: Callable[[Any], Mapping[str, float]]
    every: int | None
    last: bool = True

    def due(self, step: int, steps: int) -> bool:
        """Whether it is time, after so many of so many steps."""
        return (self.every is not None and step % self.every == 0) or (self.last and step == steps)


class EarlyStopping:
    """Says when training ends before its last step, and which step was the best.

    Attributes:
        best_step: the step of the best measurement so far; None before the first acceptable one.
        improved: whether the last measurement was the best so far.
        reason: why training ends, in words; empty while it goes on.
    """

    def __init__(self, settings: EarlyStoppingConfig) -> None:
        self.settings = settings
        self.best: float | None = None
        self.best_step: int | None = None
        self.improved = False
        self.reason = ""
        self._since = 0

    def see(self, step: int, values: Mapping[str, float]) -> None:
        """Takes a step's measurements in."""
        settings = self.settings
        self.improved = False
        if _KEYS[settings.on] not in values:
            return
        value = values[_KEYS[settings.on]]
        sign = -1 if settings.on == "probe" else 1  # of a loss, less is better
        within = settings.threshold is None or sign * value <= sign * settings.threshold
        better = self.best is None or sign * (self.best - value) > settings.min_change
        # With a threshold alone the newest model within it is wanted: it has learnt most.
        if within and (better or settings.patience is None):
            self.best, self.best_step, self.improved, self._since = value, step, True, 0
        else:
            self._since += 1
        if not within:
            self.reason = f"{_KEYS[settings.on]} is {value:g} after step {step}, past {settings.threshold:g}"
        elif settings.patience is not None and self._since >= settings.patience:
            self.reason = (
                f"{_KEYS[settings.on]} has not got better than {self.best:g} (step {self.best_step}) in "
                f"{self._since} measurements, the last after step {step}"
            )

    @property
    def wanted(self) -> int | None:
        """The step whose model is to be kept; None for the last one."""
        return self.best_step if self.settings.keep == "best" else None

    def summary(self, step: int) -> dict[str, Any]:
        """What run.json says of it, after the last step that was done."""
        kept = self.wanted if self.wanted is not None else step
        return {
            "on": self.settings.on,
            "stopped_at": step if self.reason else None,
            "reason": self.reason,
            "best": self.best,
            "best_step": self.best_step,
            "kept_step": kept,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"best": self.best, "best_step": self.best_step, "since": self._since, "reason": self.reason}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self.best, self.best_step = state["best"], state["best_step"]
        self._since, self.reason = state["since"], state["reason"]


class Divergence:
    """Notices a loss that has left its level for good.

    Attributes:
        suspicious: for how many lines of the log in a row the loss has been far above its level.
    """

    def __init__(self, settings: DivergenceConfig) -> None:
        self._settings = settings
        self._level: float | None = None
        self.suspicious = 0

    def see(self, step: int, loss: float, good: str) -> None:
        """Takes a line of the log in.

        Args:
            step: its step.
            loss: the mean loss since the line before, in nats.
            good: the checkpoint from before the loss rose, in words.

        Raises:
            TrainingError: the run has diverged; the message says what to do.
        """
        if self._level is None:
            self._level = loss
        if loss <= max(self._settings.factor * self._level, self._level + MARGIN):
            self._level = _INERTIA * self._level + (1 - _INERTIA) * loss
            self.suspicious = 0
            return
        self.suspicious += 1
        if self.suspicious >= self._settings.patience:
            raise TrainingError(
                f"the run has diverged: the loss is {loss:.3g} at step {step} and has been far above its level "
                f"of {self._level:.3g} for {self.suspicious} lines of the log. {good} Lower "
                "training.learning_rate or training.max_grad_norm, or lengthen training.warmup, and start again "
                "in a new folder. If the loss is meant to rise, because the objectives change, raise "
                "training.divergence.patience."
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {"level": self._level, "suspicious": self.suspicious}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._level, self.suspicious = state["level"], state["suspicious"]


class StoppingRules:
    """Both rules of a run, and the steps whose checkpoints they need.

    Attributes:
        measures: what is measured; filled once there is a model.
        stopping: when training ends early; None for at its last step.
        divergence: None where it is not looked for.
    """

    def __init__(self, stopping: EarlyStoppingConfig | None, divergence: DivergenceConfig | None) -> None:
        self.stopping = EarlyStopping(stopping) if stopping else None
        self.divergence = Divergence(divergence) if divergence else None
        self.measures: list[Monitor] = []
        self._good: int | None = None

    @property
    def reason(self) -> str:
        """Why training ends early; empty while it goes on."""
        return self.stopping.reason if self.stopping else ""

    def line(self, step: int, loss: float) -> None:
        """Takes a line of the log in; see `Divergence.see`."""
        if self.divergence:
            good = "There is no checkpoint from before that."
            if self._good is not None:
                good = f"checkpoint-{self._good}, from before that, is kept; transformers loads it."
            self.divergence.see(step, loss, good)

    def saved(self, step: int) -> set[int]:
        """Notes that a checkpoint is written; gives the steps whose checkpoints must stay."""
        if self.divergence is None or self.divergence.suspicious == 0:
            self._good = step
        best = self.stopping.wanted if self.stopping else None
        return {each for each in (self._good, best) if each is not None}

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of it."""
        return {
            "good": self._good,
            "stopping": self.stopping and self.stopping.state(),
            "divergence": self.divergence and self.divergence.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Takes over what `state` gave."""
        self._good = state["good"]
        if self.stopping and state["stopping"]:
            self.stopping.restore(state["stopping"])
        if self.divergence and state["divergence"]:
            self.divergence.restore(state["divergence"])
