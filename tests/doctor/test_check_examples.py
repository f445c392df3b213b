"""Lengths, shares and repeats, against counts made by hand and against the batches that training makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from healthy import project_config, write_project
from hypothesis import given
from hypothesis import strategies as st

from instructalign.config import Config
from instructalign.doctor.check_examples import (
    SampledExample,
    examine_lengths,
    examine_mixture,
    percentile,
    sample_examples,
    smallest_limit,
)
from instructalign.mixture.training_data import TrainingData, prepare_data
from instructalign.training.batching import ExampleEncoder, MicroBatchLimits, StepBatches
from instructalign.training.models import load_codec
from instructalign.training.train import loss_weights
from tiny import save_tiny

Configure = Callable[..., Config]


def example(kind: str, prompt: int, answer: int, *truncated: str) -> SampledExample:
    return SampledExample(kind, prompt, answer, prompt, answer, truncated)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=300))
def test_the_smallest_limit_truncates_less_than_one_in_a_hundred(needs: list[int]) -> None:
    limit = smallest_limit(needs)
    assert sum(need > limit for need in needs) < 0.01 * len(needs)
    assert sum(need > limit - 1 for need in needs) >= 0.01 * len(needs)


def test_percentiles_are_values_that_occur() -> None:
    values = list(range(100, 0, -1))
    assert [percentile(values, share) for share in (0.5, 0.9, 0.99, 1.0)] == [50, 90, 99, 100]
    assert percentile([7], 0.5) == 7


def test_truncation_is_counted_by_objective(configure: Configure) -> None:
    sampled = [
        *[example("mt", 10, 10)] * 8,
        example("mt", 40, 20, "prompt truncated"),
        example("mt", 40, 40, "prompt truncated", "answer truncated"),
        *[example("replay", 5, 1)] * 10,
    ]
    part, findings = examine_lengths(configure("training.max_length=48"), sampled, encoder_decoder=False)
    translation, replay = part.by_objective
    assert (translation.kind, translation.examples, translation.median, translation.longest) == ("mt", 10, 20, 80)
    assert (translation.prompts_truncated, translation.answers_truncated) == (2, 1)
    assert (replay.kind, replay.p99, replay.answers_truncated) == ("replay", 6, 0)
    assert part.enough == 80
    answers, prompts = findings
    assert (answers.level, answers.found) == ("warning", "Share of answers truncated at 48 tokens: mt 10 %.")
    assert answers.advice.startswith("Raise training.max_length from 48 to 80,")
    assert (prompts.level, prompts.found) == ("warning", "Share of prompts truncated at 48 tokens: mt 20 %.")


@pytest.mark.parametrize(
    ("context", "advice"),
    [
        (80, "Raise training.max_length from 48 to 80, which"),
        (64, "Raise training.max_length to 64, the model's maximum, "),
        (
            48,
            "The model's maximum is reached: exclude long texts with filter.length",
        ),
    ],
)
def test_no_limit_beyond_the_model_is_advised(configure: Configure, context: int, advice: str) -> None:
    sampled = [example("mt", 40, 40, "prompt truncated")]
    _, findings = examine_lengths(configure("training.max_length=48"), sampled, False, context)
    assert findings[0].advice.startswith(advice)


def test_many_truncated_answers_are_a_problem(configure: Configure) -> None:
    sampled = [example("mt", 4, 4)] * 7 + [example("mt", 9, 9, "answer truncated")] * 3
    _, findings = examine_lengths(configure("training.max_length=16"), sampled, encoder_decoder=False)
    assert (findings[0].level, findings[0].found) == (
        "problem",
        "Share of answers truncated at 16 tokens: mt 30 %.",
    )


def test_answers_without_tokens_are_a_problem(configure: Configure) -> None:
    _, findings = examine_lengths(configure(), [example("mt", 4, 0, "answer without tokens")], False)
    assert (findings[0].level, findings[0].found) == ("problem", "1 of 1 examples have an answer without tokens.")


def test_an_encoder_decoder_model_has_the_limit_for_each_side(configure: Configure) -> None:
    part, _ = examine_lengths(configure(), [example("mt", 30, 20)] * 10, encoder_decoder=True)
    assert part.enough == 30


@pytest.mark.parametrize(("family", "loss_on"), [("llama", "answer"), ("llama", "all"), ("mt5", "answer")])
def test_shares_are_those_of_the_batches(family: str, loss_on: str, tmp_path: Path) -> None:
    write_project(tmp_path)
    base = save_tiny(tmp_path / "base", family)
    config = project_config(tmp_path, base, f"training.loss_on={loss_on}", "training.max_length=64")
    codec = load_codec(config.model)
    data: TrainingData = prepare_data(config)
    sampled = sample_examples(config, data.mixture, codec, 40)
    part, _ = examine_mixture(
        config, data.mixture, len(data.corpus), data.instructions.epoch, sampled, codec.encoder_decoder
    )
    batches = StepBatches(
        data.mixture,
        ExampleEncoder(codec, 64),
        batch_size=8,
        limits=MicroBatchLimits(),
        weights=loss_weights(config.training),
    )
    rows: Counter[str] = Counter()
    counted: Counter[str] = Counter()
    for number in range(5):
        for batch in batches[number]:
            for kind, weights in zip(batch["kinds"], batch["weights"], strict=True):
                rows[kind] += 1
                counted[kind] += int((weights > 0).sum())
    for share in part.shares:
        assert share.rows == rows[share.kind] / 40
        assert share.loss_tokens == pytest.approx(counted[share.kind] / sum(counted.values()))


def test_epochs_and_repeats(configure: Configure) -> None:
    config = configure("training.steps=300", "replay.share=0.25", "replay.size=75")
    data = prepare_data(config)
    assert data.instructions.epoch == 2 * 556
    part, findings = examine_mixture(config, data.mixture, 556, data.instructions.epoch, [], False)
    assert (part.examples, part.replayed) == (2400, 75)
    assert part.epochs == pytest.approx(1800 / 1112)
    assert part.repeats == pytest.approx(600 / 75)
    assert [each.found for each in findings] == [
        "1.6 epochs of new instructions, of 186 steps each; each of 75 replay examples is shown 8.0 times."
    ]


def found(config: Config, sampled: list[SampledExample] | None = None) -> list[tuple[str, str, str]]:
    data = prepare_data(config)
    _, findings = examine_mixture(
        config, data.mixture, len(data.corpus), data.instructions.epoch, sampled or [], False
    )
    return [(each.level, each.found, each.advice) for each in findings if "epochs" not in each.found]


def test_a_run_too_short_for_its_corpus(configure: Configure) -> None:
    [(level, message, advice)] = found(configure("training.steps=100"))
    assert level == "warning"
    assert "400 new instructions" in message
    assert "556 rows" in message
    assert "training.steps from 100 to at least 139" in advice


def test_no_replay_is_a_warning_unless_it_is_intended(configure: Configure) -> None:
    [(level, message, advice)] = found(configure("replay.size=0"))
    assert (level, message.startswith("No replay")) == ("warning", True)
    assert "training.strategy: none" in advice
    [(level, _, _)] = found(configure("replay.size=0", "training.strategy=none"))
    assert level == "ok"


def test_replay_source_smaller_than_its_size_and_repeated_too_often(configure: Configure) -> None:
    (first, size, _), (second, repeats, _) = found(configure("replay.size=1000", "training.steps=6000"))
    assert (first, second) == ("warning", "warning")
    assert "100 usable examples, fewer than replay.size (1,000)" in size
    assert "repeated 240 times and may be memorised" in repeats


def test_replay_that_may_not_repeat(configure: Configure) -> None:
    several = found(configure("replay.repeat=false"))
    assert any(level == "problem" and "replay.repeat is false" in message for level, message, _ in several)


def test_replay_that_hardly_counts(configure: Configure) -> None:
    sampled = [example("mt", 10, 98), example("replay", 10, 2)] * 5
    [(level, message, advice)] = found(configure(), sampled)
    assert (level, message.startswith("Replay has 50 % of the examples but 2 % of the tokens")) == (
        "warning",
        True,
    )
    assert "replay.share" in advice
