"""Scores of the translations in an evaluation folder, with intervals, by language and by group."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from instructalign.config import EvaluationConfig
from instructalign.evaluation.comet import comet_scores
from instructalign.evaluation.coverage import refusal
from instructalign.evaluation.predictions import read_manifest
from instructalign.evaluation.significance import Bootstrap, Values, interval
from instructalign.evaluation.translated import Translated, read_translations
from instructalign.evaluation.translation_metrics import measure
from instructalign.records import Score

log = logging.getLogger(__name__)


def score_translations(
    out: Path,
    groups: Mapping[str, Sequence[str]],
    run: str,
    bootstrap: Bootstrap,
    settings: EvaluationConfig | None = None,
) -> list[Score]:
    """Every metric of the translations in an evaluation folder, by language and by group.

    Args:
        out: the folder; it need not hold translations.
        groups: language codes by group; a group's score is the mean over its languages that the metric covers.
        run: name of the run.
        bootstrap: gives the intervals.
        settings: names a model for language identification and one of COMET.

    Returns:
        Scores between 0 and 1: `chrf`, `bleu`, `spbleu`, `comet`, and the shares that are `copied` from the
        source, `off_target`, in the `wrong_script`, `empty` or `unfinished`. The task of a score tells the
        direction: `…/from-eng`, `…/into-eng`.
    """
    settings = settings or EvaluationConfig()
    folder = out / "translations"
    manifest = read_manifest(folder)
    scores: list[Score] = []
    grouped: dict[tuple[str, str, str], list[tuple[Values, Mapping[str, Any]]]] = {}
    signatures: dict[str, str] = {}
    for file, entry in manifest.get("tasks", {}).items():
        group = next((name for name, codes in groups.items() if entry["language"] in codes), "")
        records = read_translations(folder / file)
        comet = _comet(records, out / "comet" / f"{file.removesuffix('.jsonl')}.json", settings)
        measured = measure(records, language_id=settings.language_id, comet=comet)
        for metric, (sample, how) in measured.items():
            values = bootstrap.by_prompt(sample).mean(0)
            signatures[metric] = how or f"comet:{settings.comet.model if settings.comet else ''}"
            signed = _sign([entry], signatures[metric], manifest["model"]["hash"], bootstrap)
            scores.append(_row(run, entry["language"], group, metric, values, [entry], signed))
            grouped.setdefault((entry["title"], metric, group), []).append((values, entry))
    for (_, metric, group), members in grouped.items():
        if group:
            entries = [entry for _, entry in members]
            mean = np.mean([values for values, _ in members], axis=0)
            signed = _sign(entries, signatures[metric], manifest["model"]["hash"], bootstrap)
            scores.append(_row(run, "", group, metric, mean, entries, signed))
    return scores


def _comet(records: Sequence[Translated], cache: Path, settings: EvaluationConfig) -> list[float] | None:
    """COMET's scores, where they are asked for and its encoder knows both languages."""
    if settings.comet is None:
        return None
    for code in (records[0].source, records[0].target):
        if reason := refusal("comet", code, settings.comet.languages):
            log.warning(
                "COMET is left out from %s into %s: %s: %s", records[0].source, records[0].target, code, reason
            )
            return None
    return comet_scores(records, settings.comet, cache)


def _row(
    run: str,
    language: str,
    group: str,
    metric: str,
    values: Values,
    entries: Sequence[Mapping[str, Any]],
    signature: str,
) -> Score:
    low, high = interval(values)
    count = sum(entry["items"] for entry in entries)
    return Score(run, entries[0]["title"], language, group, metric, float(values[0]), low, high, count, signature)


def _sign(entries: Sequence[Mapping[str, Any]], how: str, model: str, bootstrap: Bootstrap) -> str:
    parts = {
        "task": entries[0]["title"],
        "split": entries[0]["split"],
        "languages": "+".join(entry["language"] for entry in entries),
        "n": "+".join(str(entry["items"]) for entry in entries),
        "prompts": "+".join(entries[0]["prompts"]),
        "questions": entries[0]["questions"][:8],
        "bootstrap": bootstrap.rounds,
        "model": model,
        "version": entries[0]["version"],
    }
    if "engine" in entries[0]:
        parts["engine"] = entries[0]["engine"]
    return "|".join([*(f"{key}:{value}" for key, value in parts.items()), how])
