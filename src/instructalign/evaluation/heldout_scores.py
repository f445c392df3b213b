"""The scores of instructions held out from training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.evaluation.answered import read_answers, samples_of
from instructalign.evaluation.paired import compare_samples
from instructalign.evaluation.predictions import prediction_file, read_manifest
from instructalign.evaluation.significance import Asked, Bootstrap, Sample, Signature, score_rows
from instructalign.records import Score

METRIC = "token_probability"


def score_heldout(out: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap) -> list[Score]:
    """The scores of the open questions in an evaluation's folder, by language and by group.

    Returns:
        `token_probability`, the geometric mean of the probabilities of the answers' tokens: e to the power of
        minus the loss on them, between 0 and 1.
    """
    scores: list[Score] = []
    for samples, sign in _read_folder(out, bootstrap.rounds).values():
        values = {sample.language: bootstrap.by_prompt(sample).mean(0) for sample in samples}
        scores += score_rows(samples, values, groups, run, METRIC, sign)
    return scores


def compare_heldout(
    base: Path, adapted: Path, groups: Mapping[str, Sequence[str]], run: str, bootstrap: Bootstrap
) -> list[Score]:
    """What adapting a model changed on the open questions of two folders; see `paired.compare_samples`."""
    before = _read_folder(base, bootstrap.rounds)
    scores: list[Score] = []
    for task, (samples, sign) in _read_folder(adapted, bootstrap.rounds).items():
        if task in before:
            scores += compare_samples(before[task][0], samples, groups, run, bootstrap, sign, METRIC)
    return scores


def _read_folder(out: Path, rounds: int) -> dict[str, tuple[list[Sample], Signature]]:
    """By task, and by part of one, the answers in every language and what signs their scores."""
    folder = out / "instructions"
    manifest = read_manifest(folder)
    found = {}
    for task, entry in manifest.get("tasks", {}).items():
        answers = {code: read_answers(prediction_file(folder, task, code)) for code in entry["items"]}
        for name, samples in samples_of(task, answers).items():
            sign = _signer(name, entry, manifest["model"]["hash"], rounds)
            found[name] = list(samples.values()), sign
    return found


def _signer(task: str, entry: Mapping[str, Any], model: str, rounds: int) -> Signature:
    def sign(chosen: Sequence[Asked]) -> str:
        parts = {
            "task": task,
            "split": entry["split"],
            "languages": "+".join(each.language for each in chosen),
            "n": "+".join(str(len(each.items)) for each in chosen),
            "dtype": entry["dtype"],
            "questions": entry["questions"][:8],
            "bootstrap": rounds,
            "model": model,
            "version": entry["version"],
        }
        return "|".join(f"{key}:{value}" for key, value in parts.items())

    return sign
