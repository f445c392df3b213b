"""Packed rows: no example sees another, and loss and gradient are those of rows of one example each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft.tuners.tuners_utils import BaseTuner
from test_loss import PAIRS, assert_close, gradients
from test_train import assert_close as assert_weights_close
from test_train import assert_same_weights, configure, log, settings
from tokenizers.processors import TemplateProcessing
from transformers.models.bloom.modeling_bloom import build_alibi_tensor

from instructalign.config import AdapterConfig
from instructalign.config_file import build_config
from instructalign.errors import ModelError
from instructalign.training.adapters import add_adapter
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, collate
from instructalign.training.loss import ChunkedLoss, at_positions, token_losses
from instructalign.training.models import LoadedModel, checkpoint_activations
from instructalign.training.packed_attention import _distances, enable_packing, example_numbers, packed_row_limits
from instructalign.training.tokenization import Codec
from instructalign.training.train import train
from instructalign.types import Instruction
from tiny import DECODER_ONLY, NEWER, tiny_model, tiny_tokenizer


def loaded(family: str, **options: Any) -> LoadedModel:
    tokenizer: Any = tiny_tokenizer()
    two = family in ("t5", "mt5")
    model = tiny_model(family)
    for name, value in options.items():
        setattr(model.config, name, value)
    return LoadedModel(model, Codec(tokenizer, two), family)


def batch_of(pairs: list[tuple[str, str]], rows: list[int] | None) -> dict[str, Any]:
    codec = Codec(tiny_tokenizer(), False)
    encoder = ExampleEncoder(codec, 64)
    examples = [encoder(Instruction(a, b, "mt", "eng", "jav")) for a, b in pairs]
    return collate(examples, codec, LossWeights(prompt=0.3), rows)


@pytest.mark.parametrize("family", DECODER_ONLY + NEWER)
def test_changing_one_example_moves_no_logit_of_another(family: str) -> None:
    base = loaded(family)
    enable_packing(base)
    before, after = (
        batch_of([*PAIRS[:2], (words, "enak"), PAIRS[3]], [3, 1]) for words in ("resik resik", "enak good food")
    )
    with torch.no_grad():
        one, other = (base.model(**batch["inputs"], use_cache=False).logits for batch in (before, after))
    lengths = before["lengths"]
    assert torch.equal(one[0, : sum(lengths[:2])], other[0, : sum(lengths[:2])])
    assert torch.equal(one[1, : lengths[3]], other[1, : lengths[3]])
    # And later examples are unmoved by earlier ones.
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
            enable_packing(base)
            if checkpointing:
                checkpoint_activations(model)
        batch = batch_of(PAIRS, rows)
        shares = at_positions(batch, "weights") / batch["weights"].sum()
        loss, _ = ChunkedLoss(model, False)(model, batch, shares)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    for loss, ours in found[1:]:
        torch.testing.assert_close(loss, found[0][0], rtol=0, atol=1e-6)
        assert_close(ours, found[0][1], 1e-6)


@pytest.mark.parametrize(
    ("family", "attention"),
    [("mistral", "sdpa"), ("mistral", "eager"), ("gemma2", "eager"), ("gemma3", "sdpa"), ("gemma3", "eager")],
)
def test_a_sliding_window_stays_inside_its_example(family: str, attention: str) -> None:
    narrow, wide = (loaded(family, sliding_window=w, layer_types=["sliding_attention"] * 2) for w in (3, 64))
    for base in (narrow, wide):
        base.model.set_attn_implementation(attention)
        enable_packing(base)
    inputs = batch_of(PAIRS[:3], [3])["inputs"]
    with torch.no_grad():
        one, other = (each.model(**inputs, use_cache=False).logits for each in (narrow, wide))
    assert not torch.allclose(one, other, atol=1e-4)  # the window is at work


def test_flash_attention_waits_for_a_gpu() -> None:
    base = loaded("llama")
    base.model.config._attn_implementation = "flash_attention_2"
    enable_packing(base)  # by plain attention, as these weights are on a processor
    assert base.model.config._attn_implementation == "flash_attention_2"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_distances_of_packed_rows_are_those_of_single_ones(dtype: torch.dtype) -> None:
    heads, lengths = 12, (7, 300, 1, 41)  # of heads whose slopes are no powers of two
    usual = [build_alibi_tensor(torch.ones(1, length), heads, dtype) for length in lengths]
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    packed = _distances(build_alibi_tensor, positions.expand(2, -1), torch.empty(0), heads, dtype)
    assert torch.equal(packed, torch.cat(usual, dim=-1).repeat(2, 1, 1))


@pytest.mark.parametrize("by", ["call", "forward"])
def test_bloom_in_an_adapter_is_packed_as_well(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if by == "forward":  # as peft 0.18 does, which passes over hooks
        monkeypatch.setattr(
            BaseTuner, "forward", lambda self, *given, **named: self.model.forward(*given, **named)
        )
    base = loaded("bloom")
    model = add_adapter(base, AdapterConfig(r=2)).train()
    found = []
    for rows in (None, [3, 1]):
        if rows:
            enable_packing(base, model)
            checkpoint_activations(base.model)
        batch = batch_of(PAIRS, rows)
        shares = at_positions(batch, "weights") / batch["weights"].sum()
        loss, _ = ChunkedLoss(model, False)(model, batch, shares)
        loss.backward()
        found.append((loss.detach(), gradients(model)))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=0, atol=1e-6)
    assert_close(found[1][1], found[0][1], 1e-6)


def test_a_model_that_mixes_examples_is_refused() -> None:
    base = loaded("llama")
    forward = base.model.forward

    def deaf(*args: Any, position_ids: Any = None, **keywords: Any) -> Any:
        return forward(*args, **keywords)

    base.model.forward = deaf  # type: ignore[method-assign]
    with pytest.raises(ModelError, match=r"change each other.* in llama .*packing: false"):
        enable_packing(base)
    with pytest.raises(ModelError, match=r"mt5 has an encoder and a decoder.*packing: false"):
        enable_packing(loaded("mt5"))


def test_rows_are_as_long_as_examples_or_longer(tmp_path: Path) -> None:
    model = tiny_model("llama")
    limits = MicroBatchLimits(tokens=1024, overhead=1)
    assert packed_row_limits(configure(tmp_path).training, limits, model) == (None, limits)
    packing = configure(tmp_path, packing=True).training
    assert packed_row_limits(packing, limits, model) == (512, limits)
    assert packed_row_limits(packing, MicroBatchLimits(tokens=64), model) == (96, MicroBatchLimits(tokens=64))
    # What bounds examples bounds the tokens that as many may have, and not rows of five times as many.
    assert packed_row_limits(packing, MicroBatchLimits(rows=2), model) == (192, MicroBatchLimits(tokens=192))
    assert packed_row_limits(packing, MicroBatchLimits(rows=2, tokens=128), model) == (
        128,
        MicroBatchLimits(tokens=128),
    )
    model.config._attn_implementation = "flash_attention_2"
    assert packed_row_limits(packing, limits, model) == (1024, MicroBatchLimits(rows=1, tokens=1024, overhead=1))
    assert packed_row_limits(packing, MicroBatchLimits(rows=2), model) == (
        192,
        MicroBatchLimits(rows=1, tokens=192),
    )


def test_starts_of_examples() -> None:
    positions = torch.tensor([[0, 1, 2, 0, 0, 1], [0, 1, 0, 1, 2, 3]])
    assert example_numbers(positions).tolist() == [[0, 0, 0, 1, 2, 2], [0, 0, 1, 1, 1, 1]]


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_packed_run_learns_what_another_learns_and_resumes_exactly(family: str, tmp_path: Path) -> None:
    plain = train(configure(tmp_path, family, steps=4), tmp_path / "plain")
    config = configure(tmp_path, family, steps=4, packing=True, keep_checkpoints=5)
    packed = train(config, tmp_path / "packed")
    assert_weights_close(plain.model, packed.model)
    for one, other in zip(log(tmp_path / "plain"), log(tmp_path / "packed"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)
    for path in (tmp_path / "packed" / "checkpoints" / "checkpoint-4", packed.model):
        path.rename(tmp_path / f"gone-{path.name}")
    again = train(config, tmp_path / "packed")
    assert_same_weights(tmp_path / "gone-model", again.model)


@pytest.mark.parametrize(
    ("family", "strategy", "adapter", "training"),
    [
        ("llama", {"distil": {"on": "all"}, "agem": {"examples": 4}}, None, {}),
        (
            "bloom",
            {"distil": {"on": "all"}},
            {"r": 4, "train_embeddings": "new"},
            {"gradient_checkpointing": True},
        ),
        ("bloom", {"l2sp": None}, None, {"precision": "bfloat16", "kl": {"every": 2, "positions": 16}}),
    ],
    ids=["strategies", "adapter", "bfloat16"],
)
def test_packing_goes_with_what_else_a_run_may_have(
    family: str, strategy: Any, adapter: Any, training: dict[str, Any], tmp_path: Path
) -> None:
    for packing in (False, True):
        data = settings(
            tmp_path, family, steps=3, strategy={"replay": None, **strategy}, packing=packing, **training
        )
        data["model"]["adapter"] = adapter
        train(build_config(data, folder=tmp_path), tmp_path / str(packing))
    half = training.get("precision") == "bfloat16"
    for one, other in zip(log(tmp_path / "False"), log(tmp_path / "True"), strict=True):
        kinds = [name for name in one if name.startswith(("loss", "language_loss", "strategy", "kl_"))]
        assert len(kinds) > 4
        for name in kinds:
            assert one[name] == pytest.approx(other[name], abs=0.05 if half else 1e-4), name


def test_plain_text_has_the_loss_of_transformers() -> None:
    """`lm` in the form `plain`: the mean over all predicted tokens, with and without a first and an end token."""
    for begin in (None, "<s>"):
        base = loaded("llama")
        tokenizer: Any = base.tokenizer
        if begin:
            tokenizer.add_special_tokens({"bos_token": "<pad>"})
            tokenizer._tokenizer.post_processor = TemplateProcessing(
                single="<pad> $A", special_tokens=[("<pad>", tokenizer.pad_token_id)]
            )
        codec = Codec(tokenizer, False)
        text = "panganane enak lan panggonane resik\nmakanan di sini enak"
        example = ExampleEncoder(codec, 64)(Instruction("", text, "lm", "jav", "jav", "d1"))
        ids = torch.tensor([[*tokenizer(text)["input_ids"], tokenizer.eos_token_id]])
        assert example.prompt + example.answer == ids[0].tolist()
        with torch.no_grad():
            expected = float(base.model(input_ids=ids, labels=ids).loss)
            batch = collate([example], codec, LossWeights())
            losses = token_losses(base.model, batch, False)
        assert float(losses.mean()) == pytest.approx(expected, abs=1e-6)
        assert losses.numel() == ids.shape[1] - 1
        cut = ExampleEncoder(codec, 64)(Instruction("", text, "lm", "jav", "jav", "d1", goes_on=True))
        assert cut.prompt + cut.answer == ids[0, :-1].tolist()


@pytest.mark.parametrize("family", ["bloom", "llama", "qwen3"])
def test_packed_documents_do_not_see_each_other(family: str) -> None:
    base = loaded(family)
    enable_packing(base)
    codec = Codec(tiny_tokenizer(), False)
    encoder = ExampleEncoder(codec, 64)
    texts = ["panganane enak", "makanan di sini enak sekali", "tempatnya bersih"]

    def losses_of(*documents: str) -> list[torch.Tensor]:
        examples = [encoder(Instruction("", each, "lm", "jav", "jav")) for each in documents]
        batch = collate(examples, codec, LossWeights(), [len(examples)])
        with torch.no_grad():
            found = token_losses(base.model, batch, False)
        return list(found.split(batch["counted"]))

    before, after = losses_of(*texts), losses_of(texts[0], "good food and a clean place", texts[2])
    assert torch.equal(before[0], after[0])
    torch.testing.assert_close(before[2], after[2], atol=1e-6, rtol=0)  # it stands elsewhere in the row
    assert not torch.allclose(before[1].mean(), after[1].mean(), atol=1e-3)
    for alone, packed in zip(map(losses_of, texts), before, strict=True):
        torch.testing.assert_close(alone[0], packed, atol=1e-5, rtol=0)


def test_special_tokens_that_plain_text_spells_are_text() -> None:
    codec = Codec(tiny_tokenizer(), False)
    begin, ids = codec.text("resik </s> enak")
    assert not begin
    assert 1 not in ids
    assert codec.tokenizer.decode(ids) == "resik </s> enak"
