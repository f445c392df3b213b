"""Each strategy against a case computed by hand, by plain torch or by plain transformers."""

from __future__ import annotations

import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from scipy.stats import chisquare
from test_train import configure, settings

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, TrainingError
from instructalign.mixture.training_data import prepare_data
from instructalign.plugins import STRATEGIES
from instructalign.randomness import Draws, digest_key
from instructalign.training.adapters import add_adapter
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, StepBatches
from instructalign.training.loss import target_logits
from instructalign.training.models import load_model
from instructalign.training.strategies import Strategy, StrategyContext, make_strategies
from instructalign.training.strategies.agem import AGEM
from instructalign.training.strategies.calibration_examples import calibration_examples, halves, known_sentences
from instructalign.training.strategies.distil import Distil
from instructalign.training.strategies.ema import EMA
from instructalign.training.strategies.ewc import EWC, sample_tokens, squared_gradient
from instructalign.training.strategies.freeze import Freeze, layer_stacks
from instructalign.training.strategies.interpolate import Interpolate
from instructalign.training.strategies.l2sp import L2SP
from instructalign.training.strategies.sdft import SDFT, token_kl
from instructalign.training.strategies.ssu import SourceShielded
from instructalign.training.strategies.teacher_cache import top_k_kl, top_k_log_probs
from tiny import tiny_model

LORA = {"type": "lora", "r": 2, "alpha": 4, "targets": "all-linear"}


def prepared(
    folder: Path, family: str = "llama", adapter: Any = None, changes: Any = None, **training: Any
) -> StrategyContext:
    """What a run would give its strategies, on a tiny corpus and a tiny model."""
    data = settings(folder, family, **{"steps": 2, "micro_batch_size": 4, "strategy": "replay", **training})
    data |= changes or {}
    data["model"]["adapter"] = adapter
    config = build_config(data, folder=folder)
    loaded = load_model(config.model)
    model = add_adapter(loaded, config.model.adapter) if config.model.adapter else loaded.model
    built = prepare_data(config)
    encoder = ExampleEncoder(loaded.codec, config.training.max_length)
    batches = StepBatches(
        built.mixture, encoder, batch_size=8, limits=MicroBatchLimits(rows=4, overhead=1000), weights=LossWeights()
    )
    return StrategyContext(config, loaded, model, built, batches, folder=folder, run_hash="test")


