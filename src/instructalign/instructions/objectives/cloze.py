"""Cloze: filling in the word removed from a translation.

A translation language model (Conneau and Lample 2019) asked for one word instead of the whole sentence.
"""

from __future__ import annotations

from typing_extensions import override

from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.instructions.segmentation import segment
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Cloze(Objective):
    """Filling in the word that was removed from a sentence, given its translation."""

    slots = ("context", "cloze")

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        pieces = segment(row.texts[target])
        places = [place for place in range(1, len(pieces), 2) if any(map(str.isalpha, pieces[place]))]
        if not places:
            return None
        place = draws.choice(places)
        answer, pieces[place] = pieces[place], context.noise.mask
        return {"context": row.texts[source], "cloze": "".join(pieces)}, answer
