"""Crosslingual denoising: a sentence and its noisy translation → the translation.

After translation language modelling (Conneau and Lample 2019), as instructions in arXiv 2305.13627,
section 3.1. Whether words or spans are masked is for the noise to say: `{span: 1}` masks spans.
"""

from __future__ import annotations

from typing_extensions import override

from instructalign.instructions.objectives import Context, Made
from instructalign.instructions.objectives.denoise import Denoise
from instructalign.randomness import Draws
from instructalign.records import ParallelRow


class TLM(Denoise):
    """Restoring a noisy sentence with its translation at hand."""

    slots = ("context", "noisy")

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        text = row.texts[target]
        return {"context": row.texts[source], "noisy": self.noisy(text, draws, context)}, text
