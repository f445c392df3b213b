"""Packed rows: no example sees another, and loss and gradient are those of rows of one example each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from test_loss import PAIRS, assert_close, gradients
from test_train import assert_close as assert_weights_close
from test_train import assert_same_weights, configure, log, weights

from instructalign.errors import ModelError
from instructalign.records import Instruction
from instructalign.training.batch import Encoder, LossWeights, collate
from instructalign.training.cut import Limits
from instructalign.training.encode import Codec
from instructalign.training.loss import at_positions, head_of, piecewise_loss
from instructalign.training.model import LoadedModel, checkpoint_activations
from instructalign.training.packing import keep_apart, row_limits, starts
from instructalign.training.train import train
from tiny import DECODER_ONLY, NEWER, tiny_model, tiny_tokenizer


def loaded(family: str, **options: Any) -> LoadedModel:
    tokenizer: Any = tiny_tokenizer()
    two = family in ("t5", "mt5")
    model = tiny_model(family)
    for name, value in options.items():
        setattr(model.config, name, value)
    return LoadedModel(model, tokenizer, Codec(tokenizer, two), two, family)


def batch_of(pairs: list[tuple[str, str]], rows: list[int] | None) -> dict[str, Any]:
    codec = Codec(tiny_tokenizer(), False)
    encoder = Encoder(codec, 64)
    examples = [encoder(Instruction(a, b, "mt", "eng", "jav")) for a, b in pairs]
    return collate(examples, codec, LossWeights(prompt=0.3), rows)


@pytest.mark.parametrize("family", DECODER_ONLY + NEWER)
def test_changing_one_example_moves_no_logit_of_another(family: str) -> None:
    base = loaded(family)
    keep_apart(base)
    before, after = (
        batch_of([*PAIRS[:2], (words, "enak"), PAIRS[3]], [3, 1]) for words in ("resik resik", "enak good food")
    )
    with torch.no_grad():
        one, other = (base.model(**batch["inputs"], use_cache=False).logits for batch in (before, after))
    lengths = before["lengths"]
    assert torch.equal(one[0, : sum(lengths[:2])], other[0, : sum(lengths[:2])])
    assert torch.equal(one[1, : lengths[3]], other[1, : lengths[3]])
    # And what stands behind is unmoved by what stands before.
    batch = batch_of(PAIRS[:3], [3])
    first, inputs = batch["lengths"][0], batch["inputs"]
    changed = {**inputs, "input_ids": inputs["input_ids"].clone()}
    changed["input_ids"][0, :first] -= 1
    with torch.no_grad():
        one, other = (base.model(**each, use_cache=False).logits for each in (inputs, changed))
    assert not torch.equal(one[0, :first], other[0, :first])
    torch.testing.assert_close(one[0, first:], other[0, first:], rtol=0, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", DECODER_ONLY)
def test_loss_and_gradient_are_those_of_single_rows(family: str, checkpointing: bool) -> None:
    base = loaded(family)
    model = base.model.train()
    found = []
    for rows in (None, [3, 1], [4]):
        if rows is not None and len(found) == 1:
            keep_apart(base)
            if checkpointing:
                checkpoint_activations(model)
        batch = batch_of(PAIRS, rows)
        shares = at_positions(batch, "weights") / batch["weights"].sum()
        loss, _ = piecewise_loss(model, batch, shares, False, head_of(model, False))
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    for loss, ours in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=0, atol=1e-6)
        assert_close(ours, found[0][1], 1e-6)


def test_a_sliding_window_stays_inside_its_example() -> None:
    base = loaded("mistral", sliding_window=3)
    base.model.config.layer_types = ["sliding_attention"] * 2
    keep_apart(base)


def test_a_model_that_mixes_examples_is_refused() -> None:
    base = loaded("llama")
    forward = base.model.forward

    def deaf(*args: Any, position_ids: Any = None, **keywords: Any) -> Any:
        return forward(*args, **keywords)

    base.model.forward = deaf  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"examples in one row change each other in llama .*packing: false"):
        keep_apart(base)
    with pytest.raises(ModelError, match=r"mt5 has an encoder and a decoder.*packing: false"):
        keep_apart(loaded("mt5"))


def test_rows_are_as_long_as_examples_or_longer(tmp_path: Path) -> None:
    model = tiny_model("llama")
    limits = Limits(tokens=1024, overhead=1)
    assert row_limits(configure(tmp_path).training, limits, model) == (None, limits)
    packing = configure(tmp_path, packing=True).training
    assert row_limits(packing, limits, model) == (512, limits)
    assert row_limits(packing, Limits(tokens=64), model) == (96, Limits(tokens=64))
    model.config._attn_implementation = "flash_attention_2"
    assert row_limits(packing, limits, model) == (1024, Limits(rows=1, tokens=1024, overhead=1))


def test_starts_of_examples() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 2, 3]])
    assert starts(positions).tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_packed_run_learns_what_another_learns_and_goes_on_exactly(family: str, tmp_path: Path) -> None:
    plain = train(configure(tmp_path, family, steps=4), tmp_path / "plain")
    config = configure(tmp_path, family, steps=4, packing=True, keep_checkpoints=5)
    packed = train(config, tmp_path / "packed")
    assert_weights_close(plain.model, packed.model)
    for one, other in zip(log(tmp_path / "plain"), log(tmp_path / "packed"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    before = weights(packed.model)
    for path in (tmp_path / "packed" / "checkpoints" / "checkpoint-4", packed.model):
        path.rename(tmp_path / f"gone-{path.name}")
    again = train(config, tmp_path / "packed")
    assert_same_weights(tmp_path / "gone-model", again.model)
    assert before
