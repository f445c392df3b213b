"""An objective of a plug-in: the words of a sentence in reverse order."""

from __future__ import annotations

from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Reverse(Objective):
    """Asks for the words of a sentence in reverse order."""

    slots = ("text",)

    def __init__(self, *, mark: str = "") -> None:
        self.mark = mark

    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        text = row.texts[target]
        return {"text": text}, self.mark.join(text.split()[::-1])
