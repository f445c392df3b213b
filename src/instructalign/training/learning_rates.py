"""Peak learning rates that are usual for a model's size and for how it is trained: a place to begin."""

from __future__ import annotations

import re

_BY_SIZE = ((200e6, 1e-4), (800e6, 5e-5), (2e9, 3e-5), (30e9, 2e-5), (float("inf"), 1e-5))
"""The largest number of parameters, and the rate with which all of them are trained."""
_SMALLEST = 10e6
_LORA, _LORA_LARGE = 2e-4, 1e-4
WARMUP_SHARE = 0.03
"""Of the steps: what Tülu 2 takes (arXiv 2311.10702), as Alpaca and others before it."""


def usual_learning_rate(parameters: float, *, adapter: bool) -> float | None:
    """The usual peak rate for AdamW; None for a toy, of which nothing is usual.

    All weights: 2e-5 for 7 and 13 billion parameters, 1e-5 for 70 billion (Tülu 2, arXiv 2311.10702); smaller
    models take more, in about the ratio of their rates in pretraining (GPT-3, arXiv 2005.14165, table 2.1: 6e-4
    with 125 million, 2e-4 with 1.3 billion, 1.2e-4 with 6.7 billion).

    Low-rank adapters: 2e-4 up to 13 billion parameters, 1e-4 above (QLoRA, arXiv 2305.14314, table 9), and for
    small models ten times the rate for all weights (Schulman 2025, "LoRA Without Regret").

    Args:
        parameters: of the whole model.
        adapter: whether a low-rank adapter is trained, not all weights.
    """
    if parameters < _SMALLEST:
        return None
    full = next(rate for most, rate in _BY_SIZE if parameters < most)
    if not adapter:
        return full
    return _LORA_LARGE if parameters > 30e9 else max(_LORA, round(10 * full, 6))


def parameters_in_name(name: str) -> float | None:
    """The number of parameters that a model's name says (`bloomz-560m`, `SmolLM2-1.7B`); None if it says none."""
    found = re.findall(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([mb])(?![a-z])", name.lower())
    return float(found[-1][0]) * (1e6 if found[-1][1] == "m" else 1e9) if found else None
