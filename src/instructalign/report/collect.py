"""Reads run folders into records; whatever a folder does not hold stays empty."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml

from instructalign.errors import DataError, RunFolderError
from instructalign.evaluation.bootstrap import Sample
from instructalign.evaluation.perplexity import samples_of
from instructalign.evaluation.predictions import AnswerLikelihood, Translated
from instructalign.evaluation.score_table import ScoreTable, signature_key
from instructalign.files import read_jsonl, read_object
from instructalign.report.tables import BASELINES
from instructalign.types import Prediction, Score

BASE = "base"
CONTENTS = ("config.yaml", "run.json", "log.jsonl", "scores.json", "evaluation")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What one model scored.

    Attributes:
        name: how the report calls the model: the run's name, or `base`.
        scores: its scores, all with `name` as their run.
        baselines: what guessing would score on the same items (`random`, `majority`).
        predictions: its predictions, by task.
        manifest: what the evaluation notes about each task: prompts, languages left out.
        translations: its translations, by task (`…/from-eng`) and language.
        answers: how likely it found the answers to open questions, by task and language.
    """

    name: str
    scores: tuple[Score, ...] = ()
    baselines: tuple[Score, ...] = ()
    predictions: Mapping[str, tuple[Prediction, ...]] = field(default_factory=dict)
    manifest: Mapping[str, Any] = field(default_factory=dict)
    translations: Mapping[str, Mapping[str, tuple[Translated, ...]]] = field(default_factory=dict)
    answers: Mapping[str, Mapping[str, Sample]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Run:
    """One run's folder.

    Attributes:
        name: the run's name, unlike that of any other run in the report.
        folder: where it lies.
        record: `run.json`: versions, command, timings, counts, shares; empty where missing.
        config: `config.yaml` as nested dictionaries, and `config_text` as it stands.
        log: the lines of `log.jsonl`, by step.
        base, adapted: the model's scores before and after training; None where not evaluated.
    """

    name: str
    folder: Path
    record: Mapping[str, Any]
    config: Mapping[str, Any]
    config_text: str
    log: tuple[Mapping[str, Any], ...]
    base: Evaluated | None
    adapted: Evaluated | None


def collect(folders: Sequence[Path]) -> list[Run]:
    """Reads run folders, in the order given, and sees to it that their names differ.

    Bases with the same signatures become one record with the name `base`; a run with another base has it
    named after the run.

    Raises:
        RunFolderError: a folder is missing, or is not a run's.
        DataError: a file in it cannot be read; the message names the file and the line.
    """
    if not folders:
        raise RunFolderError("no run folder was given: name at least one, for example runs/replay.")
    runs = _unlike([_read_run(Path(folder)) for folder in folders])
    bases: dict[frozenset[tuple[str, ...]], Evaluated] = {}
    joined = []
    for run in runs:
        if run.base is not None:
            key = _identity(run.base)
            if key not in bases:
                bases[key] = _renamed(run.base, f"{BASE} of {run.name}" if bases else BASE)
            run = replace(run, base=bases[key])
        joined.append(run)
    return _share_base(joined)


def evaluated(runs: Iterable[Run]) -> list[Evaluated]:
    """Every evaluated model once, each base before the runs that started from it."""
    models = [model for run in runs for model in (run.base, run.adapted) if model is not None]
    return list({model.name: model for model in models}.values())


def _share_base(runs: Sequence[Run]) -> list[Run]:
    """Gives a run without a base of its own the one that another run of the same base model has."""
    by_model = {_base_model(run): run.base for run in runs if run.base is not None}
    return [replace(run, base=run.base or by_model.get(_base_model(run))) for run in runs]


def _base_model(run: Run) -> str:
    model = run.config.get("model")
    return str(model.get("base", "")) if isinstance(model, Mapping) else ""


def _read_run(folder: Path) -> Run:
    _check_folder(folder)
    record = read_object(folder / "run.json", json.loads)
    config_path = folder / "config.yaml"
    name = str(record.get("run") or folder.resolve().name)
    return Run(
        name=name,
        folder=folder,
        record=record,
        config=read_object(config_path, yaml.safe_load),
        config_text=config_path.read_text(encoding="utf-8") if config_path.is_file() else "",
        log=tuple(_lines(folder / "log.jsonl")),
        base=read_evaluated(folder / "evaluation" / "base", BASE),
        # What `instructalign evaluate` wrote for a single model is a run that was not trained.
        adapted=read_evaluated(folder / "evaluation" / "adapted", name) or read_evaluated(folder, name),
    )


def _check_folder(folder: Path) -> None:
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder. A run folder is what `instructalign run` writes.")
    if any((folder / name).exists() for name in CONTENTS):
        return
    inner = sorted(child for child in folder.iterdir() if any((child / name).exists() for name in CONTENTS[:4]))
    if inner:
        raise RunFolderError(
            f"{folder} is not a run folder but holds some. "
            f"Name those: instructalign report {' '.join(map(str, inner))}"
        )
    raise RunFolderError(
        f"{folder} is not a run folder: it holds none of {', '.join(CONTENTS)}. "
        "A run folder is what `instructalign run` writes."
    )


def read_evaluated(folder: Path, name: str) -> Evaluated | None:
    """What an evaluation wrote into a folder; None where it has no scores.

    Raises:
        DataError: a file cannot be read.
    """
    path = folder / "scores.json"
    if not path.is_file():
        return None
    scores = read_object(path, json.loads).get("scores")
    if not isinstance(scores, list):
        raise DataError(f'{path}: expected a list under "scores". Delete it and evaluate again.')
    predictions: dict[str, list[Prediction]] = {}
    for file in sorted((folder / "predictions").glob("*.jsonl")):
        for number, line in read_jsonl(file):
            prediction = record_of(Prediction, line, f"{file}:{number}")
            predictions.setdefault(prediction.task, []).append(prediction)
    records = ScoreTable.from_rows(scores, f"{path}: score")
    return Evaluated(
        name=name,
        scores=tuple(replace(score, run=name) for score in records if score.run not in BASELINES),
        baselines=tuple(score for score in records if score.run in BASELINES),
        predictions={task: tuple(found) for task, found in predictions.items()},
        manifest=read_object(folder / "predictions" / "manifest.json", json.loads),
        translations=_read_translations(folder / "translations"),
        answers=_read_answers(folder / "instructions"),
    )


def _read_answers(folder: Path) -> dict[str, dict[str, Sample]]:
    found: dict[str, dict[str, list[AnswerLikelihood]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for number, line in read_jsonl(file):
            answer = record_of(AnswerLikelihood, line, f"{file}:{number}")
            found.setdefault(answer.task, {}).setdefault(answer.language, []).append(answer)
    samples: dict[str, dict[str, Sample]] = {}
    for task, by_language in found.items():
        samples |= samples_of(task, by_language)
    return samples


def _read_translations(folder: Path) -> dict[str, dict[str, tuple[Translated, ...]]]:
    """Translations by task and language; those whose manifest is gone by the direction that they have."""
    manifest = read_object(folder / "manifest.json", json.loads).get("tasks", {})
    found: dict[str, dict[str, tuple[Translated, ...]]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        records = [record_of(Translated, line, f"{file}:{number}") for number, line in read_jsonl(file)]
        if records:
            first, entry = records[0], manifest.get(file.name, {})
            title = str(entry.get("title", f"{first.task}/{first.source}-{first.target}"))
            found.setdefault(title, {})[str(entry.get("language", first.target))] = tuple(records)
    return found


def record_of(kind: type[T], line: Any, where: str) -> T:
    """A record of a kind from a dictionary, which may hold more keys than the record has."""
    needed, allowed = _keys(kind)  # type: ignore[arg-type]
    missing = [name for name in needed if not isinstance(line, dict) or name not in line]
    if missing:
        raise DataError(f"{where}: not a {kind.__name__}: {', '.join(missing)} missing.")
    return kind(**{name: line[name] for name in allowed if name in line})


@cache
def _keys(kind: type) -> tuple[list[str], list[str]]:
    """The keys that a record needs, and those that it may have."""
    described = fields(kind)
    needed = [f.name for f in described if f.default is MISSING and f.default_factory is MISSING]
    return needed, [f.name for f in described]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    return (line for _, line in read_jsonl(path)) if path.is_file() else iter(())


def _unlike(runs: Sequence[Run]) -> list[Run]:
    """The runs, those whose name is taken (or `base`) renamed to `name (2)` and so on."""
    taken = {BASE, *BASELINES}
    named = []
    for run in runs:
        name, count = run.name, 1
        while name in taken:
            count += 1
            name = f"{run.name} ({count})"
        taken.add(name)
        adapted = _renamed(run.adapted, name) if run.adapted else None
        named.append(replace(run, name=name, adapted=adapted))
    return named


def _renamed(evaluated: Evaluated, name: str) -> Evaluated:
    scores = tuple(replace(score, run=name) for score in evaluated.scores)
    return replace(evaluated, name=name, scores=scores)


def _identity(evaluated: Evaluated) -> frozenset[tuple[str, ...]]:
    """What makes two evaluations the same: what was measured, with the signature of each number."""
    return frozenset((s.task, s.language, s.group, s.metric, signature_key(s.signature)) for s in evaluated.scores)
