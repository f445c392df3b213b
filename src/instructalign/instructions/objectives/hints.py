"""Translation with hints: a sentence and lexicon entries of its words → the translation.

After dictionary-based prompting (Ghazvininejad, Gonen and Zettlemoyer 2023, arXiv 2302.07856), as an instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from instructalign.config import Positive
from instructalign.data.normalization import fold
from instructalign.instructions.lexicon import Lexicon, read_lexicons
from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.instructions.segmentation import words
from instructalign.plugins import CorpusEntry
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Hints(Objective):
    """Translating a sentence, given dictionary entries of its words.

    Args:
        lexicons: files as under `corpora`, with words instead of sentences. If a word has several
            translations, one that the reference translation uses is preferred.
        most: maximum number of hints.
    """

    slots = ("text", "hints")

    def __init__(self, *, lexicons: Annotated[list[CorpusEntry], Field(min_length=1)], most: Positive = 8) -> None:
        self._entries = lexicons
        self._most = most
        self._lexicons: dict[tuple[str, str], Lexicon] = {}

    @override
    def prepare(self, directions: Sequence[tuple[str, str]], context: Context) -> None:
        for pair, lexicon in read_lexicons(self._entries, directions).items():
            folded: dict[str, list[str]] = {}
            for word, translations in lexicon.items():
                folded.setdefault(fold(word), []).extend(translations)
            self._lexicons[pair] = folded

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        lexicon = self._lexicons.get((source, target), {})
        used = {fold(word) for word in words(row.texts[target])}
        known = [word for word in dict.fromkeys(words(row.texts[source])) if fold(word) in lexicon]
        if not known:
            return None
        while len(known) > self._most:
            del known[draws.below(len(known))]
        hints = []
        for word in known:
            translations = lexicon[fold(word)]
            fitting = [one for one in translations if fold(one) in used]
            hints.append(f"{word} = {draws.choice(fitting or translations)}")
        return {"text": row.texts[source], "hints": "; ".join(hints)}, row.texts[target]
