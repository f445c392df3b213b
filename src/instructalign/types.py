"""The records that cross from one stage to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Rule = Literal["sum", "mean", "bytes", "calibrated", "paper"]
"""How a label is chosen from the likelihoods of all: see `evaluation.decision_rules`."""


@dataclass(frozen=True, slots=True)
class ParallelRow:
    """One sentence in two or more languages, or a line of monolingual text.

    Attributes:
        id: identifies the sentence; training and held-out rows are split by it. Of monolingual text, the document:
            its lines are rows of one id, one after another.
        texts: the sentence by language code, in the corpus's own spelling.
    """

    id: str
    texts: Mapping[str, str]


Turn = tuple[str, str]
"""The role (`system`, `user`, `assistant`) and the text of a turn of a conversation."""


@dataclass(frozen=True, slots=True)
class Instruction:
    """What a model is asked and what it should answer.

    Attributes:
        prompt: the whole question, ready for a plain (not chat) model, without a space at its end. Empty for plain
            text, which is the answer, and stands in no chat template.
        answer: the reference answer, without a space at its start.
        objective: the objective that made it (`mt`, `tlm`, …), or `replay`.
        source: code of the language given; empty where it does not apply. Of instruction data that of the
            question, where it is not the answer's.
        target: code of the language asked for; empty where it does not apply.
        row: id of the parallel row, or of the replayed example.
        template: id of the template that worded it; of a replayed example the task, where its source names one.
        turns: of a replayed conversation the turns before the answer, for models with a chat template; `prompt`
            has them as plain text.
        goes_on: whether the answer is a piece of a text that goes on, so that no end token belongs behind it.
        id: of instruction data, the id that its record shares with its translations; empty where none is named.
    """

    prompt: str
    answer: str
    objective: str
    source: str = ""
    target: str = ""
    row: str = ""
    template: str = ""
    turns: tuple[Turn, ...] = ()
    goes_on: bool = False
    id: str = ""


@dataclass(frozen=True, slots=True)
class Item:
    """One test item of a task in one language.

    Attributes:
        id: the item's id; the same in every language of a parallel test set.
        fields: the texts that prompts refer to by name (`text`, or `premise` and `hypothesis`).
        label: the gold label; of an item with options, the letter of the right one; empty where the model writes
            the answer.
        options: the item's own options, in order; empty where all items have the same labels.
        references: where the model writes the answer, the right ones; at least one.
    """

    id: str
    fields: Mapping[str, str]
    label: str
    options: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's prediction for one item under one prompt.

    Attributes:
        task, language, prompt, item: what was asked.
        gold: the gold label.
        predicted: the label with the highest score; the first in the task's order where two are equal.
        scores: by label, the summed log-likelihood of the label's tokens given the prompt, in nats.
        tokens: by label, how many tokens that sum runs over.
        cut: how many tokens of the item's text were truncated to fit the context length.
        prompt_score: the summed log-likelihood of the prompt's tokens after the first, where the scoring
            rule needs it.
        prompt_tokens: how many tokens that sum runs over.
        bytes: by label, the length in UTF-8 of the word put to the model.
        prior: by label, the summed log-likelihood of its tokens under the same prompt with an empty item.
        by_item: whether the labels are letters of options that are the item's own.
    """

    task: str
    language: str
    prompt: str
    item: str
    gold: str
    predicted: str
    scores: Mapping[str, float]
    tokens: Mapping[str, int]
    cut: int = 0
    prompt_score: float | None = None
    prompt_tokens: int = 0
    bytes: Mapping[str, int] = field(default_factory=dict)
    prior: Mapping[str, float] = field(default_factory=dict)
    by_item: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """One number of the report.

    Attributes:
        run: name of the run (`base`, `adapted`, …).
        task: name of the task, or of what is measured.
        language: language code, or empty for a group.
        group: `L1` (known), `L2` (new), `L3` (related), or empty.
        metric: `accuracy`, `f1_weighted`, `forgetting`, …
        value: the number; between 0 and 1 unless the metric says otherwise.
        low, high: bounds of the 95 % confidence interval; None where there is none.
        n: number of items it was measured on.
        signature: what was measured, field by field: task, split, languages, n, prompts, scoring, dtype,
            questions, bootstrap, model, version, …; see `evaluation.bootstrap.signer`.
    """

    run: str
    task: str
    language: str
    group: str
    metric: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    signature: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(slots=True)
class Counts:
    """How many records a stage saw, kept and dropped, by reason. Nothing is dropped without a line here.

    Attributes:
        read, kept: numbers of records.
        dropped: numbers of records by reason.
        reject: called for each drop with the reason, the number of records, and what is known of them.
        least: in how many languages a row must have text: two, or one in a monolingual corpus.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    reject: Callable[[str, int, Mapping[str, Any]], None] | None = field(default=None, compare=False, repr=False)
    least: int = field(default=2, compare=False, repr=False)

    def drop(self, reason: str, count: int = 1, **what: Any) -> None:
        """Counts records as dropped for a reason; `what` is what is known of them (`row`, `texts`, `fields`)."""
        self.dropped[reason] = self.dropped.get(reason, 0) + count
        if self.reject and count:
            self.reject(reason, count, what)

    def __str__(self) -> str:
        dropped = ", ".join(f"{count:,} {reason}" for reason, count in self.dropped.items() if count)
        return f"{self.read:,} read, {self.kept:,} kept, dropped: {dropped or 'none'}"

    def add(self, other: Counts) -> None:
        """Adds another count to this one."""
        self.read += other.read
        self.kept += other.kept
        for reason, count in other.dropped.items():
            self.drop(reason, count)