def disturb(model: torch.nn.Module, seed: int = 1, size: float = 0.05) -> None:
    """Moves every trained weight a little, as training would."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight += size * torch.randn(weight.shape, generator=generator)


def copies(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


# L2-SP


def test_l2sp_gradient_is_the_weighted_distance_from_the_base(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    base = copies(context.model)
    strategy = L2SP(weight=0.3)
    strategy.prepare(context)
    disturb(context.model)
    penalty = strategy.penalty(context.model)
    assert penalty is not None
    moved = copies(context.model)
    distance = sum(float((moved[name] - base[name]).double().square().sum()) for name in base)
    assert penalty.item() == pytest.approx(0.15 * distance, rel=1e-5)
    penalty.backward()  # type: ignore[no-untyped-call]
    for name, weight in context.model.named_parameters():
        assert torch.allclose(weight.grad, 0.3 * (weight - base[name]), atol=1e-7), name


def test_l2sp_under_lora_is_that_of_the_merged_weights(tmp_path: Path) -> None:
    context = prepared(tmp_path, adapter=LORA)
    base = copies(tiny_model("llama"))
    strategy = L2SP(weight=2.0)
    strategy.prepare(context)
    assert strategy.penalty(context.model) == 0
    disturb(context.model)
    penalty = strategy.penalty(context.model)
    assert penalty is not None
    penalty.backward()  # type: ignore[no-untyped-call]
    layer = context.model.base_model.model.model.layers[1].mlp.up_proj
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    # d/dB |s B A|² = 2 s² B A Aᵀ, with s = alpha / r = 2 and weight / 2 = 1.
    assert torch.allclose(b.grad, 2 * 4 * b @ a @ a.T, atol=1e-5)
    merged = copies(context.model.merge_and_unload())
    distance = sum(float((merged[name] - base[name]).square().sum()) for name in base)
    assert penalty.item() == pytest.approx(distance, rel=1e-4)


# EWC


def test_ewc_penalty_and_gradient_by_hand(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    base = copies(context.model)
    strategy = EWC(weight=10.0, examples=3, fisher="empirical")
    strategy.prepare(context)
    fisher = strategy._fisher
    assert fisher.keys() == base.keys()
    disturb(context.model)
    now = copies(context.model)
    penalty = strategy.penalty(context.model)
    assert penalty is not None
    by_hand = sum(float((fisher[n] * (now[n] - base[n]) ** 2).double().sum()) for n in base)
    assert penalty.item() == pytest.approx(5 * by_hand, rel=1e-5)
    penalty.backward()  # type: ignore[no-untyped-call]
    for name, weight in context.model.named_parameters():
        assert torch.allclose(weight.grad, 10 * fisher[name] * (now[name] - base[name]), atol=1e-6), name


def test_empirical_fisher_is_the_mean_squared_gradient_of_plain_transformers(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    strategy = EWC(examples=3, fisher="empirical")
    strategy.prepare(context)
    model, expected = tiny_model("llama"), Counter[str]()
    for example in calibration_examples(context, "replay", 3):
        encoded = context.batches.encoder(example)
        ids = torch.tensor([encoded.prompt + encoded.answer])
        labels = ids.clone()
        labels[:, : len(encoded.prompt)] = -100
        model.zero_grad()
        (model(input_ids=ids, labels=labels).loss * len(encoded.answer)).backward()
        for name, weight in model.named_parameters():
            expected[name] = expected[name] + weight.grad.square() / 3
    for name, value in strategy._fisher.items():
        assert torch.allclose(value, torch.as_tensor(expected[name]), rtol=1e-3, atol=1e-6), name


def test_fisher_under_an_adapter_is_that_of_the_base(tmp_path: Path) -> None:
    whole, adapted = EWC(examples=4), EWC(examples=4)
    whole.prepare(prepared(tmp_path / "whole"))
    context = prepared(tmp_path / "lora", adapter=LORA)
    adapted.prepare(context)
    assert not any(weight.requires_grad for n, weight in context.model.named_parameters() if "lora_" not in n)
    assert len(adapted._fisher) == 14
    for name, value in adapted._fisher.items():
        plain = whole._fisher[f"{name.removeprefix('base_model.model.')}.weight"]
        assert torch.allclose(value, plain, rtol=1e-3, atol=1e-7), name


def test_tokens_are_drawn_from_the_models_prediction() -> None:
    logits = torch.tensor([[0.0, 1.0, -float("inf"), 2.0]]).repeat(4000, 1)
    tokens = sample_tokens(logits, Draws(digest_key(3, "test"), 0))
    counts = torch.bincount(tokens, minlength=4).tolist()
    assert counts[2] == 0
    expected = (4000 * logits[0].double().softmax(dim=-1)).tolist()
    assert chisquare([counts[i] for i in (0, 1, 3)], [expected[i] for i in (0, 1, 3)]).pvalue > 0.01
    again = sample_tokens(logits, Draws(digest_key(3, "test"), 0))
    assert torch.equal(tokens, again)


def test_true_fisher_converges_to_the_expectation_over_all_tokens(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    [batch] = context.encoded(calibration_examples(context, "known", 1))
    batch["positions"] = batch["positions"][:1]  # one position
    norm = {"norm": context.model.model.norm.weight}
    logs = target_logits(context.model, batch, False).float().log_softmax(dim=-1)[0]
    rows = torch.stack([torch.autograd.grad(log, norm["norm"], retain_graph=True)[0] for log in logs])
    exact = (logs.exp()[:, None] * rows.square()).sum(dim=0)
    key, count = digest_key(0, "test"), 1500
    draws = [squared_gradient(context.model, batch, False, norm, Draws(key, i))["norm"] for i in range(count)]
    spread = torch.stack(draws).std(dim=0) / count**0.5
    assert ((torch.stack(draws).mean(dim=0) - exact).abs() < 4.5 * spread).all()


# Distillation


def test_divergence_over_the_whole_vocabulary_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    base, model = (3 * torch.randn(50, 37, generator=generator) for _ in range(2))
    model.requires_grad_()
    ours = top_k_kl(top_k_log_probs(base, 37), model)
    plain = F.kl_div(model.log_softmax(-1), base.log_softmax(-1), reduction="none", log_target=True).sum(-1)
    assert torch.allclose(ours, plain, atol=1e-6)
    [gradient] = torch.autograd.grad(ours.sum(), model)
    assert torch.allclose(gradient, model.softmax(-1) - base.softmax(-1), atol=1e-6)


@pytest.mark.parametrize("kept", [1, 5, 36])
def test_mass_of_the_other_tokens_counts_as_one(kept: int) -> None:
    generator = torch.Generator().manual_seed(1)
    base, model = (3 * torch.randn(50, 37, generator=generator, dtype=torch.float64) for _ in range(2))
    order = base.argsort(dim=-1, descending=True)
    joined = []
    for logits in (base, model):
        sorted_ = logits.softmax(-1).gather(-1, order)
        joined.append(torch.cat([sorted_[:, :kept], sorted_[:, kept:].sum(-1, keepdim=True)], dim=-1))
    plain = F.kl_div(joined[1].log(), joined[0], reduction="none").sum(-1)
    ours = top_k_kl(top_k_log_probs(base, kept), model)
    assert torch.allclose(ours, plain, atol=1e-6)
    whole = F.kl_div(model.log_softmax(-1), base.softmax(-1), reduction="none").sum(-1)
    assert (ours <= whole + 1e-6).all()
    assert top_k_kl(top_k_log_probs(base, kept), base).abs().max() < 1e-6


@pytest.mark.parametrize("family", ["llama", "mt5"])
@pytest.mark.parametrize("on", ["replay", "new", "all"])
def test_distillation_of_cached_predictions(family: str, on: Any, tmp_path: Path) -> None:
    context = prepared(tmp_path, family)
    strategy = Distil(weight=0.7, on=on, temperature=2.0, top_k=1000)
    strategy.prepare(context)
    base = tiny_model(family)
    disturb(context.model)
    seen = set()
    for batch in (*context.batches[0], *context.batches[1]):
        logits = target_logits(context.model, batch, context.loaded.encoder_decoder)
        ours = strategy.token_loss(context.model, batch, logits)
        with torch.no_grad():
            taught = target_logits(base, batch, context.loaded.encoder_decoder)
        plain = F.kl_div((logits / 2).log_softmax(-1), (taught / 2).softmax(-1), reduction="none").sum(-1)
        kinds = [batch["kinds"][row] for row in (batch["weights"] > 0).nonzero()[:, 0]]
        wanted = torch.tensor([on == "all" or (kind == "replay") == (on == "replay") for kind in kinds])
        seen |= set(batch["kinds"])
        if not wanted.any():
            assert ours is None
            continue
        assert ours is not None
        assert torch.allclose(ours, 0.7 * 4 * plain * wanted, atol=1e-5)
    assert "replay" in seen
    assert strategy.costs()["examples"] == {"replay": 4, "new": 12, "all": 16}[on]


def test_equal_examples_are_computed_once_and_files_reused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from instructalign.training.strategies import teacher_cache

    monkeypatch.setattr(teacher_cache, "_EXAMPLES_PER_FILE", 2)
    context = prepared(tmp_path, steps=4)  # 32 examples, 8 of them the 4 replay ones
    first = Distil(on="replay")
    first.prepare(context)
    assert first.costs()["examples"] == 4
    files = sorted((tmp_path / "cache").rglob("*.safetensors"))
    assert [path.name for path in files] == ["part-000000.safetensors", "part-000001.safetensors"]
    times = [path.stat().st_mtime_ns for path in files]
    files[1].unlink()
    monkeypatch.setattr(teacher_cache, "_opened", teacher_cache._opened.__wrapped__)
    again = Distil(on="replay")
    again.prepare(context)
    assert files[0].stat().st_mtime_ns == times[0]
    assert files[1].exists()
    assert again._teacher is not None
    with pytest.raises(TrainingError, match=r"teacher-\w+ .*positions instead of 1"):
        again._teacher.at([3], 1)


@pytest.mark.parametrize("kind", ["lora", "dora"])
def test_under_an_adapter_the_base_is_the_model_without_it(kind: str, tmp_path: Path) -> None:
    context = prepared(tmp_path, adapter={**LORA, "type": kind})
    strategy = Distil(top_k=1000)
    strategy.prepare(context)
    assert not (tmp_path / "cache").exists()
    base, batch = tiny_model("llama"), context.batches[0][0]
    disturb(context.model)
    context.model.train()
    logits = target_logits(context.model, batch, False)
    ours = strategy.token_loss(context.model, batch, logits)
    assert context.model.training
    assert ours is not None
    with torch.no_grad():
        taught = target_logits(base, batch, False)
    plain = F.kl_div(logits.log_softmax(-1), taught.softmax(-1), reduction="none").sum(-1)
    assert torch.allclose(ours, plain, atol=1e-6)
    assert ours.max() > 1e-3


# On-policy self-distillation


@pytest.mark.parametrize(
    ("divergence", "value", "gradient"),
    [
        # p = (1/4, 1/2, 1/4) and q = (1/2, 1/4, 1/4). KL(p ‖ q) = ln 2 / 4, and d/dz_k = p_k (ln p_k/q_k - KL).
        ("reverse", math.log(2) / 4, [-5 / 16 * math.log(2), 3 / 8 * math.log(2), -1 / 16 * math.log(2)]),
        # KL(q ‖ p) = ln 2 / 2 - ln 2 / 4, and d/dz_k = p_k - q_k.
        ("forward", math.log(2) / 4, [-1 / 4, 1 / 4, 0.0]),
    ],
)
def test_divergence_and_its_gradient_by_hand(divergence: Any, value: float, gradient: list[float]) -> None:
    model = torch.tensor([[1.0, 2.0, 1.0]]).log().add(3.0).requires_grad_()
    teacher = torch.tensor([[2.0, 1.0, 1.0]]).log().requires_grad_()
    found = token_kl(model, teacher.detach(), divergence)
    assert found.tolist() == pytest.approx([value], rel=1e-5)
    found.sum().backward()  # type: ignore[no-untyped-call]
    assert model.grad is not None
    assert model.grad[0].tolist() == pytest.approx(gradient, abs=1e-6)


@pytest.mark.parametrize(
    ("family", "adapter", "decay"),
    [("llama", None, 0.5), ("llama", LORA, 0.0), ("llama", {**LORA, "dropout": 0.5}, 1.0), ("mt5", None, 1.0)],
)
def test_model_learns_its_own_prediction_with_the_demonstration(
    family: str, adapter: Any, decay: float, tmp_path: Path
) -> None:
    context = prepared(tmp_path, family, adapter)
    strategy = SDFT(decay=decay, tokens=6, divergence="forward")
    strategy.prepare(context)
    taught = [copies(context.model)]
    disturb(context.model, size=0.3)
    strategy.after_update(context.model, 0)
    taught.append(copies(context.model))
    context.model.train()
    batches = strategy.step_batches(context.batches[0])
    assert sorted(n for batch in batches for n in batch["numbers"]) == list(range(8))
    assert {batch["step_mass"] for batch in batches} == {sum(sum(batch["masses"]) for batch in batches)}
    found: dict[int, torch.Tensor] = {}
    for batch in batches:
        context.model.eval()  # no dropout, which the model in training has and its teacher never
        logits = target_logits(context.model, batch, context.loaded.encoder_decoder)
        plain = F.cross_entropy(logits, batch["targets"].flatten()[batch["positions"]], reduction="none")
        context.model.train()
        losses = strategy.replace_loss(context.model, batch, logits, plain)
        assert context.model.training
        for row, number in enumerate(batch["numbers"]):
            found[number] = losses[batch["examples"] == row].detach()
            if batch["kinds"][row] == "replay":
                assert torch.equal(found[number], plain[batch["examples"] == row].detach())

    def logits_of(prompt: list[int], answer: list[int]) -> torch.Tensor:
        ids = torch.tensor([prompt if family == "mt5" else prompt + answer])
        if family == "mt5":
            return context.loaded.model(input_ids=ids, decoder_input_ids=torch.tensor([[0, *answer[:-1]]])).logits[
                0
            ]
        return context.loaded.model(input_ids=ids).logits[0, len(prompt) - 1 : -1]

    context.model.eval()
    tokenizer, end, sampled = context.loaded.tokenizer, context.loaded.codec.end, set()
    students, _ = strategy._sample(list(range(8)))
    for number in range(8):
        example = context.data.mixture[number]
        answer = students[number].answer
        if example.objective == "replay":
            continue
        assert 1 <= len(answer) <= 6 + 1
        assert len(answer) <= 6 or answer[-1] == end
        sampled.add(tuple(answer))
        asked = (
            f"{example.prompt}\n\nThis is an example for a response to the question:\n{example.answer}\n\n"
            "Now answer with a response of your own:"
        )
        with torch.no_grad():
            mine = logits_of(tokenizer.encode(example.prompt), answer)
            for name, weight in context.model.named_parameters():
                weight.copy_(decay * taught[0][name] + (1 - decay) * taught[1][name])
            other = logits_of(tokenizer.encode(asked), answer)
            for name, weight in context.model.named_parameters():
                weight.copy_(taught[1][name])
        expected = F.kl_div(mine.log_softmax(-1), other.softmax(-1), reduction="none").sum(-1)
        assert torch.allclose(found[number], expected, atol=1e-5, rtol=1e-3), number
        assert expected.max() > 1e-3
    assert len(sampled) > 3
    again = SDFT(decay=decay, tokens=6)
    again.prepare(context)
    again.restore(strategy.state())
    assert again.costs() == strategy.costs()
    assert strategy.costs()["generated"] == sum(
        len(students[n].answer) for n in range(8) if students[n].kind != "replay"
    )


def test_text_without_a_prompt_has_no_demonstration(tmp_path: Path) -> None:
    (tmp_path / "news.txt").write_text("sungai resik\n\nomah gedhe\n", encoding="utf-8")
    corpora = [
        {"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "eng", "jav": "jav"}},
        {"format": "text", "path": "news.txt", "languages": ["jav"]},
    ]
    objectives = {"mt": 1, "lm": {"weight": 1, "form": "plain"}}
    changes = {"corpora": corpora, "instructions": {"heldout": 0, "objectives": objectives}}
    context = prepared(tmp_path, changes=changes)
    strategy = SDFT(tokens=4)
    strategy.prepare(context)
    taught = {"mt": True, "lm": False, "replay": False}
    seen = set()
    for batch in strategy.step_batches(context.batches[0]):
        seen |= set(batch["kinds"])
        assert batch.get("taught", [False] * len(batch["kinds"])) == [taught[kind] for kind in batch["kinds"]]
    assert seen == set(taught)


def test_demonstration_that_exceeds_the_context_loses_its_start_and_is_counted(tmp_path: Path) -> None:
    from dataclasses import replace

    context = prepared(tmp_path)
    loaded = replace(context.loaded, codec=replace(context.loaded.codec, context=100))
    strategy = SDFT(tokens=4)
    strategy.prepare(replace(context, loaded=loaded))
    for batch in strategy.step_batches(context.batches[0]):
        if "teacher" in batch:
            assert max(batch["teacher"]["lengths"]) <= 100
    assert strategy.costs()["truncated"] > 0


# Source-shielded updates


@pytest.mark.parametrize("adapter", [None, LORA])
def test_shielded_columns_are_those_of_highest_importance(adapter: Any, tmp_path: Path) -> None:
    context = prepared(tmp_path, adapter=adapter)
    strategy = SourceShielded(share=0.25, examples=4)
    strategy.prepare(context)
    model = tiny_model("llama").model
    encoded = [context.batches.encoder(example) for example in context.data.replay.examples]
    ids = torch.tensor([token for each in encoded for token in each.prompt + each.answer])
    # What the first layer's projections read is the normalised embedding of each token.
    features = model.layers[0].input_layernorm(model.embed_tokens(ids))
    lengths = features.square().sum(dim=0).sqrt()
    weight = model.layers[0].self_attn.q_proj.weight
    scores = (weight.abs() * lengths).square().sum(dim=0)
    expected = sorted(scores.topk(8).indices.tolist())
    inner = context.model.base_model.model.model if adapter else context.model.model
    layer = inner.layers[0].self_attn.q_proj
    shielded = layer.lora_A["default"].weight if adapter else layer.weight
    (3 * shielded).sum().backward()
    assert (shielded.grad == 0).all(dim=0).nonzero().squeeze(1).tolist() == expected
    assert (shielded.grad != 0).sum() == shielded.shape[0] * 24


# A-GEM


def test_projection_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = torch.nn.Linear(2, 1, bias=True)
    references = [torch.tensor([[1.0, 2.0]]), torch.tensor([2.0])]
    strategy = AGEM()
    monkeypatch.setattr(strategy, "reference", lambda *_: references)
    model.weight.grad, model.bias.grad = torch.tensor([[1.0, -3.0]]), torch.tensor([1.0])
    # g = (1, -3, 1), r = (1, 2, 2): g · r = -3, r · r = 9, so g becomes g + r / 3.
    strategy.before_update(model, 0)
    assert torch.allclose(model.weight.grad, torch.tensor([[4 / 3, -7 / 3]]))
    assert torch.allclose(model.bias.grad, torch.tensor([5 / 3]))
    assert strategy.costs() == {"projected": 1}
    model.weight.grad, model.bias.grad = torch.tensor([[1.0, 0.0]]), torch.tensor([0.0])
    strategy.before_update(model, 1)
    assert model.weight.grad.tolist() == [[1.0, 0.0]]
    assert strategy.costs() == {"projected": 1}


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_reference_is_the_gradient_of_the_mean_loss_on_replay_examples(family: str, tmp_path: Path) -> None:
    context = prepared(tmp_path, family)
    strategy = AGEM(examples=4)
    strategy.prepare(context)
    named = dict(context.model.named_parameters())
    references = strategy.reference(context.model, list(named.values()), step=0)
    model = tiny_model(family)
    losses, tokens = torch.zeros(()), 0
    for example in context.data.replay.examples:
        encoded = context.batches.encoder(example)
        if family == "t5":
            ids, labels = torch.tensor([encoded.prompt]), torch.tensor([encoded.answer])
        else:
            ids = torch.tensor([encoded.prompt + encoded.answer])
            labels = torch.tensor([[-100] * len(encoded.prompt) + encoded.answer])
        losses = losses + model(input_ids=ids, labels=labels).loss * len(encoded.answer)
        tokens += len(encoded.answer)
    (losses / tokens).backward()  # type: ignore[no-untyped-call]
    plain = dict(model.named_parameters())
    for name, reference in zip(named, references, strict=True):
        assert torch.allclose(reference, plain[name].grad, atol=1e-5), name


def test_replay_examples_of_a_step_depend_on_its_number(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    strategy = AGEM(examples=2)
    strategy.prepare(context)
    weights = [context.model.model.norm.weight]
    first, second, again = (strategy.reference(context.model, weights, step)[0] for step in (0, 1, 0))
    assert torch.equal(first, again)
    assert not torch.allclose(first, second)


def test_every_replay_example_is_seen_before_any_is_seen_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = prepared(tmp_path)
    strategy = AGEM(examples=2)
    strategy.prepare(context)
    seen: list[Any] = []
    monkeypatch.setattr(StrategyContext, "encoded", lambda _, chosen: seen.extend(chosen) or [])
    size = len(context.data.replay)
    assert size % 2 == 0
    for step in range(size // 2):
        strategy.reference(context.model, [context.model.model.norm.weight], step)
    assert sorted(each.row for each in seen) == sorted(each.row for each in context.data.replay.examples)


# Averages


def test_moving_average_by_hand(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    strategy = EMA(decay=0.5)
    strategy.prepare(context)
    path = [copies(context.model)]
    for step in range(2):
        disturb(context.model, seed=step)
        strategy.after_update(context.model, step)
        path.append(copies(context.model))
    restored = EMA(decay=0.5)
    restored.prepare(context)
    restored.restore(strategy.state())
    restored.finish(context.model)
    for name, mean in copies(context.model).items():
        expected = 0.25 * path[0][name] + 0.25 * path[1][name] + 0.5 * path[2][name]
        assert torch.allclose(mean, expected, atol=1e-7), name


@pytest.mark.parametrize("adapter", [None, LORA, {**LORA, "train_embeddings": True}])
def test_interpolation_lies_on_the_line_to_the_base(adapter: Any, tmp_path: Path) -> None:
    context = prepared(tmp_path, adapter=adapter)
    strategy = Interpolate(alpha=0.25)
    strategy.prepare(context)
    disturb(context.model)
    base = copies(tiny_model("llama"))
    whole = prepared(tmp_path, adapter=adapter).model
    whole.load_state_dict(context.model.state_dict())
    adapted = copies(whole.merge_and_unload() if adapter else whole)
    strategy.finish(context.model)
    ours = copies(context.model.merge_and_unload() if adapter else context.model)
    assert ours.keys() == base.keys()
    changed = 0
    for name, weight in ours.items():
        assert torch.allclose(weight, 0.75 * base[name] + 0.25 * adapted[name], atol=1e-6), name
        changed += not torch.equal(adapted[name], base[name])
    assert changed >= (14 if adapter else 20)


# Freezing


@pytest.mark.parametrize(
    ("family", "stacks"), [("llama", 1), ("bloom", 1), ("gpt_neox", 1), ("mt5", 2), ("t5", 2)]
)
def test_bottom_layers_of_every_stack_are_frozen(family: str, stacks: int, tmp_path: Path) -> None:
    context = prepared(tmp_path, family)
    found = layer_stacks(context.model)
    assert [len(stack) for stack in found] == [2] * stacks
    Freeze(layers=1).prepare(context)
    for stack in found:
        assert not any(weight.requires_grad for weight in stack[0].parameters())
        assert all(weight.requires_grad for weight in stack[1].parameters())
    assert not context.model.get_input_embeddings().weight.requires_grad


def test_embeddings_can_be_left_to_train(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    Freeze(layers=1, embeddings=False).prepare(context)
    assert context.model.get_input_embeddings().weight.requires_grad


def test_freezing_everything_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"freeze\.layers is 2, but .* 2 layers .* 1 or less"):
        Freeze(layers=2).prepare(prepared(tmp_path))


# Calibration examples


def test_texts_are_halved_at_the_space_nearest_the_middle() -> None:
    assert halves("the food is good") == ("the food", "is good")
    assert halves(" antidisestablishmentarianism now ") == ("antidisestablishmentarianism", "now")
    assert halves("これは本です") == ("これは", "本です")
    assert halves("a") == ("", "a")


def test_known_sentences_are_those_of_the_pivots(tmp_path: Path) -> None:
    context = prepared(tmp_path)
    rows, known = context.data.corpus, context.config.pivots
    examples = known_sentences(rows, known, 42, 5)
    assert len(examples) == 5
    texts = {row.texts["eng"] for row in rows}
    assert {f"{example.prompt} {example.answer}" for example in examples} <= texts
    assert examples == known_sentences(rows, known, 42, 5)
    assert len(known_sentences(rows, known, 42, 100)) == len(rows)
    assert len(calibration_examples(context, "replay", 100)) == 4


# What is refused


@pytest.mark.parametrize(
    ("strategy", "change", "message"),
    [
        ({"ewc": None}, {"replay": None}, r"strategy\.ewc .*training\.strategy\.ewc\.on to known"),
        ({"ssu": None}, {"replay": None}, r"strategy\.ssu .*training\.strategy\.ssu\.on to known"),
        ({"agem": None}, {"replay": None}, r"strategy\.agem .*replay block"),
        (
            {"distil": {"on": "replay"}},
            {"replay": None},
            r"strategy\.distil .*\.distil\.on to new",
        ),
        ({"distil": {"on": "replay"}}, {}, r"strategy\.distil: .*add replay to training\.strategy"),
        ({"interpolate": {"alpha": 1.5}}, {}, r"interpolate\.alpha: .*1, found 1\.5"),
        ({"interpolate": {"alpha": -0.1}}, {}, r"interpolate\.alpha: .*0, found -0\.1"),
        ({"ema": {"decay": 1.0}}, {}, r"ema\.decay: .*less than 1, found 1\.0"),
        ({"freeze": None}, {}, r"freeze\.layers: missing"),
        ({"freeze": {"layers": 0}}, {}, r"freeze\.layers: .*greater than or equal to 1"),
        ({"l2sp": {"weight": 0}}, {}, r"l2sp\.weight: .*greater than 0"),
        ({"ssu": {"share": 1}}, {}, r"ssu\.share: .*less than 1"),
        ({"l2": None}, {}, r"'l2'.* 'l2sp'\?.* agem, distil"),
        ({"sdft": {"prompt": "{prompt} {text}"}}, {"replay": None}, r"sdft: prompt .*'prompt', 'text'"),
        ({"sdft": {"prompt": "{prompt"}}, {"replay": None}, r"sdft: prompt "),
        ({"sdft": {"decay": 1.1}}, {}, r"sdft\.decay: .*1, found 1\.1"),
        ({"sdft": None, "distil": None}, {"replay": None}, r"sdft: .*distil\.on to replay"),
        ({"none": None, "ema": None}, {"replay": None}, r"training\.strategy: none .*ema"),
        ({"ema": None}, {}, r"training\.strategy is ema .*replay\.size is 4"),
    ],
)
def test_bad_strategies_are_refused_with_what_to_do(
    strategy: Any, change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    data = settings(tmp_path, strategy=strategy)
    with pytest.raises(ConfigError, match=message):
        build_config({**data, **change}, folder=tmp_path)


@pytest.mark.parametrize(
    ("names", "adapter", "message"),
    [
        (["l2sp", "ewc", "ssu", "interpolate"], {"type": "dora"}, r"model\.adapter\.type dora"),
        (["l2sp", "ewc", "ssu", "distil", "interpolate"], {"init": "pissa"}, r"model\.adapter\.init pissa"),
        (["ewc"], {"quantised": True}, r"model\.adapter\.quantised"),
        (["freeze"], {"train_embeddings": True}, r"model\.adapter\.train_embeddings"),
    ],
)
def test_incompatible_adapters_are_refused(
    names: list[str], adapter: dict[str, Any], message: str, tmp_path: Path
) -> None:
    for name in names:
        data = settings(tmp_path, strategy={"replay": None, name: {"layers": 1} if name == "freeze" else None})
        data["model"]["adapter"] = adapter
        with pytest.raises(ConfigError, match=rf"training\.strategy\.{name}: .*{message}"):
            build_config(data, folder=tmp_path)


def test_own_gradients_in_half_precision_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agem: .*training\.precision to bfloat16 or float32"):
        configure(tmp_path, strategy="agem", precision="float16")


@pytest.mark.parametrize(("key", "value"), [("loss_on", "all"), ("packing", True)])
def test_what_sampled_answers_do_not_go_with_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=rf"sdft: .*training\.{key} to (answer|false)"):
        configure(tmp_path, strategy=["replay", "sdft"], **{key: value})


def test_sharded_weights_are_refused(tmp_path: Path) -> None:
    from dataclasses import replace

    from instructalign.training.strategies import StrategyGroup

    context = replace(prepared(tmp_path), sharded=True)
    group = StrategyGroup({"ema": EMA()})
    with pytest.raises(TrainingError, match=r"training\.strategy\.ema .*sharding \(DDP\)"):
        group.prepare(context)


def test_guide_has_every_strategy_in_the_order_of_the_registry() -> None:
    guide = Path(__file__).parents[2] / "docs" / "guides" / "strategies.md"
    rows = re.findall(r"^\| `(\w+)` \|", guide.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert rows == STRATEGIES.in_order(STRATEGIES.names())


def test_strategies_are_called_in_the_order_of_the_registry(tmp_path: Path) -> None:
    config = configure(tmp_path, strategy={"interpolate": None, "ema": None, "replay": None})
    made = make_strategies(config)
    assert list(made) == ["replay", "ema", "interpolate"]
    assert all(isinstance(strategy, Strategy) for strategy in made.values())
