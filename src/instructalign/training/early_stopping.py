"""When training ends early or has diverged, and which checkpoints must be kept for that.

Both rules are functions of what the log says and of a state that is saved in each checkpoint, so a resumed run
decides as it would have without the interruption.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from instructalign.config import DivergenceConfig, EarlyStoppingConfig
from instructalign.errors import TrainingError

STOPPING_STATE = "stopping.json"  # in a checkpoint
_METRICS = {"heldout": "heldout_loss", "kl": "kl_to_base", "probe": "probe"}  # by `early_stopping.on`
_MARGIN = 2.0  # nats; a loss near 0 can grow by any factor without anything being wrong
_DECAY = 0.9  # of the moving average of the loss, per line of the log


class EarlyStopping:
    """Decides when training ends before its last step, and which step was the best.

    Attributes:
        best_step: the step of the best measurement so far; None before the first acceptable one.
        improved: whether the last measurement was the best so far.
        reason: why training ends; empty while it continues.
    """

    def __init__(self, settings: EarlyStoppingConfig) -> None:
        self.settings = settings
        self.best: float | None = None
        self.best_step: int | None = None
        self.improved = False
        self.reason = ""
        self._since_best = 0  # measurements

    def update(self, step: int, values: Mapping[str, float]) -> None:
        """Takes a step's measurements into account; those of other metrics are ignored."""
        settings, metric = self.settings, _METRICS[self.settings.on]
        self.improved = False
        if metric not in values:
            return
        value = values[metric]
        sign = -1 if settings.on == "probe" else 1  # an accuracy shall rise, a loss fall
        within = settings.threshold is None or sign * value <= sign * settings.threshold
        better = self.best is None or sign * (self.best - value) > settings.min_change
        # With a threshold alone, the newest model within it is the best: it has learnt most.
        if within and (better or settings.patience is None):
            self.best, self.best_step, self.improved, self._since_best = value, step, True, 0
        else:
            self._since_best += 1
        if not within:
            self.reason = f"{metric} is {value:g} after step {step}, past the threshold {settings.threshold:g}"
        elif settings.patience is not None and self._since_best >= settings.patience:
            self.reason = (
                f"{metric} has not improved on {self.best:g} (step {self.best_step}) in {self._since_best} "
                f"measurements, the last after step {step}"
            )

    @property
    def step_to_keep(self) -> int | None:
        """The step whose model becomes the run's; None for the last one."""
        return self.best_step if self.settings.keep == "best" else None

    def summary(self, step: int) -> dict[str, Any]:
        """The block `early_stopping` of run.json, after the last step that was done."""
        return {
            "on": self.settings.on,
            "stopped_at": step if self.reason else None,
            "reason": self.reason,
            "best": self.best,
            "best_step": self.best_step,
            "kept_step": step if self.step_to_keep is None else self.step_to_keep,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint saves."""
        return {"best": self.best, "best_step": self.best_step, "since": self._since_best, "reason": self.reason}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads what `state` returned."""
        self.best, self.best_step = state["best"], state["best_step"]
        self._since_best, self.reason = state["since"], state["reason"]


class Divergence:
    """Detects a loss that stays far above its moving average.

    Attributes:
        suspicious: for how many lines of the log in a row the loss has been far above it.
    """

    def __init__(self, settings: DivergenceConfig) -> None:
        self._settings = settings
        self._level: float | None = None
        self.suspicious = 0

    def update(self, step: int, loss: float, last_good: int | None) -> None:
        """Takes a line of the log into account.

        Args:
            step: its step.
            loss: the mean loss since the previous line, in nats.
            last_good: the step of the last checkpoint from before the loss rose, if there is one.

        Raises:
            TrainingError: the run has diverged.
        """
        if self._level is None:
            self._level = loss
        if loss <= max(self._settings.factor * self._level, self._level + _MARGIN):
            self._level = _DECAY * self._level + (1 - _DECAY) * loss
            self.suspicious = 0
            return
        self.suspicious += 1
        if self.suspicious < self._settings.patience:
            return
        kept = "There is no checkpoint from before."
        if last_good is not None:
            kept = f"checkpoint-{last_good}, from before, is kept and can be loaded with transformers."
        raise TrainingError(
            f"training has diverged: the loss is {loss:.3g} at step {step} and has been far above its moving "
            f"average of {self._level:.3g} for {self.suspicious} lines of the log. {kept} Lower "
            "training.learning_rate or training.max_grad_norm, or lengthen training.warmup, and start over in a "
            "new folder. If a rising loss is expected because the objectives change, raise "
            "training.divergence.patience."
        )

    def state(self) -> dict[str, Any]:
        """What a checkpoint saves."""
        return {"level": self._level, "suspicious": self.suspicious}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads what `state` returned."""
        self._level, self.suspicious = state["level"], state["suspicious"]


class StoppingRules:
    """Both rules of a run, and the steps whose checkpoints they need.

    Attributes:
        early_stopping: None where training always runs to its last step.
        divergence: None where it is not looked for.
    """

    def __init__(self, early_stopping: EarlyStoppingConfig | None, divergence: DivergenceConfig | None) -> None:
        self.early_stopping = EarlyStopping(early_stopping) if early_stopping else None
        self.divergence = Divergence(divergence) if divergence else None
        self._last_good: int | None = None

    @property
    def reason(self) -> str:
        """Why training ends early; empty while it continues."""
        return self.early_stopping.reason if self.early_stopping else ""

    def on_loss(self, step: int, loss: float) -> None:
        """Takes a line of the log into account; see `Divergence.update`."""
        if self.divergence:
            self.divergence.update(step, loss, self._last_good)

    def on_checkpoint(self, step: int) -> set[int]:
        """Notes that a checkpoint is written; returns the steps whose checkpoints must be kept."""
        if self.divergence is None or self.divergence.suspicious == 0:
            self._last_good = step
        best = self.early_stopping.step_to_keep if self.early_stopping else None
        return {each for each in (self._last_good, best) if each is not None}

    def state(self) -> dict[str, Any]:
        """What a checkpoint saves."""
        return {
            "last_good": self._last_good,
            "early_stopping": self.early_stopping and self.early_stopping.state(),
            "divergence": self.divergence and self.divergence.state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Loads what `state` returned."""
        self._last_good = state["last_good"]
        if self.early_stopping and state["early_stopping"]:
            self.early_stopping.restore(state["early_stopping"])
        if self.divergence and state["divergence"]:
            self.divergence.restore(state["divergence"])
