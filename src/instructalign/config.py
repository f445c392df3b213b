"""The configuration: every key with its default, in the order of the file (`config_file` reads it)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from instructalign.errors import suggest
from instructalign.languages import SIDES, LanguageCode, is_private
from instructalign.plugins import (
    OBJECTIVES,
    STRATEGIES,
    CorpusEntry,
    EntriesByName,
    ObjectiveEntries,
    ReplayEntries,
    StrategyEntries,
)
from instructalign.plugins import Entry as Entry
from instructalign.types import Rule

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
ReplayShare = Annotated[float, Field(ge=0, lt=1)]
RelativeWeight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
DType = Literal["auto", "float32", "bfloat16", "float16"]
ContaminationAction = Literal["report", "drop", "refuse", "ignore"]
"""What is done about training data that overlaps with test items."""


class Strict(BaseModel):
    """A block of keys; unknown keys are errors. The text below a field describes it in the JSON schema."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), use_attribute_docstrings=True)


class AdapterConfig(Strict):
    """Low-rank adaptation through peft (LoRA: Hu et al. 2021; DoRA: Liu et al. 2024)."""

    type: Literal["lora", "dora"] = "lora"
    """LoRA, or its decomposition into magnitude and direction."""
    r: Positive = 16
    """Rank of the update."""
    alpha: Annotated[float, Field(gt=0)] = 32
    """Scale of the update: it is multiplied by alpha / r."""
    dropout: Probability = 0.0
    """Dropout before the low-rank matrices."""
    rslora: bool = False
    """Scale by alpha / sqrt(r) instead (Kalajdzievski 2023)."""
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    """Initialisation. `pissa`: the largest singular values of the base (Meng et al. 2024); `olora`: its QR
    decomposition (Büyükakyüz 2024)."""
    targets: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the modules that get an adapter."""
    layers: list[int] | str | None = None
    """Layers that get an adapter: their numbers (from the end where negative), or `last n`. Default: all."""
    quantised: bool = False
    """Keep the base in 4 bits (QLoRA, Dettmers et al. 2023)."""
    train_embeddings: bool | Literal["new"] = False
    """Train the embeddings too: all of them, or with `new` those of tokens that only the new languages use."""
    merge: bool = True
    """Write the adapted model with the adapter merged into the base's weights."""

    @model_validator(mode="after")
    def _possible(self) -> AdapterConfig:
        if self.quantised and self.init in ("pissa", "olora"):
            raise ValueError(f"init: {self.init} changes the base's weights, which quantised keeps in 4 bits")
        last = isinstance(self.layers, str) and re.fullmatch(r"last [1-9]\d*", self.layers)
        if self.layers is not None and not last and (isinstance(self.layers, str) or not self.layers):
            raise ValueError(
                f"layers: expected layer numbers, such as [0, 1] or [-1], or `last n`, such as last 4; "
                f"found {self.layers!r}"
            )
        return self


def _iso_date(value: Any) -> Any:
    if isinstance(value, date):  # YAML reads 2024-07-26 as a date
        return value.isoformat()
    try:
        return date.fromisoformat(value).isoformat()
    except (TypeError, ValueError):
        raise ValueError(f"write a date as 2024-07-26 (found {value!r})") from None


ChatDate = Annotated[str, BeforeValidator(_iso_date)]


class VocabularyConfig(Strict):
    """New pieces for the tokenizer, learned from text in the new languages (docs/guides/vocabulary.md)."""

    add: Positive
    """How many pieces to add at most."""
    source: Annotated[Literal["corpora"], Field(alias="from")] = "corpora"
    """Text that they are learned from: `corpora`, the new languages' sentences that the run trains on."""
    init: Literal["mean", "align", "omp"] = "mean"
    """What a new embedding row begins with: the mean of the piece's old tokens; the tokens of the words that it
    is aligned with in known languages; or few tokens that occur in the same rows (orthogonal matching)."""
    protect: bool = True
    """Leave out pieces that would change the tokens of the known languages' text, replay data and prompts."""
    train_new_rows_first: Natural = 0
    """Optimizer steps in which the new rows are trained alone; then everything is."""


