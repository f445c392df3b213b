"""The rules by which a label is chosen from the likelihoods of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from instructalign.errors import DataError, UnknownNameError
from instructalign.types import Prediction, Rule

Measure = Callable[[Prediction, str], float]
"""What a rule makes of a prediction's label; the label with the most is chosen."""


def by_sum(prediction: Prediction, label: str) -> float:
    """The summed log-likelihood of the label's tokens."""
    return prediction.scores[label]


def by_mean(prediction: Prediction, label: str) -> float:
    """The sum over the number of tokens."""
    return prediction.scores[label] / prediction.tokens[label]


def by_bytes(prediction: Prediction, label: str) -> float:
    """The sum over the length of the label's word in UTF-8, which no tokenizer changes."""
    return prediction.scores[label] / prediction.bytes[label]


def by_calibrated(prediction: Prediction, label: str) -> float:
    """The sum less what the same prompt gives the label where the item is empty.

    Domain-conditional pointwise mutual information (Holtzman et al. 2021, PMI_DC); with an empty text as the only
    content-free input, it chooses as contextual calibration does (Zhao et al. 2021).
    """
    return prediction.scores[label] - prediction.prior[label]


def by_paper(prediction: Prediction, label: str) -> float:
    """The mean over the tokens of prompt and label together, as in the published scripts of the paper.

    An encoder-decoder model's label alone counts, since its prompt is not predicted.
    """
    before = prediction.prompt_score or 0.0
    return (before + prediction.scores[label]) / (prediction.prompt_tokens + prediction.tokens[label])


RULES: Mapping[Rule, Measure] = {
    "sum": by_sum,
    "mean": by_mean,
    "bytes": by_bytes,
    "calibrated": by_calibrated,
    "paper": by_paper,
}


def decide(prediction: Prediction, rule: Rule) -> str:
    """The label that a rule chooses; the first of them where several have the most.

    Raises:
        UnknownNameError: there is no such rule.
        DataError: the prediction lacks what the rule needs.
    """
    if rule not in RULES:
        raise UnknownNameError("scoring rule", rule, get_args(Rule))
    if missing := _missing(prediction, rule):
        raise DataError(f"{prediction.task} in {prediction.language}: the predictions lack {missing}")
    return max(prediction.scores, key=lambda label: RULES[rule](prediction, label))


def _missing(prediction: Prediction, rule: Rule) -> str:
    """What a prediction lacks for a rule, and what to do."""
    if rule == "paper" and prediction.prompt_score is None:
        return (
            "the likelihood of the prompts, which the rule of the paper needs; evaluate with "
            "evaluation.scoring: paper."
        )
    needed = {"bytes": prediction.bytes, "calibrated": prediction.prior}.get(rule)
    if needed is None or prediction.scores.keys() <= needed.keys():
        return ""
    what = "the length of the labels" if rule == "bytes" else "the labels' likelihood under an empty input"
    return f"{what}, which the rule {rule} needs; they are of an earlier version. Evaluate anew."
