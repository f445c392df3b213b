"""The configuration: every key with its default, in the order of the file (`config_file` reads it)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from instructalign.errors import DataError, suggest
from instructalign.languages import canonical, is_private
from instructalign.types import Rule

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
ContaminationAction = Literal["report", "drop", "refuse", "ignore"]
"""What is done about training data that gives test items away."""


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


DType = Literal["auto", "float32", "bfloat16", "float16"]


class AdapterConfig(Strict):
    """Low-rank adaptation through peft (Hu et al. 2021; DoRA: Liu et al. 2024).

    `rslora` scales by the root of the rank (Kalajdzievski 2023). `init`: `pissa` begins with the base's largest
    singular values (Meng et al. 2024), `olora` with its QR decomposition (Büyükakyüz 2024). `layers`: their
    numbers, from the end where negative, or `last n`. `quantised` keeps the base in 4 bits (QLoRA, Dettmers et al.
    2023). `train_embeddings`: all of them, or with `new` those of tokens that only the new languages use.
    """

    type: Literal["lora", "dora"] = "lora"
    r: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Probability = 0.0
    rslora: bool = False
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    targets: list[str] | Literal["all-linear"] = "all-linear"
    layers: list[int] | str | None = None
    quantised: bool = False
    train_embeddings: bool | Literal["new"] = False
    merge: bool = True

    @model_validator(mode="after")
    def _possible(self) -> AdapterConfig:
        if self.quantised and self.init in ("pissa", "olora"):
            raise ValueError(f"init: {self.init} changes the base's weights, which quantised keeps in 4 bits")
        few = isinstance(self.layers, str) and re.fullmatch(r"last [1-9]\d*", self.layers)
        if self.layers is not None and not few and (isinstance(self.layers, str) or not self.layers):
            raise ValueError(
                f"layers: expected numbers, such as [0, 1] or [-1], or the last few, such as last 4; "
                f"found {self.layers!r}"
            )
        return self


class ModelConfig(Strict):
    """The model to adapt."""

    base: str
    revision: str | None = None
    dtype: DType = "float32"
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


ShareOfAll = Annotated[float, Field(ge=0, lt=1)]


class SelectConfig(Strict):
    """Which past examples are chosen, of those that a source holds.

    `by` divides them into strata by the task or the language they name, or by length (characters of prompt and
    answer, by powers of two); `counts` says how many each stratum gives: as many as the others (`equal`; where
    one runs out the others take over), or as it has of the whole (`proportional`). `order` says which come
    first, of a stratum or of all.
    """

    by: Literal["task", "language", "length"] | None = None
    counts: Literal["equal", "proportional"] = "equal"
    order: Literal["random", "longest", "shortest"] = "random"


class ShareStageConfig(Strict):
    """From optimizer step `at` on, replay has this share."""

    at: Positive
    share: ShareOfAll


class ShareScheduleConfig(Strict):
    """A share of replay that changes in the course of training; it begins at `replay.share`.

    `linear` and `cosine` go to the share `to` over the whole training; `staged` holds each stage's share until
    the next one begins.
    """

    shape: Literal["linear", "cosine", "staged"]
    to: ShareOfAll | None = None
    stages: list[ShareStageConfig] | None = None

    @model_validator(mode="after")
    def _fits_its_shape(self) -> ShareScheduleConfig:
        wanted, other = ("stages", "to") if self.shape == "staged" else ("to", "stages")
        if not (self.stages if wanted == "stages" else self.to is not None):
            raise ValueError(f"shape {self.shape} needs {wanted}")
        if getattr(self, other) is not None:
            raise ValueError(f"shape {self.shape} takes {wanted}, not {other}")
        starts = [stage.at for stage in self.stages or ()]
        if starts != sorted(set(starts)):
            raise ValueError(f"each stage must begin later than the one before, found {starts}")
        return self

    @property
    def shares(self) -> list[float]:
        """The shares that it goes to."""
        return [stage.share for stage in self.stages or ()] + ([] if self.to is None else [self.to])


class ReplayConfig(Strict):
    """Past instruction data, mixed in so that the model keeps what it knew.

    `size` samples are chosen once, by the seed, from one source or from several by their weights. They make up
    `share` of the training examples; the report has the realised share of tokens too. The same samples come back
    as often as that needs, unless `repeat` is false: then a run that needs more than there are is refused.
    `heldout` samples are never replayed, whatever `size` is: the task `past_instructions` asks them, to say what
    was forgotten.
    """

    source: Entry | Annotated[list[Entry], Field(min_length=1)]
    size: Natural = 10_000
    heldout: Natural = 0
    preset: Literal["paper"] | None = None
    select: SelectConfig = SelectConfig()
    share: ShareOfAll = 0.5
    share_of: Literal["rows"] = "rows"
    schedule: ShareScheduleConfig | None = None
    repeat: bool = True

    @property
    def sources(self) -> list[Entry]:
        """The sources, be it one or several."""
        return self.source if isinstance(self.source, list) else [self.source]

    @field_validator("share_of", mode="before")
    @classmethod
    def _of_rows(cls, value: Any) -> Any:
        if value in ("tokens", "loss_tokens"):
            raise ValueError(
                f"a share of {value} is no longer planned. Leave share_of out (or write rows) and set share as "
                "one of examples; the realised shares of tokens and loss tokens are in run.json and in the report"
            )
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> ReplayConfig:
        if self.size > 0 and not any([self.share, *(self.schedule.shares if self.schedule else ())]):
            raise ValueError(
                f"share is 0 but size is {self.size}: no sample would ever be drawn. Set share above 0 "
                "(the paper: 0.5), or size to 0 for no replay"
            )
        return self

    @model_validator(mode="after")
    def _has_what_to_hold_out(self) -> ReplayConfig:
        if self.heldout and any(source.name == "self" for source in self.sources):
            raise ValueError(
                f"heldout is {self.heldout}, but a source has format: self, and what a model writes itself says "
                "nothing of what it forgot. Set heldout to 0, or give a source of past data (format: jsonl, hub)"
            )
        return self

    @model_validator(mode="after")
    def _as_the_preset_says(self) -> ReplayConfig:
        """The paper's replay: new and past examples take turns, whatever r is (the published scripts)."""
        if self.preset is None:
            return self
        fixed = {
            "share": 0.5,
            "schedule": None,
            "repeat": True,
            "select": SelectConfig(),
        }
        other = [key for key, value in fixed.items() if getattr(self, key) != value]
        if other:
            raise ValueError(
                f"preset paper means that new and past examples take turns, r chosen at random: it sets "
                f"{', '.join(other)} itself. Leave {'it' if len(other) == 1 else 'them'} out, or the preset"
            )
        return self


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


