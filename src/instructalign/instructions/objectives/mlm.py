"""Monolingual denoising: a noisy sentence → the sentence (arXiv 2305.13627, section 3.1; the baseline)."""

from __future__ import annotations

from typing_extensions import override

from instructalign.instructions.objectives import Context, Made
from instructalign.instructions.objectives.denoise import Denoise
from instructalign.randomness import Draws
from instructalign.records import ParallelRow


class MLM(Denoise):
    """Restoring a noisy sentence of the new language."""

    slots = ("noisy",)
    monolingual = True

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        text = row.texts[target]
        return {"noisy": self.noisy(text, draws, context)}, text
