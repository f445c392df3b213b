"""Denoising objectives: MLM (one language) and TLM (with a translation beside it)."""

from __future__ import annotations

from typing_extensions import override

from instructalign.config import NoiseConfig
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Context, Made, Objective
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Denoise(Objective):
    """Restoring a noisy sentence.

    Args:
        noise: noise of this objective's own, written as `instructions.noise`, which is used otherwise.
    """

    def __init__(self, *, noise: NoiseConfig | None = None) -> None:
        self._noise = Noise(noise) if noise else None

    def noisy(self, text: str, draws: Draws, context: Context) -> str:
        """The text with this objective's noise."""
        return (self._noise or context.noise)(text, draws)


class MLM(Denoise):
    """Restoring a noisy sentence of the new language."""

    slots = ("noisy",)
    monolingual = True

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        text = row.texts[target]
        return {"noisy": self.noisy(text, draws, context)}, text


class TLM(Denoise):
    """Restoring a noisy sentence with its translation at hand."""

    slots = ("context", "noisy")

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        text = row.texts[target]
        return {"context": row.texts[source], "noisy": self.noisy(text, draws, context)}, text