class ModelConfig(Strict):
    """The model to adapt."""

    base: str
    """A folder in Hugging Face format, a name on the Hub, or `toy` for the shipped toy model."""
    revision: str | None = None
    """Branch, tag or commit on the Hub."""
    dtype: DType = "float32"
    """Data type of the weights; `auto` is the one they were saved in."""
    adapter: AdapterConfig | None = None
    """Train a low-rank adapter instead of all weights."""
    vocabulary: VocabularyConfig | None = None
    """Add pieces to the tokenizer, where it cuts the new languages into very small ones."""
    trust_remote_code: bool = False
    """Run Python code that comes with the model."""
    system_prompt: str | None = None
    """System message for models with a chat template."""
    chat: Literal["auto", "never"] = "auto"
    """Use the tokenizer's chat template if it has one (`auto`), or never."""
    chat_template: str | None = None
    """Which of the tokenizer's chat templates, where it has several by name; without it, `default`."""
    chat_options: dict[str, Any] = {}
    """Variables for the chat template, as `{enable_thinking: false}` (set where a template knows it)."""
    chat_date: ChatDate = "2024-07-26"
    """The date that a chat template writes as today's (YYYY-MM-DD), so that examples are the same on every day."""
    decoder_start_token_id: Natural | None = None
    """The token that a decoder begins with, for an encoder-decoder model whose own configuration lacks it."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())  # loading is cached by it, and dictionaries have no hash


LATER_MODEL_KEYS = ("vocabulary", "chat_template", "chat_options", "chat_date", "decoder_start_token_id")
"""Keys that earlier versions did not have: left out of hashes at their defaults, so that these stay the same."""


DATA_KEYS = ("licence", "provenance")
"""Keys of corpora and replay sources that say what may be done with the data; nothing is computed from them."""


def known_model_keys(model: dict[str, Any]) -> dict[str, Any]:
    """The keys of a `model` block without those of `LATER_MODEL_KEYS` that have their defaults."""
    defaults = {key: ModelConfig.model_fields[key].default for key in LATER_MODEL_KEYS}
    return {key: value for key, value in model.items() if key not in defaults or value != defaults[key]}


class LanguagesConfig(Strict):
    """Languages that the model knows (L1), is taught (L2), and is evaluated on without training (L3)."""

    known: Annotated[list[LanguageCode], Field(min_length=1)]
    """L1: languages that the base model knows; they must not be forgotten."""
    new: Annotated[list[LanguageCode], Field(min_length=1)]
    """L2: languages to learn."""
    related: list[LanguageCode] = []
    """L3: related languages, never trained on, to measure transfer."""
    names: dict[str, str] = {}
    """Names of languages with private codes (`qaa` to `qtz`)."""

    @model_validator(mode="after")
    def _disjoint(self) -> LanguagesConfig:
        seen: dict[str, str] = {}
        for group, codes in (("known", self.known), ("new", self.new), ("related", self.related)):
            for code in codes:
                if code in seen:
                    raise ValueError(f"{code!r} is listed under both {seen[code]!r} and {group!r}; keep one")
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
    """Lowest score kept."""
    max: Annotated[float, Field(ge=0, json_schema_extra=lambda schema: schema.pop("default"))] = float("inf")
    """Highest score kept."""

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g}): nothing would be kept")
        return self


class LanguageBounds(Strict):
    """Language identification by a fastText model that you provide."""

    model: Path
    """The fastText model file."""
    min: Probability = 0.5
    """Lowest probability of the expected language."""


class FilterConfig(Strict):
    """Which rows of the corpora are kept. A filter given here replaces the preset's."""

    preset: Literal["none", "basic", "standard", "strict"] = "basic"
    """A set of filters (data/presets.yaml): `standard` is for web text, `strict` for large and noisy corpora."""
    without: list[
        Literal[
            "normalise",
            "control",
            "length",
            "alphabetic",
            "script",
            "identical",
            "length_ratio",
            "placeholders",
            "duplicates",
        ]
    ] = []
    """Filters of the preset to leave out."""
    normalise: Literal["nfc"] | None = None
    """Unicode normalisation form."""
    control: Bounds | None = None
    """Number of control characters in a text."""
    length: Bounds | None = None
    """Characters in a text."""
    alphabetic: Bounds | None = None
    """Fraction of a text's characters that are letters."""
    script: Bounds | None = None
    """Fraction of a text's letters that are in the language's script."""
    language: LanguageBounds | None = None
    """Probability of the expected language."""
    identical: Bounds | None = None
    """Similarity of the two texts of a pair; 1 for a copy."""
    length_ratio: Bounds | None = None
    """Length of the longer text divided by that of the shorter one."""
    placeholders: Literal["drop"] | None = None
    """Remove texts that stand against many different ones, where a translation is missing (`__NULL__`, `TODO`)."""
    duplicates: Literal["exact", "near"] | None = None
    """Remove duplicate rows: exact ones, or near-duplicates too."""
    rejects: Path | None = None
    """File (JSON lines) for what was removed, and by which filter."""


