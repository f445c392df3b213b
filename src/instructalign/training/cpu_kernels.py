"""Faster routines on processors: oneDNN for linear layers in training and in scoring."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

log = logging.getLogger(__name__)

ROWS = 1 << 14
"""Rows of the output layer that are taken to float32 at a time."""

AMD = ("AuthenticAMD", "HygonGenuine")
"""What processors of AMD's make call themselves."""


@contextmanager
def fast_inference(model: Any, *, float32_logits: bool = False) -> Iterator[None]:
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


def warn_slow_half_precision(dtype: str, device: str) -> None:
    """Says so where a processor has no arithmetic of its own for half precision: float32 is faster then."""
    native = (
        ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if dtype == "bfloat16"
        else ("_is_amx_fp16_supported",)
    )
    half = dtype in ("bfloat16", "float16") and device == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if half and not any(getattr(torch.cpu, name, bool)() for name in native):
        log.warning("this processor has no %s arithmetic of its own; float32 would be faster here", dtype)


STEP, HEAD_STEP = 64, 32
"""oneDNN keeps a routine for every number of rows that it has met: small pieces of memory between large ones, that
the system's allocator cannot use again. So it meets only multiples of these, the first for the tokens of a
micro-batch, the second for those of them that the output layer computes logits for."""

TANH_GELU = ("BloomGelu", "NewGELUActivation")
"""Classes of transformers that compute the tanh approximation of GELU step by step."""


def speed_up_training(model: nn.Module) -> None:
    """Gives a model's layers faster routines for training, for good; weights and their names stay as they are."""
    for module in model.modules():
        layer: Any = module
        if type(module) is nn.Linear and onednn_is_faster(module.weight):
            layer.forward = partial(_training_linear, module)
        elif type(module).__name__ in TANH_GELU:
            layer.forward = partial(F.gelu, approximate="tanh")


def fast_product(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows @ matrix.T`, of [n, k] and [m, k], by whichever routine is faster here."""
    if not onednn_is_faster(matrix):
        return rows @ matrix.t()
    return _onednn(_in_steps(rows, HEAD_STEP), matrix, None)[: rows.shape[0]]


def fast_outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """`left.T @ right`, of [n, k] and [n, m], by whichever routine is faster here."""
    if not onednn_is_faster(left):
        return left.t() @ right
    return _onednn(_in_steps(left, HEAD_STEP).t(), _in_steps(right, HEAD_STEP).t(), None)


def onednn_is_faster(matrix: Tensor) -> bool:
    """Whether to hand a product with a matrix to oneDNN: float32 on an AMD processor.

    Half precision goes there anyway.
    """
    plain = type(matrix) in (Tensor, nn.Parameter) and matrix.device.type == "cpu"
    return plain and matrix.dtype == torch.float32 and torch._C._has_mkldnn and is_amd()


def _onednn(left: Tensor, right: Tensor, bias: Tensor | None) -> Tensor:
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")
    return result


def _training_linear(module: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward`, by oneDNN where numbers are in float32."""
    weight = module.weight
    usual = torch.is_autocast_enabled(x.device.type) or x.dtype != torch.float32 or not x.numel()
    if torch.compiler.is_compiling() or usual or not onednn_is_faster(weight):
        return F.linear(x, weight, module.bias)
    result: Tensor = _Linear.apply(x, weight, module.bias)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """A linear layer whose three products, one forward and two backward, are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[..., in] times the weight [out, in], plus the bias [out]."""
        rows = _in_steps(x.reshape(-1, x.shape[-1]), STEP)
        ctx.save_for_backward(rows, weight)
        return _onednn(rows, weight, bias)[: x[..., 0].numel()].view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of input, weight and bias."""
        rows, weight = ctx.saved_tensors
        [given] = gradients
        above = _in_steps(given.reshape(-1, weight.shape[0]), STEP)
        wanted_x, wanted_weight, wanted_bias = ctx.needs_input_grad
        into_x = _onednn(above, weight.t(), None)[: given[..., 0].numel()] if wanted_x else None
        return (
            into_x.view(*given.shape[:-1], -1) if into_x is not None else None,
            _onednn(above.t(), rows.t(), None) if wanted_weight else None,
            above.sum(0) if wanted_bias else None,
        )


def _in_steps(rows: Tensor, step: int) -> Tensor:
    """Rows with zeros behind them up to a multiple of a number."""
    missing = -rows.shape[0] % step
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows
