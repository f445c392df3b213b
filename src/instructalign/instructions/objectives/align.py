"""Word alignment discrimination: is this word the translation of that one?

After AlignInstruct (Mao and Yu 2024, arXiv 2401.05811), with our own statistical aligner.
"""

from __future__ import annotations

from typing_extensions import override

from instructalign.data.normalization import fold
from instructalign.instructions.objectives import Context, SlotsAndAnswer, WordAlignmentObjective
from instructalign.instructions.segmentation import words
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Align(WordAlignmentObjective):
    """Whether two words of a sentence pair translate each other; yes and no are equally frequent.

    The wrong word is the translation of another word of the sentence.
    """

    slots = ("first", "second", "word", "candidate")
    labels = ("yes", "no")

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        first, second = row.texts[source], row.texts[target]
        ours, theirs = words(first), words(second)
        links = context.aligner(source, target).links(ours, theirs)
        if not links:
            return None
        i, j = draws.choice(links)
        # The same word elsewhere, on either side, would make a wrong pair right.
        right = {fold(theirs[b]) for a, b in links if fold(ours[a]) == fold(ours[i])}
        wrong = [theirs[b] for _, b in links if fold(theirs[b]) not in right]
        if not wrong:  # for yes too, so that both stay equally frequent
            return None
        slots = {"first": first, "second": second, "word": ours[i]}
        if draws.below(2):
            return {**slots, "candidate": theirs[j]}, "yes"
        return {**slots, "candidate": draws.choice(wrong)}, "no"
