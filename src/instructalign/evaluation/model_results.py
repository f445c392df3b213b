"""What one model scored, read back from its evaluation's folder with the predictions, translations and answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Sample, sample_of_predictions
from instructalign.evaluation.classification_metrics import CLASSIFICATION_METRICS
from instructalign.evaluation.lm_eval_tasks import read_harness
from instructalign.evaluation.mt_metrics import measure
from instructalign.evaluation.open_answers import sample_of_open_answers
from instructalign.evaluation.perplexity import sample_of_answers, sample_of_bits, samples_by_part
from instructalign.evaluation.predictions import AnswerLikelihood, OpenAnswer, Translated, read_records
from instructalign.evaluation.score_table import BASELINES, ScoreTable, headline
from instructalign.files import read_object
from instructalign.types import Prediction

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ModelResults:
    """What one model scored; whatever its folder does not hold is empty.

    Attributes:
        name: how scores call the model: the run's name, or `base`.
        scores: its scores, all with `name` as their run.
        baselines: the scores of the baselines (`random`, `majority`, `copying`) on the same items.
        predictions: its predictions, by task.
        manifest: what the evaluation records about each task: prompts, languages left out.
        translations: its translations, by task (`…/from-eng`) and language.
        answers: the likelihoods of the answers to open questions, and of plain texts, by task and language.
        harness: the scores of items of lm-evaluation-harness's tasks, by task, metric and language.
        written: its answers in its own words, by task and language.
    """

    name: str
    scores: ScoreTable = field(default_factory=ScoreTable)
    baselines: ScoreTable = field(default_factory=ScoreTable)
    predictions: Mapping[str, tuple[Prediction, ...]] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    translations: Mapping[str, Mapping[str, tuple[Translated, ...]]] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Sample]] = field(default_factory=dict)
    harness: Mapping[str, Mapping[str, Mapping[str, Sample]]] = field(default_factory=dict)
    written: Mapping[str, Mapping[str, Sequence[OpenAnswer]]] = field(default_factory=dict)

    def samples(self) -> dict[str, dict[str, Sample]]:
        """What the model did item by item, by task and language, for the headline metric of each task."""
        found: dict[str, dict[str, Sample]] = {}
        scored = self.scores.unique("task")
        for task in scored:
            metric = headline(self.scores, task)
            if metric in CLASSIFICATION_METRICS and task in self.predictions:
                by_language: dict[str, list[Prediction]] = {}
                for prediction in self.predictions[task]:
                    by_language.setdefault(prediction.language, []).append(prediction)
                found[task] = {code: sample_of_predictions(some, metric) for code, some in by_language.items()}
        for task, directions in self.translations.items():
            if task in scored:
                metric = headline(self.scores, task)
                samples = {code: measure(some, only=metric)[metric][0] for code, some in directions.items()}
                found[task] = {code: replace(each, task=task, language=code) for code, each in samples.items()}
        for task, some in self.written.items():
            if task in scored:
                metric = headline(self.scores, task)
                found[task] = {code: sample_of_open_answers(each, metric)[0] for code, each in some.items()}
        for task, by_metric in self.harness.items():
            if task in scored:
                found[task] = dict(by_metric[headline(self.scores, task)])
        return found | {task: dict(some) for task, some in self.answers.items()}

    def renamed(self, name: str) -> ModelResults:
        """The same results under another name."""
        return replace(self, name=name, scores=ScoreTable(replace(score, run=name) for score in self.scores))


def read_results(folder: Path, name: str) -> ModelResults | None:
    """Reads what an evaluation wrote into a folder; None where it has no scores.

    Raises:
        DataError: a file cannot be read; the message names the file and the line.
    """
    path = folder / "scores.json"
    if not path.is_file():
        return None
    rows = read_object(path, json.loads).get("scores")
    if not isinstance(rows, list):
        raise DataError(f'{path}: expected a list under "scores". Delete it and evaluate again.')
    scores = ScoreTable.from_rows(rows, f"{path}: score")
    predictions: dict[str, list[Prediction]] = {}
    for prediction in _records(folder / "predictions", Prediction):
        predictions.setdefault(prediction.task, []).append(prediction)
    written: dict[str, dict[str, list[OpenAnswer]]] = {}
    for each in _records(folder / "answers", OpenAnswer):
        written.setdefault(each.task, {}).setdefault(each.language, []).append(each)
    samples: dict[str, dict[str, Sample]] = {}
    for part, make in (("instructions", sample_of_answers), ("texts", sample_of_bits)):
        answers: dict[str, dict[str, list[AnswerLikelihood]]] = {}
        for answer in _records(folder / part, AnswerLikelihood):
            answers.setdefault(answer.task, {}).setdefault(answer.language, []).append(answer)
        for task, by_language in answers.items():
            samples |= samples_by_part(task, by_language, make)
    return ModelResults(
        name=name,
        scores=ScoreTable(replace(score, run=name) for score in scores if score.run not in BASELINES),
        baselines=scores.select(run=BASELINES),
        predictions={task: tuple(found) for task, found in predictions.items()},
        manifest=read_object(folder / "predictions" / "manifest.json", json.loads),
        translations=_read_directions(folder / "translations"),
        answers=samples,
        harness=_read_harness(folder / "harness"),
        written=written,
    )


def _read_harness(folder: Path) -> dict[str, dict[str, dict[str, Sample]]]:
    manifest = read_object(folder / "manifest.json", json.loads).get("tasks", {})
    return {task: read_harness(folder, task, entry["items"]) for task, entry in manifest.items()}


def _read_directions(folder: Path) -> dict[str, dict[str, tuple[Translated, ...]]]:
    """Translations by task and language; without a manifest, by their direction."""
    manifest = read_object(folder / "manifest.json", json.loads).get("tasks", {})
    found: dict[str, dict[str, tuple[Translated, ...]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        records = tuple(read_records(file, Translated))
        if records:
            first, entry = records[0], manifest.get(file.name, {})
            title = str(entry.get("title", f"{first.task}/{first.source}-{first.target}"))
            found.setdefault(title, {})[str(entry.get("language", first.target))] = records
    return found


def _records(folder: Path, kind: type[T]) -> list[T]:
    return [record for file in sorted(folder.glob("*.jsonl")) for record in read_records(file, kind)]
