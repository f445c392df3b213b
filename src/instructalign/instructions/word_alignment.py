"""Statistical word alignment: which words of a sentence and its translation correspond.

Two IBM models 1 (Brown et al. 1993) with the diagonal prior of fast_align (Dyer, Chahuneau and Smith 2013),
one in each direction, trained by expectation maximisation on whole arrays. A link is trusted where both
models agree on it. Used by the objectives `align` and `codeswitch`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import exp
from typing import TYPE_CHECKING

from instructalign.data.normalization import fold
from instructalign.instructions.segmentation import words

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ITERATIONS = 5
_DIAGONAL = 2.0  # how quickly the probability of a link falls with its distance from the diagonal
_NULL = 0.08  # probability that a word has no counterpart
_DISCOUNT = 1.0  # added to the count of each word, so that a pair seen once is not certain
_TRUSTED = 0.1  # least product of both models' probabilities, times the diagonal's
_KEPT = 1e-3  # least product that the table holds
_CELLS = 6_000_000  # word pairs within sentence pairs that are learned from: 10 000 sentences of 25 words
_LONG = _CELLS // 100  # a sentence pair with more of them is skipped

TranslationTable = dict[str, dict[str, float]]

if TYPE_CHECKING:
    _Cells = tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]


class WordAligner:
    """Links the words of sentence pairs of one language pair.

    Args:
        table: for a word and a word of the other language, the product of both models' probabilities.
    """

    def __init__(self, table: TranslationTable) -> None:
        self.table = table

    def links(self, source: Sequence[str], target: Sequence[str]) -> list[tuple[int, int]]:
        """The trusted links of a sentence pair.

        Args:
            source, target: the words of the sentences, as of `segmentation.words`.

        Returns:
            Places (in source, in target) in the source's order; no place is in two links.
        """
        places: dict[str, list[int]] = {}
        for j, word in enumerate(target):
            places.setdefault(fold(word), []).append(j)
        for_source: dict[int, tuple[float, int]] = {}
        for_target: dict[int, tuple[float, int]] = {}
        for i, word in enumerate(source):
            row = self.table.get(fold(word), {})
            for other in row.keys() & places.keys():
                for j in places[other]:
                    score = row[other] * exp(-_DIAGONAL * abs((i + 0.5) / len(source) - (j + 0.5) / len(target)))
                    # Of equal scores the smaller place wins, whatever the iteration order of a set.
                    for_source[i] = max(for_source.get(i, (_TRUSTED, 0)), (score, -j))
                    for_target[j] = max(for_target.get(j, (_TRUSTED, 0)), (score, -i))
        return [
            (i, -j) for i, (score, j) in for_source.items() if score > _TRUSTED and for_target[-j] == (score, -i)
        ]

    def reversed(self) -> WordAligner:
        """The aligner of the opposite direction; it finds the same links."""
        table: TranslationTable = {}
        for word, row in self.table.items():
            for other, score in row.items():
                table.setdefault(other, {})[word] = score
        return WordAligner(table)


def train_aligner(pairs: Iterable[tuple[str, str]]) -> WordAligner:
    """Learns word translations from sentences and their translations.

    Args:
        pairs: sentences and their translations, best in random order: they are read until there is enough to
            learn from, some 10 000, which takes 400 MB of memory during training.
    """
    import numpy as np

    source_ids: dict[str, int] = {}
    target_ids: dict[str, int] = {}
    cells: list[_Cells] = []
    rows = columns = size = 0
    for first, second in pairs:
        source = [source_ids.setdefault(fold(word), len(source_ids)) for word in words(first)]
        target = [target_ids.setdefault(fold(word), len(target_ids)) for word in words(second)]
        if 0 < len(source) * len(target) <= _LONG:
            size += len(source) * len(target)
            if size > _CELLS:
                break
            cells.append(_cells(source, target, rows, columns))
            rows, columns = rows + len(source), columns + len(target)
    if not cells:
        return WordAligner({})
    keys, at_row, at_column, near = (np.concatenate(part) for part in zip(*cells, strict=True))
    cells.clear()
    keys, pair_of = np.unique(keys, return_inverse=True)
    pair_source, pair_target = keys >> 32, keys & 0xFFFFFFFF
    forward = _train(pair_of, pair_source, at_column, near, len(target_ids))  # P(target word | source word)
    backward = _train(pair_of, pair_target, at_row, near, len(source_ids))  # P(source word | target word)
    product = forward * backward
    source_words, target_words = list(source_ids), list(target_ids)
    table: TranslationTable = {}
    for pair in np.flatnonzero(product > _KEPT).tolist():
        row = table.setdefault(source_words[pair_source[pair]], {})
        # Rounded, so that the last bits of a processor's arithmetic decide nothing.
        row[target_words[pair_target[pair]]] = round(float(product[pair]), 6)
    return WordAligner(table)


def _cells(source: Sequence[int], target: Sequence[int], rows: int, columns: int) -> _Cells:
    """Every (source word, target word) of one sentence pair, as four arrays of the same length.

    They are: both word ids in one number, the running numbers of the two words within the corpus, and the
    diagonal prior, not normalised.
    """
    import numpy as np

    n, m = len(source), len(target)
    i, j = np.arange(n, dtype=np.int32), np.arange(m, dtype=np.int32)
    near = np.exp(-_DIAGONAL * np.abs(((i + 0.5) / n)[:, None] - ((j + 0.5) / m)[None, :]))
    keys = (np.asarray(source, dtype=np.int64) << 32)[:, None] | np.asarray(target, dtype=np.int64)[None, :]
    return keys.ravel(), np.repeat(i + rows, m), np.tile(j + columns, n), near.astype(np.float32).ravel()


def _train(
    pair_of: NDArray[np.int64],
    given: NDArray[np.int64],
    place: NDArray[np.int32],
    near: NDArray[np.float32],
    vocabulary: int,
) -> NDArray[np.float64]:
    """One model: the probability of each pair's other word, given its counterpart.

    Args:
        pair_of: number of the pair of words that each cell holds [cells].
        given: id of the given word of each pair [pairs].
        place: running number of the word to be explained, which its cells share [cells].
        near: the diagonal prior of each cell [cells].
        vocabulary: number of different words to be explained.
    """
    import numpy as np

    prior = near / np.bincount(place, near)[place] * (1 - _NULL)
    probability = np.full(len(given), 1 / vocabulary)
    for _ in range(_ITERATIONS):
        cell = prior * probability[pair_of]
        # A word can also have no counterpart: then any word is as likely as another.
        cell /= (np.bincount(place, cell) + _NULL / vocabulary)[place]
        count = np.bincount(pair_of, cell, minlength=len(given))
        probability = count / (np.bincount(given, count) + _DISCOUNT)[given]
    return probability
