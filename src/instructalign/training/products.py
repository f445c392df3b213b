"""Matrix products and activations of training, by faster routines with the same result (`kernels`: of answering).

PyTorch multiplies float32 matrices through MKL, which leaves half of what AMD's processors can do unused; oneDNN,
which PyTorch brings too, does not. BLOOM and mT5 compute their activation in eight passes over memory where one
does. `docs/results/train.md` has what that gains; results differ in the last digits at most.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from instructalign.training.kernels import is_amd

STEP, HEAD_STEP = 64, 32
"""oneDNN keeps a routine for every number of rows that it has met: small pieces of memory between large ones, that
the system's allocator cannot use again. So it meets only multiples of these, the first for the tokens of a
micro-batch, the second for those of them that the output layer computes logits for."""

TANH_GELU = ("BloomGelu", "NewGELUActivation")
"""Classes of transformers that compute the tanh approximation of GELU step by step."""


def speed_up(model: nn.Module) -> None:
    """Gives a model's layers faster routines for training, for good; weights and their names stay as they are."""
    for module in model.modules():
        layer: Any = module
        if type(module) is nn.Linear and onednn_is_faster(module.weight):
            layer.forward = partial(_linear, module)
        elif type(module).__name__ in TANH_GELU:
            layer.forward = partial(F.gelu, approximate="tanh")


def product(rows: Tensor, matrix: Tensor) -> Tensor:
    """`rows @ matrix.T`, of [n, k] and [m, k], by whichever routine is faster here."""
    if not onednn_is_faster(matrix):
        return rows @ matrix.t()
    return _onednn(_in_steps(rows, HEAD_STEP), matrix, None)[: rows.shape[0]]


def product_over_rows(left: Tensor, right: Tensor) -> Tensor:
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


def _linear(module: nn.Linear, x: Tensor) -> Tensor:
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
