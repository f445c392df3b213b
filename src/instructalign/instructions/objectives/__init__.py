"""What a model is asked to do with a sentence in two languages: the base class, and what objectives share.

An objective is one file here (or in a plug-in) with one class, and one line in `plugins.OBJECTIVES`. The
keyword-only arguments of its constructor are its options in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Protocol

from typing_extensions import override

from instructalign.instructions.noise import Noise
from instructalign.instructions.word_alignment import WordAligner, train_aligner
from instructalign.languages import synthetic_code
from instructalign.randomness import Draws, permuted
from instructalign.types import ParallelRow

SlotsAndAnswer = tuple[Mapping[str, str], str]
"""The texts for the slots of a prompt, and the answer."""


class IndexedRows(Protocol):
    """Parallel rows by number: a `data.Corpus`, or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ParallelRow: ...
    def __iter__(self) -> Iterator[ParallelRow]: ...


class Context:
    """What an objective may use besides the row.

    Attributes:
        corpus: all parallel rows to train on.
        noise: makes a text noisy as configured.
    """

    def __init__(self, corpus: IndexedRows, noise: Noise, seed: int) -> None:
        self.corpus = corpus
        self.noise = noise
        self._seed = seed
        self._aligners: dict[tuple[str, str], WordAligner] = {}

    def aligner(self, source: str, target: str) -> WordAligner:
        """The word aligner of a language pair, learned from the corpus at the first call.

        Both directions share one. Of a large corpus it sees some 10 000 rows, chosen by the seed.
        """
        if (source, target) not in self._aligners:
            first, second = sorted((source, target))
            size = len(self.corpus)
            rows = (self.corpus[permuted(number, size, self._seed, "aligner")].texts for number in range(size))
            sides = (
                [texts.get(code) or texts.get(synthetic_code(code)) for code in (first, second)] for texts in rows
            )
            pairs = ((one, other) for one, other in sides if one and other)
            self._aligners[first, second] = train_aligner(pairs)
            self._aligners[second, first] = self._aligners[first, second].reversed()
        return self._aligners[source, target]


class Objective:
    """Base of the objectives.

    Attributes:
        slots: the slots that a template must have, besides the optional language names.
        labels: the answers of a closed question; a template set has the words for them.
        monolingual: whether only one language is used; the source is then the target, and monolingual text serves
            as well as parallel rows do.
        passages: whether it takes passages of monolingual text, several lines of a document, instead of rows.
        characters: length of a passage, at most; None for the usual one.
    """

    slots: ClassVar[tuple[str, ...]]
    labels: ClassVar[tuple[str, ...]] = ()
    monolingual: ClassVar[bool] = False
    passages: ClassVar[bool] = False
    characters: int | None = None

    @classmethod
    def asks(cls, **options: Any) -> bool:
        """Whether it has its prompts from templates, given its options; otherwise the one slot is the prompt."""
        return True

    def prepare(self, directions: Sequence[tuple[str, str]], context: Context) -> None:
        """Reads or learns what `make` needs, once.

        Args:
            directions: every (source, target) of the stream.
            context: the corpus, and the noise.
        """

    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        """Turns a row into the parts of a prompt and its answer.

        Args:
            row: the row; it has text in both languages.
            source: code of the source language.
            target: code of the target language.
            draws: random numbers, a function of the example's index only.
            context: the corpus, and the noise.

        Returns:
            The texts for the slots, and the answer: a text, or one of `labels`. None if the objective does not
            apply to this row in this direction; then another row is drawn.
        """
        raise NotImplementedError


class WordAlignmentObjective(Objective):
    """Base of the objectives that use word alignments, learned from the corpus before the first example."""

    @override
    def prepare(self, directions: Sequence[tuple[str, str]], context: Context) -> None:
        for source, target in directions:
            context.aligner(source, target)
