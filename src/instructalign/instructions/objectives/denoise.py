"""What the denoising objectives share."""

from __future__ import annotations

from instructalign.config import NoiseConfig
from instructalign.instructions.noise import Noise
from instructalign.instructions.objectives import Context, Objective
from instructalign.randomness import Draws


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
