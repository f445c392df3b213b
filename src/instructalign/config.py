"""The configuration of a run: its keys and their defaults. `configfile` reads it.

The keys of open lists (corpus formats, objectives, replay sources, strategies) are read off the entries
themselves; see `registry`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from instructalign.errors import DataError, suggest
from instructalign.languages import canonical, is_private

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]

OBJECTIVE_NAMES = ["tlm", "mt", "xss"]
STRATEGY = "replay"


class Strict(BaseModel):
    """A block of keys; a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Entry(Strict):
    """One entry of an open list: its name, and the options its own signature declares.

    A corpus can also have a label: it stands before the ids of its rows. Corpora of one label
    share their ids: a sentence of one that has the id of a sentence of another is the same sentence.
    """

    name: str
    label: str | None = None
    options: dict[str, Any] = {}
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0


class AdapterConfig(Strict):
    """Low-rank adaptation through peft (Hu et al. 2021; DoRA: Liu et al. 2024)."""

    type: Literal["lora", "dora"] = "lora"
    r: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Probability = 0.0
    targets: list[str] | Literal["all-linear"] = "all-linear"
    train_embeddings: bool = False
    merge: bool = True


class ModelConfig(Strict):
    """The model to adapt."""

    base: str
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "float32"
    adapter: AdapterConfig | None = None
    trust_remote_code: bool = False
    system_prompt: str | None = None
    chat: Literal["auto", "never"] = "auto"


class LanguagesConfig(Strict):
    """Which languages the model knows (L1), which it is taught (L2), which it never sees (L3)."""

    known: Annotated[list[str], Field(min_length=1)]
    new: Annotated[list[str], Field(min_length=1)]
    related: list[str] = []
    names: dict[str, str] = {}

    @field_validator("known", "new", "related", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        if False in [entry for entry in value if isinstance(entry, bool)]:
            raise ValueError("YAML reads the bare word no as false: write 'nor' or \"no\" for Norwegian")
        try:
            return [canonical(entry) if isinstance(entry, str) else entry for entry in value]
        except DataError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _disjoint(self) -> LanguagesConfig:
        seen: dict[str, str] = {}
        for group, codes in (("known", self.known), ("new", self.new), ("related", self.related)):
            for code in codes:
                if code in seen:
                    raise ValueError(f"{code!r} stands in both {seen[code]!r} and {group!r}; keep it in one")
                seen[code] = group
        unnamed = [code for code in seen if is_private(code) and code not in self.names]
        if unnamed:
            raise ValueError(f"private codes need a name: add {', '.join(unnamed)} to languages.names")
        return self

    @property
    def groups(self) -> dict[str, list[str]]:
        """The languages by the paper's group names."""
        return {"L1": self.known, "L2": self.new, "L3": self.related}

    def group_of(self, code: str) -> str:
        """`L1`, `L2`, `L3`, or an empty string for a language of none."""
        return next((group for group, codes in self.groups.items() if code in codes), "")


class Bounds(Strict):
    """The scores that a filter accepts."""

    min: Annotated[float, Field(ge=0)] = 0
    max: Annotated[float, Field(ge=0)] = float("inf")

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g}): nothing would be kept")
        return self


class LanguageBounds(Strict):
    """Identification of the language by a fastText model of the user's."""

    model: Path
    min: Probability = 0.5


class FilterConfig(Strict):
    """Which rows of the corpora are kept.

    The presets are in corpora/presets.yaml. A filter given here takes the place of the preset's; those named
    under `without` are left out. What is taken out is written to the file `rejects`, if one is named.
    """

    preset: Literal["none", "basic", "standard", "strict"] = "basic"
    without: list[
        Literal[
            "normalise", "control", "length", "alphabetic", "script", "identical", "length_ratio", "duplicates"
        ]
    ] = []
    normalise: Literal["nfc"] | None = None
    control: Bounds | None = None
    length: Bounds | None = None
    alphabetic: Bounds | None = None
    script: Bounds | None = None
    language: LanguageBounds | None = None
    identical: Bounds | None = None
    length_ratio: Bounds | None = None
    duplicates: Literal["exact", "near"] | None = None
    rejects: Path | None = None


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
    """How parallel rows become alignment instructions."""

    objectives: dict[str, Entry] = {name: Entry(name=name) for name in OBJECTIVE_NAMES}
    pivots: list[str] | None = None
    targets: list[str] | None = None
    heldout: Natural = 100
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


