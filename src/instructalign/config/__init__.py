"""The configuration of a run: its keys and their defaults, a file for each block. `configfile` reads it.

The keys of open lists (corpus formats, objectives, replay sources, strategies) are read off the entries
themselves; see `registry`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, field_validator, model_validator

from instructalign.config.base import ContaminationAction, Entry, Natural, Positive, Probability, Strict
from instructalign.config.evaluation import CometConfig, EvaluationConfig
from instructalign.config.filters import Bounds, FilterConfig, LanguageBounds
from instructalign.config.instructions import (
    MIXTURE,
    InstructionsConfig,
    NoiseConfig,
    ScheduleConfig,
    StageConfig,
)
from instructalign.config.mixture import ReplayConfig, SelectConfig, ShareScheduleConfig, ShareStageConfig
from instructalign.config.model import AdapterConfig, LanguagesConfig, ModelConfig
from instructalign.config.stages import MemoryConfig
from instructalign.config.sweep import CellConfig, SweepConfig
from instructalign.config.training import STRATEGY, TrainingConfig
from instructalign.config.watch import DivergenceConfig, EarlyStoppingConfig, GaugeConfig, ProbeConfig

__all__ = [
    "MIXTURE",
    "STRATEGY",
    "AdapterConfig",
    "Bounds",
    "CellConfig",
    "CometConfig",
    "Config",
    "ContaminationAction",
    "DivergenceConfig",
    "EarlyStoppingConfig",
    "Entry",
    "EvaluationConfig",
    "FilterConfig",
    "GaugeConfig",
    "InstructionsConfig",
    "LanguageBounds",
    "LanguagesConfig",
    "MemoryConfig",
    "ModelConfig",
    "Natural",
    "NoiseConfig",
    "Positive",
    "Probability",
    "ProbeConfig",
    "ReplayConfig",
    "ScheduleConfig",
    "SelectConfig",
    "ShareScheduleConfig",
    "ShareStageConfig",
    "StageConfig",
    "Strict",
    "SweepConfig",
    "TrainingConfig",
]


class Config(Strict):
    """A whole run.

    `contamination` says what is done about test items of the evaluation tasks that stand in the corpora or the
    replay: they are reported, the rows dropped, the run refused, or nothing is looked for.

    `stages` teaches the new languages one after another, or in groups, each stage to the model of the one before;
    `memory` is what a model's folder carries to the next stage.
    """

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    contamination: ContaminationAction = "report"
    model: ModelConfig
    languages: LanguagesConfig
    corpora: Annotated[list[Entry], Field(min_length=1)]
    filter: FilterConfig = FilterConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    replay: ReplayConfig | None = None
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()
    stages: Annotated[list[Annotated[list[str], Field(min_length=1)]], Field(min_length=2)] | None = None
    memory: MemoryConfig | None = None

    @field_validator("stages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return [LanguagesConfig._codes(each) for each in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _stages_teach_the_new(self) -> Config:
        if self.stages is None:
            return self
        if self.instructions.targets:
            raise ValueError("stages: leave instructions.targets out; each stage's languages are its targets")
        taught = [code for stage in self.stages for code in stage]
        wrong = {
            "are not among languages.new": [code for code in taught if code not in self.languages.new],
            "stand in two places": sorted({code for code in taught if taught.count(code) > 1}),
            "of languages.new are missing": [code for code in self.languages.new if code not in taught],
        }
        found = [f"{', '.join(codes)} {words}" for words, codes in wrong.items() if codes]
        if found:
            raise ValueError(f"stages: {'; '.join(found)}. Each new language is taught in one stage")
        if self.replay and self.replay.share == 0 and not self.replay.schedule:
            raise ValueError("stages: what is carried would never be replayed; set replay.share above 0")
        if self.replay and self.replay.heldout:
            raise ValueError(
                f"stages: later stages replay what is carried, and know nothing of the {self.replay.heldout} "
                "examples of replay.heldout; set it to 0, or teach all languages in one run"
            )
        if self.memory and self.replay is None:
            raise ValueError(
                "memory: later stages replay what is carried only with a replay block; add one (its size may be "
                "0), or leave memory out"
            )
        return self

    @model_validator(mode="after")
    def _agree(self) -> Config:
        outside = [code for code in self.instructions.pivots or [] if self.languages.group_of(code) != "L1"]
        if outside:
            raise ValueError(
                f"instructions.pivots: {', '.join(outside)} is not among languages.known "
                f"({', '.join(self.languages.known)})"
            )
        for stage in self.replay.schedule.stages or () if self.replay and self.replay.schedule else ():
            if stage.at >= self.training.steps:
                raise ValueError(
                    f"replay.schedule: the stage at: {stage.at} never begins, since training.steps is "
                    f"{self.training.steps}"
                )
        return self

    @property
    def pivots(self) -> list[str]:
        """The known languages to align new ones with: those named, or all (of which not each needs text)."""
        return self.instructions.pivots or self.languages.known

    @property
    def targets(self) -> list[str]:
        """The languages that are aligned with the pivots; the new ones unless others are named.

        The paper aligned Indonesian, which its models know, with English beside the new languages.
        """
        return self.instructions.targets or self.languages.new

    @property
    def answering_model(self) -> ModelConfig:
        """The model as it is loaded to be evaluated."""
        dtype = self.evaluation.dtype
        return self.model if dtype is None else self.model.model_copy(update={"dtype": dtype})

    @property
    def mixes_replay(self) -> bool:
        """Whether past examples are mixed in: that takes some, and the strategy of that name."""
        return self.replay is not None and self.replay.size > 0 and "replay" in self.training.strategy

    def to_yaml(self) -> str:
        """The configuration as YAML that reads back as the same configuration."""
        return yaml.safe_dump(_plain(self), sort_keys=False, allow_unicode=True)


def _plain(value: Any, key: str = "") -> Any:
    """A configuration as the dictionaries that a YAML file of it would hold."""
    if isinstance(value, Entry):
        options = {name: _plain(option) for name, option in value.options.items() if option is not None}
        if key == "strategy":
            return options
        if key == "objectives":
            return {"weight": value.weight, **options}
        label = {} if value.label is None else {"label": value.label}
        weight = {} if value.weight == 1.0 else {"weight": value.weight}
        return {"format": value.name, **label, **weight, **options}
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name), name) for name in type(value).model_fields}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(inner, key) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
