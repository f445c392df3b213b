"""Test items that stand in the training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from instructalign.config import ContaminationAction
from instructalign.data import ContaminationCheck, Corpus, ItemIndex, ItemText, check_corpus
from instructalign.data.contamination import SEVERE_SHARE, ContaminatedSet, Contamination, contaminated_sets
from instructalign.doctor.findings import Findings, listed, percent
from instructalign.mixture import ReplayBuffer
from instructalign.mixture.replay import check_replay
from instructalign.progress import Progress, silent

ADVICE = {
    "corpora": "Set contamination to drop, which leaves these out, or take another corpus or evaluation.tasks.",
    "replay": "Set contamination to drop, which leaves these out, or take another replay.source or "
    "evaluation.tasks, or read their scores with this in mind.",
}


@dataclass(frozen=True, slots=True)
class LeakPart:
    """What of the test sets stands in the training data.

    Attributes:
        checked: rows and replayed examples looked at.
        texts: texts of test items looked for.
        dropped: rows and replayed examples that a run leaves out for it.
        leaked: what was found, by kind of training data and test set.
    """

    checked: int
    texts: int
    dropped: int
    leaked: tuple[ContaminatedSet, ...]


def examine_leaks(
    corpus: Corpus | None,
    replay: ReplayBuffer | None,
    texts: Sequence[ItemText],
    action: ContaminationAction,
    progress: Progress = silent,
) -> tuple[Corpus | None, ReplayBuffer | None, LeakPart, Findings]:
    """Looks for test items among the rows to train on and the examples to replay.

    Args:
        corpus: the rows; None where they cannot be read.
        replay: the past examples; None where they cannot be read.
        texts: the texts of the test items.
        action: what a run does about them.
        progress: told how many rows were looked at.

    Returns:
        Corpus and replay as a run would train on them, what was found, and what there is to say of it.
    """
    findings = Findings("contamination")
    index = ItemIndex(texts)
    check = ContaminationCheck("drop" if action == "drop" else "report", index)
    in_corpus, in_replay = Contamination(), Contamination()
    if corpus is not None:
        kept = findings.attempt(ADVICE["corpora"], partial(check_corpus, corpus, check, progress))
        corpus, in_corpus = kept or (None, in_corpus)
    if replay is not None:
        chosen = findings.attempt(ADVICE["replay"], partial(check_replay, replay, check))
        replay, in_replay = chosen or (None, in_replay)
    part = LeakPart(
        checked=in_corpus.checked + in_replay.checked,
        texts=len(index),
        dropped=in_corpus.dropped + in_replay.dropped,
        leaked=(
            *contaminated_sets("corpora", in_corpus, index),
            *contaminated_sets("replay", in_replay, index),
        ),
    )
    _judge(part, action, findings)
    return corpus, replay, part, findings


def _judge(part: LeakPart, action: ContaminationAction, findings: Findings) -> None:
    if part.dropped:
        sets = [f"{each.task} ({each.language}) {each.items}" for each in part.leaked]
        findings.ok(
            f"contamination is drop: {part.dropped:,} rows that have test items are left out: {listed(sets)}."
        )
        return
    for where, advice in ADVICE.items():
        here = [each for each in part.leaked if each.where == where]
        said = sorted((each for each in here if each.exact or each.near), key=lambda each: -each.share)
        if here and action == "refuse":
            sets = [f"{each.task} ({each.language}) {each.items}" for each in here]
            findings.problem(f"contamination is refuse, and {where} has test items: {listed(sets)}.", advice)
        elif said:
            worst = said[0]
            note = findings.problem if worst.share >= SEVERE_SHARE else findings.warn
            sets = [f"{each.task} ({each.language}) {percent(each.share)}" for each in said]
            example = worst.examples[0]
            note(
                f"Test items stand in {where}: {listed(sets, most=3)}; {example['row']} has {example['item']}.",
                advice,
            )
        elif here:
            sets = [f"{each.task} ({each.language}) {each.id}" for each in here]
            findings.warn(
                f"Training rows in {where} have the ids of test items: {listed(sets)}.",
                "If they are the same sentences in other languages, set contamination to drop; if the ids only "
                "look alike, give the corpus a label (corpora) or ids of its own.",
            )
    if not findings and part.texts:
        findings.ok(f"None of {part.texts:,} test texts stands in {part.checked:,} training rows.")