class ReplayConfig(Strict):
    """Past instruction data, mixed in so that the model keeps what it knew.

    `size` samples are chosen once, by the seed; `share` of all training examples are drawn from them, so the
    same samples come back as often as that needs.
    """

    source: Entry
    size: Natural = 1000
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _both_or_none(self) -> ReplayConfig:
        if self.size > 0 and self.share == 0:
            raise ValueError(
                f"share is 0 but size is {self.size}: no sample would ever be drawn. Set share above 0 "
                "(the paper: 0.5), or size to 0 for no replay"
            )
        return self


class TrainingConfig(Strict):
    """Optimisation. The defaults are the paper's, except for `loss_on` (see docs/decisions)."""

    steps: Positive
    batch_size: Positive = 32
    micro_batch_size: Positive | None = None
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Natural = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Annotated[int, Field(ge=8)] = 128
    loss_on: Literal["answer", "all"] = "answer"
    prompt_weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    strategy: dict[str, Entry] = {STRATEGY: Entry(name=STRATEGY)}
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 1
    evaluate_every: Positive | None = None
    log_every: Positive = 10
    workers: Natural = 0
    report_to: list[str] = ["tensorboard"]

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size ({self.micro_batch_size}) must divide batch_size ({self.batch_size})"
            )
        if self.loss_on == "answer" and self.prompt_weight != 1.0:
            raise ValueError("prompt_weight has an effect with loss_on: all only")
        if self.warmup > self.steps:
            raise ValueError(f"warmup ({self.warmup}) is longer than the training itself ({self.steps} steps)")
        return self


class EvaluationConfig(Strict):
    """Zero-shot evaluation by label likelihood."""

    tasks: list[str] = []
    data: Path = Path()
    prompts: list[str] | None = None
    languages: list[str] | None = None
    items: Positive | None = None
    scoring: Literal["sum", "mean", "paper"] = "sum"
    batch_tokens: Positive = 8192
    bootstrap: Annotated[int, Field(ge=0)] = 1000

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)


class Config(Strict):
    """A whole run."""

    seed: Annotated[int, Field(ge=0, lt=2**32)] = 42
    model: ModelConfig
    languages: LanguagesConfig
    corpora: Annotated[list[Entry], Field(min_length=1)]
    filter: FilterConfig = FilterConfig()
    instructions: InstructionsConfig = InstructionsConfig()
    replay: ReplayConfig | None = None
    training: TrainingConfig
    evaluation: EvaluationConfig = EvaluationConfig()

    @model_validator(mode="after")
    def _agree(self) -> Config:
        outside = [code for code in self.instructions.pivots or [] if self.languages.group_of(code) != "L1"]
        if outside:
            raise ValueError(
                f"instructions.pivots: {', '.join(outside)} is not among languages.known "
                f"({', '.join(self.languages.known)})"
            )
        if "none" in self.training.strategy and self.replay and self.replay.size:
            raise ValueError(
                f"training.strategy is none but replay.size is {self.replay.size}: "
                "set replay.size to 0, or training.strategy to replay"
            )
        return self

    @property
    def pivots(self) -> list[str]:
        """The known languages from and into which new ones are aligned; all of them unless some are named."""
        return self.instructions.pivots or self.languages.known

    @property
    def targets(self) -> list[str]:
        """The languages that are aligned with the pivots; the new ones unless others are named.

        The paper aligned Indonesian, which its models know, with English beside the new languages.
        """
        return self.instructions.targets or self.languages.new

    def to_yaml(self) -> str:
        """The configuration as YAML that reads back as the same configuration."""
        return yaml.safe_dump(_plain(self), sort_keys=False, allow_unicode=True)


def _plain(value: Any, key: str = "") -> Any:
    """A configuration as the dictionaries that a YAML file of it would hold."""
    if isinstance(value, Entry):
        options = {name: _plain(option) for name, option in value.options.items() if option is not None}
        if key in ("objectives", "strategy"):
            return {"weight": value.weight, **options}
        label = {} if value.label is None else {"label": value.label}
        return {"format": value.name, **label, **options}
    if isinstance(value, BaseModel):
        return {name: _plain(getattr(value, name), name) for name in type(value).model_fields}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(inner, key) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
