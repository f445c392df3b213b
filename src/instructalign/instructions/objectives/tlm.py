"""Crosslingual denoising: a sentence and its noisy translation → the translation.

After translation language modelling (Conneau and Lample 2019), as instructions in arXiv 2305.13627,
section 3.1. Whether words or spans are masked is for `instructions.noise` to say.
"""

from __future__ import annotations

from typing_extensions import override

from instructalign.instructions.objectives import Context, Made, Objective
from instructalign.randomness import Draws
from instructalign.records import ParallelRow


class TLM(Objective):
    """Restoring a noisy sentence with its translation at hand."""

    slots = ("context", "noisy")

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> Made:
        text = row.texts[target]
        return {"context": row.texts[source], "noisy": context.noise(text, draws)}, text