class NoiseConfig(Strict):
    """Noise for the denoising objectives (paper, section 3.1 and the published scripts)."""

    probability: Probability = 0.2
    """Fraction of the words that an operation changes."""
    mask: Annotated[str, Field(min_length=1)] = "___"
    """Text that replaces a masked word."""
    span_length: Annotated[float, Field(ge=1)] = 3.0
    """Mean number of words in a masked span."""
    mixture: dict[str, RelativeWeight] = {
        "infill": 0.24,
        "delete": 0.24,
        "permute": 0.24,
        "infill+delete": 0.08,
        "infill+permute": 0.08,
        "delete+permute": 0.08,
        "infill+delete+permute": 0.04,
    }
    """Weight of each chain of operations, applied in the order written: `infill` (a word becomes the mask),
    `delete`, `permute` (all words shuffled), `span` (runs of words become one mask each)."""

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
    """One stage of a schedule of objectives."""

    at: Natural
    """First alignment example of the stage, counted without replay."""
    weights: Annotated[dict[str, RelativeWeight], Field(min_length=1)]
    """Sampling weights of the objectives; those not named are not used."""

    @model_validator(mode="after")
    def _some(self) -> StageConfig:
        if sum(self.weights.values()) <= 0:
            raise ValueError("at least one weight must be above 0")
        return self


class ScheduleConfig(Strict):
    """Weights of the objectives that change in the course of training."""

    shape: Literal["staged", "linear"] = "staged"
    """`staged`: the weights of a stage hold until the next one. `linear`: interpolate between stages."""
    stages: Annotated[list[StageConfig], Field(min_length=1)]
    """The stages in order; the first begins at 0."""

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

    objectives: ObjectiveEntries = Field(
        default_factory=lambda: EntriesByName(OBJECTIVES).read({"tlm": 1.0, "mt": 1.0}),
        json_schema_extra={"default": {"tlm": 1.0, "mt": 1.0}},
    )
    """Objectives with their sampling weights and options (docs/guides/which-recipe.md)."""
    pivots: list[LanguageCode] | None = None
    """Known languages to align the new ones with. Default: every known language that has text."""
    targets: list[LanguageCode] | None = None
    """Languages to align with the pivots. Default: languages.new."""
    heldout: Natural | None = None
    """Sentences held out of training for evaluation, by id. Default: a tenth of the corpus, at most 100."""
    sentences: Positive | None = None
    """Sentences to train on, besides those held out; fewer are a subset of more. Default: all."""
    templates: Annotated[list[str], Field(min_length=1)] = ["eng"]
    """Prompt templates: languages of shipped sets, or your own YAML files."""
    noise: NoiseConfig = NoiseConfig()
    """Noise of the denoising objectives."""
    schedule: ScheduleConfig | None = None
    """Change the weights of the objectives during training."""

    @model_validator(mode="after")
    def _known_objectives(self) -> InstructionsConfig:
        for stage in self.schedule.stages if self.schedule else []:
            for name in stage.weights:
                if name not in self.objectives:
                    raise ValueError(
                        f"the schedule has a weight for {name!r}, which is not among objectives. "
                        f"{suggest(name, sorted(self.objectives))}"
                    )
        return self


class SelectConfig(Strict):
    """Which replay examples are chosen, of those that a source holds."""

    by: Literal["task", "language", "length"] | None = None
    """Stratify by task, by language, or by length (characters of prompt and answer, in powers of two)."""
    counts: Literal["equal", "proportional"] = "equal"
    """Examples of each stratum: equally many (where one runs out, others fill up), or in proportion."""
    order: Literal["random", "longest", "shortest"] = "random"
    """Which are taken first, within a stratum or overall."""


class ShareStageConfig(Strict):
    """One stage of a schedule of the replay share."""

    at: Positive
    """First optimizer step of the stage."""
    share: ReplayShare
    """Fraction of the examples that are replay."""


