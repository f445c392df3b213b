"""What is watched while a model trains, and when training ends before its last step."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from instructalign.config.base import Positive, Strict


class GaugeConfig(Strict):
    """Every so many steps, how far the model has gone from its base: the KL divergence on held-out known text.

    `positions` is how many predictions are compared; the base's are kept in memory, a number for each token of the
    vocabulary.
    """

    every: Positive = 100
    positions: Positive = 256


class ProbeConfig(Strict):
    """Every so many steps, zero-shot accuracy on a few items of known and new languages.

    The tasks are those of `evaluation`, on their validation items where they have some; `items` for each language.
    """

    every: Positive = 500
    items: Positive = 20


class EarlyStoppingConfig(Strict):
    """Ends training when a measurement says so.

    `patience`: after so many measurements in a row without one that is better by more than `min_change`.
    `threshold`: as soon as the value passes it (above it for `heldout` and `kl`, below it for `probe`). `keep`:
    the model of the best measurement, or of the last step.
    """

    on: Literal["heldout", "kl", "probe"]
    patience: Positive | None = None
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    min_change: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    keep: Literal["best", "last"] = "best"

    @model_validator(mode="after")
    def _says_when(self) -> EarlyStoppingConfig:
        if self.patience is None and self.threshold is None:
            raise ValueError("needs patience, threshold or both; without them training would never end early")
        if self.on == "kl" and self.patience is not None:
            raise ValueError("patience: the KL divergence from the base begins at 0 and grows; give a threshold")
        return self


class DivergenceConfig(Strict):
    """When a loss counts as diverged: `patience` lines of the log in a row above its running level.

    A loss is above it that is more than `factor` times as large, and more than 2 nats larger.
    """

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0
    patience: Positive = 5
