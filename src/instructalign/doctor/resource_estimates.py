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
more. Evaluation takes 2 for each token read; a token written takes about as long as one trained on (measured
with 60 translations at a time, docs/results/smollm2.md), since few rows are computed at once.
"""

from __future__ import annotations

import math
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch

from instructalign.config import Config, ModelConfig
from instructalign.doctor.check_examples import SampledExample, percentile
from instructalign.doctor.check_tasks import TaskPart
from instructalign.doctor.check_tokenizer import LanguageTokens
from instructalign.doctor.findings import Findings, percent
from instructalign.doctor.gpu_cards import GpuCards
from instructalign.errors import ModelError, first_line
from instructalign.files import format_bytes
from instructalign.mixture import Mixture
from instructalign.training.adapters import add_adapter
from instructalign.training.batching import ExampleEncoder, StepBatches, to_device
from instructalign.training.cpu_kernels import speed_up_training
from instructalign.training.learning_rates import WARMUP_SHARE, usual_learning_rate
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
from instructalign.training.new_rows import make_room
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

_FOUR_BITS = 4.127 / 8
"""Bytes of a weight in 4 bits with its doubly quantised constants (QLoRA, arXiv 2305.14314, section 3)."""
_RATE_FACTOR = 5
"""How far a learning rate may be from the usual one, up or down, before it is worth a word."""

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
        evaluation: the tokens of each task, for one model.
        evaluation_seconds: time of evaluating one model; None where no rate is known.
        gpu: the cards that it was computed for, with `--gpu`; then nothing is measured. Empty for this machine.
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
    evaluation: tuple[TaskTokens, ...] = ()
    evaluation_seconds: float | None = None
    gpu: str = ""


@dataclass(frozen=True, slots=True)
class TaskTokens:
    """What a model reads and writes for one task, in tokens by language: about, from lengths in characters.

    Attributes:
        task: its name.
        read: tokens that are scored, or read before a translation.
        written: tokens of translations, if all are as long as they may be.
    """

    task: str
    read: Mapping[str, int]
    written: Mapping[str, int]


def tokens_of_tasks(
    tasks: Sequence[TaskPart], tokenizer: Sequence[LanguageTokens], around: int
) -> tuple[TaskTokens, ...]:
    """The tokens of tasks, from their characters and the tokenizer's rate in each language.

    Args:
        tasks: the tasks.
        tokenizer: tokens per character by language; the mean stands for a language without text.
        around: tokens that a chat template writes around a question.
    """
    rates = {each.language: each.per_character for each in tokenizer}
    usual = fmean(rates.values()) if rates else 0.25

    def count(characters: Mapping[str, int], questions: Mapping[str, int]) -> dict[str, int]:
        return {
            code: round(number * rates.get(code, usual)) + around * questions.get(code, 0)
            for code, number in characters.items()
        }

    return tuple(
        TaskTokens(each.task, count(each.read, each.questions), count(each.written, {}) | each.answered)
        for each in tasks
    )


def read_and_written(evaluation: Sequence[TaskTokens]) -> tuple[int, int]:
    """All tokens that are read, and all that are written."""
    return (
        sum(sum(each.read.values()) for each in evaluation),
        sum(sum(each.written.values()) for each in evaluation),
    )


def examine_costs(
    config: Config,
    codec: Codec,
    mixture: Mixture | None,
    sampled: Sequence[SampledExample],
    out: Path,
    evaluation: tuple[TaskTokens, ...] = (),
    gpu: GpuCards | None = None,
) -> tuple[CostPart | None, Findings]:
    """Estimates what training and evaluation take from the model's configuration; measures a small model's speed.

    Args:
        config: the run's configuration.
        codec: the base's.
        mixture: the training stream; if it is None, nothing is measured.
        sampled: its first examples in tokens.
        out: a folder on the disk that runs are written to.
        evaluation: the tokens of the tasks.
        gpu: the cards to compute it for, in place of this machine.
    """
    findings = Findings("costs")
    empty = findings.attempt("Check model.base.", lambda: load_empty(config, codec))
    if empty is None:
        return None, findings
    dtype = _dtype(config, empty.model)
    width = _BYTES[dtype]
    findings.attempt("Lower training.max_length.", lambda: check_positions(config, empty.model.config))
    launch = ("fsdp" if gpu.count > 1 else "whole", gpu.count) if gpu else launched()
    findings.attempt("Change training.batch_size or the launch.", lambda: check_launch(config, empty, *launch))
    findings.attempt("Put the model's own tokenizer into its folder.", lambda: check_tokenizer(empty))
    shape = shape_of(empty.model, codec.encoder_decoder)
    parameters = _count(empty.model)
    quantised = config.model.adapter is not None and config.model.adapter.quantised
    in_four_bits = quantised_weights(empty.model) if quantised else 0
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
    elif (
        gpu is None
        and mixture is not None
        and sampled
        and parameters <= _MEASURED_PARAMETERS
        and _is_local(config.model)
    ):
        advice = "Check model.base, model.dtype and training.precision."
        speed = findings.attempt(advice, lambda: measure_speed(config, mixture, codec))
    memory = estimate_memory(
        config, shape, _count(adapted), trained, width, sampled, codec.encoder_decoder, embedded, in_four_bits, gpu
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
        device=_device(gpu),
        available=gpu.memory if gpu else _available_memory(),
        disk=disk_bytes(config, parameters, trained, width, embedded),
        free=shutil.disk_usage(next(each for each in (place, *place.parents) if each.exists())).free,
        tokens=round(tokens),
        operations=operations(config, parameters, trained, tokens),
        tokens_per_second=speed,
        seconds=tokens / speed if speed else None,
        generated=round(sum(written) / max(1, len(sampled)) * config.training.batch_size),
        evaluation=evaluation,
    )
    if gpu:
        part = on_cards(config, part, gpu)
    elif speed:
        read, generated = read_and_written(evaluation)
        forward = 2 * parameters / operations(config, parameters, trained, 1)
        part = replace(part, evaluation_seconds=(read * forward + generated) / speed)
    _judge(config, dtype, part, findings, gpu)
    judge_rate(config, parameters, findings)
    if not findings:
        findings.ok(
            f"About {format_bytes(sum(part.memory.values()))} of memory and {format_bytes(part.disk)} of disk; "
            "both available."
        )
    return part, findings


def on_cards(config: Config, part: CostPart, gpu: GpuCards) -> CostPart:
    """The costs on some cards: with several, FSDP2 shards weights, gradients and optimizer states over them."""
    adapter, training = config.model.adapter, config.training
    precision = "bfloat16" if config.model.dtype in ("bfloat16", "float16") else training.precision
    seconds = gpu.computing_seconds(
        part.operations, precision, passes=3 * training.steps, quantised=bool(adapter and adapter.quantised)
    )
    read, written = read_and_written(part.evaluation)
    dtype = config.answering_model.dtype
    batches = -(-read // (config.evaluation.batch_tokens * gpu.count))
    evaluated = gpu.computing_seconds(2.0 * part.parameters * read, dtype, passes=batches)
    rows = max(1, config.evaluation.batch_tokens // (2 * training.max_length))
    evaluated += gpu.writing_seconds(written, rows, part.parameters * (4 if dtype == "float32" else 2))
    return replace(
        part,
        memory={what: -(-n // (1 if what == "activations" else gpu.count)) for what, n in part.memory.items()},
        tokens_per_second=part.tokens / seconds,
        seconds=seconds,
        evaluation_seconds=evaluated,
        gpu=f"{gpu.count} x {gpu.title}" if gpu.count > 1 else gpu.title,
    )


def judge_rate(config: Config, parameters: int, findings: Findings) -> None:
    """Compares the learning rate with what is usual for the model's size, and asks for warmup."""
    training = config.training
    usual = usual_learning_rate(parameters, adapter=config.model.adapter is not None)
    if usual is None or training.optimizer == "sgd" or not config.has_training:
        return
    ratio = training.learning_rate / usual
    if ratio > _RATE_FACTOR or ratio < 1 / _RATE_FACTOR:
        what = "a low-rank adapter of" if config.model.adapter else "all weights of"
        findings.warn(
            f"training.learning_rate is {training.learning_rate:g}; usual for {what} a model with "
            f"{parameters / 1e6:,.0f} million parameters is about {usual:g}.",
            f"Set training.learning_rate between {usual / 3:.1g} and {usual * 3:.1g}"
            + (", or expect to need many steps." if ratio < 1 else ": more destroys what the model knows."),
        )
    if not training.warmup and training.learning_rate >= usual:
        findings.warn(
            "There is no warmup: the first steps change the weights at the full rate, before the optimizer knows "
            "the size of the gradients.",
            f"Set training.warmup to about {max(1, round(WARMUP_SHARE * training.steps)):,} steps "
            f"({percent(WARMUP_SHARE)}).",
        )


