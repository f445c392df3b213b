"""A run's folder as an earlier version wrote it (2bd6834, 2026-11-25): every number of its report is still right.

`old_run` is a run on the toy family without model, checkpoints and page; its `report.json` has that version's rows
without their signatures.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from instructalign.config_file import load_config
from instructalign.evaluation.scores import score_folder
from instructalign.report import write_report

OLD = Path(__file__).parent / "old_run"
Key = tuple[str, ...]


def by_key(rows: list[dict[str, Any]]) -> dict[Key, dict[str, Any]]:
    return {tuple(str(row[name]) for name in ("run", "task", "language", "group", "metric")): row for row in rows}


def numbers(row: dict[str, Any]) -> list[float | None]:
    return [row[name] for name in ("value", "low", "high", "n")]


@pytest.fixture(scope="module")
def old() -> dict[Key, dict[str, Any]]:
    return by_key(json.loads((OLD / "report.json").read_text(encoding="utf-8")))


def test_the_report_made_again_has_every_number(old: dict[Key, dict[str, Any]], tmp_path: Path) -> None:
    folder = tmp_path / "old_run"
    shutil.copytree(OLD, folder)
    (folder / "report.json").unlink()
    report = write_report([folder])
    new = by_key(json.loads(report.json.read_text(encoding="utf-8"))["rows"])
    assert {row["metric"] for row in old.values()} >= {"f1_weighted", "gain", "forgetting", "gain_p"}
    assert any(abs(row["value"]) > 0.05 for row in old.values() if row["metric"] == "gain")
    missing = [key for key in old if key not in new]
    assert missing == []
    for key, row in old.items():
        assert numbers(new[key]) == pytest.approx(numbers(row), abs=1e-9), key
    again = report.markdown.read_bytes()
    assert write_report([folder]).markdown.read_bytes() == again


@pytest.mark.parametrize("model", ["base", "adapted"])
def test_scores_made_again_from_its_predictions(
    old: dict[Key, dict[str, Any]], tmp_path: Path, model: str
) -> None:
    folder = tmp_path / model
    shutil.copytree(OLD / "evaluation" / model, folder)
    (folder / "scores.json").unlink()
    name = "base" if model == "base" else "old_run"
    scores = score_folder(folder, load_config(OLD / "config.yaml"), run=name)
    found = {(s.run, s.task, s.language, s.group, s.metric): s for s in scores}
    kept = {key: row for key, row in old.items() if key[0] == name and key in found}
    assert {key[4] for key in kept} == {"accuracy", "f1_micro", "f1_macro", "f1_weighted", "token_probability"}
    for key, row in kept.items():
        score = found[key]
        assert [score.value, score.low, score.high, score.n] == pytest.approx(numbers(row), abs=3e-5), key
    # What guessing is worth is exact since: it was the F1 of the expected counts, which is higher.
    random = {key: row["value"] for key, row in old.items() if key[0] == "random"}
    for key, value in random.items():
        now = found[key].value
        assert (now == pytest.approx(value, abs=1e-9)) if key[4] in ("accuracy", "f1_micro") else now < value
