"""What training takes: memory, disk, arithmetic, and time if a few steps can be measured quickly.

Memory of a step at its peak:

* Weights, one gradient for each trained one, and Adam's two moments, all in the weights' type
  (`torch.optim.AdamW`; Rajbhandari et al. 2020, "ZeRO", section 3.1, counts the same). Autocast keeps copies of
  the weights in its own type during a step.
* Activations: Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models" (arXiv
  2205.05198), section 4.1, without dropout: for each token and layer, 8 values of the hidden size and 2 of the
  inner size (4 if the layer is gated, as in LLaMA; 3 more if its GELU is computed in steps, as in mT5), and,
  without a fused attention kernel, 2 for each head and token attended to. A decoder's cross-attention takes 4
  more values of the hidden size for each token, and keys and values of the encoder's tokens. With
  `gradient_checkpointing` one value a layer, and one whole layer.
* The logits that carry the loss, or as many as are computed at a time (`training.loss`), their exponentials and
  gradients, in float32.

Libraries, fragmentation and the system come on top.

Arithmetic is 6 operations per parameter and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): 2
forward, 2 for the gradients of activations, 2 for those of trained weights; with `gradient_checkpointing` 2
more.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from instructalign.config import Config, ModelConfig
from instructalign.doctor.check_examples import SampledExample, percentile
from instructalign.doctor.findings import Findings
from instructalign.errors import ModelError, first_line
from instructalign.files import format_bytes
from instructalign.mixture import Mixture
from instructalign.training.adapters import add_adapter
from instructalign.training.batching import ExampleEncoder, StepBatches, to_device
from instructalign.training.cpu_kernels import speed_up_training
from instructalign.training.loss import CHUNK_LOGITS, ChunkedLoss, at_positions
from instructalign.training.models import (
    WEIGHT_ADVICE,
    LoadedModel,
    autocast,
    checkpoint_activations,
    load_model,
    load_model_config,
    resolve_model,
    weight_problem,
)
from instructalign.training.preflight import (
    NEARLY_FULL,
    check_launch,
    check_positions,
    check_tokenizer,
    disk_bytes,
    launched,
    optimizer_bytes,
    trained_embeddings,
)
from instructalign.training.strategies import make_strategies
from instructalign.training.tokenization import Codec, loss_tokens
from instructalign.training.train import loss_weights, micro_batch_limits

_MEASURED_PARAMETERS = 200_000_000  # up to which a model is loaded to measure its speed
_MEASURED_OPERATIONS = 3e11  # of one measured step on a CPU; a GPU gets a hundred times as many
_MEASURED_STEPS, _MEASURED_SECONDS = 9, 3.0  # whichever ends first, but three steps at least; the first is warm-up

_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}
_AUTOCAST_BYTES = {"float32": 0, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class CostPart:
    """What a run takes, in one process.

    Attributes:
        parameters, trained: the number of weights, and of those that are trained.
        memory: bytes, by what they hold: `weights`, `gradients`, `optimizer`, `activations`.
        device: where it would train: `cuda` or `cpu`.
        available: bytes of memory that the device has; None if the system does not say.
        disk: maximum number of bytes that checkpoints and the model take at one time.
        free: bytes free where runs are written.
        tokens: tokens of the whole run, approximately.
        operations: floating-point operations of the whole run.
        tokens_per_second: as measured here; None for a model that is too large to measure.
        seconds: time of all steps at that rate; None likewise.
        generated: tokens that strategies let the model write in a step at most, which takes time of its own.
    """

    parameters: int
    trained: int
    memory: dict[str, int]
    device: str
    available: int | None
    disk: int
    free: int
    tokens: int
    operations: float
    tokens_per_second: float | None
    seconds: float | None
    generated: int = 0


def examine_costs(
    config: Config, codec: Codec, mixture: Mixture | None, sampled: Sequence[SampledExample], out: Path
) -> tuple[CostPart | None, Findings]:
    """Estimates what training takes, from the model's configuration; a small model's speed is measured.

    Args:
        config: the run's configuration.
        codec: the base's.
        mixture: the training stream; if it is None, nothing is measured.
        sampled: its first examples in tokens.
        out: a folder on the disk that runs are written to.
    """
    findings = Findings("costs")
    empty = findings.attempt("Check model.base.", lambda: load_empty(config, codec))
    if empty is None:
        return None, findings
    dtype = _dtype(config, empty.model)
    width = _BYTES[dtype]
    findings.attempt("Lower training.max_length.", lambda: check_positions(config, empty.model.config))
    findings.attempt("Change training.batch_size or the launch.", lambda: check_launch(config, empty, *launched()))
    findings.attempt("Put the model's own tokenizer into its folder.", lambda: check_tokenizer(empty))
    shape = shape_of(empty.model, codec.encoder_decoder)
    parameters = _count(empty.model)
    adapted: Any = empty.model
    if adapter := config.model.adapter:
        adapted = findings.attempt("Change model.adapter.targets.", lambda: add_adapter(empty, adapter))
        if adapted is None:
            return None, findings
    trained, embedded = _count(adapted, trained=True), trained_embeddings(adapted)
    lengths = [each.kept_prompt + each.kept_answer for each in sampled] or [config.training.max_length]
    tokens = config.training.steps * config.training.batch_size * fmean(lengths)
    speed = None
    if damage := weight_problem(config.model.base):
        findings.problem(damage, WEIGHT_ADVICE)
    elif mixture is not None and sampled and parameters <= _MEASURED_PARAMETERS and _is_local(config.model):
        advice = "Check model.base, model.dtype and training.precision."
        speed = findings.attempt(advice, lambda: measure_speed(config, mixture, codec))
    memory = estimate_memory(
        config, shape, _count(adapted), trained, width, sampled, codec.encoder_decoder, embedded
    )
    written = [
        strategy.generated_tokens(each.kept_answer)
        for strategy in make_strategies(config).values()
        for each in sampled
        if each.kind != "replay"
    ]
    place = out.resolve()
    part = CostPart(
        parameters=parameters,
        trained=trained,
        memory=memory,
        device="cuda" if torch.cuda.is_available() else "cpu",
        available=_available_memory(),
        disk=disk_bytes(config, parameters, trained, width, embedded),
        free=shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free,
        tokens=round(tokens),
        operations=operations(config, parameters, trained, tokens),
        tokens_per_second=speed,
        seconds=tokens / speed if speed else None,
        generated=round(sum(written) / max(1, len(sampled)) * config.training.batch_size),
    )
    _judge(config, dtype, part, findings)
    return part, findings


def _judge(config: Config, dtype: torch.dtype, part: CostPart, findings: Findings) -> None:
    if dtype == torch.float16:
        findings.warn(
            "The trained weights are in float16: small gradients underflow, and precision float16 needs float32.",
            "Set model.dtype to float32, and training.precision to float16 or bfloat16 for speed.",
            severe=config.training.precision == "float16",
        )
    if dtype == torch.bfloat16 and not config.model.adapter:
        findings.warn(
            "The trained weights are in bfloat16, which has 8 bits of precision: small updates are rounded away.",
            "Set model.dtype to float32 and training.precision to bfloat16, or use model.adapter.",
        )
    memory = sum(part.memory.values())
    if part.available is not None and memory > NEARLY_FULL * part.available:
        findings.warn(
            f"Training needs about {format_bytes(memory)} of memory; this machine's {part.device} has "
            f"{format_bytes(part.available)}.",
            "Lower training.micro_batch_size, set training.gradient_checkpointing, or use model.adapter: {type: "
            "lora}.",
            severe=memory > part.available,
        )
    if part.disk > NEARLY_FULL * part.free:
        findings.warn(
            f"Checkpoints and model need {format_bytes(part.disk)} of disk; {format_bytes(part.free)} are free.",
            "Lower training.keep_checkpoints, use model.adapter, or write to another disk with --out.",
            severe=part.disk > part.free,
        )
    if not findings:
        findings.ok(
            f"About {format_bytes(memory)} of memory and {format_bytes(part.disk)} of disk; both available."
        )


def load_empty(config: Config, codec: Codec) -> LoadedModel:
    """The base without its weights, which take no memory and are not even read.

    Raises:
        ModelError: the model type is unknown.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    factory: Any = AutoModelForSeq2SeqLM if codec.encoder_decoder else AutoModelForCausalLM
    settings = load_model_config(config.model)
    try:
        with torch.device("meta"):
            model = factory.from_config(settings, trust_remote_code=config.model.trust_remote_code)
    except (OSError, ValueError) as error:
        raise ModelError(f"the model {config.model.base} cannot be built: {first_line(error)}") from None
    return LoadedModel(model, codec, config.model.base)


