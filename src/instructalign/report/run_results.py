"""Reads run folders into records; whatever a folder does not hold is empty."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from instructalign.errors import RunFolderError
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.continual_metrics import StageMatrix, stage_matrices
from instructalign.evaluation.model_results import ModelResults, read_results
from instructalign.evaluation.run_comparison import TrainedRun
from instructalign.evaluation.score_table import BASE, BASELINES, signature_key
from instructalign.files import read_jsonl, read_object

_CONTENTS = ("config.yaml", "run.json", "log.jsonl", "scores.json", "evaluation")


@dataclass(frozen=True, slots=True)
class RunResults(TrainedRun):
    """One run's folder.

    Attributes:
        folder: its path.
        record: `run.json`: versions, command, timings, counts, shares; empty where missing.
        config_text: the text of `config.yaml`.
        log: the lines of `log.jsonl`, by step.
    """

    folder: Path
    record: Mapping[str, Any]
    config_text: str
    log: tuple[Mapping[str, Any], ...]


def read_runs(folders: Sequence[Path]) -> list[RunResults]:
    """Reads run folders, in the order given, and makes their names unique.

    Bases with the same signatures become one with the name `base`; a run with another base has it named after the
    run. A run without an evaluated base gets that of another run of the same base model.

    Raises:
        RunFolderError: a folder is missing, or is not a run's.
        DataError: a file in it cannot be read; the message names the file and the line.
    """
    if not folders:
        raise RunFolderError("no run folder was given: name at least one, for example runs/replay.")
    taken = {BASE, *BASELINES}
    bases: dict[frozenset[tuple[str, ...]], ModelResults] = {}
    by_model: dict[str, ModelResults] = {}
    runs = []
    for run in map(_read_run, map(Path, folders)):
        name, count = run.name, 1
        while name in taken:
            count += 1
            name = f"{run.name} ({count})"
        taken.add(name)
        base = run.base
        if base is not None:
            # What makes two evaluations the same: what was measured, with the signature of each number.
            key = frozenset(
                (s.task, s.language, s.group, s.metric, signature_key(s.signature)) for s in base.scores
            )
            base = bases.setdefault(key, base.renamed(f"{BASE} of {name}" if bases else BASE))
            by_model[_base_model(run)] = base
        runs.append(replace(run, name=name, base=base, adapted=run.adapted and run.adapted.renamed(name)))
    return [replace(run, base=run.base or by_model.get(_base_model(run))) for run in runs]


def _base_model(run: RunResults) -> str:
    model = run.config.get("model")
    return str(model.get("base", "")) if isinstance(model, Mapping) else ""


def _read_run(folder: Path) -> RunResults:
    if not folder.is_dir():
        raise RunFolderError(f"{folder} is not a folder. A run folder is what `instructalign run` writes.")
    if not any((folder / name).exists() for name in _CONTENTS):
        inner = sorted(child for child in folder.iterdir() if any((child / n).exists() for n in _CONTENTS[:4]))
        if inner:
            raise RunFolderError(
                f"{folder} is not a run folder but contains run folders. "
                f"Name those: instructalign report {' '.join(map(str, inner))}"
            )
        raise RunFolderError(
            f"{folder} is not a run folder: it has none of {', '.join(_CONTENTS)}. "
            "A run folder is what `instructalign run` writes."
        )
    record = read_object(folder / "run.json", json.loads)
    config, log = folder / "config.yaml", folder / "log.jsonl"
    name = str(record.get("run") or folder.resolve().name)
    return RunResults(
        name=name,
        config=read_object(config, yaml.safe_load),
        base=read_results(folder / "evaluation" / "base", BASE),
        # What `instructalign evaluate` wrote for a single model is a run that was not trained.
        adapted=read_results(folder / "evaluation" / "adapted", name) or read_results(folder, name),
        folder=folder,
        record=record,
        config_text=config.read_text(encoding="utf-8") if config.is_file() else "",
        log=tuple(line for _, line in read_jsonl(log)) if log.is_file() else (),
    )


def read_stages(run: RunResults, label: Callable[[str], str]) -> list[StageMatrix]:
    """The accuracy matrices of a run in several stages, one a task; none where it has no stages.

    Args:
        run: the run.
        label: the name of a language, from its code.
    """
    folders = [run.folder / "stages" / str(name) for name in run.record.get("stages") or []]
    found = [(folder, read_results(folder / "evaluation" / "adapted", folder.name)) for folder in folders]
    reached = [(folder, results) for folder, results in found if results is not None]
    if run.base is None or len(reached) < 2:
        return []
    taught = []
    for folder, _ in reached:
        instructions = read_object(folder / "config.yaml", yaml.safe_load).get("instructions") or {}
        codes = list(instructions.get("targets") or [])
        taught.append((", ".join(map(label, codes)), codes))
    return stage_matrices(
        run.name, run.base, [results for _, results in reached], taught, bootstrap_of(run.config)
    )


def bootstrap_of(config: Mapping[str, Any]) -> Bootstrap:
    """The bootstrap with which a run's own intervals were made."""
    settings = config.get("evaluation")
    resamples = settings.get("bootstrap", 1000) if isinstance(settings, Mapping) else 1000
    return Bootstrap(int(resamples), int(config.get("seed", 0)))