class ShareScheduleConfig(Strict):
    """A share of replay that changes in the course of training, beginning at `replay.share`."""

    shape: Literal["linear", "cosine", "staged"]
    """`linear` and `cosine` reach `to` at the end; `staged` keeps the share of a stage until the next one."""
    to: ReplayShare | None = None
    """Share at the end of training, for `linear` and `cosine`."""
    stages: list[ShareStageConfig] | None = None
    """The stages in order, for `staged`."""

    @model_validator(mode="after")
    def _fits_its_shape(self) -> ShareScheduleConfig:
        needed, other = ("stages", "to") if self.shape == "staged" else ("to", "stages")
        if not (self.stages if needed == "stages" else self.to is not None):
            raise ValueError(f"shape {self.shape} needs {needed}")
        if getattr(self, other) is not None:
            raise ValueError(f"shape {self.shape} takes {needed}, not {other}")
        starts = [stage.at for stage in self.stages or ()]
        if starts != sorted(set(starts)):
            raise ValueError(f"each stage must begin later than the one before, found {starts}")
        return self

    @property
    def shares(self) -> list[float]:
        """The shares after the first one."""
        return [stage.share for stage in self.stages or ()] + ([] if self.to is None else [self.to])


class ReplayConfig(Strict):
    """Replay data: instruction data of the languages and tasks that the model must keep, mixed into training."""

    source: ReplayEntries
    """Where replay data comes from: one source, or several with weights."""
    size: Natural = 10_000
    """Examples in the replay buffer, chosen once by the seed."""
    heldout: Natural = 0
    """Examples that are never replayed, whatever `size` is, for the task `past_instructions` (forgetting)."""
    preset: Literal["paper"] | None = None
    """`paper`: new and replay examples alternate, the buffer chosen at random, as in the published scripts."""
    select: SelectConfig = SelectConfig()
    """How the buffer is chosen."""
    share: ReplayShare = 0.5
    """Fraction of the training examples that are replay."""
    share_of: Literal["rows"] = "rows"
    """What the share is of: examples. The realised shares of tokens are in run.json and in the report."""
    schedule: ShareScheduleConfig | None = None
    """Change the share during training."""
    repeat: bool = True
    """Repeat the buffer as often as needed; with `false`, a run that needs more examples is refused."""

    @property
    def sources(self) -> list[Entry]:
        """The sources, be it one or several."""
        return self.source if isinstance(self.source, list) else [self.source]

    @model_validator(mode="after")
    def _consistent(self) -> ReplayConfig:
        if self.size > 0 and not any([self.share, *(self.schedule.shares if self.schedule else ())]):
            raise ValueError(
                f"share is 0 but size is {self.size}: no replay example would ever be used. Set share above 0 "
                "(the paper: 0.5), or size to 0 for no replay"
            )
        if self.heldout and any(source.name == "self" for source in self.sources):
            raise ValueError(
                f"heldout is {self.heldout}, but a source has format: self, and text that a model generates "
                "itself shows nothing of what it forgot. Set heldout to 0, or give a source of data (jsonl, hub)"
            )
        if self.preset == "paper":
            fixed = {
                "share": 0.5,
                "schedule": None,
                "repeat": True,
                "select": SelectConfig(),
            }
            other = [key for key, value in fixed.items() if getattr(self, key) != value]
            if other:
                raise ValueError(
                    f"preset paper alternates new and replay examples from a random buffer, which fixes "
                    f"{', '.join(other)}. Leave {'it' if len(other) == 1 else 'them'} out, or the preset"
                )
        return self


class InstructionDataConfig(Strict):
    """Instruction data in the languages to learn: tasks with their answers, beside alignment and replay."""

    sources: Annotated[dict[LanguageCode, ReplayEntries], Field(min_length=1)]
    """By language, where the data comes from, in any form that replay data has: one source, or several."""
    size: Natural = 10_000
    """Examples chosen, once, by the seed; languages and sources take turns."""
    heldout: Natural = 0
    """Examples that are never trained on, for the task `heldout_instruction_data`."""
    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Fraction of the training examples that are instruction data, of those that are not replay."""
    crosslingual: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Fraction of the examples with a translation (same `id`) that are asked in another language."""

    @model_validator(mode="after")
    def _has_translations(self) -> InstructionDataConfig:
        sources = {code: found if isinstance(found, list) else [found] for code, found in self.sources.items()}
        known = [code for code, found in sources.items() if any(each.options.get("id") for each in found)]
        if self.crosslingual and len(known) < 2:
            raise ValueError(
                f"crosslingual is {self.crosslingual}, which takes the same records in two languages, and sources "
                f"with an id are in {', '.join(known) or 'none'}. Name the field of the records' ids, such as "
                "id: id, in the sources that are translations of one another; or leave crosslingual out"
            )
        return self

    def of_languages(self, codes: Sequence[str]) -> ReplayConfig | None:
        """The sources of some languages, in the form in which replay data is read; None where there are none."""
        entries = [
            entry.model_copy(update={"languages": [code], "label": entry.label or code})
            for code, found in self.sources.items()
            for entry in (found if isinstance(found, list) else [found])
            if code in codes
        ]
        if not entries:
            return None
        return ReplayConfig(source=entries, size=self.size, heldout=self.heldout, share=self.share)


