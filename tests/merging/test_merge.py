"""Merging of saved models: what is written, what is refused, and which alpha is chosen."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, ModelError, RunFolderError
from instructalign.merging import merge, weight_merging
from instructalign.merging.coefficient_search import HeldOutScore, choose_alpha, shortfalls
from instructalign.merging.weight_merging import merge_weight
from tiny import ENCODER_DECODER, save_tiny

BASE = torch.tensor([1.0, 2.0, 3.0, 4.0])
ONE = torch.tensor([2.0, 2.0, 1.0, 4.5])  # deltas 1, 0, -2, 0.5
OTHER = torch.tensor([0.0, 6.0, 0.0, 5.0])  # deltas -1, 4, -3, 1


def test_interpolation_by_hand_and_its_ends() -> None:
    assert merge_weight(BASE, [ONE], [1.0], 0.25, torch.float32).tolist() == [1.25, 2.0, 2.5, 4.125]
    odd = torch.tensor([0.1, 0.7, -1e-7, 123456.7])
    for alpha, expected in ((0.0, BASE), (1.0, odd)):
        assert torch.equal(merge_weight(BASE, [odd], [1.0], alpha, torch.float32), expected)


def test_task_arithmetic_by_hand() -> None:
    both = [ONE, OTHER]
    assert merge_weight(BASE, both, [0.5, 0.5], 1.0, torch.float32).tolist() == [1.0, 4.0, 0.5, 4.75]
    assert merge_weight(BASE, both, [1.0, 2.0], 0.5, torch.float32).tolist() == [0.5, 6.0, -1.0, 5.25]


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    base, one, other = (torch.randn(7, 11, generator=generator) for _ in range(3))
    whole = merge_weight(base, [one, other], [0.4, 0.6], 0.7, torch.float32)
    monkeypatch.setattr(weight_merging, "_BLOCK", 5)
    assert torch.equal(whole, merge_weight(base, [one, other], [0.4, 0.6], 0.7, torch.float32))


def test_half_precision_is_computed_in_full() -> None:
    base, one = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)
    assert merge_weight(base, [one], [1.0], 0.5, torch.float32).tolist() == [1.00390625]
    assert merge_weight(base, [one], [1.0], 1.0, torch.bfloat16).tolist() == [1.0078125]


def pair(folder: Path, family: str = "llama") -> tuple[Path, Path]:
    return save_tiny(folder / "base", family), save_tiny(folder / "adapted", family, seed=1)


def loaded(folder: Path, family: str = "llama") -> dict[str, torch.Tensor]:
    factory: Any = AutoModelForSeq2SeqLM if family in ENCODER_DECODER else AutoModelForCausalLM
    return {name: weight.detach() for name, weight in factory.from_pretrained(folder).named_parameters()}


@pytest.mark.parametrize("family", ["llama", "qwen2", "bloom", "mt5"])
def test_a_part_of_the_way_from_the_base(family: str, tmp_path: Path) -> None:
    base, adapted = pair(tmp_path, family)
    result = merge(base, [adapted], tmp_path / "out", alphas=[0.25])
    one, other, ours = (loaded(path, family) for path in (base, adapted, result.folder))
    assert ours.keys() == one.keys()
    for name, weight in ours.items():
        assert torch.allclose(weight, 0.75 * one[name] + 0.25 * other[name], atol=1e-7), name
    record = json.loads((result.folder / "merge.json").read_text(encoding="utf-8"))
    assert record["alpha"] == 0.25
    assert record["adapted"][0]["name"] == str(adapted)
    assert record["base"]["hash"] != record["adapted"][0]["hash"]
    assert not list(tmp_path.glob(".*"))


def test_several_adaptations_are_added_up(tmp_path: Path) -> None:
    base, one = pair(tmp_path)
    other = save_tiny(tmp_path / "other", seed=2)
    merge(base, [one, other], tmp_path / "out", weights=[0.5, 0.25])
    b, x, y, ours = (loaded(path) for path in (base, one, other, tmp_path / "out"))
    for name, weight in ours.items():
        assert torch.allclose(weight, b[name] + 0.5 * (x[name] - b[name]) + 0.25 * (y[name] - b[name]), atol=1e-6)


def test_files_are_written_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base, adapted = pair(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(adapted)
    (adapted / "model.safetensors").unlink()
    model.save_pretrained(adapted, max_shard_size="20KB")
    names = {path.name for path in adapted.glob("*.safetensors")}
    assert len(names) > 3
    held = []
    save = weight_merging.save_file

    def watched(tensors: dict[str, torch.Tensor], *rest: Any, **more: Any) -> None:
        held.append(sum(tensor.nbytes for tensor in tensors.values()))
        save(tensors, *rest, **more)

    monkeypatch.setattr(weight_merging, "save_file", watched)
    merge(base, [adapted], tmp_path / "out", alphas=[0.5])
    assert {path.name for path in (tmp_path / "out").glob("*.safetensors")} == names
    assert max(held) <= max(path.stat().st_size for path in adapted.glob("*.safetensors"))
    one, other, ours = (loaded(path) for path in (base, adapted, tmp_path / "out"))
    assert all(torch.allclose(ours[name], (one[name] + other[name]) / 2, atol=1e-7) for name in one)


@pytest.mark.parametrize("family", ["bloom", "qwen2"])
def test_names_without_the_prefix_and_tied_weights_saved_twice(family: str, tmp_path: Path) -> None:
    base, adapted = pair(tmp_path, family)
    expected = merge(base, [adapted], tmp_path / "expected", alphas=[0.5]).folder
    prefix = "transformer." if family == "bloom" else "model."
    weights = {name.removeprefix(prefix): w for name, w in load_file(base / "model.safetensors").items()}
    embedding = next(name for name in weights if "embed" in name and name.endswith("weight"))
    weights["lm_head.weight"] = weights[embedding].clone()
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    merge(base, [adapted], tmp_path / "out", alphas=[0.5])
    one, other = loaded(expected, family), loaded(tmp_path / "out", family)
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_types_are_those_of_the_adapted_model(tmp_path: Path) -> None:
    base, adapted = pair(tmp_path)
    AutoModelForCausalLM.from_pretrained(base).to(torch.bfloat16).save_pretrained(base)
    merge(base, [adapted], tmp_path / "out", alphas=[1.0])
    one, other = (load_file(path / "model.safetensors") for path in (adapted, tmp_path / "out"))
    assert all(torch.equal(one[name], other[name]) and one[name].dtype == torch.float32 for name in one)


# What does not fit together


def rewrite(folder: Path, change: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def test_other_kinds_tying_and_vocabularies_are_refused(tmp_path: Path) -> None:
    base, adapted = pair(tmp_path)
    bloom = save_tiny(tmp_path / "bloom", "bloom")
    with pytest.raises(ModelError, match=r"llama .*bloom"):
        merge(bloom, [adapted], tmp_path / "out")
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    (base / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": True}), encoding="utf-8")
    with pytest.raises(ModelError, match=r"base ties .*tie_word_embeddings"):
        merge(base, [adapted], tmp_path / "out")
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    words = json.loads((adapted / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = words["model"]["vocab"]
    vocabulary["Ġx"], vocabulary["Ġthe"] = vocabulary["Ġthe"], len(vocabulary)
    (adapted / "tokenizer.json").write_text(json.dumps(words), encoding="utf-8")
    with pytest.raises(ModelError, match=r"2 tokens, .*'Ġthe'"):
        merge(base, [adapted], tmp_path / "out")


def test_shapes_types_and_missing_weights_are_refused(tmp_path: Path) -> None:
    base, adapted = pair(tmp_path)
    whole = (base / "model.safetensors").read_bytes()
    name = "model.embed_tokens.weight"
    rewrite(base, lambda weights: weights.update({name: weights[name][:-1].clone()}))
    with pytest.raises(ModelError, match=rf"{name} .*\[\d+, 32\] .*vocabulary"):
        merge(base, [adapted], tmp_path / "out")
    (base / "model.safetensors").write_bytes(whole)
    rewrite(base, lambda weights: weights.update({name: weights[name].to(torch.int8)}))
    with pytest.raises(ModelError, match=rf"{name} .*F32 .*I8"):
        merge(base, [adapted], tmp_path / "out")
    (base / "model.safetensors").write_bytes(whole)
    rewrite(base, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"base lacks model\.norm\.weight, which .* has"):
        merge(base, [adapted], tmp_path / "out")
    (base / "model.safetensors").write_bytes(whole)
    rewrite(adapted, lambda weights: weights.pop("model.norm.weight"))
    with pytest.raises(ModelError, match=r"base has model\.norm\.weight, which .* lacks"):
        merge(base, [adapted], tmp_path / "out")
    (base / "model.safetensors").write_bytes(whole[:200])
    with pytest.raises(ModelError, match=r"model\.safetensors cannot be read"):
        merge(base, [adapted], tmp_path / "out")


def test_folders_that_hold_no_whole_model_are_refused(tmp_path: Path) -> None:
    base, adapted = pair(tmp_path)
    (adapted / "model.safetensors").rename(adapted / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"model\.safetensors \(found: .*pytorch_model\.bin"):
        merge(base, [adapted], tmp_path / "out")
    (adapted / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"adapter_config\.json.* model\.adapter\.merge: true"):
        merge(base, [adapted], tmp_path / "out")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "cat.jpg").write_bytes(b"")
    with pytest.raises(RunFolderError, match=r"photos .*\(found: cat\.jpg\)"):
        merge(base, [base], photos)
    assert (photos / "cat.jpg").exists()


def test_wrong_arguments_are_refused_together_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        merge("nowhere", ["x", "y"], tmp_path / "out", alphas=[0.5, 1.5, -0.1], weights=[1.0], keep=-1)
    found = [(problem.partition(":")[0], problem.rpartition(" ")[2]) for problem in caught.value.problems]
    assert found[:4] == [("--alpha", "1.5"), ("--alpha", "-0.1"), ("--weights", "1"), ("--keep", "-1")]
    assert found[4][0] == "--alpha"
    assert len(found) == 5


# Which alpha


def test_rule_takes_the_most_on_new_languages_that_keeps_the_known_ones() -> None:
    scores = {0.3: HeldOutScore(0.80, 0.50), 0.5: HeldOutScore(0.79, 0.60), 0.7: HeldOutScore(0.70, 0.70)}
    assert choose_alpha(scores, HeldOutScore(0.80, 0.4), keep=0.01) == 0.5
    assert choose_alpha(scores, HeldOutScore(0.80, 0.4), keep=0.0) == 0.3
    assert choose_alpha(scores, HeldOutScore(0.80, 0.4), keep=0.2) == 0.7
    assert choose_alpha(scores, HeldOutScore(0.95, 0.4), keep=0.01) == 0.3
    assert choose_alpha({0.5: HeldOutScore(1, 0.5), 0.3: HeldOutScore(1, 0.5)}, HeldOutScore(1, 0), keep=0) == 0.3


def test_says_where_the_chosen_alpha_falls_short() -> None:
    scores = {0.3: HeldOutScore(0.7845, 0.5), 0.5: HeldOutScore(0.7, 0.6)}
    assert shortfalls(scores, HeldOutScore(0.79, 0.4), keep=0.01) == []
    [lost] = shortfalls(scores, HeldOutScore(0.80, 0.4), keep=0.01)
    assert all(word in lost for word in ("L1", "0.01", "0.3 ", "0.0155"))
    [nothing_gained] = shortfalls(scores, HeldOutScore(0.79, 0.6), keep=0.01)
    assert "no alpha" in nothing_gained
    assert "L2" in nothing_gained
    [chosen_gains_nothing] = shortfalls(scores, HeldOutScore(0.79, 0.5), keep=0.01)
    assert chosen_gains_nothing.startswith("alpha 0.3")
    assert len(shortfalls(scores, HeldOutScore(0.9, 0.9), keep=0.01)) == 2


def test_another_merge_is_not_overwritten(tmp_path: Path) -> None:
    base, adapted = pair(tmp_path)
    merge(base, [adapted], tmp_path / "out", alphas=[0.5])
    written = (tmp_path / "out" / "merge.json").stat().st_mtime_ns
    assert merge(base, [adapted], tmp_path / "out", alphas=[0.5]).alpha == 0.5
    assert (tmp_path / "out" / "merge.json").stat().st_mtime_ns == written
    for others in ({"alphas": [0.3]}, {"alphas": [0.5], "weights": [0.9]}):
        with pytest.raises(RunFolderError, match=r"out .*different: "):
            merge(base, [adapted], tmp_path / "out", **others)
    with pytest.raises(RunFolderError, match=r"different: alpha \(0\.5 there, .*alphas .*config .*keep "):
        merge(base, [adapted], tmp_path / "out", alphas=[0.5], config=choosing(tmp_path, []))


def choosing(folder: Path, tasks: list[str], **blocks: Any) -> Any:
    """A configuration on the toy family, whose base is the adapted model as well."""
    data = {
        "model": {"base": "toy"},
        "languages": {"known": ["qka", "qkb"], "new": ["qna"], "names": {"qka": "A", "qkb": "B", "qna": "N"}},
        "corpora": [{"format": "toy", "rows": 40}],
        "instructions": {"heldout": 10, "templates": ["toy"]},
        "replay": {"source": {"format": "toy", "rows": 300}, "size": 20},
        "training": {"steps": 1, "batch_size": 4},
        "evaluation": {"tasks": tasks, "items": 6},
        **blocks,
    }
    return build_config(data, folder=folder)


def other_toy(folder: Path) -> Path:
    """The toy base with its output layer disturbed."""
    from instructalign.plugins import toy_base

    shutil.copytree(toy_base(), folder)
    generator = torch.Generator().manual_seed(0)

    def disturb(weights: dict[str, torch.Tensor]) -> None:
        for name in weights:
            weight = weights[name].float()
            noise = torch.randn(weight.shape, generator=generator) * weight.std().nan_to_num(0)
            weights[name] = (weight + noise).to(weights[name].dtype)

    rewrite(folder, disturb)
    return folder


@pytest.mark.parametrize("tasks", [["toy_sentiment"], []], ids=["tasks", "loss"])
def test_best_alpha_is_chosen_on_held_out_data(tasks: list[str], tmp_path: Path) -> None:
    adapted = other_toy(tmp_path / "noisy")
    config = choosing(tmp_path, tasks)
    result = merge("toy", [adapted], tmp_path / "out", alphas=[0.05, 1.0], config=config)
    assert result.scores.keys() == {0.05, 1.0}
    assert result.base is not None
    assert result.scores[1.0].known < result.base.known - 0.01
    record = json.loads((result.folder / "merge.json").read_text(encoding="utf-8"))
    assert record["alpha"] == result.alpha == 0.05
    assert record["scores"]["1.0"] == {"known": result.scores[1.0].known, "new": result.scores[1.0].new}
    wanted = "validation data of toy_sentiment" if tasks else "unselected replay examples"
    assert wanted in record["by"]
    assert not list(tmp_path.glob(".*"))


def test_loss_without_replay_data_is_that_of_known_sentences(tmp_path: Path) -> None:
    adapted = other_toy(tmp_path / "noisy")
    config = choosing(tmp_path, [], replay=None, training={"steps": 1, "strategy": "none"})
    result = merge("toy", [adapted], tmp_path / "out", alphas=[0.5], config=config)
    assert "held-out sentences in the known languages" in result.criterion
    config = choosing(tmp_path, [], instructions={"heldout": 0, "templates": ["toy"]})
    with pytest.raises(ConfigError, match=r"instructions\.heldout: "):
        merge("toy", [adapted], tmp_path / "other", alphas=[0.5], config=config)


def test_an_interrupted_choice_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    adapted, config = other_toy(tmp_path / "noisy"), choosing(tmp_path, [])
    from instructalign.merging import coefficient_search

    measured: list[str] = []

    def stick(*_: Any) -> Any:
        def measure(model: str, folder: Path) -> HeldOutScore:
            measured.append(folder.name)
            if folder.name == "0.7" and measured.count("0.7") == 1:
                raise KeyboardInterrupt
            return HeldOutScore(1.0, len(measured))

        return coefficient_search.Criterion("a test", measure)

    monkeypatch.setattr(coefficient_search, "criterion_of", stick)
    with pytest.raises(KeyboardInterrupt):
        merge("toy", [adapted], tmp_path / "out", alphas=[0.3, 0.7], config=config)
    assert not (tmp_path / "out").exists()
    assert merge("toy", [adapted], tmp_path / "out", alphas=[0.3, 0.7], config=config).alpha == 0.7
    assert measured == ["base", "0.3", "0.7", "0.7"]
    again = merge("toy", [adapted], tmp_path / "out", alphas=[0.3, 0.7], config=config)
    assert (again.alpha, again.base) == (0.7, HeldOutScore(1.0, 1))
    assert again.scores == {0.3: HeldOutScore(1.0, 2), 0.7: HeldOutScore(1.0, 4)}
    assert measured == ["base", "0.3", "0.7", "0.7"]
    with pytest.raises(RunFolderError, match=r"different: keep \(0\.01 there, 0\.5 here\)\."):
        merge("toy", [adapted], tmp_path / "out", alphas=[0.3, 0.7], config=config, keep=0.5)


def test_validation_items_are_no_test_items(tmp_path: Path) -> None:
    from instructalign.evaluation.task_items import read_items
    from instructalign.evaluation.tasks import load_task

    for name in ("toy_sentiment", "toy_topic"):
        task: Any = load_task(name)
        both = (task, task.on_validation())
        texts = [{item.fields["text"] for item in read_items(each, "qka", tmp_path)} for each in both]
        assert len(texts[0]) == len(texts[1]) == 200
        assert not texts[0] & texts[1]


def test_command_prints_every_alpha(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from typer.testing import CliRunner

    from instructalign.cli import app

    adapted = other_toy(tmp_path / "noisy")
    (tmp_path / "config.yaml").write_text(choosing(tmp_path, []).to_yaml(), encoding="utf-8")
    arguments = ["merge", "toy", str(adapted), "--alpha", "0.1,0.9", "--config", str(tmp_path / "config.yaml")]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert "alpha 0.1" in done.output
    assert (tmp_path / "out" / "config.json").is_file()
    for option, value, found in (("--alpha", "0.3;0.5", r"0\.3;0\.5"), ("--method", "ties", r"chat-vector\.md")):
        with pytest.raises(ConfigError, match=rf"{option}: .*{found}"):
            CliRunner().invoke(app, ["merge", "toy", "x", option, value, "--out", "y"], catch_exceptions=False)
