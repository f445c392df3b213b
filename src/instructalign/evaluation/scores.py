"""From predictions on disk to scores: of one model, and of what changed between two."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, Outcome, outcome_of, score_outcomes, signer
from instructalign.evaluation.decision_rules import decide
from instructalign.evaluation.mt_metrics import score_translations
from instructalign.evaluation.paired_tests import compare_outcomes
from instructalign.evaluation.perplexity import compare_heldout, score_heldout
from instructalign.evaluation.predictions import prediction_file, read_evaluation_manifest, read_predictions
from instructalign.types import Prediction, Rule, Score


def score_folder(out: Path, config: Config, *, run: str) -> list[Score]:
    """Computes the scores of an evaluation folder from its predictions.

    Args:
        out: a folder that `evaluate` wrote.
        config: gives the languages' groups and the bootstrap.
        run: what the scores call the model.
    """
    bootstrap = Bootstrap(config.evaluation.bootstrap, config.seed)
    scores: list[Score] = []
    for _, outcomes, entry in _outcomes(out):
        sign = signer(entry, model=_manifest(out)["model"]["hash"], bootstrap=bootstrap.rounds)
        scores += score_outcomes(outcomes, config.languages.groups, run, bootstrap, sign)
    scores += score_heldout(out, config.languages.groups, run, bootstrap)
    return scores + score_translations(out, config.languages.groups, run, bootstrap, config.evaluation)


def compare(
    base: Path, adapted: Path, config: Config, *, run: str = "adapted", metric: str = "f1_weighted"
) -> list[Score]:
    """What adapting a model changed: gain by language and group, and forgetting on the known languages.

    Args:
        base: folder of the evaluation before.
        adapted: folder of the evaluation after, of the same tasks.
        config: gives the languages' groups and the bootstrap.
        run: what the scores call the adapted model.
        metric: the score that is compared.

    Raises:
        DataError: the two models were not asked the same.
    """
    bootstrap = Bootstrap(config.evaluation.bootstrap, config.seed)
    hashes = [_manifest(folder)["model"]["hash"] for folder in (base, adapted)]
    before = {task: outcomes for task, outcomes, _ in _outcomes(base)}
    scores: list[Score] = []
    for task, outcomes, entry in _outcomes(adapted):
        if task in before:
            sign = signer(entry, model=hashes[1], bootstrap=bootstrap.rounds, base={"model": hashes[0]})
            groups = config.languages.groups
            scores += compare_outcomes(before[task], outcomes, groups, run, bootstrap, sign, metric)
    return scores + compare_heldout(base, adapted, config.languages.groups, run, bootstrap)


def score_predictions(
    files: Sequence[Path],
    *,
    rule: Rule | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    rounds: int = 1000,
    seed: int = 42,
    run: str = "predictions",
) -> list[Score]:
    """Computes scores from files of predictions alone, under the scoring rule they were made with or another.

    Args:
        files: files that `evaluate` wrote, of one model.
        rule: one of `evaluation.rules`; by default the saved decisions count.
        groups: language codes by group, for scores of groups.
        rounds: draws of the bootstrap; 0 for no intervals.
        seed: of the draws.
        run: what the scores call the model.

    Raises:
        DataError: a line is not a prediction, predictions are missing or double, or they lack what the rule
            needs.
        UnknownNameError: there is no such rule.
    """
    predictions: dict[tuple[str, str], list[Prediction]] = {}
    for file in files:
        for prediction in read_predictions(file):
            chosen = prediction if rule is None else replace(prediction, predicted=decide(prediction, rule))
            predictions.setdefault((prediction.task, prediction.language), []).append(chosen)
    if not predictions:
        raise DataError(f"no predictions in {', '.join(map(str, files))}.")
    outcomes: dict[str, list[Outcome]] = {}
    for (task, _), some in predictions.items():
        outcomes.setdefault(task, []).append(outcome_of(some))

    sign = signer({"scoring": rule or "as predicted"}, bootstrap=rounds)
    bootstrap = Bootstrap(rounds, seed)
    return [
        score for some in outcomes.values() for score in score_outcomes(some, groups or {}, run, bootstrap, sign)
    ]


def _outcomes(out: Path) -> list[tuple[str, list[Outcome], Mapping[str, Any]]]:
    """The answers in an evaluation folder, by task, with the manifest's entry."""
    folder = out / "predictions"
    return [
        (
            task,
            [outcome_of(read_predictions(prediction_file(folder, task, code))) for code in entry["items"]],
            entry,
        )
        for task, entry in _manifest(out)["tasks"].items()
    ]


def _manifest(out: Path) -> dict[str, Any]:
    manifest = read_evaluation_manifest(out / "predictions")
    if not manifest:
        raise DataError(f"{out / 'predictions'} holds no predictions; `instructalign evaluate` writes them.")
    return manifest