class KLMonitorConfig(Strict):
    """KL divergence of the model from its base on held-out text in the known languages, while it trains."""

    every: Positive = 100
    """Optimizer steps between measurements."""
    positions: Positive = 256
    """Token positions compared; the base's distributions are kept in memory (positions × vocabulary size)."""


class AccuracyMonitorConfig(Strict):
    """Zero-shot accuracy on a few items of known and new languages, while it trains.

    The tasks are those of `evaluation`, on their validation items where they have some.
    """

    every: Positive = 500
    """Optimizer steps between measurements."""
    items: Positive = 20
    """Items of each task and language."""


class EarlyStoppingConfig(Strict):
    """Ends training when a measurement stops improving or passes a threshold."""

    on: Literal["heldout", "kl", "probe"]
    """What is monitored: the held-out loss, the KL divergence from the base, or the accuracy on a few items."""
    patience: Positive | None = None
    """Stop after this many measurements in a row without improvement."""
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    """Stop as soon as the value passes it: above it for `heldout` and `kl`, below it for `probe`."""
    min_change: RelativeWeight = 0.0
    """Smallest change that counts as improvement."""
    keep: Literal["best", "last"] = "best"
    """The model that is saved: the one with the best measurement, or that of the last step."""

    @model_validator(mode="after")
    def _has_a_criterion(self) -> EarlyStoppingConfig:
        if self.patience is None and self.threshold is None:
            raise ValueError("needs patience, threshold or both; without them training would never end early")
        if self.on == "kl" and self.patience is not None:
            raise ValueError("patience: the KL divergence from the base begins at 0 and grows; give a threshold")
        return self


class DivergenceConfig(Strict):
    """When a loss counts as diverged: far above its running mean in several log lines in a row."""

    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] = 5.0
    """A loss is too high if it is this many times the running mean, and more than 2 nats above it."""
    patience: Positive = 5
    """Log lines in a row with too high a loss before training stops."""


