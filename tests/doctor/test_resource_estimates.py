"""Estimates of memory and disk against sums made by hand, against models and against checkpoints on disk."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from instructalign.config import Config
from instructalign.doctor import resource_estimates
from instructalign.doctor.check_examples import SampledExample
from instructalign.doctor.check_tasks import TaskPart, examine_tasks
from instructalign.doctor.check_tokenizer import LanguageTokens
from instructalign.doctor.findings import Findings
from instructalign.doctor.gpu_cards import ASSUMED_MFU, gpu_cards
from instructalign.doctor.resource_estimates import (
    CostPart,
    ModelShape,
    TaskTokens,
    estimate_memory,
    examine_costs,
    judge_rate,
    load_empty,
    operations,
    shape_of,
    tokens_of_tasks,
)
from instructalign.errors import ConfigError
from instructalign.files import format_bytes
from instructalign.mixture.training_data import prepare_data
from instructalign.training.adapters import add_adapter
from instructalign.training.loss import token_losses
from instructalign.training.models import load_codec, load_model
from instructalign.training.train import train
from tiny import ENCODER_DECODER, FAMILIES, save_tiny, tiny_model

Configure = Callable[..., Config]
SAMPLED = [SampledExample("mt", 60, 40, 60, 40, ())] * 100
# BLOOM-560M: 24 layers of 1 024, an inner layer of 4 096, 16 heads without a fused kernel, 250 880 tokens.
BLOOM = ModelShape(layers=24, decoder_layers=0, width=1024, inner=2 * 4096, heads=16, vocabulary=250_880)
P = 559_214_592
PIECE = 1 << 22  # logits that a processor computes at a time


def test_memory_of_full_fine_tuning_by_hand(configure: Configure) -> None:
    config = configure("training.batch_size=32", "training.micro_batch_size=4")
    memory = estimate_memory(config, BLOOM, P, P, 4, SAMPLED, encoder_decoder=False)
    assert memory["weights"] == memory["gradients"] == 4 * P
    assert memory["optimizer"] == 8 * P
    # 16 values of 1 024 for each token and layer, and 2 for each of 16 heads and 100 tokens, 4 bytes each; as many
    # logits as are computed at a time, with 3 float32 values each.
    assert memory["activations"] == 4 * 100 * 24 * (16 * 1024 + 2 * 16 * 100) * 4 + 12 * PIECE


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    # In 8 bits two bytes a weight, but for the embeddings, whose moments stay in float32.
    [("adamw_8bit", 2 * (P - 250_880 * 1024) + 8 * 250_880 * 1024), ("adafactor", 0), ("sgd", 0)],
)
def test_memory_by_optimizer_by_hand(optimizer: str, expected: int, configure: Configure) -> None:
    config = configure(f"training.optimizer={optimizer}")
    memory = estimate_memory(config, BLOOM, P, P, 4, SAMPLED, encoder_decoder=False, embedded=250_880 * 1024)
    assert memory["optimizer"] == expected


def test_memory_with_autocast_and_checkpointing_by_hand(configure: Configure) -> None:
    config = configure(
        "training.precision=bfloat16", "training.gradient_checkpointing=true", "training.loss_on=all"
    )
    memory = estimate_memory(config, BLOOM, P, P, 4, SAMPLED, encoder_decoder=False)
    assert memory["weights"] == 6 * P
    kept = 100 * 24 * 1024 * 2 + 100 * (16 * 1024 + 2 * 16 * 100) * 2
    assert memory["activations"] == 8 * kept + 12 * PIECE


def test_memory_of_an_adapter_and_of_two_stacks_by_hand(configure: Configure) -> None:
    two = ModelShape(layers=2, decoder_layers=3, width=8, inner=64, heads=0, vocabulary=10)
    memory = estimate_memory(configure(), two, 1100, 100, 2, SAMPLED, encoder_decoder=True)
    assert memory == {
        "weights": 2200,
        "gradients": 200,
        "optimizer": 400,
        "activations": 8 * ((2 * 60 * 128 + 3 * (40 * (128 + 4 * 8) + 60 * 2 * 8)) * 2 + 40 * 10 * 12),
    }


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_without_weights_has_its_number_of_them(family: str, configure: Configure, tmp_path: Path) -> None:
    config = configure(f"model.base={save_tiny(tmp_path / 'model', family)}")
    codec = load_codec(config.model)
    empty = load_empty(config, codec)
    whole = sum(weight.numel() for weight in tiny_model(family).parameters())
    assert sum(weight.numel() for weight in empty.model.parameters()) == whole
    shape = shape_of(empty.model, codec.encoder_decoder)
    assert (shape.layers, shape.width) == (2, 32)
    assert shape.decoder_layers == (2 if family in ("t5", "mt5") else 0)
    # The others are gated; mT5 is so, too, and computes its GELU in steps.
    inner = {"bloom": 2 * 128, "gpt_neox": 2 * 64, "t5": 2 * 64, "mt5": 7 * 64}.get(family, 4 * 64)
    assert shape.inner == inner


@pytest.mark.parametrize("family", FAMILIES)
def test_activations_are_about_what_autograd_keeps(family: str, configure: Configure) -> None:
    model = tiny_model(family, width=128).train()
    two = family in ENCODER_DECODER
    ids = torch.arange(8 * 100).reshape(8, 100) % 300 + 2
    prompt, targets = (ids[:, :60], ids[:, 60:]) if two else (ids, ids)
    counted = torch.ones(targets.shape)
    if not two:
        counted[:, :59] = counted[:, 99:] = 0
    batch = {
        "inputs": {"input_ids": prompt},
        "targets": targets,
        "weights": counted,
        "positions": counted.flatten().nonzero()[:, 0],
    }
    own = {weight.untyped_storage().data_ptr() for weight in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        token_losses(model, batch, two)
    memory = estimate_memory(configure(), shape_of(model, two), 0, 0, 4, SAMPLED, two)
    assert memory["activations"] == pytest.approx(
        sum(tensor.untyped_storage().nbytes() for tensor in kept.values()), rel=0.25
    )


def look(config: Config, tmp_path: Path) -> tuple[CostPart | None, Findings]:
    return examine_costs(config, load_codec(config.model), None, SAMPLED, tmp_path)


def test_generated_tokens_of_a_step_are_those_of_new_examples(configure: Configure, tmp_path: Path) -> None:
    part, _ = look(configure(), tmp_path)
    assert part is not None
    assert part.generated == 0
    part, _ = look(configure("training.strategy={replay: , sdft: {tokens: 50}}"), tmp_path)
    assert part is not None
    new = [each for each in SAMPLED if each.kind != "replay"]
    limits = [min(50, 2 * each.kept_answer + 8) for each in new]
    assert part.generated == round(8 * sum(limits) / len(SAMPLED))


def test_adapters_are_counted_as_peft_makes_them(configure: Configure, tmp_path: Path) -> None:
    config = configure("model.adapter={type: dora, r: 4}")
    assert config.model.adapter is not None
    model = add_adapter(load_model(config.model), config.model.adapter)
    part, _ = look(config, tmp_path)
    assert part is not None
    assert part.trained == sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    assert part.memory["gradients"] == 4 * part.trained
    assert operations(config, 10, 2, 5) == 4 * 10 * 5
    assert operations(configure(), 10, 10, 5) == 6 * 10 * 5
    assert operations(configure("training.gradient_checkpointing=true"), 10, 10, 5) == 8 * 10 * 5


def test_disk_is_what_a_run_leaves(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        "training.steps=3", "training.checkpoint_every=1", "training.keep_checkpoints=2", "evaluation.tasks=[]"
    )
    part, _ = look(config, tmp_path)
    run = tmp_path / "run"
    train(config, run)
    written = sum(path.stat().st_size for path in run.rglob("*") if path.suffix in (".pt", ".safetensors"))
    assert part is not None
    # The estimate has room for a third checkpoint while it is written.
    assert part.disk - 3 * 4 * part.parameters == pytest.approx(written, rel=0.1)


def only(findings: Findings, word: str) -> tuple[str, str, str]:
    [finding] = [each for each in findings if word in each.found]
    return finding.level, finding.found, finding.advice


@pytest.mark.parametrize(("available", "level"), [(5_000_000, "problem"), (6_000_000, "warning")])
def test_too_little_memory(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, level: str
) -> None:
    monkeypatch.setattr(resource_estimates, "_available_memory", lambda: available)
    part, findings = look(configure(), tmp_path)
    assert part is not None
    assert 5_000_000 < sum(part.memory.values()) < 6_000_000
    found = only(findings, "memory")
    assert found[0] == level
    assert f"has {format_bytes(available)}" in found[1]
    assert "training.micro_batch_size" in found[2]


def test_too_little_disk(configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage(10, 5, 1000))
    _, findings = look(configure(), tmp_path / "not" / "there")
    level, found, advice = only(findings, "disk")
    assert (level, found.endswith("1 kB are free.")) == ("problem", True)
    assert "training.keep_checkpoints" in advice


@pytest.mark.parametrize(
    ("settings", "level", "word", "advice"),
    [
        (["model.dtype=float16", "training.precision=float16"], "problem", "float16", "model.dtype to float32"),
        (["model.dtype=float16"], "warning", "float16", "model.dtype to float32"),
        (["model.dtype=bfloat16"], "warning", "8 bits", "training.precision to bfloat16"),
        (["training.max_length=4096"], "problem", "reads at most 512", "Lower training.max_length"),
        (["model.adapter={targets: [query]}"], "problem", "Its layers: ", "model.adapter.targets"),
    ],
)
def test_what_a_model_will_not_take(
    configure: Configure, tmp_path: Path, settings: list[str], level: str, word: str, advice: str
) -> None:
    _, findings = look(configure(*settings), tmp_path)
    found = only(findings, word)
    assert found[0] == level
    assert advice in found[2]


def test_a_model_of_no_known_kind(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    codec = load_codec(config.model)
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "config.json").write_text('{"model_type": "abacus"}', encoding="utf-8")
    other = config.model_copy(update={"model": config.model.model_copy(update={"base": str(tmp_path / "odd")})})
    part, findings = examine_costs(other, codec, None, SAMPLED, tmp_path)
    assert part is None
    level, found, advice = only(findings, "cannot be loaded")
    assert (level, advice) == ("problem", "Check model.base.")
    assert "abacus" in found


def test_sizes_are_readable() -> None:
    assert [format_bytes(count) for count in (12, 4200, 5_590_000, 2.5e10, 3.2e12)] == [
        "12 B",
        "4.2 kB",
        "5.59 MB",
        "25 GB",
        "3.2 TB",
    ]


def test_speed_is_measured_only_where_that_is_quick(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    config = configure()
    codec, mixture = load_codec(config.model), prepare_data(config).mixture
    part, _ = examine_costs(config, codec, mixture, SAMPLED, tmp_path)
    assert part is not None
    assert part.tokens == 200 * 8 * 100
    assert part.tokens_per_second is not None
    assert part.seconds == pytest.approx(part.tokens / part.tokens_per_second)
    monkeypatch.setattr(resource_estimates, "_MEASURED_PARAMETERS", 1000)
    part, _ = examine_costs(config, codec, mixture, SAMPLED, tmp_path)
    assert part is not None
    assert (part.seconds, part.tokens_per_second) == (None, None)
    assert part.operations == 6 * part.parameters * part.tokens


def damaged(folder: Path, how: str) -> None:
    weights = folder / "model.safetensors"
    if how == "gone":
        weights.unlink()
    elif how == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    else:
        index = {"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


@pytest.mark.parametrize(
    ("how", "word"),
    [("gone", "contains no weights"), ("cut", "damaged or truncated"), ("part", "model-2.safetensors")],
)
def test_weights_that_are_not_whole(configure: Configure, tmp_path: Path, how: str, word: str) -> None:
    damaged(save_tiny(tmp_path / "model"), how)
    part, findings = look(configure(f"model.base={tmp_path / 'model'}"), tmp_path)
    assert part is not None
    level, _, advice = only(findings, word)
    assert (level, "model.base" in advice) == ("problem", True)


def test_a_step_that_fails_or_has_no_loss(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model("llama")
    model.get_output_embeddings().weight.data.fill_(float("nan"))
    model.save_pretrained(save_tiny(tmp_path / "model"))
    config = configure(f"model.base={tmp_path / 'model'}")
    codec, mixture = load_codec(config.model), prepare_data(config).mixture
    _, findings = examine_costs(config, codec, mixture, SAMPLED, tmp_path)
    assert only(findings, "the loss of")[:2] == (
        "problem",
        f"the loss of {tmp_path / 'model'} is nan in training step 1.",
    )

    def fails(*_: object) -> torch.Tensor:
        raise RuntimeError("shapes do not fit\nmore lines")

    monkeypatch.setattr("instructalign.doctor.resource_estimates.ChunkedLoss.__call__", fails)
    _, findings = examine_costs(config, codec, mixture, SAMPLED, tmp_path)
    level, found, advice = only(findings, "a training step of")
    assert (level, found.endswith("fails: shapes do not fit")) == ("problem", True)
    assert "model.dtype" in advice


# -- evaluation, cards that are not here, learning rates


def test_characters_of_tasks_by_hand(configure: Configure) -> None:
    parts, _, findings = examine_tasks(configure(), None, None)
    assert not [each for each in findings if each.level != "ok"]
    # Eight items of 12 characters in each language, `\nGood or bad?` of 13, and the words good and bad.
    assert parts[0].read == dict.fromkeys(["eng", "jav", "mad"], 8 * (12 + 13 + 7))
    assert (parts[0].questions, parts[0].written) == (dict.fromkeys(["eng", "jav", "mad"], 8), {})


def test_characters_of_translations_by_hand(configure: Configure) -> None:
    config = configure("evaluation.tasks=[heldout_translation]", "evaluation.items=4", "evaluation.prompts=[en-1]")
    rows = prepare_data(config).heldout
    [part], _, _ = examine_tasks(config, rows, None)
    assert part.questions == {"eng": 4, "jav": 4}
    english = {row.texts["eng"]: len(row.texts["jav"]) for row in rows}
    stretch = 1.2 * max(there / len(text) for text, there in english.items())
    assert 0 < part.written["jav"] <= stretch * 4 * max(map(len, english))
    assert part.written["jav"] > 4 * min(map(len, english))


def rate_of(language: str, per_character: float) -> LanguageTokens:
    return LanguageTokens(language, "L1", "corpus", 1, 1, 1, 1, 1.0, per_character, None, None, 0, 0, 0)


def test_tokens_of_tasks_by_hand() -> None:
    part = TaskPart("t", {}, {"eng": 2}, (), {}, {"eng": 2, "mad": 1}, {"eng": 100, "mad": 30}, {"jav": 50})
    [found] = tokens_of_tasks([part], [rate_of("eng", 0.2), rate_of("jav", 0.4)], around=10)
    assert found.read == {"eng": 20 + 20, "mad": 9 + 10}  # Madurese at the mean, 0.3
    assert found.written == {"jav": 20}


def test_evaluation_longer_than_training_is_said(
    configure: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource_estimates, "measure_speed", lambda *_: 1000.0)
    config = configure()
    codec, mixture = load_codec(config.model), prepare_data(config).mixture
    tasks = (TaskTokens("small", {"eng": 300}, {}), TaskTokens("large", {"eng": 30_000}, {"jav": 90_000}))
    part, findings = examine_costs(config, codec, mixture, SAMPLED, tmp_path, tasks)
    assert part is not None
    assert part.seconds == 160  # 200 steps of 8 examples of 100 tokens
    assert part.evaluation_seconds == pytest.approx(
        30_300 / 3000 + 90
    )  # reading takes a third of a training step's
    level, found, advice = only(findings, "longer than training")
    assert (level, found.endswith("most of it large.")) == ("warning", True)
    assert "evaluation.items" in advice
    _, findings = examine_costs(config, codec, mixture, SAMPLED, tmp_path, tasks[:1])
    assert not [each for each in findings if "longer than training" in each.found]


def test_costs_on_cards_are_computed_from_their_data_sheets(configure: Configure, tmp_path: Path) -> None:
    config = configure("training.precision=bfloat16")
    codec = load_codec(config.model)
    one, eight = (
        examine_costs(config, codec, None, SAMPLED, tmp_path, gpu=gpu_cards(name))[0]
        for name in ("h100", "8xH100")
    )
    assert one is not None
    assert eight is not None
    assert (one.available, eight.gpu) == (80 * 10**9, "8 x NVIDIA H100 SXM")
    assert eight.memory["optimizer"] == -(-one.memory["optimizer"] // 8)
    assert eight.memory["activations"] == one.memory["activations"]
    # A toy has so little to compute that three passes a step, of 0.03 s, take longer.
    assert one.seconds == eight.seconds == pytest.approx(200 * 3 * 0.03)
    card = gpu_cards("h100")
    assert card.computing_seconds(989e12, "bfloat16", passes=1) == pytest.approx(1 / ASSUMED_MFU)
    assert card.computing_seconds(989e12, "float32", passes=1) == pytest.approx(989 / 67 / ASSUMED_MFU)
    # Twice 1.675 GB at 3.35 TB/s are 1 ms, so that passes are the limit; 335 GB take 100 ms.
    assert card.writing_seconds(640, 64, 1.675e9) == pytest.approx(10 * 0.03)
    assert card.writing_seconds(640, 64, 335e9) == pytest.approx(10 * 0.1)


def test_a_card_that_does_not_exist_or_fit(configure: Configure, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'h10' .*Did you mean 'h100'"):
        gpu_cards("h10")
    config = configure("training.precision=bfloat16")
    codec = load_codec(config.model)
    _, findings = examine_costs(config, codec, None, SAMPLED, tmp_path, gpu=gpu_cards("t4"))
    assert only(findings, "bfloat16")[0] == "warning"
    _, findings = examine_costs(config, codec, None, SAMPLED, tmp_path, gpu=gpu_cards("3xl4"))
    assert only(findings, "multiple of the number of processes")[0] == "problem"


def test_memory_of_weights_in_four_bits_by_hand(configure: Configure) -> None:
    memory = estimate_memory(configure(), BLOOM, 1000, 10, 2, SAMPLED, False, in_four_bits=800)
    assert memory["weights"] == 200 * 2 + round(800 * 4.127 / 8)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (["training.learning_rate=1e-4", "training.warmup=6"], ""),
        (["training.learning_rate=1e-3", "training.warmup=6"], "learning_rate is 0.001"),
        (["training.learning_rate=1e-5", "training.warmup=6"], "learning_rate is 1e-05"),
        (["training.learning_rate=1e-5", "training.warmup=6", "model.adapter={r: 4}"], "low-rank adapter"),
        (["training.learning_rate=1e-3", "training.warmup=6", "model.adapter={r: 4}"], ""),
        (["training.learning_rate=1e-4"], "no warmup"),
        (["training.learning_rate=0.5", "training.optimizer=sgd"], ""),
    ],
)
def test_learning_rates_far_from_the_usual(configure: Configure, settings: list[str], word: str) -> None:
    findings = Findings("costs")
    judge_rate(configure(*settings), 135_000_000, findings)
    assert [each.level for each in findings] == (["warning"] if word else [])
    assert all(word in each.found for each in findings)
    if word == "no warmup":
        assert "training.warmup to about 6 steps" in findings[0].advice
