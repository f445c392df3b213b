"""Scores as one long table: exact look-up, selection by columns, JSON rows. pandas is imported on first use."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import TYPE_CHECKING, Any

from instructalign.errors import DataError
from instructalign.types import Score

if TYPE_CHECKING:
    from pandas import DataFrame

SCORE_COLUMNS = tuple(each.name for each in fields(Score))
"""run, task, language, group, metric, value, low, high, n, signature: the columns of `report.json`."""

GROUPS = {"L1": "known", "L2": "new", "L3": "related"}
BASE = "base"  # name of the model before training
COPYING = "copying"
"""The baseline of translation: the source itself, which shares words and letters with a related language."""
BASELINES = ("random", "majority", COPYING)  # the first two are of classification tasks

_REQUIRED = SCORE_COLUMNS[:6]  # those without a default
_HEADLINES = ("f1_weighted", "accuracy", "chrf")  # the first that a task has is shown and compared

BITS = "bits_per_byte"
"""The metric of plain text: the bits that a model needs for a byte. Lower is better; a gain is what it saves."""


def is_in_bits(row: Score) -> bool:
    """Whether a row is in bits per byte, be it a score, a gain or a deviation; all others are shares."""
    return row.metric.startswith(BITS) or row.signature.get("metric") == BITS


class ScoreTable(Sequence[Score]):
    """Scores in a fixed order.

    Args:
        scores: the rows. Of two that agree in run, task, metric, group and language, `get` returns the first.
    """

    def __init__(self, scores: Iterable[Score] = ()) -> None:
        self._scores = tuple(scores)

    @classmethod
    def from_rows(cls, rows: Iterable[Any], where: str = "scores") -> ScoreTable:
        """Reads the rows of a `scores.json` or `report.json`, which may have more keys than a score.

        A signature written by an earlier version, a string, becomes `{"text": …}`.

        Raises:
            DataError: a row is not a score; the message starts with `where` and the row's number, from 0.
        """
        scores = []
        for number, row in enumerate(rows):
            missing = [name for name in _REQUIRED if not isinstance(row, Mapping) or name not in row]
            if missing:
                raise DataError(f"{where} {number}: not a score: {', '.join(missing)} missing.")
            known = {name: row[name] for name in SCORE_COLUMNS if name in row}
            if not isinstance(known.get("signature", {}), Mapping):
                known["signature"] = {"text": str(known["signature"])}
            scores.append(Score(**known))
        return cls(scores)

    @cached_property
    def frame(self) -> DataFrame:
        """The table as a data frame with the columns `SCORE_COLUMNS`; missing bounds are NaN."""
        from pandas import DataFrame

        table = DataFrame([[getattr(score, name) for name in SCORE_COLUMNS] for score in self._scores])
        table = table.set_axis(SCORE_COLUMNS, axis=1) if len(table) else DataFrame(columns=SCORE_COLUMNS)
        return table.astype({"value": float, "low": float, "high": float, "n": int})

    @cached_property
    def _index(self) -> dict[tuple[str, str, str, str, str], Score]:
        # From the last to the first, so that the first of equal keys is kept.
        return {(s.run, s.task, s.metric, s.group, s.language): s for s in reversed(self._scores)}

    def get(self, run: str, task: str, metric: str, group: str = "", language: str = "") -> Score | None:
        """The score with exactly these keys (a group's own score has no language); None where there is none."""
        return self._index.get((run, task, metric, group, language))

    def select(self, **columns: Any) -> ScoreTable:
        """The rows whose columns have the values given: one value, or a list, tuple or set of those allowed."""
        chosen = range(len(self._scores))
        if self._scores:
            mask = self.frame["run"].notna()
            for name, value in columns.items():
                values = value if isinstance(value, (list, tuple, set, frozenset)) else [value]
                mask &= self.frame[name].isin(list(values))
            chosen = mask.to_numpy().nonzero()[0]
        return ScoreTable(self._scores[place] for place in chosen)

    def unique(self, column: str) -> list[Any]:
        """The values of a column without repetitions, in their order."""
        return list(dict.fromkeys(getattr(score, column) for score in self._scores))

    def __add__(self, others: Iterable[Score]) -> ScoreTable:
        return ScoreTable((*self._scores, *others))

    def __getitem__(self, place: Any) -> Any:
        return ScoreTable(self._scores[place]) if isinstance(place, slice) else self._scores[place]

    def __len__(self) -> int:
        return len(self._scores)

    def __iter__(self) -> Iterator[Score]:
        return iter(self._scores)


def signature_text(signature: Mapping[str, Any]) -> str:
    """A signature in one line, for people: `task:nusax_senti|languages:ace+ban|n:400+400|…`."""

    def plain(value: Any) -> str:
        if isinstance(value, Mapping):
            return ",".join(f"{name}:{plain(inner)}" for name, inner in value.items())
        return "+".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

    return "|".join(f"{name}:{plain(value)}" for name, value in signature.items())


def signature_key(signature: Mapping[str, Any]) -> str:
    """A signature as a string that is equal for equal signatures, be they from memory or from JSON."""
    return json.dumps(signature, sort_keys=True, ensure_ascii=False)


def headline(scores: Iterable[Score], task: str) -> str:
    """The metric of a task that is shown first, and compared: the one that the task names, if any."""
    own = [score for score in scores if score.task == task]
    if named := next((str(score.signature["headline"]) for score in own if "headline" in score.signature), ""):
        return named
    metrics = list(dict.fromkeys(score.metric for score in own))
    return next((metric for metric in _HEADLINES if metric in metrics), metrics[0] if metrics else _HEADLINES[0])


def groups_of(scores: Iterable[Score], task: str) -> dict[str, list[str]]:
    """The language codes of each group (L1, L2, L3) that a task was scored in."""
    pairs = dict.fromkeys(
        (score.group, score.language) for score in scores if score.task == task and score.language
    )
    return {group: codes for group in GROUPS if (codes := [code for name, code in pairs if name == group])}


def is_base(run: str) -> bool:
    """Whether a row's run is a model before training."""
    return run == BASE or run.startswith(f"{BASE} of ")


def is_baseline(run: str) -> bool:
    """Whether a row's run is a baseline, of every run or of one."""
    return run in BASELINES or run.startswith(tuple(f"{name} of " for name in BASELINES))
