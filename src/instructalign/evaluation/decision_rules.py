"""The scoring rules that choose a label from the likelihoods of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import get_args

from instructalign.errors import DataError, UnknownNameError
from instructalign.types import Prediction, Rule


def _paper(prediction: Prediction, label: str) -> float:
    # Of an encoder-decoder model the label alone counts, since its prompt is not predicted.
    before = prediction.prompt_score or 0.0
    return (before + prediction.scores[label]) / (prediction.prompt_tokens + prediction.tokens[label])


RULES: Mapping[Rule, Callable[[Prediction, str], float]] = {
    "sum": lambda prediction, label: prediction.scores[label],
    "mean": lambda prediction, label: prediction.scores[label] / prediction.tokens[label],
    "bytes": lambda prediction, label: prediction.scores[label] / prediction.bytes[label],
    "calibrated": lambda prediction, label: prediction.scores[label] - prediction.prior[label],
    "paper": _paper,
}
"""By rule, the score of a prediction's label; the label with the highest score is chosen.

- `sum`: the summed log-likelihood of the label's tokens.
- `mean`: the sum over the number of tokens.
- `bytes`: the sum over the length of the label's word in UTF-8, which does not depend on the tokenizer.
- `calibrated`: the sum less that of the same label after the same prompt with an empty item: domain-conditional
  pointwise mutual information (Holtzman et al. 2021, PMI_DC); with an empty text as the only content-free input,
  it chooses as contextual calibration does (Zhao et al. 2021).
- `paper`: the mean over the tokens of prompt and label together, as in the published scripts of the paper.
"""


def decide(prediction: Prediction, rule: Rule) -> str:
    """The label that a rule chooses; the first of them where several score highest.

    Raises:
        UnknownNameError: there is no such rule.
        DataError: the prediction lacks what the rule needs.
    """
    if rule not in RULES:
        raise UnknownNameError("scoring rule", rule, get_args(Rule))
    where = f"{prediction.task} in {prediction.language}: the predictions lack"
    if rule == "paper" and prediction.prompt_score is None:
        raise DataError(
            f"{where} the likelihood of the prompts, which the rule paper needs; evaluate with "
            "evaluation.scoring: paper."
        )
    needed = {"bytes": prediction.bytes, "calibrated": prediction.prior}.get(rule, prediction.scores)
    if not prediction.scores.keys() <= needed.keys():
        what = "the length of the labels" if rule == "bytes" else "the labels' likelihood with an empty input"
        raise DataError(
            f"{where} {what}, which the rule {rule} needs; an earlier version wrote them. Evaluate again."
        )
    return max(prediction.scores, key=lambda label: RULES[rule](prediction, label))
