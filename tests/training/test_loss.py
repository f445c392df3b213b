"""The chunked loss against plain torch: losses and gradients, for every kind of output layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from instructalign.training import loss as module
from instructalign.training.batching import ExampleEncoder, LossWeights, collate
from instructalign.training.loss import ChunkedLoss, at_positions, token_losses
from instructalign.training.tokenization import Codec
from instructalign.types import Instruction
from tiny import ENCODER_DECODER, FAMILIES, tiny_model, tiny_tokenizer

PAIRS = [
    ("the food is", "good"),
    ("resik", "clean and good"),
    ("makanan di sini", "panganane enak"),
    ("yes", "no"),
]


def batch_of(encoder_decoder: bool) -> dict[str, Any]:
    codec = Codec(tiny_tokenizer(), encoder_decoder)
    encoder = ExampleEncoder(codec, 64)
    return collate(
        [encoder(Instruction(a, b, "mt", "eng", "jav")) for a, b in PAIRS], codec, LossWeights(prompt=0.3)
    )


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}
    model.zero_grad()
    return found


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=tolerance, msg=name)


@pytest.fixture(params=[1, 1 << 30], ids=["in chunks", "at once"])
def _chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HEAD_STEP", 3)
    monkeypatch.setitem(module.CHUNK_LOGITS, "cpu", request.param)


@pytest.mark.usefixtures("_chunks")
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_are_those_of_plain_torch(family: str) -> None:
    model, two = tiny_model(family), family in ENCODER_DECODER
    batch = batch_of(two)
    shares = at_positions(batch, "weights") / batch["weights"].sum()
    chunked_loss = ChunkedLoss(model, two)
    assert chunked_loss.chunked
    losses = token_losses(model, batch, two)
    expected = (losses * shares).sum()
    expected.backward()
    known = gradients(model)
    got, parts = chunked_loss(model, batch, shares)
    (2 * got).backward()  # as a scale of the loss would
    ours = gradients(model)
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts, losses.detach(), rtol=0, atol=2e-6)
    assert_close({name: gradient / 2 for name, gradient in ours.items()}, known)


def test_a_cap_on_logits_is_found_and_put_back() -> None:
    model = tiny_model("gemma2")
    cap = model.config.final_logit_softcapping
    found = ChunkedLoss(model, False)
    assert (found.chunked, found.cap) == (True, cap)
    assert model.config.final_logit_softcapping == cap == 30.0
    found = ChunkedLoss(tiny_model("llama"), False)
    assert (found.chunked, found.cap) == (True, None)


def test_a_model_that_changes_its_logits_computes_them_itself() -> None:
    model = tiny_model("llama")
    forward = model.forward

    def scaled(*args: Any, **keywords: Any) -> Any:
        output = forward(*args, **keywords)
        output.logits = output.logits * 0.5
        return output

    model.forward = scaled
    chunked_loss = ChunkedLoss(model, False)
    assert not chunked_loss.chunked
    batch = batch_of(False)
    shares = at_positions(batch, "weights")
    got, losses = chunked_loss(model, batch, shares)
    logits = model(**batch["inputs"]).logits.flatten(0, 1)[batch["positions"]]
    expected = F.cross_entropy(logits, at_positions(batch, "targets"), reduction="none")
    torch.testing.assert_close(losses, expected.detach(), rtol=0, atol=1e-6)
    torch.testing.assert_close(got, (expected * shares).sum(), rtol=0, atol=1e-5)


def test_an_output_layer_with_a_bias_and_one_that_is_frozen() -> None:
    model = tiny_model("gpt_neox")
    layer = model.get_output_embeddings()
    layer.bias = nn.Parameter(torch.randn(layer.out_features))
    batch = batch_of(False)
    shares = at_positions(batch, "weights")
    for frozen in (False, True):
        layer.weight.requires_grad_(not frozen)
        layer.bias.requires_grad_(not frozen)
        (token_losses(model, batch, False) * shares).sum().backward()
        known = gradients(model)
        ChunkedLoss(model, False)(model, batch, shares)[0].backward()
        ours = gradients(model)
        assert ("lm_head.bias" in ours) is not frozen
        assert_close(ours, known, 1e-5)


def test_without_gradients_and_without_any_position() -> None:
    model = tiny_model("llama")
    chunked_loss, batch = ChunkedLoss(model, False), batch_of(False)
    with torch.no_grad():
        got, losses = chunked_loss(model, batch, at_positions(batch, "weights"))
        torch.testing.assert_close(losses, token_losses(model, batch, False), rtol=0, atol=2e-6)
    assert not got.requires_grad
    empty = {**batch, "positions": torch.zeros(0, dtype=torch.long)}
    got, losses = chunked_loss(model, empty, torch.zeros(0))
    got.backward()
    assert got.item() == 0.0
    assert len(losses) == 0
    assert all(not gradient.any() for gradient in gradients(model).values())


def test_autocast_to_bfloat16_is_as_close_as_plain_torch_is() -> None:
    model = tiny_model("llama")
    batch = batch_of(False)
    shares = at_positions(batch, "weights") / batch["weights"].sum()
    (token_losses(model, batch, False) * shares).sum().backward()
    exact = gradients(model)
    off = {}
    for name, function in {
        "plain": lambda: (token_losses(model, batch, False) * shares).sum(),
        "ours": lambda: ChunkedLoss(model, False)(model, batch, shares)[0],
    }.items():
        with torch.autocast("cpu", torch.bfloat16):
            value = function()
        value.backward()
        off[name] = max(float((got - exact[key]).abs().max()) for key, got in gradients(model).items())
    assert off["ours"] <= 1.5 * off["plain"]


@pytest.mark.parametrize("wrap", ["lora", "checkpointing"])
def test_inside_an_adapter_and_with_checkpointing(wrap: str) -> None:
    from peft import LoraConfig, get_peft_model

    from instructalign.training.models import checkpoint_activations

    model: Any = tiny_model("llama")
    if wrap == "lora":
        model = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    else:
        checkpoint_activations(model)
    model.train()
    batch = batch_of(False)
    shares = at_positions(batch, "weights")
    chunked_loss = ChunkedLoss(model, False)
    assert chunked_loss.chunked
    (token_losses(model, batch, False) * shares).sum().backward()
    known = gradients(model)
    chunked_loss(model, batch, shares)[0].backward()
    assert_close(gradients(model), known, 1e-5)
