"""The result in words: what was learned, kept and carried over, and what makes scores incomparable or inflated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from instructalign.data.contamination import SEVERE_SHARE
from instructalign.evaluation.gains import GAIN
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.run_comparison import Baselines
from instructalign.evaluation.score_table import ScoreTable, headline, is_in_bits
from instructalign.report.number_format import NBSP, as_points, decimals, join_with_and, signed
from instructalign.report.report_facts import ReportFacts, block_of
from instructalign.report.report_tables import unique
from instructalign.report.run_results import RunResults
from instructalign.types import Score

_MAX_VERDICTS = 6  # the tables have the rest
_FEWEST_FOR_INTERVAL = 6  # points below which resampling them says nothing about their correlation
_FEWEST_ITEMS = 20  # fewer are no evidence, whatever an interval of resampling them says
_POINT = 0.01  # a measurable change below a point is called that
_PLACES = {"L2": "the new languages", "L1": "the known ones", "L3": "related ones"}
_VERDICTS = {  # by group: a measurable gain, a measurable loss, neither
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
    "L3": ("carried over to related ones", "lost on related ones", "changed nothing measurable on related ones"),
}
_COMPARED = {  # the fields of a signature that must agree, in words; `questions` is a hash over all of them
    "split": "items",
    "n": "items",
    "prompts": "prompts",
    "scoring": "scoring rules",
    "shots": "numbers of examples",
    "questions": "items or prompt wordings",
}


def summary(facts: ReportFacts) -> list[tuple[str, str]]:
    """The verdicts of a report as (run, what it did) pairs; the runs of several seeds have one together."""
    together = {run.name for group in facts.seeds for run in group.runs} if facts.over_seeds else set()
    bases = facts.bases | {g.name: g.runs[0].base.name for g in facts.seeds if g.runs[0].base}
    starts = [row for row in facts.scores if row.run in bases.values()]
    over = verdicts([*starts, *facts.over_seeds], facts.baselines, bases, facts.title)
    alone = verdicts([row for row in facts.scores if row.run not in together], facts.baselines, bases, facts.title)
    return [*over, *alone][:_MAX_VERDICTS]


def verdicts(
    rows: Iterable[Score],
    baselines: Baselines | None = None,
    bases: Mapping[str, str] | None = None,
    title: Callable[[str], str] = str,
) -> list[tuple[str, str]]:
    """A sentence for each run and task, from the paired gains over the base; the best run first.

    Best is the run with the highest mean of L1 and L2 on the first task: what was learned counts as much as what
    was kept. The verdict on a group follows the interval of its gain: where it includes 0, nothing measurable
    changed; fewer than 20 items have no verdict. A base that was not measurably above the baselines has nothing to
    forget, and a score that does not end above them is not called learned.

    Args:
        rows: scores as in `report.json`.
        baselines: the random and majority baselines.
        bases: by run, the model that it started from.
        title: the title of a task, from its name.

    Returns:
        (run, what it did) pairs; one after the other they are a sentence.
    """
    scores = ScoreTable(rows)
    tasks, runs = (unique(getattr(row, key) for row in scores if row.metric == GAIN) for key in ("task", "run"))

    def balance(run: str) -> float:
        found = [scores.get(run, tasks[0], headline(scores, tasks[0]), group) for group in ("L1", "L2")]
        values = [-row.value if is_in_bits(row) else row.value for row in found if row]
        return sum(values) / len(values) if values else 0.0

    return [
        (run, f"({title(task)}) {join_with_and(clauses)}." if len(tasks) > 1 else f"{join_with_and(clauses)}.")
        for task in tasks
        for run in sorted(runs, key=balance, reverse=True)
        if (clauses := _clauses(scores, run, task, baselines or Baselines(), (bases or {}).get(run, "")))
    ]


def _clauses(scores: ScoreTable, run: str, task: str, baselines: Baselines, base: str) -> list[str]:
    """What a run did to each group, with the numbers before and after."""
    metric = headline(scores, task)
    clauses = []
    for group in _VERDICTS:
        gain, after = (scores.get(run, task, name, group) for name in (GAIN, metric))
        before = scores.get(base, task, metric, group)
        if gain is None:
            continue
        if after is None:
            numbers = f"{signed(100 * gain.value, decimals([100 * gain.value]))} points"
        elif is_in_bits(after):
            numbers = f"{after.value + gain.value:.3f} → {after.value:.3f} bits per byte"
        else:
            start = after.value - gain.value
            digits = decimals((100 * start, 100 * after.value))
            numbers = f"{as_points(start, digits)} → {as_points(after.value, digits)}"
        numbers = f"{group} {numbers}".replace(" ", NBSP)
        if gain.n < _FEWEST_ITEMS:
            clauses.append(f"has {gain.n} items on {_PLACES[group]}, too few for a verdict ({numbers})")
            continue
        baseline = baselines.value_for(after) if after else None
        words = ""
        # Where the base was not above the baselines, they decide what can be said of the change.
        if after and before and baseline is not None and not baselines.are_below(before):
            words = _against_baselines(group, gain, after, baseline, baselines.are_below(after))
        if words:
            clauses.append(f"{words} ({numbers}; baseline{NBSP}{as_points(baseline or 0.0)})")
        else:
            clauses.append(f"{_verdict(group, gain)} ({numbers})")
    return clauses


def _against_baselines(group: str, gain: Score, after: Score, baseline: float, is_above: bool) -> str:
    """The verdict where the base was not above the baselines; empty where the usual one holds."""
    if is_above and (_rose(gain) or group != "L1"):
        return ""
    if group == "L1":
        return f"had nothing measurable to forget on {_PLACES[group]}, where the base was not above the baselines"
    if _rose(gain):
        return f"gained on {_PLACES[group]}, but did not get above the baselines"
    is_below = after.high is not None and after.high < baseline
    return f"fell below the baselines on {_PLACES[group]}" if _fell(gain) and is_below else ""


def _verdict(group: str, gain: Score) -> str:
    better, worse, same = _VERDICTS[group]
    if not (_rose(gain) or _fell(gain)):
        return same
    if abs(gain.value) < _POINT:
        unit = "0.01 bits per byte" if is_in_bits(gain) else "a point"
        return f"{'gained' if _rose(gain) else 'lost'} less than {unit} on {_PLACES[group]}"
    return better if _rose(gain) else worse


def _rose(gain: Score) -> bool:
    return gain.low is not None and gain.low > 0


def _fell(gain: Score) -> bool:
    return gain.high is not None and gain.high < 0


def correlation_sentence(correlation: Iterable[Score], points: str) -> str:
    """The correlation of L2 and L3 gains over points, named in the plural; empty where there is none."""
    found = {row.metric: row for row in correlation}
    if "pearson" not in found:
        return ""
    parts = []
    for metric, symbol in (("pearson", "Pearson's r"), ("spearman", "Spearman's ρ")):
        row = found[metric]
        text = f"{symbol} = {signed(row.value, 2)}"
        if row.n >= _FEWEST_FOR_INTERVAL and row.low is not None and row.high is not None:
            text += f" (95{NBSP}% confidence interval {signed(row.low, 2)} to {signed(row.high, 2)})"
        parts.append(text.replace("+", ""))
    count = found["pearson"].n
    doubt = "" if count >= _FEWEST_FOR_INTERVAL else " Too few points for an interval: a hint at most."
    return f"Gains on L2 and L3: {', '.join(parts)}, over {count} points ({points}).{doubt}"


def incomparable(runs: Sequence[RunResults], title: Callable[[str], str] = str) -> list[str]:
    """A sentence for each task on which runs were not evaluated on the same items with the same prompts."""
    models = [(run.name, model) for run in runs if (model := run.adapted or run.base) is not None]
    sentences = []
    for task in unique(score.task for _, model in models for score in model.scores if score.language):
        # The sets of runs that agree, with the signatures of their scores by language.
        sets: list[tuple[dict[str, Mapping[str, Any]], list[str]]] = []
        for name, model in models:
            signatures = _signatures(model, task)
            same = next((each for each in sets if not _differing(each[0], signatures)), None)
            if same is not None:
                same[0].update(signatures)
                same[1].append(name)
            elif signatures:
                sets.append((signatures, [name]))
        sets = [some for some in sets if some[0]]
        if len(sets) > 1:
            others = [
                f"{join_with_and(names)} with other {join_with_and(_differing(sets[0][0], signatures))}"
                for signatures, names in sets[1:]
            ]
            sentences.append(
                f"Scores on {title(task)} are not comparable: {join_with_and(others)} than "
                f"{join_with_and(sets[0][1])}."
            )
    return sentences


def _signatures(model: ModelResults, task: str) -> dict[str, Mapping[str, Any]]:
    metric = headline(model.scores, task)
    return {s.language: s.signature for s in model.scores if (s.task, s.metric) == (task, metric) and s.language}


def _differing(one: Mapping[str, Mapping[str, Any]], other: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """In words, what differs in the languages of both."""
    pairs = [(one[code], other[code]) for code in one.keys() & other.keys()]
    fields = [key for key in _COMPARED if any(a.get(key) != b.get(key) for a, b in pairs)]
    if len(fields) > 1 or one.keys() != other.keys():
        fields = [key for key in fields if key != "questions"]
    return unique(_COMPARED[key] for key in fields)


def contaminated(facts: ReportFacts) -> list[str]:
    """A sentence for each run and kind of data that was trained on a good part of a test set."""
    sentences = []
    for run in facts.runs:
        found = block_of(run.record, "contamination")
        if found.get("action") == "drop":
            continue
        for where, data in (
            ("corpora", "training corpora"),
            ("replay", "replay data"),
            ("instruction_data", "instruction data"),
        ):
            counted = [(each, each["exact"] + each["near"]) for each in found.get("leaked", ())]
            sets = [
                f"{facts.title(each['task'])} in {facts.label(each['language'])} ({count} of {each['size']} items)"
                for each, count in counted
                if each["where"] == where and count >= SEVERE_SHARE * each["size"]
            ]
            if sets:
                more = f" and {len(sets) - 3} more" if len(sets) > 3 else ""
                sentences.append(
                    f"{run.name} was trained on test items found in its {data}: {', '.join(sets[:3])}{more}. "
                    "These scores are not zero-shot; `contamination: drop` removes the items."
                )
    return sentences
