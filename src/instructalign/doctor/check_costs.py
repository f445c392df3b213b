"""What training takes: memory (see `memory`), disk, arithmetic, and time where it can be measured quickly.

Arithmetic is 6 operations a parameter and token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1): 2 forward, 2
for the gradients of activations, 2 for those of trained weights; with `gradient_checkpointing` 2 more.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from instructalign.config import Config
from instructalign.doctor.check_lengths import Sampled
from instructalign.doctor.findings import Findings
from instructalign.doctor.memory_estimate import estimate_memory, shape_of
from instructalign.doctor.model_files import at_hand, damage
from instructalign.doctor.speed_estimate import measure_speed
from instructalign.errors import ModelError
from instructalign.files import format_bytes
from instructalign.mixture import Mixture
from instructalign.training.adapters import add_adapter
from instructalign.training.models import LoadedModel, resolve_model
from instructalign.training.preflight import NEARLY_FULL, check_positions, disk_bytes, trained_embeddings
from instructalign.training.tokenization import Codec

SMALL = 200_000_000
"""Parameters up to which a model is loaded to measure its speed."""

_BYTES = {torch.float32: 4, torch.bfloat16: 2, torch.float16: 2}


@dataclass(frozen=True, slots=True)
class CostPart:
    """What a run takes, in one process.

    Attributes:
        parameters, trained: how many weights there are, and how many of them are trained.
        memory: bytes, by what they hold: `weights`, `gradients`, `optimizer`, `activations`.
        device: where it would train: `cuda` or `cpu`.
        available: bytes of memory that the device has; None where the system does not say.
        disk: bytes that checkpoints and the model take at most at one time.
        free: bytes free where runs are written.
        tokens: tokens of the whole run, about.
        operations: floating-point operations of the whole run.
        tokens_per_second: as measured here; None for a model that is too large to try.
        seconds: time that all steps take at that rate; None likewise.
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


def examine_costs(
    config: Config, codec: Codec, mixture: Mixture | None, taken: Sequence[Sampled], out: Path
) -> tuple[CostPart | None, Findings]:
    """Estimates what training takes, from the model's configuration; a small model is tried.

    Args:
        config: the run's configuration.
        codec: the base's.
        mixture: the training stream; None where there is none, and then nothing is tried.
        taken: its first examples in tokens.
        out: a folder on the disk that runs are written to.
    """
    findings = Findings("costs")
    empty = findings.attempt("Check model.base.", lambda: load_empty(config, codec))
    if empty is None:
        return None, findings
    dtype = _dtype(config, empty.model)
    findings.attempt("Lower training.max_length.", lambda: check_positions(config, empty.model.config))
    shape = shape_of(empty.model, codec.encoder_decoder)
    parameters = _count(empty.model, trained=False)
    adapted: Any = empty.model
    if config.model.adapter:
        adapter = config.model.adapter
        adapted = findings.attempt("Change model.adapter.targets.", lambda: add_adapter(empty, adapter))
        if adapted is None:
            return None, findings
    trained = _count(adapted, trained=True)
    total, embedded = _count(adapted, trained=False), trained_embeddings(adapted)
    tokens = _tokens(config, taken)
    small = mixture if taken and parameters <= SMALL else None
    speed = _speed(config, codec, small, findings)
    part = CostPart(
        parameters=parameters,
        trained=trained,
        memory=estimate_memory(
            config, shape, total, trained, _BYTES[dtype], taken, codec.encoder_decoder, embedded
        ),
        device="cuda" if torch.cuda.is_available() else "cpu",
        available=_available(),
        disk=disk_bytes(config, parameters, trained, _BYTES[dtype], embedded),
        free=shutil.disk_usage(_existing(out)).free,
        tokens=round(tokens),
        operations=operations(config, parameters, trained, tokens),
        tokens_per_second=speed,
        seconds=tokens / speed if speed else None,
    )
    _judge_numbers(config, dtype, findings)
    _judge(part, findings)
    return part, findings


