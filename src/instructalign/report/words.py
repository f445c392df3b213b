"""The result in words: what was learned, what was kept, what carried over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instructalign.evaluation.comparison import Baselines
from instructalign.evaluation.paired_tests import GAIN
from instructalign.evaluation.score_table import headline
from instructalign.report.number_format import NBSP, as_points, decimals, signed
from instructalign.report.tables import points, unique
from instructalign.types import Score

_VERDICTS = {
    "L2": (
        "learned the new languages",
        "got worse at the new languages",
        "gained nothing measurable on the new languages",
    ),
    "L1": (
        "even gained on the known ones",
        "forgot part of what it knew",
        "lost nothing measurable on the known ones",
    ),
    "L3": ("carried over to related ones", "lost on related ones", "did not move related ones measurably"),
}
_PLACES = {"L2": "the new languages", "L1": "the known ones", "L3": "related ones"}
_POINT = 0.01  # a change below it, be it ever so certain, gets no strong word


def verdicts(
    rows: Sequence[Score], baselines: Baselines | None = None, bases: Mapping[str, str] | None = None
) -> list[tuple[str, str]]:
    """A sentence for each run and task, from the paired gains over the base; the best run first.

    Best is the run with the highest mean of L1 and L2 on the first task: what was learned counts as much as
    what was kept. The verdict on a group follows the interval of its gain: where it includes 0, the change is
    called not measurable; a measurable one below a point is called that. Of a base that was not measurably
    better than guessing nothing can be forgotten, and what does not end above guessing is not called learned.

    Args:
        rows: scores as in `report.json`.
        baselines: the random and majority baselines.
        bases: by run, the model that it started from.

    Returns:
        (the run, what it did) pairs; one after the other they are a sentence.
    """
    tasks = unique(row.task for row in rows if row.metric == GAIN)
    runs = unique(row.run for row in rows if row.metric == GAIN)
    runs.sort(key=lambda run: -_balance(rows, run, tasks[0]))
    several = len(tasks) > 1
    return [
        (run, f"({task}) {parts}." if several else f"{parts}.")
        for task in tasks
        for run in runs
        if (parts := _clauses(rows, run, task, baselines or Baselines(), (bases or {}).get(run, "")))
    ]


def _balance(rows: Sequence[Score], run: str, task: str) -> float:
    """The mean of a run's L1 and L2."""
    metric = headline(rows, task)
    found = [
        row.value
        for row in rows
        if (row.run, row.task, row.metric, row.language) == (run, task, metric, "") and row.group in ("L1", "L2")
    ]
    return sum(found) / len(found) if found else 0.0


def _clauses(rows: Sequence[Score], run: str, task: str, baselines: Baselines, base: str) -> str:
    metric = headline(rows, task)
    clauses = []
    for group in _VERDICTS:
        gain = _find(rows, run, task, GAIN, group)
        after = _find(rows, run, task, metric, group)
        if gain is None:
            continue
        before = _find(rows, base, task, metric, group)
        if after is None:
            numbers = f"{signed(100 * gain.value, decimals([100 * gain.value]))} points"
        else:
            start = after.value - gain.value
            digits = decimals((100 * start, 100 * after.value))
            numbers = f"{as_points(start, digits)} → {points(after, digits)}"
        numbers = f"{group} {numbers}".replace(" ", NBSP)
        if after is not None and (words := _against_guessing(group, gain, before, after, baselines)):
            guess = baselines.value_for(after) or 0.0
            clauses.append(f"{words} ({numbers}; guessing{NBSP}{as_points(guess)})")
        else:
            clauses.append(f"{_verdict(group, gain)} ({numbers})")
    return clauses[0] if len(clauses) == 1 else f"{', '.join(clauses[:-1])} and {clauses[-1]}" if clauses else ""


def _against_guessing(group: str, gain: Score, before: Score | None, after: Score, baselines: Baselines) -> str:
    """What to say instead of the verdict where the base was no better than guessing; empty where it holds."""
    guess = baselines.value_for(after)
    if guess is None or before is None or baselines.are_below(before):
        return ""
    if baselines.are_below(after) and (_above(gain) or group != "L1"):
        return ""
    if group == "L1":
        return f"had nothing measurable to forget on {_PLACES[group]}, where the base was no better than guessing"
    if _above(gain):
        return f"moved on {_PLACES[group]}, but not above guessing"
    below = after.high is not None and after.high < guess
    return f"ended below guessing on {_PLACES[group]}" if _below(gain) and below else ""


def _verdict(group: str, gain: Score) -> str:
    better, worse, same = _VERDICTS[group]
    if not (_above(gain) or _below(gain)):
        return same
    if abs(gain.value) < _POINT:
        return f"{'gained' if _above(gain) else 'lost'} less than a point on {_PLACES[group]}"
    return better if _above(gain) else worse


def _above(gain: Score) -> bool:
    return gain.low is not None and gain.low > 0


def _below(gain: Score) -> bool:
    return gain.high is not None and gain.high < 0


def _find(rows: Sequence[Score], run: str, task: str, metric: str, group: str) -> Score | None:
    wanted = (run, task, metric, group, "")
    return next((row for row in rows if (row.run, row.task, row.metric, row.group, row.language) == wanted), None)
