"""Machine translation: a sentence → its translation (arXiv 2305.13627, section 3.1)."""

from __future__ import annotations

from typing_extensions import override

from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class MT(Objective):
    """Translation of a whole sentence."""

    slots = ("text",)

    @override
    def make(self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context) -> SlotsAndAnswer:
        return {"text": row.texts[source]}, row.texts[target]
