"""Files of predictions, translations and likelihoods: written, read, and which are still valid."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import DataError, RunFolderError
from instructalign.evaluation.likelihood import Scores
from instructalign.evaluation.processes import processes
from instructalign.files import atomic, json_line, read_jsonl, write_json, write_jsonl
from instructalign.types import Prediction

MANIFEST = "manifest.json"
WRITTEN = "evaluation/*/predictions/*.jsonl"
FREE = frozenset({"cut", "prompt_score", "prompt_tokens", "bytes", "prior"})  # keys that a prediction may lack
KEYS = frozenset(each.name for each in fields(Prediction)) - FREE


def prediction_file(folder: Path, task: str, language: str) -> Path:
    """Where the predictions of a task in a language stand."""
    return folder / f"{task}.{language}.jsonl"


def write_predictions(path: Path, predictions: Sequence[Prediction]) -> None:
    """Writes predictions as JSON lines, all or nothing; what is empty or nothing is left out."""
    write_jsonl(path, (_plain(prediction) for prediction in predictions))


def read_predictions(path: Path) -> list[Prediction]:
    """Reads a file of predictions.

    Raises:
        DataError: it is a folder, or a line is not a prediction; the message names it.
    """
    if path.is_dir():
        raise DataError(f"{path} is a folder; files of predictions were expected. {_inside(path)}")
    predictions = []
    for number, record in read_jsonl(path):
        if not KEYS <= record.keys() <= KEYS | FREE:
            raise DataError(
                f"{path}:{number}: not a prediction of a classification task: those have the keys "
                f"{_in_order(KEYS)}, and may have {_in_order(FREE)}; found {', '.join(record) or 'none'}. "
                f"Give files that evaluate wrote: {WRITTEN} in a run's folder."
            )
        predictions.append(Prediction(**record))
    return predictions


def _in_order(keys: Set[str]) -> str:
    return ", ".join(each.name for each in fields(Prediction) if each.name in keys)


def _inside(folder: Path) -> str:
    """Which files of predictions lie in a folder, as a run or an evaluation lays them out."""
    above = ("", "predictions/", "*/predictions/", "evaluation/*/predictions/", "*/evaluation/*/predictions/")
    found = sorted({file.parent for place in above for file in folder.glob(place + MANIFEST)})
    names = [f"{place}/*.jsonl" for place in found]
    return f"Give {', or '.join(names)}." if names else f"It holds none; a run has them in {WRITTEN}."


def _plain(prediction: Prediction) -> dict[str, Any]:
    record = asdict(prediction)
    for name in ("cut", "bytes", "prior"):
        if not record[name]:
            del record[name]
    if prediction.prompt_score is None:
        del record["prompt_score"], record["prompt_tokens"]
    return record


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a folder of predictions holds: `model` and, by task, `tasks`; empty where there is none."""
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}); delete the folder to evaluate anew.") from None
    return dict(manifest)


def open_folder(folder: Path, model: Mapping[str, str]) -> dict[str, Any]:
    """The manifest of a folder for the predictions of a model, written where there is none.

    Raises:
        RunFolderError: the folder holds the predictions of another model.
    """
    manifest = read_manifest(folder)
    if not manifest:
        manifest = {"model": dict(model), "tasks": {}}
        write_json(folder / MANIFEST, manifest)
    elif manifest["model"]["hash"] != model["hash"]:
        there = manifest["model"]
        raise RunFolderError(
            f"{folder} holds predictions of {there['name']} ({there['hash']}), not of {model['name']} "
            f"({model['hash']}). Give another output folder, or delete this one."
        )
    return manifest


def forget(folder: Path, manifest: dict[str, Any], name: str) -> None:
    """Takes an entry out of the manifest before its files change: a stop in between leaves no false claim."""
    if manifest["tasks"].pop(name, None) is not None:
        write_json(folder / MANIFEST, manifest)


def asking(config: Config) -> list[str | None]:
    """What else, beside model and questions, a model's answers depend on."""
    model = config.answering_model
    return [config.evaluation.scoring, model.dtype, model.chat, model.system_prompt]


class Journal:
    """The scores of finished batches of one task, appended as they come.

    Each process has a file of its own, and begins with what stands in those of all, be they of as many
    processes or not.

    Args:
        path: the first process's file; those of others have their number behind its name.
        key: what the batches belong to; a journal of another key is begun anew.
    """

    def __init__(self, path: Path, key: str) -> None:
        together = processes()
        self.path = path
        self.done = {batch: scores for file in self._files() for batch, scores in _entries(file, key)}
        together.wait_for_everyone()  # all have read
        if together.is_main_process:
            self._own = path
            self._begin(key, self.done)  # leaves a line behind that was cut off while it was written
        together.wait_for_everyone()  # all of it stands in the first file
        if not together.is_main_process:
            self._own = path.with_name(f"{path.name}.{together.process_index}")
            self._begin(key, {})

    def _files(self) -> list[Path]:
        return sorted(self.path.parent.glob(f"{self.path.name}*"))

    def _begin(self, key: str, done: Mapping[int, Sequence[Scores]]) -> None:
        with atomic(self._own) as file:
            file.write(json_line({"key": key}))
            for batch, scores in done.items():
                file.write(_line(batch, scores))

    def add(self, batch: int, scores: Sequence[Scores]) -> None:
        """Keeps the scores of a batch."""
        self.done[batch] = list(scores)
        with self._own.open("ab") as file:
            file.write(_line(batch, scores))

    def close(self) -> None:
        """Deletes the files of all processes: what they kept stands in the predictions."""
        for file in self._files():
            file.unlink(missing_ok=True)


def _line(batch: int, scores: Sequence[Scores]) -> bytes:
    return json_line({"batch": batch, "scores": [[list(score.labels), score.prompt] for score in scores]})


def _entries(path: Path, key: str) -> Iterator[tuple[int, list[Scores]]]:
    if not path.exists():
        return
    lines = path.read_bytes().split(b"\n")[:-1]  # behind the last line end stands nothing, or half a line
    if not lines or json.loads(lines[0]) != {"key": key}:
        return
    for line in lines[1:]:
        entry = json.loads(line)
        yield entry["batch"], [Scores(tuple(labels), prompt) for labels, prompt in entry["scores"]]


@dataclass(frozen=True, slots=True)
class Translated:
    """What a model made of one sentence under one prompt.

    Attributes:
        task, prompt, item: what was asked.
        source, target: codes of the languages.
        text: the sentence.
        reference: what it should be in the target language.
        translation: what the model wrote, up to the end of the line.
        unfinished: whether it wrote as long as it was allowed to.
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


def read_translations(path: Path) -> list[Translated]:
    """Reads a file of translations.

    Raises:
        DataError: a line is not one; the message names it.
    """
    records = []
    for number, record in read_jsonl(path):
        try:
            records.append(Translated(**record))
        except TypeError:
            raise DataError(f"{path}:{number}: not a translation.") from None
    return records
