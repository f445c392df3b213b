"""Optimisation, and the strategies against forgetting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from instructalign.config.base import Entry, Natural, Positive, Strict
from instructalign.config.watch import DivergenceConfig, EarlyStoppingConfig, GaugeConfig, ProbeConfig

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