STRATEGY = "replay"


class TrainingConfig(Strict):
    """Optimisation. The defaults are the paper's, except for `loss_on` (see docs/decisions).

    `micro_batch_size` and `micro_batch_tokens` bound the examples, and the tokens with padding, that go through
    the model at once; by default what suits the device. `packing` puts several examples into a row. `compile`
    lets PyTorch compile the model's layers. None of these changes which examples a step has, nor its gradient.
    """

    steps: Positive
    batch_size: Positive = 32
    micro_batch_size: Positive | None = None
    micro_batch_tokens: Positive | None = None
    packing: bool = False
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    warmup: Natural = 0
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"] = "adamw"
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    max_length: Annotated[int, Field(ge=8)] = 128
    loss_on: Literal["answer", "all"] = "answer"
    prompt_weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    gradient_checkpointing: bool = False
    compile: bool = False
    strategy: dict[str, Entry] = {STRATEGY: Entry(name=STRATEGY)}
    checkpoint_every: Positive = 1000
    keep_checkpoints: Positive = 1
    evaluate_every: Positive | None = None
    kl: GaugeConfig | None = None
    probe: ProbeConfig | None = None
    early_stopping: EarlyStoppingConfig | None = None
    divergence: DivergenceConfig | None = DivergenceConfig()
    log_every: Positive = 10
    workers: Natural = 0
    report_to: list[str] = ["tensorboard"]

    @model_validator(mode="after")
    def _fits(self) -> TrainingConfig:
        if self.loss_on == "answer" and self.prompt_weight != 1.0:
            raise ValueError("prompt_weight has an effect with loss_on: all only")
        if self.warmup > self.steps:
            raise ValueError(f"warmup ({self.warmup}) is longer than the training itself ({self.steps} steps)")
        on = self.early_stopping.on if self.early_stopping else None
        sources = {"heldout": "evaluate_every", "kl": "kl", "probe": "probe"}
        if on and getattr(self, sources[on]) is None:
            raise ValueError(f"early_stopping is on {on}, which is not measured: set training.{sources[on]}")
        return self


