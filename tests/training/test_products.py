"""The faster routines of training, against the usual ones: results and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from instructalign.training import cpu_kernels
from instructalign.training.cpu_kernels import fast_inference, fast_outer_sum, fast_product, speed_up_training
from tiny import FAMILIES, tiny_model

IDS = torch.tensor([[5, 9, 77, 3, 250, 12], [8, 8, 4, 100, 2, 6]])


@pytest.fixture(params=[True, False], ids=["AMD", "another make"])
def _make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (cpu_kernels, cpu_kernels):
        monkeypatch.setattr(module, "is_amd", lambda: request.param)


def assert_near(got: torch.Tensor, expected: torch.Tensor, part: float = 1e-5) -> None:
    """Nothing differs by more than a part of the largest number there is."""
    assert float((got - expected).abs().max()) <= part * max(float(expected.abs().max()), 1e-3)


def learn(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    inputs = {"decoder_input_ids": IDS[:, :3]} if model.config.is_encoder_decoder else {}
    logits = model(input_ids=IDS, **inputs).logits
    logits.square().mean().backward()
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return logits.detach(), found


@pytest.mark.usefixtures("_make")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_learns_the_same(family: str) -> None:
    model = tiny_model(family).train()
    logits, gradients = learn(model)
    speed_up_training(model)
    fast, ours = learn(model)
    assert_near(fast, logits)
    assert ours.keys() == gradients.keys()
    for name in gradients:
        assert_near(ours[name], gradients[name])


def test_the_routines_are_used_where_the_processor_gains(monkeypatch: pytest.MonkeyPatch) -> None:
    for amd in (True, False):
        monkeypatch.setattr(cpu_kernels, "is_amd", lambda amd=amd: amd)
        model = tiny_model("bloom")
        mlp = model.transformer.h[0].mlp
        speed_up_training(model)
        assert ("forward" in mlp.dense_h_to_4h.__dict__) is amd
        assert "forward" in mlp.gelu_impl.__dict__


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 3, 70)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_on_any_number_of_rows(
    shape: tuple[int, ...], bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "is_amd", lambda: True)
    torch.manual_seed(0)
    usual, fast = nn.Linear(8, 6, bias=bias), nn.Linear(8, 6, bias=bias)
    fast.load_state_dict(usual.state_dict())
    speed_up_training(fast)
    results = []
    for layer in (usual, fast):
        x = torch.linspace(-1, 1, 8).repeat(*shape, 1).requires_grad_()
        y = layer(x)
        y.sin().sum().backward()
        results.append([y, x.grad, layer.weight.grad, *([layer.bias.grad] if bias else [])])
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_frozen_weights_get_no_gradient_and_autocast_goes_the_usual_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_kernels, "is_amd", lambda: True)
    layer = nn.Linear(4, 3)
    layer.weight.requires_grad_(False)
    speed_up_training(layer)
    x = torch.randn(2, 4, requires_grad=True)
    layer(x).sum().backward()
    assert layer.weight.grad is None
    assert layer.bias.grad is not None
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert layer(x[:0]).shape == (0, 3)


@pytest.mark.usefixtures("_make")
def test_products_of_the_output_layer() -> None:
    rows, matrix = torch.randn(5, 7), torch.randn(40, 7)
    torch.testing.assert_close(fast_product(rows, matrix), rows @ matrix.t(), rtol=1e-5, atol=1e-5)
    left = torch.randn(5, 40)
    torch.testing.assert_close(fast_outer_sum(left, rows), left.t() @ rows, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("_make")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_a_model_sped_up_for_training_answers_the_same(family: str, dtype: torch.dtype) -> None:
    inputs = {"decoder_input_ids": IDS[:, :3]} if family == "mt5" else {}
    model = tiny_model(family, width=64).to(dtype)
    with torch.no_grad():
        expected = model(input_ids=IDS, **inputs).logits
    speed_up_training(model)
    with fast_inference(model):
        got = model(input_ids=IDS, **inputs).logits
    assert_near(got, expected, 1e-5 if dtype == torch.float32 else 0.05)
