"""The report on a sweep: means over seeds with their intervals, the Pareto front, curves, what failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import BASE as SKILL
from made_up_runs import ITEMS, write_evaluation
from made_up_sweeps import BASE, GROUPS, MIXTURES, answers, paper_skill, write_paper_sweep, write_sweep
from scipy import stats

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, sample_of_predictions
from instructalign.evaluation.variance import mean_interval, over_levels
from instructalign.files import write_text
from instructalign.report import Report, write_report
from instructalign.report.sweep_parts import tick
from instructalign.types import Prediction, Score


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report([write_paper_sweep(tmp_path_factory.mktemp("sweep"))])


def row(report: Report, run: str, metric: str, group: str) -> Score:
    return next(r for r in report.rows if (r.run, r.metric, r.group, r.language) == (run, metric, group, ""))


def test_a_cell_is_the_mean_over_seeds_with_the_interval_of_the_mean(report: Report) -> None:
    values = [paper_skill(("mt", 1000), seed)["L2"] for seed in (1, 2, 3)]
    found = row(report, "mt, replay.size=1000", "f1_weighted", "L2")
    assert found.value == pytest.approx(sum(values) / 3)
    low, high = stats.t.interval(0.95, 2, loc=found.value, scale=stats.sem(values))
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-3)
    assert found.signature == {"task": "mood", "version": "0.1.0", "seeds": [1, 2, 3]}
    gain = row(report, "mt, replay.size=1000", "gain", "L2")
    assert gain.value == pytest.approx(found.value - BASE["L2"])


@pytest.mark.parametrize("count", [2, 3, 5, 11, 12, 31, 100])
def test_intervals_of_means_equal_scipy(count: int) -> None:
    values = [((7 * i) % 13) / 13 for i in range(count)]
    expected = stats.t.interval(0.95, count - 1, loc=sum(values) / count, scale=stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, rel=1e-3)


def test_with_predictions_the_interval_is_over_seeds_and_items(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, {"objectives": ["mt"], "replay.size": [5]}, paper_skill)
    cells = [folder / "cells" / f"mt_replay.size=5_seed={seed}" for seed in (1, 2, 3)]
    before = answers(SKILL, 100)
    after = [answers({"L1": 0.7, "L2": 0.8, "L3": 0.5}, seed) for seed in (1, 2, 3)]
    for cell, found in zip(cells, after, strict=True):
        write_evaluation(cell / "evaluation" / "base", {"mood": before}, "base", "b")
        write_evaluation(cell / "evaluation" / "adapted", {"mood": found}, "adapted", "a")
        write_text(cell / "config.yaml", "seed: 1\nevaluation: {bootstrap: 200}\n")
    bootstrap = Bootstrap(200, 1)

    def draws(found: list[Prediction], codes: list[str]) -> Any:
        outcomes = [sample_of_predictions([each for each in found if each.language == code]) for code in codes]
        return np.mean([bootstrap.scores([outcome]) for outcome in outcomes], axis=0)

    report = write_report([folder])
    values = np.array([draws(found, GROUPS["L1"]) for found in after])
    base = draws(before, GROUPS["L1"])[None]
    name = "mt, replay.size=5"
    expected = over_levels(values, ITEMS)
    found = row(report, name, "f1_weighted", "L1")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    change = over_levels(values, ITEMS, minus=base, bounds=(-1, 1))
    gain, lost = row(report, name, "gain", "L1"), row(report, name, "forgetting", "L1")
    assert (gain.low, gain.high) == pytest.approx((change.low, change.high))
    assert (lost.low, lost.high) == pytest.approx((-gain.high, -gain.low))


def test_with_one_seed_the_interval_is_that_of_the_run(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, {"objectives": ["mt"], "replay.size": [5, 10]}, paper_skill, seeds=[1])
    found = row(write_report([folder]), "mt, replay.size=5", "f1_weighted", "L1")
    assert found.low == pytest.approx(found.value - 0.03)


def test_what_is_said_and_drawn(report: Report) -> None:
    assert report.sentences[0].startswith("The best balance has tlm+mt+xss, replay.size=1000 (gain on L2 +")
    page = report.html.read_text(encoding="utf-8")
    assert page.count("<svg") == 1 + len(MIXTURES) + 1  # the trade-off, a curve for each mixture, L3 over L2
    text = report.markdown.read_text(encoding="utf-8")
    for heading in (
        "Result",
        "What is gained for what is forgotten",
        "Curves",
        "One axis against the other",
        "Languages",
    ):
        assert f"## {heading}" in text
    assert "Failed" not in text
    head = [line for line in text.splitlines() if line.startswith("| objectives |")]
    assert head == ["| objectives | replay.size=0 | replay.size=1000 | replay.size=10000 |"] * 2


def test_a_sweep_that_only_forgets_says_that_the_base_is_best(tmp_path: Path, report: Report) -> None:
    said = "by that the base, left as it is, is best"
    forgetful = write_report([write_sweep(tmp_path, {"objectives": ["mt"], "replay.size": [0]}, paper_skill)])
    assert said in " ".join(forgetful.sentences)
    assert said not in " ".join(report.sentences)


def test_the_same_folder_gives_the_same_bytes(report: Report, tmp_path: Path) -> None:
    again = write_report([report.html.parent], tmp_path)
    for one, other in ((report.html, again.html), (report.markdown, again.markdown), (report.json, again.json)):
        assert one.read_bytes() == other.read_bytes()


def test_failed_and_missing_runs_are_said(tmp_path: Path) -> None:
    folder = write_sweep(tmp_path, {"objectives": ["mt", "mlm"], "replay.size": [5, 10]}, paper_skill, failed=2)
    record = json.loads((folder / "sweep.json").read_text(encoding="utf-8"))
    record["cells"][0]["status"] = "waiting"
    (folder / "sweep.json").write_text(json.dumps(record), encoding="utf-8")
    report = write_report([folder])
    assert report.sentences[1:] == (
        "2 runs failed; the errors stand at the end.",
        "1 run is not finished; the same command goes on.",
    )
    page = report.html.read_text(encoding="utf-8")
    assert "no room left &lt;b&gt;on the device&lt;/b&gt;" in page
    assert "<b>" not in page
    assert [each["seed"] for each in json.loads(report.json.read_text(encoding="utf-8"))["failed"]] == [2, 3]


def test_sizes_come_from_what_was_measured(tmp_path: Path) -> None:
    labels = ["instructions.sentences=100", "instructions.sentences=all"]

    def skill(place: Any, seed: int) -> dict[str, float]:
        return {"L1": 0.9, "L2": 0.5 + 0.1 * labels.index(place[0]), "L3": 0.4}

    folder = write_sweep(tmp_path, {"instructions.sentences": labels}, skill)
    for seed in (1, 2, 3):
        path = folder / "cells" / f"{labels[0]}_seed={seed}" / "run.json"
        path.write_text(json.dumps({"corpus": {"train": 100}, "model": {"base": "toy"}}), encoding="utf-8")
    markdown = write_report([folder]).markdown.read_text(encoding="utf-8")
    assert "L2 new 50.0 at 100, 60.0 at 900" in markdown.replace("\\", "")


def test_several_tasks_stand_apart(tmp_path: Path) -> None:
    folder = write_sweep(
        tmp_path, {"objectives": ["mt", "mlm"], "replay.size": [5, 10]}, paper_skill, tasks=("mood", "topic")
    )
    report = write_report([folder])
    assert [sentence.partition(":")[0] for sentence in report.sentences] == ["mood", "topic"]
    assert report.html.read_text(encoding="utf-8").count("Gain and forgetting, ") >= 2


def test_numbers_of_an_axis_are_short() -> None:
    assert list(map(tick, (0, 0.25, 100, 1000, 559e6, 1.1e9))) == ["0", "0.25", "100", "1k", "559M", "1.1B"]


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json: KeyError"):
        write_report([tmp_path])
    (tmp_path / "sweep.json").write_text("no", encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json: cannot be parsed"):
        write_report([tmp_path])
