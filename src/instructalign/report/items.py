"""What predictions say item by item: confusion matrices, and the items whose prediction changed most."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from instructalign.report.rendering import ReportTable, TableCell, TableColumn, text_column
from instructalign.report.tables import unique
from instructalign.types import Prediction


@dataclass(frozen=True, slots=True)
class Shift:
    """How the probability of the right label of one item moved, averaged over prompts.

    Attributes:
        task, language, item, gold: the item.
        before, after: the right label's probability among the task's labels, 0 to 1.
        predicted_before, predicted_after: the label chosen under most prompts.
    """

    task: str
    language: str
    item: str
    gold: str
    before: float
    after: float
    predicted_before: str
    predicted_after: str


def confusion(title: str, predictions: Sequence[Prediction]) -> ReportTable | None:
    """Right labels down, predicted ones across, in percent of a row; None without predictions."""
    if not predictions:
        return None
    labels = unique([*_labels(predictions), *(p.gold for p in predictions), *(p.predicted for p in predictions)])
    counts = Counter((p.gold, p.predicted) for p in predictions)
    lines = []
    for gold in labels:
        total = sum(counts[gold, predicted] for predicted in labels)
        if total == 0:
            continue
        shares = [counts[gold, predicted] / total for predicted in labels]
        cells = (
            TableCell(f"{100 * share:.0f}", shade=share if predicted == gold else -share)
            for predicted, share in zip(labels, shares, strict=True)
        )
        lines.append((TableCell(gold, foreign=True), *cells))
    columns = (text_column("Right"), *(TableColumn(label) for label in labels))
    return ReportTable(title, columns, tuple(lines))


def _labels(predictions: Iterable[Prediction]) -> list[str]:
    return unique(label for p in predictions for label in p.scores)


def most_changed(
    before: Iterable[Prediction], after: Iterable[Prediction], count: int = 10
) -> tuple[list[Shift], list[Shift]]:
    """The items whose right label gained most probability, and those where it lost most.

    Args:
        before, after: predictions of the two models; items that only one has are left out.
        count: how many each way at most.
    """
    old, new = _by_item(before), _by_item(after)
    shifts = [_shift(key, old[key], new[key]) for key in old if key in new]
    shifts.sort(key=lambda shift: (shift.before - shift.after, shift.task, shift.language, shift.item))
    gained = [shift for shift in shifts[:count] if shift.after > shift.before]
    lost = [shift for shift in shifts[::-1][:count] if shift.after < shift.before]
    return gained, lost


def _by_item(predictions: Iterable[Prediction]) -> Mapping[tuple[str, str, str], list[Prediction]]:
    found: dict[tuple[str, str, str], list[Prediction]] = defaultdict(list)
    for prediction in predictions:
        found[prediction.task, prediction.language, prediction.item].append(prediction)
    return found


def _shift(key: tuple[str, str, str], old: Sequence[Prediction], new: Sequence[Prediction]) -> Shift:
    task, language, item = key
    return Shift(
        task,
        language,
        item,
        gold=old[0].gold,
        before=sum(map(gold_probability, old)) / len(old),
        after=sum(map(gold_probability, new)) / len(new),
        predicted_before=_commonest(old),
        predicted_after=_commonest(new),
    )


def gold_probability(prediction: Prediction) -> float:
    """The right label's share of the labels' likelihood, 0 to 1: a softmax over the summed log-likelihoods."""
    top = max(prediction.scores.values())
    weights = {label: math.exp(score - top) for label, score in prediction.scores.items()}
    return weights.get(prediction.gold, 0.0) / sum(weights.values())


def _commonest(predictions: Sequence[Prediction]) -> str:
    return Counter(p.predicted for p in predictions).most_common(1)[0][0]
