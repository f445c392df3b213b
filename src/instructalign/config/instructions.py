"""How parallel rows become alignment instructions."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from instructalign.config.base import Entry, Natural, Positive, Probability, Strict
from instructalign.config.model import LanguagesConfig
from instructalign.errors import suggest

MIXTURE = {"tlm": 1.0, "mt": 1.0}
"""The objectives of a run that names none, with their weights (docs/guides/which-recipe.md)."""


class NoiseConfig(Strict):
    """Noise for the denoising objectives (paper, section 3.1 and the published scripts).

    `mixture` gives the weight of each chain of operations, applied in the order written: `infill` (a word
    becomes the mask), `delete`, `permute` (all words shuffled), `span` (runs of words become one mask each).
    """

    probability: Probability = 0.2
    mask: Annotated[str, Field(min_length=1)] = "___"
    span_length: Annotated[float, Field(ge=1)] = 3.0
    mixture: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {
        "infill": 0.24,
        "delete": 0.24,
        "permute": 0.24,
        "infill+delete": 0.08,
        "infill+permute": 0.08,
        "delete+permute": 0.08,
        "infill+delete+permute": 0.04,
    }

    @field_validator("mixture")
    @classmethod
    def _operations(cls, value: dict[str, float]) -> dict[str, float]:
        known = ["infill", "delete", "permute", "span"]
        for chain in value:
            for operation in chain.split("+"):
                if operation not in known:
                    raise ValueError(f"unknown noise {operation!r} in {chain!r}. {suggest(operation, known)}")
        if sum(value.values()) <= 0:
            raise ValueError("at least one weight must be above 0")
        return value


class StageConfig(Strict):
    """From alignment example `at` on, objectives are drawn with these weights; those not named are not."""

    at: Natural
    weights: Annotated[dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]], Field(min_length=1)]

    @model_validator(mode="after")
    def _some(self) -> StageConfig:
        if sum(self.weights.values()) <= 0:
            raise ValueError("at least one weight must be above 0")
        return self


class ScheduleConfig(Strict):
    """Weights of the objectives that change in the course of training.

    `staged`: the weights of a stage hold until the next one begins. `linear`: between two stages they go over
    from one to the other evenly. Examples are counted without replay.
    """

    shape: Literal["staged", "linear"] = "staged"
    stages: Annotated[list[StageConfig], Field(min_length=1)]

    @model_validator(mode="after")
    def _in_order(self) -> ScheduleConfig:
        starts = [stage.at for stage in self.stages]
        if starts[0] != 0:
            raise ValueError(f"the first stage must be at: 0, found {starts[0]}")
        if starts != sorted(set(starts)):
            raise ValueError(f"each stage must begin later than the one before, found {starts}")
        return self


class InstructionsConfig(Strict):
    """How parallel rows become alignment instructions.

    `sentences` is how many sentences of the corpora are trained on, all of them by default; a smaller number is
    part of every larger one. `heldout` is how many are kept out of training before that.
    """

    objectives: dict[str, Entry] = {name: Entry(name=name, weight=weight) for name, weight in MIXTURE.items()}
    pivots: list[str] | None = None
    targets: list[str] | None = None
    heldout: Natural = 100
    sentences: Positive | None = None
    templates: Annotated[list[str], Field(min_length=1)] = ["eng"]
    noise: NoiseConfig = NoiseConfig()
    schedule: ScheduleConfig | None = None

    @model_validator(mode="after")
    def _known_objectives(self) -> InstructionsConfig:
        for stage in self.schedule.stages if self.schedule else []:
            for name in stage.weights:
                if name not in self.objectives:
                    raise ValueError(
                        f"the schedule weighs {name!r}, which is not among objectives. "
                        f"{suggest(name, sorted(self.objectives))}"
                    )
        return self

    @field_validator("pivots", "targets", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)