class TrainingConfig(Strict):
    """Optimisation. The defaults are the paper's, except for `loss_on` (see docs/decisions)."""

    steps: Positive
    """Optimizer steps; `doctor` says how many an epoch has, in which each row is seen once in every direction."""
    batch_size: Positive = 32
    """Examples for each optimizer step, over all processes."""
    micro_batch_size: Positive | None = None
    """At most this many examples in one forward pass; does not change the gradient. Default: chosen by device."""
    micro_batch_tokens: Positive | None = None
    """At most this many tokens, with padding, in one forward pass. Default: chosen by device."""
    packing: bool = False
    """Pack several examples into a row; does not change the gradient."""
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1e-5
    """Peak learning rate."""
    scheduler: Literal["linear", "cosine", "constant"] = "linear"
    """Learning-rate schedule after warmup."""
    warmup: Natural = 0
    """Optimizer steps of linear warmup."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    """Decoupled weight decay."""
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit", "adafactor", "sgd"] = "adamw"
    """Optimizer; the 8-bit ones and adafactor need less memory."""
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    """Clip the gradient to this norm."""
    max_length: Annotated[int, Field(ge=8)] = 128
    """Tokens of prompt and answer together (encoder-decoder: of each); longer examples are truncated."""
    loss_on: Literal["answer", "all"] = "answer"
    """Tokens that carry the loss: those of the answer, or of prompt and answer (as in the paper's code)."""
    prompt_weight: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Weight of the prompt's tokens with `loss_on: all`."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Precision of the forward and backward pass."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    compile: bool = False
    """Compile the model's layers with PyTorch."""
    strategy: StrategyEntries = Field(
        default_factory=lambda: EntriesByName(STRATEGIES).read("replay"), json_schema_extra={"default": "replay"}
    )
    """Continual-learning strategies against forgetting, with their options."""
    checkpoint_every: Positive = 1000
    """Optimizer steps between checkpoints."""
    keep_checkpoints: Positive = 1
    """Checkpoints kept."""
    evaluate_every: Positive | None = None
    """Optimizer steps between measurements of the loss on held-out sentences."""
    kl: KLMonitorConfig | None = None
    """Monitor the KL divergence from the base model on held-out L1 text."""
    probe: AccuracyMonitorConfig | None = None
    """Monitor the zero-shot accuracy on a few items."""
    early_stopping: EarlyStoppingConfig | None = None
    """End training early by one of the monitors."""
    divergence: DivergenceConfig | None = DivergenceConfig()
    """Stop a run whose loss diverges."""
    log_every: Positive = 10
    """Optimizer steps between log lines."""
    workers: Natural = 0
    """Processes that prepare batches; 0 for none besides the main process."""
    report_to: list[str] | None = None
    """Experiment trackers, as in `transformers.TrainingArguments`. Default: tensorboard, where it is installed."""

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
    """COMET scores of translations, by `comet-score` from an environment of its own."""

    model: str = "Unbabel/wmt22-comet-da"
    """COMET model."""
    command: Path | None = None
    """The `comet-score` executable. Default: the one on PATH."""
    languages: list[LanguageCode] | None = None
    """Languages that the model's encoder was trained on. Default: those of XLM-R."""
    batch_size: Positive = 16
    """Segments at a time."""
    gpus: Natural = 0
    """GPUs to use."""


class EvaluationConfig(Strict):
    """Zero-shot evaluation: label likelihood, translation, and perplexity of held-out instructions."""

    tasks: list[str] = []
    """Names of shipped tasks (`instructalign tasks ls`), your own YAML files, or `lm-eval:NAME` of the harness."""
    data: Path = Path()
    """Folder with the tasks' data."""
    prompts: list[str] | None = None
    """Ids of the prompts to use. Default: all prompts of a task."""
    languages: list[LanguageCode] | None = None
    """Languages to evaluate. Default: all languages of the run that a task has."""
    items: Positive | None = None
    """At most this many items of each task and language. Default: all."""
    shots: Natural = 0
    """Solved examples shown before each question of a classification task; the same for base and adapted model."""
    scoring: Rule = "sum"
    """How label likelihoods are compared."""
    dtype: DType | None = None
    """Data type that the model is loaded in. Default: model.dtype."""
    batch_tokens: Positive = 8192
    """Tokens, with padding, in one forward pass."""
    bootstrap: Natural = 1000
    """Bootstrap resamples for confidence intervals; 0 for none."""
    engine: Literal["transformers", "continuous"] = "transformers"
    """What generates translations: batches, or transformers' continuous batching (for GPUs)."""
    language_id: Path | None = None
    """fastText model that detects translations in the wrong language."""
    comet: CometConfig | None = None
    """Score translations with COMET."""


class MemoryConfig(Strict):
    """Replay memory that the adapted model's folder carries to the next stage."""

    per_stage: Natural = 500
    """Instructions of this stage that join the memory."""
    budget: Positive = 2000
    """Examples in the memory; where there are more, a random subset by the seed is kept."""


KeySettings = dict[str, Any]
"""Keys of the configuration, as paths with dots, and their values."""


class CellConfig(Strict):
    """One named cell of a sweep, which may set several keys at once."""

    name: Annotated[str, Field(min_length=1)]
    """Its name in the report."""
    set: KeySettings = {}
    """Keys, as paths with dots, and their values."""


class SweepConfig(Strict):
    """Several runs of one recipe: every point of the grid and every cell of the list, with every seed."""

    seeds: Annotated[list[Seed], Field(min_length=1)] | None = None
    """Seeds of each cell. Default: the configuration's seed."""
    grid: dict[str, list[Any] | dict[str, KeySettings]] = {}
    """Axes: a key with its values, or a name of yours with named values and the keys that each of them sets."""
    cells: list[CellConfig] = []
    """Single cells beside the grid."""

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
                    f"{key}: expected a list of values, or names with the keys that each of them sets "
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
            raise ValueError("seed cannot be an axis: list the seeds under sweep.seeds, or give --seeds 1,2,3")
        names = [cell.name for cell in self.cells]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cells: duplicate name {', '.join(twice)}; give each cell its own name")
        return self


class Config(Strict):
    """A whole run."""

    seed: Seed = 42
    """Seed of the data and of training."""
    contamination: ContaminationAction = "report"
    """Training rows that overlap with test items: report them, drop them, refuse to run, or ignore them."""
    model: ModelConfig
    """The model to adapt."""
    languages: LanguagesConfig
    """Known, new and related languages."""
    corpora: Annotated[list[CorpusEntry], Field(min_length=1)]
    """Parallel text, and monolingual text (`languages: [jav]`); several entries are concatenated."""
    filter: FilterConfig = FilterConfig()
    """Cleaning of the corpora."""
    instructions: InstructionsConfig = Field(default_factory=InstructionsConfig)
    """How parallel rows become alignment instructions."""
    replay: ReplayConfig | None = None
    """Replay data against forgetting."""
    instruction_data: InstructionDataConfig | None = None
    """Instruction data in the new languages."""
    training: TrainingConfig = Field(default_factory=lambda: TrainingConfig(steps=1000))
    """Optimisation. Only `train`, `run` and `sweep` need it; `preview` and `doctor` assume 1,000 steps without."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """Evaluation before and after."""
    stages: Annotated[list[Annotated[list[LanguageCode], Field(min_length=1)]], Field(min_length=2)] | None = None
    """Teach the new languages one after another, or in groups: each stage adapts the model of the one before."""
    memory: MemoryConfig | None = None
    """Replay memory that a model's folder carries to the next stage."""

    @model_validator(mode="after")
    def _stages_teach_the_new(self) -> Config:
        if self.stages is None:
            return self
        if self.instructions.targets:
            raise ValueError("stages: leave instructions.targets out; each stage's languages are its targets")
        taught = [code for stage in self.stages for code in stage]
        wrong = {
            "are not among languages.new": [code for code in taught if code not in self.languages.new],
            "are listed twice": sorted({code for code in taught if taught.count(code) > 1}),
            "of languages.new are missing": [code for code in self.languages.new if code not in taught],
        }
        problems = [f"{', '.join(codes)} {words}" for words, codes in wrong.items() if codes]
        if problems:
            raise ValueError(f"stages: {'; '.join(problems)}. Each new language is taught in one stage")
        if self.replay and self.replay.share == 0 and not self.replay.schedule:
            raise ValueError("stages: the replay memory would never be used; set replay.share above 0")
        if self.replay and self.replay.heldout:
            raise ValueError(
                f"stages: later stages replay the memory, from which the {self.replay.heldout} examples of "
                "replay.heldout are not excluded; set it to 0, or teach all languages in one run"
            )
        if self.memory and self.replay is None:
            raise ValueError(
                "memory: later stages use the memory only with a replay block; add one (its size may be 0), "
                "or leave memory out"
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
        self._check_corpora()
        taught = [*self.languages.known, *self.languages.new]
        data = self.instruction_data.sources if self.instruction_data else {}
        if outside := [code for code in data if code not in taught]:
            raise ValueError(
                f"instruction_data.sources: {', '.join(outside)} is neither among languages.known nor among "
                f"languages.new ({', '.join(taught)})"
            )
        for stage in self.replay.schedule.stages or () if self.replay and self.replay.schedule else ():
            if stage.at >= self.training.steps:
                raise ValueError(
                    f"replay.schedule: the stage at: {stage.at} never begins, since training.steps is "
                    f"{self.training.steps}"
                )
        if self.model.vocabulary and self.model.vocabulary.train_new_rows_first > self.training.steps:
            raise ValueError(
                f"model.vocabulary.train_new_rows_first ({self.model.vocabulary.train_new_rows_first}) is longer "
                f"than the training itself ({self.training.steps} steps)"
            )
        return self

    @property
    def taught_data(self) -> ReplayConfig | None:
        """The instruction data of the languages that this run teaches or aligns with."""
        data = self.instruction_data
        return None if data is None else data.of_languages([*self.languages.known, *self.targets])

    def _check_corpora(self) -> None:
        """Refuses corpora in languages that are not read, and languages and objectives without text."""
        read = [*dict.fromkeys([*self.pivots, *self.targets])]
        for number, entry in enumerate(self.corpora):
            if outside := [code for code in entry.languages or () if code not in read]:
                raise ValueError(
                    f"corpora.{number}.languages: {', '.join(outside)} is not read; it may be "
                    f"{', '.join(read)}, as languages and instructions.pivots have it"
                )
            for key, named in entry.options.items():
                if isinstance(named, Mapping) and {*SIDES}.difference(read).intersection(named):
                    languages = ", ".join(f"{code}: {of}" for code, of in zip(read, named.values(), strict=False))
                    raise ValueError(
                        f"corpora.{number}.{key}: {', '.join(named)} are sides of a corpus, and not languages. "
                        f"Write which language each is, such as {key}: {{{languages}}}"
                    )
            if outside := [code for code in entry.synthetic or () if code not in read]:
                raise ValueError(
                    f"corpora.{number}.synthetic: {', '.join(outside)} is not read; it may be {', '.join(read)}"
                )
            if entry.synthetic and set(entry.synthetic) >= set(entry.languages or read):
                raise ValueError(
                    f"corpora.{number}.synthetic: all languages of the corpus are synthetic, and none is left to "
                    "learn from; name those alone that a machine wrote"
                )
            if entry.name == "text" and len(entry.languages or ()) != 1:
                raise ValueError(
                    f"corpora.{number}: format text is monolingual; name its language, such as "
                    f"languages: [{self.targets[0]}]"
                )
        self._check_text("", self.targets)
        for number, codes in enumerate(self.stages or ()):
            self._check_text(f"stages.{number} ({', '.join(codes)}): ", codes)

    def _check_text(self, where: str, targets: Sequence[str]) -> None:
        """Refuses targets that no corpus has text in, and objectives without the text that they take."""
        there = {
            number: entry for number, entry in enumerate(self.corpora) if entry.is_for([*self.pivots, *targets])
        }
        named = [code for entry in there.values() for code in entry.languages or targets]
        if lacking := [code for code in targets if code not in named]:
            raise ValueError(
                f"{where}corpora: none is of {', '.join(lacking)}: each names other languages, or one beside "
                "it that is not read. Add a corpus, or the language to the languages of one"
            )
        alone = [number for number, entry in there.items() if len(entry.languages or ()) == 1]
        kinds = {name: OBJECTIVES.get(name) for name in self.instructions.objectives}
        crosslingual = [name for name, kind in kinds.items() if not getattr(kind, "monolingual", False)]
        passages = [name for name, kind in kinds.items() if getattr(kind, "passages", False)]
        if alone and len(crosslingual) == len(kinds) and len(alone) < len(there):
            raise ValueError(
                f"{where}corpora.{alone[0]} is monolingual text, which none of instructions.objectives takes "
                f"({', '.join(kinds)}). Add lm (continue a passage) or mlm (restore a sentence), such as "
                f"objectives: {{lm: 1, {', '.join(f'{name}: 1' for name in kinds)}}}"
            )
        if len(alone) == len(there) and crosslingual:
            raise ValueError(
                f"{where}instructions.objectives: {', '.join(crosslingual)} need parallel text, and all corpora "
                "are monolingual. Write objectives: {lm: 1, mlm: 1}, or add a parallel corpus"
            )
        if passages and not alone:
            raise ValueError(
                f"{where}instructions.objectives: {', '.join(passages)} takes monolingual text, and no corpus has "
                f"languages with a single code. Name the one language of a corpus, languages: [{targets[0]}], or "
                f"add one, as {{format: text, path: news.txt, languages: [{targets[0]}]}}"
            )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The schema of a configuration file, which may have a `sweep` block beside the keys of a run."""
        found = handler(schema)
        sweep = handler(SweepConfig.__pydantic_core_schema__) | {
            "description": "Run it as a sweep of several runs."
        }
        handler.resolve_ref_schema(found)["properties"]["sweep"] = sweep
        return found

    @property
    def has_training(self) -> bool:
        """Whether the configuration has a `training` block; without one it can be looked at, not trained."""
        return "training" in self.model_fields_set

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
        """The model as it is loaded for evaluation: with the vocabulary of its own folder."""
        dtype = self.evaluation.dtype or self.model.dtype
        return self.model.model_copy(update={"dtype": dtype, "vocabulary": None})

    @property
    def mixes_replay(self) -> bool:
        """Whether replay data is mixed in: that takes some, and the strategy of that name."""
        return self.replay is not None and self.replay.size > 0 and "replay" in self.training.strategy

    def to_yaml(self) -> str:
        """The configuration as YAML that reads back as the same configuration."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True)

    def to_dict(self) -> dict[str, Any]:
        """What `to_yaml` writes, as the dictionaries that it is read back as."""
        plain: dict[str, Any] = _plain(self)
        return plain


def _plain(value: Any, key: str = "") -> Any:
    """A configuration as the dictionaries that a YAML file of it would hold."""
    if isinstance(value, Entry):
        options = {name: _plain(option) for name, option in value.options.items() if option is not None}
        if key == "strategy":
            return options
        if key == "objectives":
            return {"weight": value.weight, **options}
        keys = ("label", "languages", "synthetic", *DATA_KEYS)
        said = {key: given for key in keys if (given := getattr(value, key)) is not None}
        weight = {} if value.weight == 1.0 else {"weight": value.weight}
        return {"format": value.name, **said, **weight, **options}
    if isinstance(value, BaseModel):
        fields = type(value).model_fields.items()
        return {field.alias or name: _plain(getattr(value, name), name) for name, field in fields}
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, dict):
        return {name: _plain(inner, key) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    return value
