"""The best cell of a sweep against the others."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import made_up_sweeps
import numpy as np
import pytest
from made_up_runs import ITEMS, write_evaluation
from made_up_sweeps import GROUPS, answers, paper_skill, write_sweep

from instructalign.evaluation.bootstrap import Bootstrap, sample_of_predictions
from instructalign.evaluation.variance import over_levels
from instructalign.files import write_text
from instructalign.report import write_report

SKILLS = {5: {"L1": 0.7, "L2": 0.4, "L3": 0.5}, 1000: {"L1": 0.7, "L2": 0.8, "L3": 0.5}}
"""What the cells can do, by replay.size; their reports put the second first."""


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    folder = write_sweep(tmp_path, {"objectives": ["mt"], "replay.size": list(SKILLS)}, paper_skill)
    for size, skill in SKILLS.items():
        for seed in (1, 2, 3):
            cell = folder / "cells" / f"mt_replay.size={size}_seed={seed}"
            write_evaluation(cell / "evaluation" / "adapted", {"mood": answers(skill, seed)}, "adapted", "a")
            write_text(cell / "config.yaml", "seed: 1\nevaluation: {bootstrap: 200}\n")
    return folder


def line(folder: Path) -> list[str]:
    """The cells of the table's one row."""
    text = write_report([folder]).markdown.read_text(encoding="utf-8")
    section = text[text.index("## Is the best better?") :].split("\n## ")[0]
    [row] = [line for line in section.splitlines() if line.startswith("| mt")]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_differences_are_those_of_both_cells_over_seeds_and_items(sweep: Path) -> None:
    bootstrap = Bootstrap(200, 1)

    def draws(size: int, codes: list[str]) -> Any:
        by_seed = []
        for seed in (1, 2, 3):
            found = answers(SKILLS[size], seed)
            outcomes = [sample_of_predictions([each for each in found if each.language == code]) for code in codes]
            by_seed.append(np.mean([bootstrap.scores([outcome]) for outcome in outcomes], axis=0))
        return np.array(by_seed)

    name, *cells = line(sweep)
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


def test_the_headline_says_how_many_cannot_be_told_from_the_best(sweep: Path, tmp_path: Path) -> None:
    assert "; the other can be told from it on L2 or L1 by seeds and items. " in write_report([sweep]).sentences[0]
    sizes = {5: SKILLS[5], 900: SKILLS[1000], 1000: SKILLS[1000]}
    more = write_sweep(tmp_path / "more", {"objectives": ["mt"], "replay.size": list(sizes)}, paper_skill)
    for number, (size, skill) in enumerate(sizes.items()):
        for seed in (1, 2, 3):
            cell = more / "cells" / f"mt_replay.size={size}_seed={seed}"
            found = answers(skill, 10 * number + seed)
            write_evaluation(cell / "evaluation" / "adapted", {"mood": found}, "adapted", "a")
            write_text(cell / "config.yaml", "seed: 1\nevaluation: {bootstrap: 200}\n")
    [sentence] = write_report([more]).sentences
    assert "; 1 of the 2 others cannot be told from it on L2 or L1 by seeds and items. " in sentence
    shutil.rmtree(more / "cells" / "mt_replay.size=1000_seed=1" / "evaluation")
    [sentence] = write_report([more]).sentences
    assert "; the other can be told from it on L2 or L1 by seeds and items (1 not compared). " in sentence


def test_without_intervals_the_headline_claims_no_winner(tmp_path: Path) -> None:
    for seeds, expected in (
        ([1], "; one seed cannot tell whether it is better than the others. "),
        ([1, 2], "; it could not be compared with the others over seeds and items. "),
    ):
        sweep = write_sweep(tmp_path / str(len(seeds)), {"replay.size": [5, 10]}, size_skill, seeds)
        assert expected in write_report([sweep]).sentences[0]
    alone = write_sweep(tmp_path / "alone", {"replay.size": [5]}, size_skill, [1])
    assert ";" not in write_report([alone]).sentences[0]


def test_the_headline_says_where_guessing_does_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep: Path
) -> None:
    assert "guessing" not in write_report([sweep]).sentences[0]
    monkeypatch.setitem(made_up_sweeps.BASE, "L1", 0.3)
    monkeypatch.setitem(made_up_sweeps.BASE, "L2", 0.2)
    poor = write_sweep(
        tmp_path / "poor", {"replay.size": [5]}, lambda *_: {"L1": 0.25, "L2": 0.34, "L3": 0.3}, [1]
    )
    assert write_report([poor]).sentences[0].partition(" on L2 ")[2] == (
        "+14.0, not above guessing; forgetting on L1 +5.0, where the base was no better than guessing). "
        "1 of 1 cells stand on the Pareto front of the two."
    )


def size_skill(place: Any, seed: int) -> dict[str, float]:
    return paper_skill(("mt", *place), seed)


def test_nothing_is_said_without_predictions_or_with_one_seed(tmp_path: Path) -> None:
    without = write_sweep(tmp_path / "without", {"replay.size": [5, 10]}, size_skill)
    alone = write_sweep(tmp_path / "alone", {"replay.size": [5, 10]}, size_skill, [1])
    for folder in (without, alone):
        assert "Is the best better?" not in write_report([folder]).markdown.read_text(encoding="utf-8")
