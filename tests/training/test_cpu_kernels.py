"""The faster routines on CPUs, in inference and in training, against plain transformers and torch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from instructalign.training import cpu_kernels
from instructalign.training.cpu_kernels import fast_inference, fast_outer_sum, fast_product, speed_up_training
from tiny import FAMILIES, tiny_model

IDS = torch.tensor([[5, 9, 77, 3, 250, 12], [8, 8, 4, 100, 2, 6]])


def logits(model):
    inputs = {"decoder_input_ids": IDS[:, :3]} if model.config.is_encoder_decoder else {}
    return model(input_ids=IDS, **inputs).logits


@pytest.fixture(params=[True, False], ids=["AMD", "another make"])
def _make(request, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "is_amd", lambda: request.param)


@pytest.mark.usefixtures("_make")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_faster_routines_give_the_same(family, dtype):
    model = tiny_model(family, width=64).to(dtype)
    with torch.no_grad():
        expected = logits(model)
    with fast_inference(model):
        got = logits(model)
        assert not model.training
        assert not torch.is_grad_enabled()
    tolerance = 1e-5 if dtype == torch.float32 else 0.05 * float(expected.abs().max())
    torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


def test_routines_are_used_where_the_processor_gains(monkeypatch):
    model = tiny_model("bloom")
    linear = model.transformer.h[0].mlp.dense_h_to_4h
    for amd in (True, False):
        monkeypatch.setattr(cpu_kernels, "is_amd", lambda amd=amd: amd)
        with fast_inference(model):
            assert ("forward" in linear.__dict__) is amd
            assert "forward" in model.transformer.h[0].mlp.gelu_impl.__dict__


@pytest.mark.usefixtures("_make")
@pytest.mark.parametrize("training", [True, False])
def test_nothing_is_left_replaced(training):
    model = tiny_model("bloom").train(training)
    with pytest.raises(TypeError), fast_inference(model):
        model(model.training, torch.is_grad_enabled())  # no ids: fails in the middle
    assert model.training is training
    assert all("forward" not in module.__dict__ for module in model.modules())
    logits(model).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_forward_of_someone_elses_is_left_alone(monkeypatch):
    monkeypatch.setattr(cpu_kernels, "is_amd", lambda: True)
    model = tiny_model("llama")
    mine = model.lm_head.forward
    model.lm_head.forward = mine
    with fast_inference(model):
        assert model.lm_head.forward is mine
    assert model.lm_head.forward is mine


def test_the_make_of_the_processor_is_found_without_proc(monkeypatch):
    def missing(*_, **__):
        raise FileNotFoundError

    monkeypatch.setattr(cpu_kernels.Path, "read_text", missing)
    for name, expected in (("AMD64 Family 25 Model 1 Stepping 1, AuthenticAMD", True), ("arm", False)):
        monkeypatch.setattr(cpu_kernels.platform, "processor", lambda name=name: name)
        assert cpu_kernels.is_amd.__wrapped__() is expected


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("family", ["bloom", "llama", "mt5", "gpt_neox"])
def test_logits_of_half_precision_are_computed_in_float32(family, dtype, monkeypatch):
    monkeypatch.setattr(cpu_kernels, "_FLOAT32_ROWS", 100)  # several parts, the last one shorter
    model = tiny_model(family).to(dtype)
    head, seen = model.get_output_embeddings(), []
    handle = head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with fast_inference(model, float32_logits=True):
        got = logits(model)
    handle.remove()
    expected = seen[0].double() @ head.weight.detach().double().T
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-5)
    assert "forward" not in head.__dict__
    with fast_inference(model):
        assert logits(model).dtype == dtype


@pytest.mark.parametrize(
    ("dtype", "device", "native", "said"),
    [
        ("bfloat16", "cpu", False, True),
        ("bfloat16", "cpu", True, False),
        ("bfloat16", "cuda", False, False),
        ("float32", "cpu", False, False),
        ("float16", "cpu", False, True),
    ],
)
def test_slow_half_precision_is_said(monkeypatch, caplog, dtype, device, native, said):
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_amx_fp16_supported"):
        monkeypatch.setattr(cpu_kernels.torch.cpu, name, lambda: native, raising=False)
    monkeypatch.setattr(cpu_kernels.platform, "machine", lambda: "x86_64")
    cpu_kernels.warn_slow_half_precision(dtype, device)
    assert (f"no native {dtype} arithmetic" in caplog.text) is said


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


def test_training_routines_are_used_where_the_processor_gains(monkeypatch: pytest.MonkeyPatch) -> None:
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
