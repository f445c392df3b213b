"""The report on a sweep: means over seeds with their intervals, the Pareto front, curves, what failed."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import made_up_sweeps
import numpy as np
import pytest
from made_up_runs import BASE as SKILL
from made_up_runs import ITEMS, write_evaluation
from made_up_sweeps import BASE, GROUPS, MIXTURES, answers, paper_skill, write_paper_sweep, write_sweep
from scipy import stats

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, sample_of_predictions
from instructalign.evaluation.variance import over_levels
from instructalign.files import write_text
from instructalign.report import Report, write_report
from instructalign.report.sweep_report import brief, short_number
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
    assert "tlm+mt+xss, replay.size=1000 (gain on L2 +" in report.sentences[0]
    page = report.html.read_text(encoding="utf-8")
    assert page.count("<svg") == 1 + len(MIXTURES) + 1  # the trade-off, a curve for each mixture, L3 over L2
    text = report.markdown.read_text(encoding="utf-8")
    assert re.findall('<section id="([a-z-]+)"', page) == [
        *("result", "trade-off", "curves", "grid", "carried-over", "languages", "costs")
    ]
    head = [line for line in text.splitlines() if line.startswith("| objectives |")]
    assert head == ["| objectives | replay.size=0 | replay.size=1000 | replay.size=10000 |"] * 2


def test_a_sweep_that_only_forgets_says_that_the_base_is_best(tmp_path: Path, report: Report) -> None:
    said = "the base itself is best"
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
    failed, missing = report.sentences[1:]
    assert failed.startswith("2 runs failed")
    assert missing.startswith("1 run is not finished")
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


def test_several_tasks_are_kept_apart(tmp_path: Path) -> None:
    folder = write_sweep(
        tmp_path, {"objectives": ["mt", "mlm"], "replay.size": [5, 10]}, paper_skill, tasks=("mood", "topic")
    )
    report = write_report([folder])
    assert [sentence.partition(":")[0] for sentence in report.sentences] == ["mood", "topic"]
    assert report.html.read_text(encoding="utf-8").count("Gain and forgetting, ") >= 2


def test_numbers_of_an_axis_are_short() -> None:
    assert list(map(short_number, (0, 0.25, 100, 1000, 559e6, 1.1e9))) == [
        "0",
        "0.25",
        "100",
        "1k",
        "559M",
        "1.1B",
    ]


def test_cells_are_named_briefly_beside_their_points() -> None:
    assert brief("replay.size=50, training.strategy.ema.decay=0.9") == "size=50, decay=0.9"
    assert brief("tlm+mt") == "tlm+mt"


def test_a_broken_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text("{}", encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json: KeyError"):
        write_report([tmp_path])
    (tmp_path / "sweep.json").write_text("no", encoding="utf-8")
    with pytest.raises(DataError, match=r"sweep\.json: cannot be parsed"):
        write_report([tmp_path])


# -- the best cell against the others ---------------------------------------------------------------------

SKILLS = {5: {"L1": 0.7, "L2": 0.4, "L3": 0.5}, 1000: {"L1": 0.7, "L2": 0.8, "L3": 0.5}}
"""What the cells can do, by replay.size; their reports put the second first."""


@pytest.fixture(scope="module")
def sweep_with_predictions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of three seeds each; a test that changes it copies it."""
    folder = write_sweep(
        tmp_path_factory.mktemp("cells"), {"objectives": ["mt"], "replay.size": list(SKILLS)}, paper_skill
    )
    for size, skill in SKILLS.items():
        for seed in (1, 2, 3):
            cell = folder / "cells" / f"mt_replay.size={size}_seed={seed}"
            write_evaluation(cell / "evaluation" / "adapted", {"mood": answers(skill, seed)}, "adapted", "a")
            write_text(cell / "config.yaml", "seed: 1\nevaluation: {bootstrap: 200}\n")
    return folder


