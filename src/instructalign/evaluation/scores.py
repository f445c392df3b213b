"""From an evaluation's saved predictions, answers and translations to its scores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import (
    Bootstrap,
    Signer,
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
    AnswerLikelihood,
    OpenAnswer,
    prediction_file,
    read_evaluation_manifest,
    read_predictions,
    read_records,
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
    for *_, files, sign in _scored(folder, bootstrap):
        samples = [sample_of_predictions(read_predictions(file)) for file in files.values()]
        scores += score_classification(samples, groups, run, bootstrap, sign())
    both = {PROBABILITY: sample_of_answers, BITS: sample_of_bits}
    for name, metrics in (("instructions", both), ("texts", {BITS: sample_of_bits})):
        for task, _, files, sign in _scored(out / name, bootstrap):
            answers = {code: read_records(file, AnswerLikelihood) for code, file in files.items()}
            if empty := [files[code] for code, some in answers.items() if not some]:
                raise DataError(f"{empty[0]} holds no answers; delete the folder to evaluate again.")
            for metric, make in metrics.items():
                for found in samples_by_part(task, answers, make).values():
                    scores += score_rows([*found.values()], bootstrap, groups, run, metric, sign())
    for *_, files, sign in _scored(out / "answers", bootstrap):
        written = [read_records(file, OpenAnswer) for file in files.values()]
        for metric in ANSWER_METRICS:
            answered, hows = zip(*(sample_of_open_answers(some, metric) for some in written), strict=True)
            scores += score_rows(answered, bootstrap, groups, run, metric, sign(**hows[0]))
    for task, entry, files, sign in _scored(out / "harness", bootstrap):
        for metric, each in read_harness(out / "harness", task, files).items():
            how = harness_signature(entry)
            scores += score_rows([*each.values()], bootstrap, groups, run, metric, sign(**how))
    return scores + score_translations(out, groups, run, bootstrap, config.evaluation)


def _scored(
    folder: Path, bootstrap: Bootstrap
) -> Iterator[tuple[str, dict[str, Any], dict[str, Path], Callable[..., Signer]]]:
    """By task that a folder has answers to: name, entry, files by language, and the maker of signatures."""
    manifest = read_evaluation_manifest(folder)
    for task, entry in manifest.get("tasks", {}).items():
        files = {code: prediction_file(folder, task, code) for code in entry["items"]}
        model = manifest["model"]["hash"]
        yield task, entry, files, partial(signer, entry, model=model, bootstrap=bootstrap.resamples)


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
