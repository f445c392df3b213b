"""Denoising objectives: MLM (one language) and TLM (given the translation)."""

from __future__ import annotations

from typing_extensions import override

from instructalign.config import NoiseConfig
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Denoise(Objective):
    """Restoring a noisy sentence.

    Args:
        noise: noise for this objective alone, in the form of `instructions.noise`, which is the default.
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
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> SlotsAndAnswer:
        text = row.texts[target]
        return {"noisy": self.noisy(text, draws, context)}, text


class TLM(Denoise):
    """Restoring a noisy sentence, given its translation."""

    slots = ("context", "noisy")

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> SlotsAndAnswer:
        text = row.texts[target]
        return {"context": row.texts[source], "noisy": self.noisy(text, draws, context)}, text
