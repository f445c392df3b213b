"""The same arithmetic by faster routines, while a model answers and learns nothing.

PyTorch multiplies float32 matrices through MKL, which leaves half of what AMD's processors can do unused;
oneDNN, which PyTorch brings too, does not (`docs/results/evaluate.md`). BLOOM computes its activation in eight
passes over memory where one does. Results differ from the usual ones in the last digits at most.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

log = logging.getLogger(__name__)

ROWS = 1 << 14
"""Rows of the output layer that are taken to float32 at a time."""

AMD = ("AuthenticAMD", "HygonGenuine")
"""What processors of AMD's make call themselves."""


@contextmanager
def answering(model: Any, *, float32_logits: bool = False) -> Iterator[None]:
    """Inside, a model is in evaluation mode, keeps nothing for a backward pass, and runs faster routines.

    Afterwards everything is as it was.

    Args:
        model: a `PreTrainedModel`.
        float32_logits: whether a model in half precision shall compute its logits in float32. Its own are
            rounded to 8 bits, from 16 upwards to steps of an eighth: more than what sets two labels apart.
    """
    training = model.training
    model.eval()
    replaced = []
    for module, forward in (*(_exact_head(model) if float32_logits else ()), *_routines(model)):
        if "forward" not in module.__dict__:  # someone else's replacement, or ours within another module
            module.forward = forward
            replaced.append(module)
    try:
        with torch.inference_mode():
            yield
    finally:
        for module in replaced:
            del module.forward
        model.train(training)


def _exact_head(model: Any) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype in (torch.bfloat16, torch.float16):
        yield head, partial(_linear_in_float32, head)


def _linear_in_float32(module: nn.Linear, x: Tensor) -> Tensor:
    """A product in float32, part by part of the weights, so that no second copy of them is in memory."""
    x = x.float()
    result = x.new_empty((*x.shape[:-1], module.out_features))
    for begin in range(0, module.out_features, ROWS):
        rows = slice(begin, begin + ROWS)
        bias = None if module.bias is None else module.bias[rows].float()
        result[..., rows] = linear(x, module.weight[rows].float(), bias)
    return result


def _routines(model: nn.Module) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    """The modules that have a faster routine here, with it."""
    for module in model.modules():
        if type(module) is nn.Linear and _better_by_onednn(module.weight):
            yield module, partial(_linear, module, "none", "")
        elif type(module).__name__ == "BloomMLP":
            yield from _bloom_mlp(module)


def _bloom_mlp(module: Any) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    into = module.dense_h_to_4h
    alone = (
        "forward" not in into.__dict__ and "forward" not in module.gelu_impl.__dict__
    )  # or one would go missing
    if alone and type(into) is nn.Linear and _better_by_onednn(into.weight):
        yield into, partial(_linear, into, "gelu", "tanh")
        yield module.gelu_impl, _as_it_is
    else:
        yield module.gelu_impl, partial(gelu, approximate="tanh")


def _linear(module: nn.Linear, activation: str, algorithm: str, x: Tensor) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(x, module.weight, module.bias, activation, [], algorithm)
    return result


def _as_it_is(x: Tensor) -> Tensor:
    return x


def _better_by_onednn(weight: Tensor) -> bool:
    """Whether to hand a product with these weights to oneDNN."""
    here = weight.device.type == "cpu" and weight.is_contiguous() and torch._C._has_mkldnn
    if here and weight.dtype == torch.bfloat16:  # PyTorch does so itself, but without the activation
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return here and weight.dtype == torch.float32 and is_amd()


@lru_cache(maxsize=1)
def is_amd() -> bool:
    """Whether the processor is of AMD's make."""
    try:
        told = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        told = platform.processor()
    return any(name in told for name in AMD)


def warn_of_slow(dtype: str, device: str) -> None:
    """Says so where a processor has no arithmetic of its own for half precision: float32 is faster then."""
    native = (
        ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if dtype == "bfloat16"
        else ("_is_amx_fp16_supported",)
    )
    half = dtype in ("bfloat16", "float16") and device == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if half and not any(getattr(torch.cpu, name, bool)() for name in native):
        log.warning("this processor has no %s arithmetic of its own; float32 would be faster here", dtype)
