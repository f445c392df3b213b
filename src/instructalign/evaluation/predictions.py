"""The files of an evaluation: predictions, translations, likelihoods of answers, and the manifest beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence, Set
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from instructalign.errors import DataError, RunFolderError
from instructalign.files import read_jsonl, write_json
from instructalign.types import Prediction

_MANIFEST = "manifest.json"
_WHERE = "evaluation/*/predictions/*.jsonl"
_OPTIONAL = frozenset({"cut", "prompt_score", "prompt_tokens", "bytes", "prior", "by_item"})  # may be missing
_REQUIRED = frozenset(each.name for each in fields(Prediction)) - _OPTIONAL

T = TypeVar("T")


def prediction_file(folder: Path, task: str, language: str) -> Path:
    """The file of a task's predictions in a language."""
    return folder / f"{task}.{language}.jsonl"


def prediction_record(prediction: Prediction) -> dict[str, Any]:
    """A prediction as a JSON line; what is empty or None is left out."""
    record = asdict(prediction)
    for name in ("cut", "bytes", "prior", "by_item"):
        if not record[name]:
            del record[name]
    if prediction.prompt_score is None:
        del record["prompt_score"], record["prompt_tokens"]
    return record


def read_predictions(path: Path) -> list[Prediction]:
    """Reads a file of predictions.

    Raises:
        DataError: it is a folder, or a line is not a prediction; the message names it.
    """
    if path.is_dir():
        # A run or an evaluation may have been given: say which files in it are predictions.
        above = ("", "predictions/", "*/predictions/", "evaluation/*/predictions/", "*/evaluation/*/predictions/")
        found = sorted({file.parent for place in above for file in path.glob(place + _MANIFEST)})
        advice = f"Give {', or '.join(f'{folder}/*.jsonl' for folder in found)}."
        advice = advice if found else f"It holds none; a run has them in {_WHERE}."
        raise DataError(f"{path} is a folder; files of predictions were expected. {advice}")
    predictions = []
    for number, record in read_jsonl(path):
        if not _REQUIRED <= record.keys() <= _REQUIRED | _OPTIONAL:
            raise DataError(
                f"{path}:{number}: not a prediction of a classification task: those have the keys "
                f"{_in_order(_REQUIRED)}, and may have {_in_order(_OPTIONAL)}; "
                f"found {', '.join(record) or 'none'}. Give files that evaluate wrote: {_WHERE} in a run's folder."
            )
        predictions.append(Prediction(**record))
    return predictions


def _in_order(keys: Set[str]) -> str:
    return ", ".join(each.name for each in fields(Prediction) if each.name in keys)


@dataclass(frozen=True, slots=True)
class Translated:
    """A model's translation of one sentence under one prompt.

    Attributes:
        task, prompt, item: the question.
        source, target: codes of the languages.
        text: the sentence.
        reference: its translation by people.
        translation: what the model generated, up to the end of the line.
        unfinished: whether it reached the maximum length.
    """

    task: str
    prompt: str
    item: str
    source: str
    target: str
    text: str
    reference: str
    translation: str
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """What a model wrote as its answer to one item under one prompt.

    Attributes:
        task, language, prompt, item: the question.
        text: the item's texts, a line each.
        references: the right answers.
        answer: what the model wrote, up to a stop string.
        cut: how many tokens of the prompt were truncated to fit the model's context.
        unfinished: whether it reached the maximum length.
    """

    task: str
    language: str
    prompt: str
    item: str
    text: str
    references: Sequence[str]
    answer: str
    cut: int = 0
    unfinished: bool = False


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """The likelihood of the reference answer to an instruction.

    Attributes:
        task, language, item: the question.
        prompt, answer: the texts.
        score: the summed log-likelihood of the answer's tokens, in nats.
        tokens: how many they are, the end of the text included.
        cut: whether prompt or answer was truncated to fit the model's context.
        part: what the item is also scored with on its own; of replay data, the task that its source names.
        bytes: how many bytes of the answer, in UTF-8, the score covers; 0 where that is all of it.
    """

    task: str
    language: str
    item: str
    prompt: str
    answer: str
    score: float
    tokens: int
    cut: bool = False
    part: str = ""
    bytes: int = 0

    def record(self) -> dict[str, Any]:
        """The answer as a JSON line."""
        return {name: value for name, value in asdict(self).items() if name not in ("part", "bytes") or value}


def read_records(path: Path, kind: type[T]) -> list[T]:
    """Reads a file of one kind of records, whose lines may have more keys.

    Raises:
        DataError: a line lacks a key; the message names it.
    """
    described = fields(kind)  # type: ignore[arg-type]
    names = [each.name for each in described]
    needed = [each.name for each in described if each.default is MISSING and each.default_factory is MISSING]
    records = []
    for number, record in read_jsonl(path):
        if missing := [name for name in needed if name not in record]:
            raise DataError(f"{path}:{number}: not a {kind.__name__}: {', '.join(missing)} missing.")
        records.append(kind(**{name: record[name] for name in names if name in record}))
    return records


# -- the manifest ------------------------------------------------------------------------------------------


def read_evaluation_manifest(folder: Path) -> dict[str, Any]:
    """What a folder of predictions holds: `model` and, by task, `tasks`; empty where there is none."""
    path = folder / _MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete the folder to evaluate again.") from None
    return dict(manifest)


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Replaces the manifest of a folder of predictions."""
    write_json(folder / _MANIFEST, manifest)


def open_evaluation(folder: Path, model: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of a folder for the predictions of a model, written where there is none.

    Raises:
        RunFolderError: the folder holds the predictions of another model.
    """
    manifest = read_evaluation_manifest(folder)
    if not manifest:
        manifest = {"model": dict(model), "tasks": {}}
        write_manifest(folder, manifest)
    elif manifest["model"]["hash"] != model["hash"]:
        there = manifest["model"]
        raise RunFolderError(
            f"{folder} holds predictions of {there['name']} ({there['hash']}), not of {model['name']} "
            f"({model['hash']}). Choose another --out, or delete this folder."
        )
    return manifest
