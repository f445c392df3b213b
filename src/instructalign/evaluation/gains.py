"""What changed between two models on the same items and prompts: gains with intervals, and significance tests.

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

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, BootstrapScores, Sample, Signer, score_rows
from instructalign.types import Score

GAIN, FORGETTING = "gain", "forgetting"
GAIN_P, GAIN_P_HOLM = "gain_p", "gain_p_holm"
"""The metrics of a comparison: after − before, before − after on L1, p of the gain, and p after Holm."""

_ROUNDING = 1e-12  # differences below this are rounding


def compare_samples(
    base: Sequence[Sample],
    adapted: Sequence[Sample],
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    sign: Signer,
    metric: str,
) -> list[Score]:
    """What adapting a model changed on one task.

    `gain` is after − before, or before − after where a lower score is better; `forgetting` is its negative on the
    known languages, L1 (Lopez-Paz and Ranzato 2017 call it negative backward transfer). `gain_p` is the two-sided
    p-value of a gain, and `gain_p_holm` the same after Holm's correction: over all languages of the task, and over
    the groups.

    Args:
        base, adapted: one sample a language each; the same items and prompts in both.
        groups: language codes by group.
        run: name of the adapted run.
        bootstrap: gives the intervals and tests; both models are resampled alike.
        sign: makes the signatures.
        metric: the score that is compared, for the signature.

    Raises:
        DataError: the two were not evaluated on the same items, prompts or labels.
    """
    before = {sample.language: sample for sample in base}
    both = [sample for sample in adapted if sample.language in before]
    for sample in both:
        check_alike(before[sample.language], sample)
    gains = {
        s.language: s.sign * (bootstrap.by_prompt(s) - bootstrap.by_prompt(before[s.language])).mean(0)
        for s in both
    }

    def about(members: Sequence[Sample]) -> Mapping[str, Any]:
        return {**sign(members), "metric": metric}

    rows = score_rows(both, gains, groups, run, GAIN, about)
    known = [sample for sample in both if sample.language in groups.get("L1", ())]
    losses = {sample.language: -gains[sample.language] for sample in known}
    rows += score_rows(known, losses, {"L1": groups.get("L1", ())}, run, FORGETTING, about)
    if not bootstrap.resamples:
        return rows
    swapped = {sample.language: _swapped(before[sample.language], sample, bootstrap) for sample in both}
    tests = []
    for row in score_rows(both, swapped, groups, run, GAIN_P, about):
        codes = [row.language] if row.language else [s.language for s in both if s.language in groups[row.group]]
        p = p_value(np.mean([swapped[code] for code in codes], axis=0))
        how = {**row.signature, "test": "approximate randomisation", "swaps": bootstrap.resamples}
        tests.append(replace(row, value=p, low=None, high=None, signature=how))
    rows += tests
    # Languages and groups are two families of hypotheses, each corrected for its own size.
    for family in ([row for row in tests if row.language], [row for row in tests if not row.language]):
        for row, corrected in zip(family, holm([row.value for row in family]), strict=True):
            how = {**row.signature, "holm": len(family)}
            rows.append(replace(row, metric=GAIN_P_HOLM, value=corrected, signature=how))
    return rows


def check_alike(before: Sample, after: Sample) -> None:
    """Raises a DataError where two models were not evaluated on the same items, prompts and labels."""
    for what in ("labels", "prompts", "items"):
        if getattr(before, what) != getattr(after, what):
            raise DataError(
                f"{before.task} in {before.language}: the two models were not evaluated on the same {what}; "
                "evaluate both with one configuration."
            )


def _swapped(before: Sample, after: Sample, bootstrap: Bootstrap) -> BootstrapScores:
    """The gain, averaged over prompts, then the gains after random swaps: [1 + resamples]."""
    swaps = bootstrap.swaps(after.items)
    total = np.zeros(len(swaps))
    for old, new in zip(before.statistics, after.statistics, strict=True):
        moved = (swaps @ (new - old)).astype(np.float64)
        total += after.score(new.sum(0, dtype=np.float64) - moved)
        total -= before.score(old.sum(0, dtype=np.float64) + moved)
    return after.sign * total / len(after.statistics)


def p_value(differences: BootstrapScores) -> float:
    """The share of random differences at least as far from 0 as the observed one, which is the first.

    The observed one counts among them, so that p is never 0 and the test keeps its level (Phipson and Smyth 2010).
    """
    return float((np.abs(differences) >= abs(differences[0]) - _ROUNDING).mean())


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for their number, which controls the family-wise error rate (Holm 1979)."""
    adjusted = [0.0] * len(values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(values)), key=lambda i: values[i])):
        highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
        adjusted[index] = highest
    return adjusted