def _tokens(config: Config, taken: Sequence[Sampled]) -> float:
    """Tokens of the whole run, about."""
    lengths = [each.kept_prompt + each.kept_answer for each in taken] or [config.training.max_length]
    return config.training.steps * config.training.batch_size * fmean(lengths)


def _speed(config: Config, codec: Codec, mixture: Mixture | None, findings: Findings) -> float | None:
    """Tokens a second, measured where there is a mixture to measure with, and weights that are here and whole."""
    reason = damage(config.model)
    if reason:
        findings.problem(reason, "Save or download the model again, or name another as model.base.")
        return None
    if mixture is None or not at_hand(config.model):
        return None
    return findings.attempt(
        "Look at model.base, model.dtype and training.precision.", lambda: measure_speed(config, mixture, codec)
    )


def load_empty(config: Config, codec: Codec) -> LoadedModel:
    """The base without its weights, which take no memory and are not even read.

    Raises:
        ModelError: its configuration is of no known kind.
    """
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    trust = {"trust_remote_code": config.model.trust_remote_code}
    factory: Any = AutoModelForSeq2SeqLM if codec.encoder_decoder else AutoModelForCausalLM
    try:
        settings = AutoConfig.from_pretrained(
            resolve_model(config.model.base), revision=config.model.revision, **trust
        )
        with torch.device("meta"):
            model = factory.from_config(settings, **trust)
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the model {config.model.base} cannot be built: {first}") from None
    return LoadedModel(model, codec, config.model.base)


def operations(config: Config, parameters: int, trained: int, tokens: float) -> float:
    """Floating-point operations of a whole run; an adapter's own weights are left out of the count."""
    each = 2 + 2 + (2 if trained >= parameters else 0) + (2 if config.training.gradient_checkpointing else 0)
    return each * float(parameters) * tokens


def _judge_numbers(config: Config, dtype: torch.dtype, findings: Findings) -> None:
    if dtype == torch.float16:
        note = findings.problem if config.training.precision == "float16" else findings.warn
        note(
            "The trained weights are in float16: small gradients vanish, and precision float16 refuses them.",
            "Set model.dtype to float32, and training.precision to float16 or bfloat16 for speed.",
        )
    if dtype == torch.bfloat16 and not config.model.adapter:
        findings.warn(
            "The trained weights are in bfloat16, which keeps 8 bits: small updates are rounded away.",
            "Set model.dtype to float32 and training.precision to bfloat16, or use model.adapter.",
        )


def _judge(part: CostPart, findings: Findings) -> None:
    needed = sum(part.memory.values())
    lighter = (
        "Lower training.micro_batch_size, set training.gradient_checkpointing, or use model.adapter: {type: lora}."
    )
    if part.available is not None and needed > NEARLY_FULL * part.available:
        note = findings.problem if needed > part.available else findings.warn
        note(
            f"Training needs about {format_bytes(needed)} of memory; this machine's {part.device} has "
            f"{format_bytes(part.available)}.",
            lighter,
        )
    if part.disk > NEARLY_FULL * part.free:
        note = findings.problem if part.disk > part.free else findings.warn
        note(
            f"Checkpoints and model need {format_bytes(part.disk)} of disk; {format_bytes(part.free)} are free.",
            "Lower training.keep_checkpoints, use model.adapter, or write to another disk with --out.",
        )
    if not findings:
        findings.ok(
            f"About {format_bytes(needed)} of memory and {format_bytes(part.disk)} of disk; both are there."
        )


def _count(model: Any, *, trained: bool) -> int:
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad or not trained)


def _dtype(config: Config, model: Any) -> torch.dtype:
    """The type that the weights are trained in; `auto` is the one they were saved in."""
    if config.model.dtype != "auto":
        chosen: torch.dtype = getattr(torch, config.model.dtype)
        return chosen
    saved = getattr(model.config, "dtype", None)
    return saved if saved in _BYTES else torch.float32


def _available() -> int | None:
    if torch.cuda.is_available():
        return int(torch.cuda.get_device_properties(0).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _existing(folder: Path) -> Path:
    folder = folder.resolve()
    return next(place for place in (folder, *folder.parents) if place.exists())
