"""From an evaluation's saved predictions, answers and translations to its scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Bootstrap,
    sample_of_predictions,
    score_classification,
    score_rows,
    signer,
)
from instructalign.evaluation.decision_rules import decide
from instructalign.evaluation.lm_eval_tasks import harness_signature, read_harness
from instructalign.evaluation.mt_metrics import score_translations
from instructalign.evaluation.open_answers import ANSWER_METRICS, sample_of_open_answers
from instructalign.evaluation.perplexity import PROBABILITY, sample_of_answers, sample_of_bits, samples_by_part
from instructalign.evaluation.predictions import (
    prediction_file,
    read_answers,
    read_evaluation_manifest,
    read_open_answers,
    read_predictions,
)
from instructalign.evaluation.score_table import BITS
from instructalign.types import Prediction, Rule, Score


def score_folder(out: Path, config: Config, *, run: str) -> list[Score]:
    """Computes the scores of an evaluation's folder: classification, held-out instructions, texts, translations.

    Args:
        out: a folder that `evaluate` wrote.
        config: gives the languages' groups and the bootstrap.
        run: what the scores call the model.

    Raises:
        DataError: the folder holds no predictions, or some of them cannot be read.
    """
    bootstrap, groups = Bootstrap(config.evaluation.bootstrap, config.seed), config.languages.groups
    scores: list[Score] = []
    folder = out / "predictions"
    manifest = read_evaluation_manifest(folder)
    if not manifest:
        raise DataError(f"{folder} holds no predictions; `instructalign evaluate` writes them.")
    for task, entry in manifest["tasks"].items():
        files = [prediction_file(folder, task, code) for code in entry["items"]]
        samples = [sample_of_predictions(read_predictions(file)) for file in files]
        sign = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples)
        scores += score_classification(samples, groups, run, bootstrap, sign)
    both = {PROBABILITY: sample_of_answers, BITS: sample_of_bits}
    for name, metrics in (("instructions", both), ("texts", {BITS: sample_of_bits})):
        folder = out / name
        manifest = read_evaluation_manifest(folder)
        for task, entry in manifest.get("tasks", {}).items():
            answers = {code: read_answers(prediction_file(folder, task, code)) for code in entry["items"]}
            sign = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples)
            for metric, make in metrics.items():
                for by_language in samples_by_part(task, answers, make).values():
                    values = {code: bootstrap.scores([sample]) for code, sample in by_language.items()}
                    scores += score_rows(list(by_language.values()), values, groups, run, metric, sign)
    folder = out / "answers"
    manifest = read_evaluation_manifest(folder)
    for task, entry in manifest.get("tasks", {}).items():
        written = {code: read_open_answers(prediction_file(folder, task, code)) for code in entry["items"]}
        for metric in ANSWER_METRICS:
            found = [sample_of_open_answers(some, metric) for some in written.values()]
            samples = [sample for sample, _ in found]
            sign = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples, **found[0][1])
            values = {sample.language: bootstrap.scores([sample]) for sample in samples}
            scores += score_rows(samples, values, groups, run, metric, sign)
    folder = out / "harness"
    manifest = read_evaluation_manifest(folder)
    for task, entry in manifest.get("tasks", {}).items():
        more = harness_signature(entry)
        sign = signer(entry, model=manifest["model"]["hash"], bootstrap=bootstrap.resamples, **more)
        for metric, each in read_harness(folder, task, entry["items"]).items():
            values = {code: bootstrap.scores([sample]) for code, sample in each.items()}
            scores += score_rows(list(each.values()), values, groups, run, metric, sign)
    return scores + score_translations(out, groups, run, bootstrap, config.evaluation)


def score_predictions(
    files: Sequence[Path],
    *,
    rule: Rule | None = None,
    groups: Mapping[str, Sequence[str]] | None = None,
    resamples: int = 1000,
    seed: int = 42,
    run: str = "predictions",
) -> list[Score]:
    """Computes scores from files of predictions alone, under the scoring rule they were made with or another.

    Args:
        files: files that `evaluate` wrote, of one model.
        rule: one of `evaluation.decision_rules`; by default the saved decisions are scored.
        groups: language codes by group, for scores of groups.
        resamples: number of bootstrap resamples; 0 for no intervals.
        seed: of the bootstrap.
        run: what the scores call the model.

    Raises:
        DataError: a line is not a prediction, predictions are missing or double, or they lack what the rule
            needs.
        UnknownNameError: there is no such rule.
    """
    predictions: dict[str, dict[str, list[Prediction]]] = {}
    for file in files:
        for prediction in read_predictions(file):
            decided = prediction if rule is None else replace(prediction, predicted=decide(prediction, rule))
            predictions.setdefault(prediction.task, {}).setdefault(prediction.language, []).append(decided)
    if not predictions:
        raise DataError(f"no predictions in {', '.join(map(str, files))}.")
    bootstrap = Bootstrap(resamples, seed)
    sign = signer({"scoring": rule or "as predicted"}, bootstrap=resamples)
    return [
        score
        for by_language in predictions.values()
        for score in score_classification(
            list(map(sample_of_predictions, by_language.values())), groups or {}, run, bootstrap, sign
        )
    ]