class CometConfig(Strict):
    """COMET scores of translations, by `comet-score` from an environment of its own.

    `command` is where it lies; without, it is looked for as other commands are. `languages` are those that the
    model's encoder was trained on, where that is not XLM-R.
    """

    model: str = "Unbabel/wmt22-comet-da"
    command: Path | None = None
    languages: list[str] | None = None
    batch_size: Positive = 16
    gpus: Natural = 0

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)


class EvaluationConfig(Strict):
    """Zero-shot evaluation by label likelihood, and of translations.

    `dtype` is what the model is loaded in, where that is not `model.dtype`. `engine` writes the translations.
    `language_id` is a fastText model of the user's that finds translations in the wrong language.
    """

    tasks: list[str] = []
    data: Path = Path()
    prompts: list[str] | None = None
    languages: list[str] | None = None
    items: Positive | None = None
    scoring: Rule = "sum"
    dtype: DType | None = None
    batch_tokens: Positive = 8192
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    engine: Literal["transformers", "vllm"] = "transformers"
    language_id: Path | None = None
    comet: CometConfig | None = None

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)


class MemoryConfig(Strict):
    """What the folder of the adapted model carries for whoever teaches it more: a replay buffer.

    `per_stage` of the instructions that were trained on join the past examples that were replayed. When there
    are more than `budget`, some of all of them make room, chosen by the seed.
    """

    per_stage: Natural = 500
    budget: Positive = 2000


Settings = dict[str, Any]
"""Keys of the configuration, as paths with dots, and their values."""


class CellConfig(Strict):
    """One named cell of a sweep, which may set several keys at once."""

    name: Annotated[str, Field(min_length=1)]
    set: Settings = {}


class SweepConfig(Strict):
    """Several runs of one recipe: every point of the grid and every cell of the list, with every seed.

    An entry of the grid is a key with the values that it takes, or a name of one's own with the values' names
    and what each of them sets (several keys, where they belong together).
    """

    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] | None = None
    grid: dict[str, list[Any] | dict[str, Settings]] = {}
    cells: list[CellConfig] = []

    @field_validator("grid", mode="before")
    @classmethod
    def _axes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        checked: dict[str, Any] = {}
        for key, axis in value.items():
            named = isinstance(axis, dict) and all(isinstance(settings, dict) for settings in axis.values())
            if not axis or not (isinstance(axis, list) or named):
                raise ValueError(
                    f"{key}: expected a list of values, or names with what each of them sets "
                    f"(small: {{training.steps: 100}}), found {axis!r}"
                )
            # Names are text, also where YAML reads them as numbers.
            checked[str(key)] = {str(name): axis[name] for name in axis} if named else axis
        return checked

    @model_validator(mode="after")
    def _no_seed(self) -> SweepConfig:
        keys = {*self.grid, *(key for cell in self.cells for key in cell.set)}
        keys |= {
            key for axis in self.grid.values() if isinstance(axis, dict) for set in axis.values() for key in set
        }
        if "seed" in keys:
            raise ValueError("seed is no key to vary: list the seeds under sweep.seeds, or give --seeds 1,2,3")
        names = [cell.name for cell in self.cells]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cells: {', '.join(twice)} stands there twice; give each cell a name of its own")
        return self


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
