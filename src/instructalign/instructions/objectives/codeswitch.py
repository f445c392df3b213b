"""Code-switching: a sentence with some words replaced by those of the other language → the translation.

After the aligned substitution of mRASP (Lin et al. 2020), with our own statistical aligner.
"""

from __future__ import annotations

from typing_extensions import override

from instructalign.config import Probability
from instructalign.instructions.objectives import Context, SlotsAndAnswer, WordAlignmentObjective
from instructalign.instructions.segmentation import segment, words
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class CodeSwitch(WordAlignmentObjective):
    """Translating a sentence that mixes both languages.

    Args:
        share: the probability that a word whose translation is known from the alignment is replaced by it;
            at least one is.
    """

    slots = ("mixed",)

    def __init__(self, *, share: Probability = 0.3) -> None:
        self.share = share

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        pieces = segment(row.texts[source])
        theirs = words(row.texts[target])
        links = context.aligner(source, target).links(pieces[1::2], theirs)
        if not links:
            return None
        chosen = [link for link in links if draws.uniform() < self.share] or [draws.choice(links)]
        for i, j in chosen:
            pieces[2 * i + 1] = theirs[j]
        return {"mixed": "".join(pieces)}, row.texts[target]
