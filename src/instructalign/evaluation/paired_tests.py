"""What changed between two models that were asked the same: gains with intervals, and tests of them.

The interval of a gain is that of the paired bootstrap over items (Koehn 2004). Its p-value is that of approximate
randomisation (Noreen 1989; for test scores Riezler and Maxwell 2005): if the two models did not differ, each
item's two sets of answers could as well have come from the other model, so that the gain is compared with the
gains after swapping the answers of items chosen at random.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Asked,
    Bootstrap,
    Outcome,
    Sample,
    Signature,
    Values,
    sample_of,
    score_rows,
)
from instructalign.types import Score

EQUAL = 1e-12  # differences below this are rounding


def compare_outcomes(
    base: Sequence[Outcome],
    adapted: Sequence[Outcome],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    signature: Signature,
    metric: str = "f1_weighted",
) -> list[Score]:
    """`compare_samples` of what two models answered on one classification task.

    Raises:
        DataError: the two were not asked the same.
    """
    before, after = ([sample_of(outcome, metric) for outcome in some] for some in (base, adapted))
    return compare_samples(before, after, groups, run, bootstrap, signature, metric)


def compare_samples(
    base: Sequence[Sample],
    adapted: Sequence[Sample],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    signature: Signature,
    metric: str,
) -> list[Score]:
    """What adapting a model changed on one task.

    `gain` is after − before; `forgetting` is before − after on the known languages, L1 (Lopez-Paz and Ranzato
    2017 call its negative backward transfer). `gain_p` is the two-sided p-value of a gain, and `gain_p_holm` the
    same after Holm's correction: over all languages of the task, and over the groups.

    Args:
        base, adapted: one sample a language each; the same items and prompts in both.
        groups: language codes by group.
        run: name of the adapted run.
        bootstrap: gives the intervals and tests; both models are resampled alike.
        signature: says what a score measures.
        metric: the score that is compared, for the signature.

    Raises:
        DataError: the two were not asked the same.
    """
    before = {sample.language: sample for sample in base}
    both = [sample for sample in adapted if sample.language in before]
    gains: dict[str, Values] = {}
    for sample in both:
        gains[sample.language] = difference(before[sample.language], sample, bootstrap).mean(0)
    known = [sample for sample in both if sample.language in groups.get("L1", ())]
    losses = {sample.language: -gains[sample.language] for sample in known}

    def about(chosen: Sequence[Asked]) -> Mapping[str, Any]:
        return {**signature(chosen), "metric": metric}

    rows = score_rows(both, gains, groups, run, "gain", about)
    rows += score_rows(known, losses, {"L1": groups.get("L1", ())}, run, "forgetting", about)
    if bootstrap.rounds:
        swapped = {sample.language: _swapped(before[sample.language], sample, bootstrap) for sample in both}
        rows += _tests(score_rows(both, swapped, groups, run, "gain_p", about), both, swapped, groups)
    return rows


def check_alike(before: Asked, after: Asked) -> None:
    """Raises a DataError where two models were not asked the same."""
    for what in ("labels", "prompts", "items"):
        if getattr(before, what) != getattr(after, what):
            raise DataError(
                f"{before.task} in {before.language}: the two models were not asked the same {what}; evaluate "
                "both with one configuration."
            )


def _swapped(before: Sample, after: Sample, bootstrap: Bootstrap) -> Values:
    """The gain, averaged over prompts, and behind it the gains after random swaps: [1 + rounds]."""
    swaps = bootstrap.swaps(after.items)
    total = np.zeros(len(swaps))
    for old, new in zip(before.statistics, after.statistics, strict=True):
        moved = (swaps @ (new - old)).astype(np.float64)
        total += after.score(new.sum(0, dtype=np.float64) - moved) - before.score(
            old.sum(0, dtype=np.float64) + moved
        )
    return total / len(after.statistics)


def p_value(differences: Values) -> float:
    """The share of random differences at least as far from 0 as the observed one, which stands first.

    The observed one counts among them, so that p is never 0 and the test keeps its level (Phipson and Smyth 2010).
    """
    return float((np.abs(differences) >= abs(differences[0]) - EQUAL).mean())


def _tests(
    rows: Sequence[Score],
    samples: Sequence[Sample],
    swapped: Mapping[str, Values],
    groups: Mapping[str, Sequence[str]],
) -> list[Score]:
    """Rows of p-values, as they are and corrected, in place of rows that hold the differences."""
    found = []
    for row in rows:
        codes = (
            [row.language] if row.language else [s.language for s in samples if s.language in groups[row.group]]
        )
        value = p_value(np.mean([swapped[code] for code in codes], axis=0))
        signature = {**row.signature, "test": "approximate randomisation", "swaps": len(swapped[codes[0]]) - 1}
        found.append(replace(row, value=value, low=None, high=None, signature=signature))
    corrected = []
    for family in ([row for row in found if row.language], [row for row in found if not row.language]):
        for row, value in zip(family, holm([row.value for row in family]), strict=True):
            signature = {**row.signature, "holm": len(family)}
            corrected.append(replace(row, metric="gain_p_holm", value=value, signature=signature))
    return found + corrected


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number (Holm 1979): of families tested at 5 %, one in twenty errs at all."""
    adjusted = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted


def difference(base: Sample, adapted: Sample, bootstrap: Bootstrap) -> NDArray[np.float64]:
    """The gain under each prompt, on the items and on every draw: [prompts, 1 + rounds].

    Raises:
        DataError: the two were not asked the same.
    """
    check_alike(base, adapted)
    return bootstrap.by_prompt(adapted) - bootstrap.by_prompt(base)