def operations(config: Config, parameters: int, trained: int, tokens: float) -> float:
    """Floating-point operations of a whole run; an adapter's own weights are not counted."""
    each = 2 + 2 + (2 if trained >= parameters else 0) + (2 if config.training.gradient_checkpointing else 0)
    return each * float(parameters) * tokens


def _count(model: Any, *, trained: bool = False) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad or not trained)


def _dtype(config: Config, model: Any) -> torch.dtype:
    """The type that the weights are trained in; `auto` is the one they were saved in."""
    if config.model.dtype != "auto":
        chosen: torch.dtype = getattr(torch, config.model.dtype)
        return chosen
    saved = getattr(model.config, "dtype", None)
    return saved if saved in _BYTES else torch.float32


def _available_memory() -> int | None:
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


# -- memory ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that determine the size of its activations.

    Attributes:
        layers, decoder_layers: of the encoder (or the only stack), and of the decoder.
        width: the hidden size.
        inner: values that a token keeps in a layer's inner part.
        heads: heads whose attention matrix is kept; 0 with a fused kernel.
        vocabulary: its number of tokens.
    """

    layers: int
    decoder_layers: int
    width: int
    inner: int
    heads: int
    vocabulary: int

    def activations(self, first: int, second: int, checkpointing: bool) -> int:
        """Number of values that one example keeps for the backward pass.

        Args:
            first: tokens in the encoder, or in the only stack.
            second: tokens in the decoder; 0 without one.
            checkpointing: whether layers are recomputed in the backward pass.
        """
        one = first * self._per_token(first)
        other = second * (self._per_token(second) + 4 * self.width) + 2 * first * self.width if second else 0
        if checkpointing:
            return (self.layers * first + self.decoder_layers * second) * self.width + max(one, other)
        return self.layers * one + self.decoder_layers * other

    def _per_token(self, attended: int) -> int:
        return 8 * self.width + self.inner + 2 * self.heads * attended


def shape_of(model: Any, encoder_decoder: bool) -> ModelShape:
    """The shape of a model, from its configuration and the names of its layers."""
    settings = model.config
    width = int(settings.hidden_size)
    inner = int(getattr(settings, "intermediate_size", None) or getattr(settings, "d_ff", None) or 4 * width)
    gated = any(name.endswith(("gate_proj", "wi_1")) for name, _ in model.named_modules())
    stepwise = getattr(settings, "dense_act_fn", getattr(settings, "hidden_act", None)) == "gelu_new"
    layers = int(settings.num_hidden_layers)
    fused = getattr(settings, "_attn_implementation", None) != "eager"
    return ModelShape(
        layers=layers,
        decoder_layers=int(getattr(settings, "num_decoder_layers", None) or layers) if encoder_decoder else 0,
        width=width,
        inner=((4 if gated else 2) + (3 if stepwise else 0)) * inner,
        heads=0 if fused else int(settings.num_attention_heads),
        vocabulary=int(settings.vocab_size),
    )


def estimate_memory(
    config: Config,
    shape: ModelShape,
    total: int,
    trained: int,
    width: int,
    sampled: Sequence[SampledExample],
    encoder_decoder: bool,
    embedded: int = 0,
) -> dict[str, int]:
    """Bytes that a step holds at its peak, by what they are.

    Args:
        config: the run's configuration.
        shape: the model's.
        total, trained: number of weights, those of an adapter included, and of those that are trained.
        width: bytes of one weight.
        sampled: examples; all of a micro-batch are taken to be as long as their 99th percentile.
        encoder_decoder: whether prompt and answer go to different stacks.
        embedded: how many of the trained weights are embeddings.
    """

    def most(length: Callable[[SampledExample], int]) -> int:
        return percentile([length(each) for each in sampled], 0.99) if sampled else config.training.max_length

    cast = _AUTOCAST_BYTES[config.training.precision] if width == 4 else 0
    on_prompt = config.training.loss_on == "all"
    counted = most(lambda e: loss_tokens(e.kept_prompt, e.kept_answer, on_prompt, encoder_decoder))
    first = most(lambda each: each.kept_prompt + (0 if encoder_decoder else each.kept_answer))
    second = most(lambda each: each.kept_answer) if encoder_decoder else 0
    values = shape.activations(first, second, config.training.gradient_checkpointing)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = min(config.training.batch_size, micro_batch_limits(config.training, device).rows_of(first + second))
    logits = 3 * 4 * min(rows * counted * shape.vocabulary, CHUNK_LOGITS[device])
    return {
        "weights": total * (width + cast),
        "gradients": trained * width,
        "optimizer": optimizer_bytes(config.training.optimizer, trained, embedded, width),
        "activations": rows * values * (cast or width) + logits,
    }


# -- weight files ----------------------------------------------------------------------------------------


def _is_local(model: ModelConfig) -> bool:
    """Whether the weights are on this machine: in a folder, or in the Hub's cache."""
    place = resolve_model(model.base)
    if Path(place).is_dir():
        return True
    from huggingface_hub import try_to_load_from_cache

    return any(
        isinstance(try_to_load_from_cache(place, name, revision=model.revision), str)
        for name in ("model.safetensors", "pytorch_model.bin")
    )


