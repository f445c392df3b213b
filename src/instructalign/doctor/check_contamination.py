"""Check for contamination: test items in the corpora or the replay data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from instructalign.config import ContaminationAction
from instructalign.data import ContaminationCheck, Corpus, ItemIndex, ItemText, check_corpus
from instructalign.data.contamination import SEVERE_SHARE, ContaminatedSet, Contamination, contaminated_sets
from instructalign.doctor.findings import Findings, first_few, percent
from instructalign.mixture import ReplayBuffer
from instructalign.mixture.replay_buffer import INSTRUCTION_DATA, check_replay
from instructalign.progress import Progress, silent

_ADVICE = {
    "corpora": "Set contamination to drop, which leaves these rows out, or change corpora or evaluation.tasks.",
    "replay": "Set contamination to drop, which leaves these examples out, change replay.source or "
    "evaluation.tasks, or interpret these scores accordingly.",
    INSTRUCTION_DATA: "Set contamination to drop, which leaves these examples out, or change its sources.",
}


@dataclass(frozen=True, slots=True)
class ContaminationPart:
    """How much of the test sets is in the training data.

    Attributes:
        checked: rows and replay examples that were checked.
        texts: texts of test items that were searched for.
        dropped: rows and replay examples that a run leaves out because of it.
        test_sets: what was found, by kind of training data and test set.
    """

    checked: int
    texts: int
    dropped: int
    test_sets: tuple[ContaminatedSet, ...]


def examine_contamination(
    corpus: Corpus | None,
    replay: ReplayBuffer | None,
    texts: Sequence[ItemText],
    action: ContaminationAction,
    progress: Progress = silent,
    taught: ReplayBuffer | None = None,
) -> tuple[Corpus | None, ReplayBuffer | None, ReplayBuffer | None, ContaminationPart, Findings]:
    """Searches the rows to train on, the replay examples and the instruction data for test items.

    Args:
        corpus: the rows; None if they cannot be read.
        replay: the replay examples; None if they cannot be read.
        texts: the texts of the test items.
        action: what a run does about them.
        progress: called with the number of rows checked.
        taught: the instruction data.

    Returns:
        Corpus, replay and instruction data as a run would train on them, what was found, and the findings.
    """
    findings = Findings("contamination")
    index = ItemIndex(texts)
    check = ContaminationCheck("drop" if action == "drop" else "report", index)
    in_corpus, in_replay, in_taught = Contamination(), Contamination(), Contamination()
    if corpus is not None:
        kept = findings.attempt(_ADVICE["corpora"], partial(check_corpus, corpus, check, progress))
        corpus, in_corpus = kept or (None, in_corpus)
    if replay is not None:
        chosen = findings.attempt(_ADVICE["replay"], partial(check_replay, replay, check))
        replay, in_replay = chosen or (None, in_replay)
    if taught is not None and len(taught):
        look = partial(check_replay, taught, check, "instruction data")
        taught, in_taught = findings.attempt(_ADVICE[INSTRUCTION_DATA], look) or (None, in_taught)
    part = ContaminationPart(
        checked=in_corpus.checked + in_replay.checked + in_taught.checked,
        texts=len(index),
        dropped=in_corpus.dropped + in_replay.dropped + in_taught.dropped,
        test_sets=(
            *contaminated_sets("corpora", in_corpus, index),
            *contaminated_sets("replay", in_replay, index),
            *contaminated_sets(INSTRUCTION_DATA, in_taught, index),
        ),
    )
    if part.dropped:
        sets = [f"{each.task} ({each.language}) {each.items}" for each in part.test_sets]
        findings.ok(
            f"contamination is drop: {part.dropped:,} rows that overlap with test items are left out: "
            f"{first_few(sets)}."
        )
        return corpus, replay, taught, part, findings
    for where, advice in _ADVICE.items():
        here = [each for each in part.test_sets if each.where == where]
        by_text = sorted((each for each in here if each.exact or each.near), key=lambda each: -each.share)
        if here and action == "refuse":
            sets = [f"{each.task} ({each.language}) {each.items}" for each in here]
            findings.problem(
                f"contamination is refuse, and {where} overlap with test items: {first_few(sets)}.", advice
            )
        elif by_text:
            sets = [f"{each.task} ({each.language}) {percent(each.share)}" for each in by_text]
            example = by_text[0].examples[0]
            findings.warn(
                f"Test items in {where} (contamination): {first_few(sets, most=3)}; {example['row']} overlaps "
                f"with item {example['item']}.",
                advice,
                severe=by_text[0].share >= SEVERE_SHARE,
            )
        elif here:
            sets = [f"{each.task} ({each.language}) {each.id}" for each in here]
            findings.warn(
                f"Training rows in {where} have the ids of test items: {first_few(sets)}.",
                "If they are the same sentences in other languages, set contamination to drop; if only the ids "
                "are equal, give the corpus a label (corpora) or other ids.",
            )
    if not findings and part.texts:
        findings.ok(f"No overlap of {part.checked:,} training rows with {part.texts:,} test texts.")
    return corpus, replay, taught, part, findings