def line(folder: Path) -> list[str]:
    """The cells of the table's one row."""
    text = write_report([folder]).markdown.read_text(encoding="utf-8")
    section = text[text.index("## Significance") :].split("\n## ")[0]
    [row] = [line for line in section.splitlines() if line.startswith("| mt")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_differences_are_those_of_both_cells_over_seeds_and_items(sweep_with_predictions: Path) -> None:
    bootstrap = Bootstrap(200, 1)

    def draws(size: int, codes: list[str]) -> Any:
        by_seed = []
        for seed in (1, 2, 3):
            found = answers(SKILLS[size], seed)
            outcomes = [sample_of_predictions([each for each in found if each.language == code]) for code in codes]
            by_seed.append(np.mean([bootstrap.scores([outcome]) for outcome in outcomes], axis=0))
        return np.array(by_seed)

    name, *cells = line(sweep_with_predictions)
    assert name == "mt, replay.size=5"
    for cell, codes in zip(cells, GROUPS.values(), strict=True):
        found = over_levels(draws(1000, codes), ITEMS, minus=draws(5, codes), bounds=(-1, 1))
        assert found.low is not None
        assert found.high is not None
        points = [
            f"{100 * value:.1f}".replace("-", "−").replace("−0.0", "0.0") for value in (found.low, found.high)
        ]
        assert all(point in cell for point in points), (cell, points)
        assert ("**" in cell) == (not found.low <= 0 <= found.high)
    assert "**" in cells[1]  # L2, where the skills are far apart
    assert "**" not in cells[2]


def test_the_headline_says_how_many_do_not_differ_from_the_best(
    sweep_with_predictions: Path, tmp_path: Path
) -> None:
    assert "; the other differs significantly " in write_report([sweep_with_predictions]).sentences[0]
    sizes = {5: SKILLS[5], 900: SKILLS[1000], 1000: SKILLS[1000]}
    more = write_sweep(tmp_path / "more", {"objectives": ["mt"], "replay.size": list(sizes)}, paper_skill)
    for number, (size, skill) in enumerate(sizes.items()):
        for seed in (1, 2, 3):
            cell = more / "cells" / f"mt_replay.size={size}_seed={seed}"
            found = answers(skill, 10 * number + seed)
            write_evaluation(cell / "evaluation" / "adapted", {"mood": found}, "adapted", "a")
            write_text(cell / "config.yaml", "seed: 1\nevaluation: {bootstrap: 200}\n")
    [sentence] = write_report([more]).sentences
    assert "; 1 of the 2 others do not differ significantly " in sentence
    shutil.rmtree(more / "cells" / "mt_replay.size=1000_seed=1" / "evaluation")
    [sentence] = write_report([more]).sentences
    assert "; the other differs significantly " in sentence
    assert " (1 not compared). " in sentence


def test_without_intervals_the_headline_claims_no_winner(tmp_path: Path) -> None:
    for seeds, expected in (
        ([1], "; one seed cannot tell "),
        ([1, 2], "; it could not be compared "),
    ):
        sweep = write_sweep(tmp_path / str(len(seeds)), {"replay.size": [5, 10]}, size_skill, seeds)
        assert expected in write_report([sweep]).sentences[0]
    alone = write_sweep(tmp_path / "alone", {"replay.size": [5]}, size_skill, [1])
    assert ";" not in write_report([alone]).sentences[0]


def test_the_headline_says_what_is_not_above_the_baselines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep_with_predictions: Path
) -> None:
    assert "baseline" not in write_report([sweep_with_predictions]).sentences[0]
    monkeypatch.setitem(made_up_sweeps.BASE, "L1", 0.3)
    monkeypatch.setitem(made_up_sweeps.BASE, "L2", 0.2)
    poor = write_sweep(
        tmp_path / "poor", {"replay.size": [5]}, lambda *_: {"L1": 0.25, "L2": 0.34, "L3": 0.3}, [1]
    )
    assert write_report([poor]).sentences[0].partition(" on L2 ")[2] == (
        "+14.0, not above the baselines; forgetting on L1 +5.0, where the base was not above the baselines). "
        "1 of 1 configurations are on the Pareto front."
    )


def size_skill(place: Any, seed: int) -> dict[str, float]:
    return paper_skill(("mt", *place), seed)


def test_nothing_is_said_without_predictions_or_with_one_seed(tmp_path: Path) -> None:
    without = write_sweep(tmp_path / "without", {"replay.size": [5, 10]}, size_skill)
    alone = write_sweep(tmp_path / "alone", {"replay.size": [5, 10]}, size_skill, [1])
    for folder in (without, alone):
        assert 'id="best"' not in write_report([folder]).html.read_text(encoding="utf-8")


def test_where_all_cells_tie_none_is_best(tmp_path: Path) -> None:
    same = {"L1": 0.8, "L2": 0.5, "L3": 0.4}
    folder = write_sweep(tmp_path, {"replay.size": [5, 50, 500]}, lambda place, seed: same, seeds=(1, 2))
    report = write_report([folder])
    assert len(report.sentences) == 1
    assert "tie" in report.sentences[0]
    assert "none is best" in report.sentences[0]
    text = (folder / "report.md").read_text(encoding="utf-8")
    assert "(on the Pareto front)" not in text
    assert not any(cell.best for line in report.table.rows for cell in line)