# -- speed -----------------------------------------------------------------------------------------------


def measure_speed(config: Config, mixture: Mixture, codec: Codec) -> float:
    """Tokens per second of training with this model, on this machine, in this configuration.

    A few small steps of the stream go through the model, with the run's loss and an update of the weights, which
    are discarded. The median of their rates counts, as other work on the machine slows some.

    Raises:
        ModelError: the model's weights cannot be loaded, a step fails, or its loss is not finite.
    """
    loaded = load_model(config.model)
    speed_up_training(loaded.model)
    if config.training.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    model: Any = add_adapter(loaded, config.model.adapter) if config.model.adapter else loaded.model
    device = "cuda" if torch.cuda.is_available() else "cpu"
    chunked_loss = ChunkedLoss(model.to(device), codec.encoder_decoder)
    model.train()
    # The run's batch size, or fewer examples if those would take long.
    budget = _MEASURED_OPERATIONS * (100 if device == "cuda" else 1)
    affordable = int(budget / (6 * _count(model) * config.training.max_length))
    batches = StepBatches(
        mixture,
        ExampleEncoder(codec, config.training.max_length),
        batch_size=max(1, min(config.training.batch_size, affordable)),
        limits=micro_batch_limits(config.training, device),
        weights=loss_weights(config.training),
    )
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.training.learning_rate)
    rates: list[float] = []
    end = time.perf_counter() + _MEASURED_SECONDS
    for number in range(_MEASURED_STEPS):
        step = [to_device(batch, torch.device(device)) for batch in batches[number]]
        began = time.perf_counter()
        mean = 0.0  # loss in nats per token; 0 if no token carries it
        try:
            for batch in step:
                with autocast(device, config.training.precision):
                    shares = at_positions(batch, "weights") / max(batch["step_mass"], 1e-9)
                    loss, _ = chunked_loss(model, batch, shares)
                loss.backward()  # type: ignore[no-untyped-call]
                mean += float(loss.detach())  # also waits for a GPU
            optimizer.step()
            optimizer.zero_grad()
        except RuntimeError as error:
            raise ModelError(f"a training step of {config.model.base} fails: {first_line(error)}") from None
        if not math.isfinite(mean):
            raise ModelError(f"the loss of {config.model.base} is {mean} in training step {number + 1}.")
        rates.append(sum(sum(batch["lengths"]) for batch in step) / max(time.perf_counter() - began, 1e-9))
        if len(rates) >= 3 and time.perf_counter() > end:
            break
    return median(rates[1:])