def _judge(config: Config, dtype: torch.dtype, part: CostPart, findings: Findings, gpu: GpuCards | None) -> None:
    if gpu and not gpu.bfloat16 and "bfloat16" in (config.training.precision, config.model.dtype):
        findings.warn(
            f"{gpu.title} does not compute in bfloat16: it is emulated, and slow.",
            "Set training.precision to float16, and model.dtype to float32.",
        )
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
    device = f"each {gpu.title}" if gpu else f"this machine's {part.device}"
    if part.available is not None and memory > NEARLY_FULL * part.available:
        findings.warn(
            f"Training needs about {format_bytes(memory)} of memory; {device} has {format_bytes(part.available)}.",
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
    both = 2 * (part.evaluation_seconds or 0)
    if part.seconds is not None and both > part.seconds:
        longest = max(part.evaluation, key=lambda each: sum(read_and_written([each])))
        findings.warn(
            f"Evaluating base and adapted model takes longer than training, about {duration(both)} against "
            f"{duration(part.seconds)}; most of it {longest.task}.",
            "Lower evaluation.items, name fewer evaluation.prompts, or leave out a task.",
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
    if config.model.vocabulary:
        make_room(model, max(codec.tokenizer.get_vocab().values()) + 1)
    return LoadedModel(model, codec, config.model.base)


def operations(config: Config, parameters: int, trained: int, tokens: float) -> float:
    """Floating-point operations of a whole run; an adapter's own weights are not counted."""
    each = 2 + 2 + (2 if trained >= parameters else 0) + (2 if config.training.gradient_checkpointing else 0)
    return each * float(parameters) * tokens


def _device(gpu: GpuCards | None) -> str:
    return "cuda" if gpu or torch.cuda.is_available() else "cpu"


def quantised_weights(model: Any) -> int:
    """How many weights QLoRA keeps in 4 bits: those of linear layers, but for the output layer."""
    head = model.get_output_embeddings()
    linear = [each for each in model.modules() if isinstance(each, torch.nn.Linear) and each is not head]
    return sum(each.weight.numel() for each in linear)


def duration(seconds: float) -> str:
    """`1.5 hours`, `3 minutes`: a time in one unit."""
    if seconds >= 48 * 3600:
        return f"{seconds / 86_400:.1f} days"
    if seconds >= 90 * 60:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"


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
    in_four_bits: int = 0,
    gpu: GpuCards | None = None,
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
        in_four_bits: how many of all weights QLoRA keeps in 4 bits.
        gpu: the cards to compute it for; None for this machine.
    """

    def most(length: Callable[[SampledExample], int]) -> int:
        return percentile([length(each) for each in sampled], 0.99) if sampled else config.training.max_length

    cast = _AUTOCAST_BYTES[config.training.precision] if width == 4 else 0
    on_prompt = config.training.loss_on == "all"
    counted = most(lambda e: loss_tokens(e.kept_prompt, e.kept_answer, on_prompt, encoder_decoder))
    first = most(lambda each: each.kept_prompt + (0 if encoder_decoder else each.kept_answer))
    second = most(lambda each: each.kept_answer) if encoder_decoder else 0
    values = shape.activations(first, second, config.training.gradient_checkpointing)
    device = _device(gpu)
    rows = min(config.training.batch_size, micro_batch_limits(config.training, device).rows_of(first + second))
    logits = 3 * 4 * min(rows * counted * shape.vocabulary, CHUNK_LOGITS[device])
    return {
        "weights": (total - in_four_bits) * (width + cast) + round(_FOUR_BITS * in_four_bits),
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
    if config.model.vocabulary:
        make_room(loaded.model, max(codec.tokenizer.get_vocab().values()) + 1)
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
