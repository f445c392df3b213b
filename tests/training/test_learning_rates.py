"""Usual learning rates by size and method, against the figures of the papers that the function names."""

from __future__ import annotations

import pytest

from instructalign.training.learning_rates import parameters_in_name, usual_learning_rate


@pytest.mark.parametrize(
    ("parameters", "full", "lora"),
    # Tülu 2: 2e-5 for 7 and 13 billion, 1e-5 for 70; QLoRA, table 9: 2e-4 for 7 and 13, 1e-4 for 33 and 65.
    [(135e6, 1e-4, 1e-3), (560e6, 5e-5, 5e-4), (7e9, 2e-5, 2e-4), (13e9, 2e-5, 2e-4), (70e9, 1e-5, 1e-4)],
)
def test_rates_by_size(parameters: float, full: float, lora: float) -> None:
    assert usual_learning_rate(parameters, adapter=False) == full
    assert usual_learning_rate(parameters, adapter=True) == lora


def test_nothing_is_usual_for_a_toy() -> None:
    assert usual_learning_rate(418_848, adapter=False) is None


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("bloomz-560m", 560e6),
        ("SmolLM2-1.7B-Instruct", 1.7e9),
        ("Llama-3.1-8B", 8e9),
        ("Qwen2.5-0.5B-Instruct", 0.5e9),
        ("gemma-3-270m-it", 270e6),
        ("Qwen3-30B-A3B", 30e9),  # of a mixture of experts, all parameters
        ("mt0-small", None),
        ("gpt2", None),
        ("aya-101", None),
    ],
)
def test_sizes_in_names(name: str, parameters: float | None) -> None:
    assert parameters_in_name(name) == parameters
