"""Faster routines on CPUs: oneDNN for linear layers and their activations, in training and in inference.

PyTorch multiplies float32 matrices by MKL, which is slow on AMD processors; oneDNN is not (1.44 times the tokens
per second in training, docs/results/train.md). `torch.ops.mkldnn._linear_pointwise` is private in PyTorch; where a
version is built without oneDNN, or on a GPU, everything stays as it is.
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
import torch.nn.functional as F
from torch import Tensor, nn

log = logging.getLogger(__name__)

HEAD_STEP = 32
_STEP = 64
"""oneDNN keeps a routine for every number of rows it has met, in small pieces of memory between large ones, which
the allocator then cannot reuse: memory grows. So it meets only multiples of `_STEP`, for the tokens of a
micro-batch, and of `HEAD_STEP`, for the positions at which the output layer computes logits."""

TANH_GELU = ("BloomGelu", "NewGELUActivation")
"""Classes of transformers that compute the tanh approximation of GELU in several steps."""

_FLOAT32_ROWS = 1 << 14  # of the output layer, taken to float32 at a time


def onednn_is_faster(matrix: Tensor, *, inference: bool = False) -> bool:
    """Whether to multiply with this matrix by oneDNN: in float32 on an AMD processor.

    For inference, in bfloat16 as well: PyTorch uses oneDNN there by itself, but not with the activation fused.
    """
    plain = type(matrix) in (Tensor, nn.Parameter) and matrix.device.type == "cpu"
    if not plain or not torch._C._has_mkldnn:
        return False
    if inference and matrix.dtype == torch.bfloat16:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return matrix.dtype == torch.float32 and is_amd()


@lru_cache(maxsize=1)
def is_amd() -> bool:
    """Whether the processor is made by AMD (or by Hygon, after AMD's design)."""
    try:
        processor = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        processor = platform.processor()
    return "AuthenticAMD" in processor or "HygonGenuine" in processor


def warn_slow_half_precision(dtype: str, device: str) -> None:
    """Warns where a CPU only emulates a half precision: float32 is faster there."""
    native = (
        ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        if dtype == "bfloat16"
        else ("_is_amx_fp16_supported",)
    )
    half = dtype in ("bfloat16", "float16") and device == "cpu" and platform.machine() in ("x86_64", "AMD64")
    if half and not any(getattr(torch.cpu, name, bool)() for name in native):
        log.warning("this CPU has no native %s arithmetic; float32 would be faster here", dtype)


def _onednn(left: Tensor, right: Tensor, bias: Tensor | None, activation: str = "none", form: str = "") -> Tensor:
    """activation(left @ right.T + bias), of [..., k] and [m, k]."""
    result: Tensor = torch.ops.mkldnn._linear_pointwise(left, right, bias, activation, [], form)
    return result


# -- inference -----------------------------------------------------------------------------------------------


@contextmanager
def fast_inference(model: Any, *, float32_logits: bool = False) -> Iterator[None]:
    """Inside, a model is in evaluation mode, computes no gradients, and uses the faster routines.

    Afterwards everything is as it was.

    Args:
        model: a `PreTrainedModel`.
        float32_logits: whether a model in half precision computes its logits in float32. Its own are rounded to 8
            bits, from 16 upwards to steps of an eighth: more than the difference between two labels.
    """
    training = model.training
    model.eval()
    replaced = []
    for module, forward in (*(_float32_head(model) if float32_logits else ()), *_inference_routines(model)):
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


def _float32_head(model: Any) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    head = model.get_output_embeddings()
    if type(head) is nn.Linear and head.weight.dtype in (torch.bfloat16, torch.float16):
        yield head, partial(_linear_in_float32, head)


def _linear_in_float32(module: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in float32, some rows of the weight at a time, so that memory holds no second copy of it."""
    x = x.float()
    result = x.new_empty((*x.shape[:-1], module.out_features))
    for begin in range(0, module.out_features, _FLOAT32_ROWS):
        rows = slice(begin, begin + _FLOAT32_ROWS)
        bias = None if module.bias is None else module.bias[rows].float()
        result[..., rows] = F.linear(x, module.weight[rows].float(), bias)
    return result


def _inference_routines(model: nn.Module) -> Iterator[tuple[Any, Callable[[Tensor], Tensor]]]:
    """The modules that have a faster routine here, with it; the first of a module counts."""
    for module in model.modules():
        if type(module) is nn.Linear and onednn_is_faster(module.weight, inference=True):
            yield module, partial(_inference_linear, module)
        elif type(module).__name__ == "BloomMLP":  # met before its own linear layers
            mlp: Any = module
            up, gelu = mlp.dense_h_to_4h, mlp.gelu_impl
            free = "forward" not in up.__dict__ and "forward" not in gelu.__dict__  # replaced both, or neither
            if free and type(up) is nn.Linear and onednn_is_faster(up.weight, inference=True):
                yield up, partial(_inference_linear, up, activation="gelu", form="tanh")
                yield gelu, _unchanged
            else:
                yield gelu, partial(F.gelu, approximate="tanh")


def _inference_linear(module: nn.Linear, x: Tensor, activation: str = "none", form: str = "") -> Tensor:
    return _onednn(x, module.weight, module.bias, activation, form)


def _unchanged(x: Tensor) -> Tensor:
    return x


# -- training ------------------------------------------------------------------------------------------------


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
    return _onednn(_padded(rows, HEAD_STEP), matrix, None)[: rows.shape[0]]


def fast_outer_sum(left: Tensor, right: Tensor) -> Tensor:
    """`left.T @ right`, of [n, k] and [n, m], by whichever routine is faster here."""
    if not onednn_is_faster(left):
        return left.t() @ right
    return _onednn(_padded(left, HEAD_STEP).t(), _padded(right, HEAD_STEP).t(), None)


def _training_linear(module: nn.Linear, x: Tensor) -> Tensor:
    """`nn.Linear.forward`, by oneDNN where weights and input are in float32."""
    weight = module.weight
    usual = torch.is_autocast_enabled(x.device.type) or x.dtype != torch.float32 or not x.numel()
    # The weight is asked about in each call: it may have been moved, converted or sharded since.
    if torch.compiler.is_compiling() or usual or not onednn_is_faster(weight):
        return F.linear(x, weight, module.bias)
    result: Tensor = _Linear.apply(x, weight, module.bias)  # type: ignore[no-untyped-call]
    return result


class _Linear(torch.autograd.Function):
    """A linear layer whose three products, one forward and two backward, are oneDNN's."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[..., in] times the weight [out, in], plus the bias [out]."""
        rows = _padded(x.reshape(-1, x.shape[-1]), _STEP)
        ctx.save_for_backward(rows, weight)
        return _onednn(rows, weight, bias)[: x[..., 0].numel()].view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """The gradients of input, weight and bias."""
        rows, weight = ctx.saved_tensors
        [above] = gradients
        shape, count = above.shape[:-1], above[..., 0].numel()
        above = _padded(above.reshape(-1, weight.shape[0]), _STEP)
        for_x, for_weight, for_bias = ctx.needs_input_grad
        return (
            _onednn(above, weight.t(), None)[:count].view(*shape, -1) if for_x else None,
            _onednn(above.t(), rows.t(), None) if for_weight else None,
            above.sum(0) if for_bias else None,
        )


def _padded(rows: Tensor, step: int) -> Tensor:
    """Rows [n, k] with zeros after them up to a multiple of `step`."""
    missing = -rows.shape[0] % step
    return F.pad(rows, (0, 0, 0, missing)) if missing else rows
