"""Adapters: what they train is what is saved and used; everything else stays as it was, bit by bit."""

from __future__ import annotations

import json
import math
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.version import Version
from safetensors.torch import load_file
from test_train import assert_same_weights, settings, weights
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from instructalign.config import AdapterConfig
from instructalign.config_file import build_config
from instructalign.data import Corpus
from instructalign.errors import ConfigError, ModelError, TrainingError
from instructalign.training import adapters as adapters
from instructalign.training.adapters import add_adapter, new_language_tokens
from instructalign.training.checkpoints import save_model
from instructalign.training.models import LoadedModel, load_model, model_hash
from instructalign.training.tokenization import Codec
from instructalign.training.train import train
from instructalign.types import Counts, ParallelRow
from tiny import ENCODER_DECODER, FAMILIES, save_tiny, tiny_tokenizer

ROWS = [5, 7, 9]
IDS = torch.tensor([[5, 7, 9, 11, 5]])


def adapted(folder: Path, family: str, settings: AdapterConfig, rows: list[int] | None = None) -> Any:
    """A tiny model in its adapter after three steps of plain gradient descent, and the base it came from."""
    loaded = load_model(str(save_tiny(folder / "base", family)))
    model = add_adapter(loaded, settings, rows)
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=0.5)
    for _ in range(3):
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return loaded, model.eval()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS, labels=IDS).logits


def reload(folder: Path, family: str) -> Any:
    """The saved model as transformers alone loads it."""
    factory: Any = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
    return factory.from_pretrained(folder).eval()


def never() -> Any:
    raise AssertionError("the base need not be loaded again")


def changed_rows(one: Any, other: Any) -> list[int]:
    different = one.weight != other.weight
    return different.any(dim=1).nonzero().flatten().tolist()


@pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`")
@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("train_embeddings", ["new", True])
@pytest.mark.parametrize("family", FAMILIES)
def test_embeddings_that_are_trained_are_saved_and_used(
    family: str, train_embeddings: Any, merge: bool, tmp_path: Path
) -> None:
    if not merge and Version(version("transformers")) < Version("5.18"):
        pytest.skip("refused: this transformers would load the adapter without its embeddings")
    settings = AdapterConfig(r=2, train_embeddings=train_embeddings, merge=merge)
    loaded, model = adapted(tmp_path, family, settings, ROWS if train_embeddings == "new" else None)
    expected = logits(model)
    base = reload(tmp_path / "base", family)
    save_model(model, loaded, settings, tmp_path / "model", fresh=never)
    saved = reload(tmp_path / "model", family)
    assert torch.allclose(logits(saved), expected, rtol=1e-4, atol=1e-5)
    if merge:
        for ends in ("get_input_embeddings", "get_output_embeddings"):
            moved = changed_rows(getattr(saved, ends)(), getattr(base, ends)())
            assert moved == ROWS if train_embeddings == "new" else set(moved) > set(ROWS), ends


def test_embeddings_that_an_old_transformers_would_not_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapters, "version", lambda name: "5.17.0")
    loaded = load_model(str(save_tiny(tmp_path / "base")))
    with pytest.raises(ModelError, match=r"transformers 5\.17\.0 loads an adapter without the embeddings.*merge"):
        add_adapter(loaded, AdapterConfig(train_embeddings=True, merge=False))
    add_adapter(loaded, AdapterConfig(merge=False))


def test_embeddings_that_would_not_be_trained_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As peft alone would do it: of BLOOM's two uses of one weight, one is trained and the other stays.
    whole = adapters._using_embeddings
    monkeypatch.setattr(adapters, "_using_embeddings", lambda model: {"transformer.word_embeddings": 0})
    loaded = load_model(str(save_tiny(tmp_path / "base", "bloom")))
    model = add_adapter(loaded, AdapterConfig(train_embeddings=True))
    shared = whole(load_model(str(tmp_path / "base")).model)
    assert set(shared) == {"transformer.word_embeddings", "lm_head"}
    with pytest.raises(ModelError, match="lm_head"):
        adapters._check_embeddings(model, "bloom", shared)


def test_output_layer_of_its_own_in_a_model_that_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So mT5 is published: its configuration ties what its weights do not.
    folder = save_tiny(tmp_path / "base", "mt5")
    state = load_file(folder / "model.safetensors")
    state["lm_head.weight"] = torch.randn_like(state["shared.weight"])
    model = AutoModelForSeq2SeqLM.from_pretrained(folder)
    model.lm_head.weight = torch.nn.Parameter(state["lm_head.weight"])
    loaded = LoadedModel(model, Codec(tiny_tokenizer(), True), "mt5")
    head = model.lm_head.weight.detach().clone()
    wrapped = add_adapter(loaded, AdapterConfig(train_embeddings="new"), ROWS)
    optimizer = torch.optim.SGD([weight for weight in wrapped.parameters() if weight.requires_grad], lr=0.5)
    wrapped(input_ids=IDS, labels=IDS).loss.backward()
    optimizer.step()
    with pytest.warns(UserWarning, match="no longer tied"):  # they never were
        merged = wrapped.merge_and_unload()
    assert merged.lm_head.weight is not merged.shared.weight
    assert (merged.lm_head.weight != head).any(dim=1).nonzero().flatten().tolist() == ROWS
    assert not torch.equal(merged.lm_head.weight[ROWS], merged.shared.weight[ROWS])
    loaded.model.lm_head.weight = torch.nn.Parameter(head)
    loaded.model.config.tie_word_embeddings = True
    monkeypatch.setattr(adapters, "version", lambda name: "5.18.0")
    with pytest.raises(ModelError, match=r"the weights differ: .* Set model\.adapter\.merge to true"):
        add_adapter(loaded, AdapterConfig(train_embeddings="new", merge=False), ROWS)


def test_rows_are_those_of_tokens_that_known_languages_do_not_use() -> None:
    tokenizer = tiny_tokenizer()
    rows = [ParallelRow("1", {"eng": "the food", "jav": "panganan food"}), ParallelRow("2", {"eng": "is good"})]
    languages = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
        }
    ).languages
    found = new_language_tokens(tokenizer, Corpus(rows, Counts()), languages)
    encode: Any = tokenizer.encode
    new = {*encode("panganan food"), *encode(" panganan food")}
    known = {token for text in ("the food", " the food", "is good", " is good") for token in encode(text)}
    assert set(found) == new - known
    assert found == sorted(found)
    same = [ParallelRow("1", {"eng": "the food", "jav": "the food"})]
    with pytest.raises(TrainingError, match=r"all \d+ tokens of the new languages"):
        new_language_tokens(tokenizer, Corpus(same, Counts()), languages)


def with_adapter(folder: Path, **adapter: Any) -> Any:
    data = settings(folder, steps=4, keep_checkpoints=5)
    data["model"]["adapter"] = {"r": 4, **adapter}
    return build_config(data, folder=folder)


@pytest.mark.parametrize(
    "adapter",
    [
        {"train_embeddings": "new"},
        {"train_embeddings": True, "rslora": True},
        {"init": "pissa"},
        {"init": "olora", "type": "dora"},
        {"merge": False, "init": "orthogonal", "layers": "last 1"},
    ],
    ids=lambda adapter: "-".join(map(str, adapter.values())),
)
def test_resuming_is_exact_with_every_kind_of_adapter(adapter: dict[str, Any], tmp_path: Path) -> None:
    config = with_adapter(tmp_path, **adapter)
    whole = train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "model")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "checkpoint-4")
    again = train(config, tmp_path / "half")
    name = "model.safetensors" if config.model.adapter.merge else "adapter_model.safetensors"
    first, second = load_file(whole.model / name), load_file(again.model / name)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_rows_move_in_a_whole_run_and_others_do_not(tmp_path: Path) -> None:
    config = with_adapter(tmp_path, train_embeddings="new")
    result = train(config, tmp_path / "run")
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    base, after = weights(tmp_path / "base"), weights(result.model)
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        moved = (base[name] != after[name]).any(dim=1).nonzero().flatten().tolist()
        assert 0 < len(moved) == record["model"]["trained_rows"], name


def test_adapter_kept_apart_is_a_model_of_its_own(tmp_path: Path) -> None:
    merged = train(with_adapter(tmp_path), tmp_path / "merged")
    apart = train(with_adapter(tmp_path, merge=False), tmp_path / "apart")
    assert not (apart.model / "model.safetensors").exists()
    one, other = load_model(str(merged.model)), load_model(str(apart.model))
    assert torch.allclose(logits(one.model), logits(other.model), atol=1e-5)
    assert model_hash(str(apart.model)) != model_hash(str(merged.model))
    before = model_hash(str(apart.model))
    save_tiny(tmp_path / "base", seed=1)
    assert model_hash(str(apart.model)) != before


@pytest.mark.parametrize(("rslora", "scale"), [(False, 8 / 4), (True, 8 / math.sqrt(4))])
def test_scale_of_what_is_added(rslora: bool, scale: float, tmp_path: Path) -> None:
    settings = AdapterConfig(r=4, alpha=8, rslora=rslora, targets=["q_proj"])
    loaded, model = adapted(tmp_path, "llama", settings)
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    parts = dict(model.named_parameters())
    added = scale * parts[f"{name}.lora_B.default.weight"] @ parts[f"{name}.lora_A.default.weight"]
    save_model(model, loaded, settings, tmp_path / "model", fresh=never)
    key = "model.layers.0.self_attn.q_proj.weight"
    assert torch.allclose(weights(tmp_path / "model")[key], weights(tmp_path / "base")[key] + added, atol=1e-6)


@pytest.mark.parametrize("init", ["default", "gaussian", "orthogonal", "pissa", "olora"])
def test_untrained_adapter_changes_nothing(init: Any, tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(tmp_path / "base")))
    before = logits(loaded.model)
    assert torch.allclose(logits(add_adapter(loaded, AdapterConfig(r=4, init=init))), before, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "layers", "changed"),
    [
        ("llama", [0], {"model.layers.0"}),
        ("llama", [-1], {"model.layers.1"}),
        ("llama", "last 1", {"model.layers.1"}),
        ("llama", "last 2", {"model.layers.0", "model.layers.1"}),
        ("bloom", [1], {"transformer.h.1"}),
        ("t5", "last 1", {"encoder.block.1", "decoder.block.1"}),
    ],
)
def test_only_the_chosen_layers_change(family: str, layers: Any, changed: set[str], tmp_path: Path) -> None:
    settings = AdapterConfig(r=4, layers=layers)
    loaded, model = adapted(tmp_path, family, settings)
    save_model(model, loaded, settings, tmp_path / "model", fresh=never)
    before, after = weights(tmp_path / "base"), weights(tmp_path / "model")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert {".".join(name.split(".")[:3]) for name in moved} == changed


@pytest.mark.parametrize(("layers", "said"), [([7], r"\[7\]"), ("last 3", "last 3"), ([-3], r"\[-3\]")])
def test_layers_that_are_not_there(layers: Any, said: str, tmp_path: Path) -> None:
    loaded = load_model(str(save_tiny(tmp_path / "base")))
    with pytest.raises(ModelError, match=rf"layers {said}: 2 of its layers"):
        add_adapter(loaded, AdapterConfig(layers=layers))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers": "first 3"}, "adapter: layers: .*'first 3'"),
        ({"layers": []}, r"adapter: layers: .*\[\]"),
        ({"quantised": True, "init": "pissa"}, "adapter: init: pissa"),
    ],
)
def test_adapters_that_make_no_sense(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        with_adapter(tmp_path, **change)


def test_quantised_base_without_its_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructalign.training.models.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"pip install 'instructalign\[quantised\]'"):
        load_model(str(save_tiny(tmp_path / "base")), quantised=True)


def test_quantised_base_learns_and_is_merged_in_full_precision(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_tiny(tmp_path / "base", width=64)  # it quantises 64 weights at a time
    quantised = train(with_adapter(tmp_path, quantised=True), tmp_path / "four-bits")
    plain = train(with_adapter(tmp_path), tmp_path / "plain")
    one, other, base = weights(quantised.model), weights(plain.model), weights(tmp_path / "base")
    assert one.keys() == base.keys()
    name = "model.layers.0.self_attn.q_proj.weight"
    learnt, rounding = (other[name] - base[name]).norm(), (one[name] - other[name]).norm()
    assert rounding < learnt
    assert torch.equal(one["model.embed_tokens.weight"], base["model.embed_tokens.weight"])
    assert_same_weights(quantised.model, train(with_adapter(tmp_path, quantised=True), tmp_path / "again").model)
