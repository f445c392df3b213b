"""What objectives share: the corpus, the noise, and word alignments learnt from the corpus."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from instructalign.instructions.noise import Noise
from instructalign.instructions.word_alignment import Aligner, train_aligner
from instructalign.randomness import permuted
from instructalign.types import ParallelRow


class Rows(Protocol):
    """Parallel rows by number: a `corpora.Corpus`, or a list."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> ParallelRow: ...
    def __iter__(self) -> Iterator[ParallelRow]: ...


class Context:
    """What an objective may use beside the sentence in hand.

    Attributes:
        corpus: all rows there are to train on.
        noise: makes a text noisy as configured.
    """

    def __init__(self, corpus: Rows, noise: Noise, seed: int) -> None:
        self.corpus = corpus
        self.noise = noise
        self._seed = seed
        self._aligners: dict[tuple[str, str], Aligner] = {}

    def aligner(self, source: str, target: str) -> Aligner:
        """The word aligner of a language pair, learnt from the corpus when it is first asked for.

        Both directions share one. Of a large corpus it sees some 10 000 rows, chosen by the seed.
        """
        if (source, target) not in self._aligners:
            first, second = sorted((source, target))
            aligner = train_aligner(self._pairs(first, second))
            self._aligners[first, second] = aligner
            self._aligners[second, first] = aligner.reversed()
        return self._aligners[source, target]

    def _pairs(self, first: str, second: str) -> Iterator[tuple[str, str]]:
        size = len(self.corpus)
        for number in range(size):
            texts = self.corpus[permuted(number, size, self._seed, "aligner")].texts
            if first in texts and second in texts:
                yield texts[first], texts[second]
