"""The units of an epoch: every row in every direction."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import islice, product

from instructalign.corpora.corpus import language_runs
from instructalign.errors import DataError
from instructalign.instructions.context import Rows
from instructalign.records import Counts, ParallelRow

Direction = tuple[str, str]


class Units:
    """All (row, source, target) there are, by number, without a list of them.

    Args:
        corpus: the rows.
        pivots: languages on one side of a unit.
        targets: languages on the other; either side can be the source.

    Attributes:
        count: how many units there are.
        directions: every (source, target) among them.
        counts: how many rows there are, how many have units, and why the others have none.

    Raises:
        DataError: there is no row, or a target stands in no row together with a pivot.
    """

    def __init__(self, corpus: Rows, pivots: Sequence[str], targets: Sequence[str]) -> None:
        self._corpus = corpus
        self._pivots, self._targets = pivots, targets
        self._patterns: list[list[Direction]] = []  # the directions of a row, by which languages it has
        # Of each run of rows with the same languages: its pattern, its first row, its first unit. FLORES is one
        # run, where a division finds the row; so is each corpus of two languages.
        self._pattern_of = array("I")
        self._first_rows = array("Q")
        self._first_units = array("Q")
        self.count = 0
        self.counts = Counts()
        self._go_through(corpus)
        self.directions = list(dict.fromkeys(pair for pattern in self._patterns for pair in pattern))
        self._check()

    def __getitem__(self, number: int) -> tuple[ParallelRow, str, str]:
        run = bisect_right(self._first_units, number) - 1 if len(self._first_units) > 1 else 0
        pattern = self._patterns[self._pattern_of[run]]
        at, place = divmod(number - self._first_units[run], len(pattern))
        source, target = pattern[place]
        return self._corpus[self._first_rows[run] + at], source, target

    def _go_through(self, corpus: Rows) -> None:
        wanted = frozenset([*self._pivots, *self._targets])
        known: dict[frozenset[str], int] = {}
        row, before = 0, -1
        for languages, rows in language_runs(corpus):
            have = wanted & languages
            if have not in known:
                known[have] = len(known)
                self._patterns.append(self._directions_of(have))
            pattern = known[have]
            width = len(self._patterns[pattern])
            if width and pattern != before:
                self._pattern_of.append(pattern)
                self._first_rows.append(row)
                self._first_units.append(self.count)
            before = pattern
            row += rows
            self.count += width * rows
            self._tally(have, width, rows)

    def _directions_of(self, have: frozenset[str]) -> list[Direction]:
        pairs = [(a, b) for a, b in product(self._pivots, self._targets) if a != b and {a, b} <= have]
        # A language can be both pivot and target; its pairs count once.
        return list(dict.fromkeys([*pairs, *((b, a) for a, b in pairs)]))

    def _tally(self, have: frozenset[str], units: int, rows: int) -> None:
        self.counts.read += rows
        if units:
            self.counts.kept += rows
        elif have.isdisjoint(self._pivots):
            self.counts.drop("no pivot language", rows)
        else:
            self.counts.drop("no target language", rows)

    def _check(self) -> None:
        if not self.counts.read:
            raise DataError("the corpus is empty: there is no row to make instructions from.")
        reached = {code for pair in self.directions for code in pair}
        missing = [code for code in self._targets if code not in reached]
        if missing:
            found = sorted({code for row in islice(self._corpus, 1000) for code in row.texts})
            raise DataError(
                f"languages.new or instructions.targets: no row of the corpus has {', '.join(missing)} together "
                f"with a pivot ({', '.join(self._pivots)}). The corpus has: {', '.join(found) or 'no text'}. "
                "Add a corpus with these languages, or take them out."
            )
