"""Dictionary instructions: a word → its translation in the user's lexicon.

After instruction tuning with bilingual lexicons (arXiv 2402.14086, 2606.11786).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from typing_extensions import override

from instructalign.instructions.lexicon import Lexicon, read_lexicons
from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.plugins import CorpusEntry
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class Dictionary(Objective):
    """Translating a word or phrase of the user's lexicons; the corpus is not used.

    Args:
        lexicons: files as under `corpora`, with words instead of sentences. If a word has several
            translations, one of them is drawn.
    """

    slots = ("word",)

    def __init__(self, *, lexicons: Annotated[list[CorpusEntry], Field(min_length=1)]) -> None:
        self._entries = lexicons
        self._lexicons: dict[tuple[str, str], Lexicon] = {}
        self._words: dict[tuple[str, str], list[str]] = {}

    @override
    def prepare(self, directions: Sequence[tuple[str, str]], context: Context) -> None:
        self._lexicons = read_lexicons(self._entries, directions)
        self._words = {pair: list(lexicon) for pair, lexicon in self._lexicons.items()}

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        if (source, target) not in self._words:
            return None
        word = draws.choice(self._words[source, target])
        return {"word": word}, draws.choice(self._lexicons[source, target][word])
