"""The best cell of a sweep against the others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_up_runs import ITEMS, write_evaluation
from made_up_sweeps import GROUPS, answers, paper_skill, write_sweep

from instructalign.evaluation.levels import over_levels
from instructalign.evaluation.significance import Bootstrap, outcome_of
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
            outcomes = [outcome_of([each for each in found if each.language == code]) for code in codes]
            by_seed.append(np.mean([bootstrap.values(outcome, "f1_weighted") for outcome in outcomes], axis=0))
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


def test_nothing_is_said_without_predictions_or_with_one_seed(tmp_path: Path) -> None:
    without = write_sweep(
        tmp_path / "without", {"replay.size": [5, 10]}, lambda at, seed: paper_skill(("mt", *at), seed)
    )
    alone = write_sweep(
        tmp_path / "alone", {"replay.size": [5, 10]}, lambda at, seed: paper_skill(("mt", *at), seed), [1]
    )
    for folder in (without, alone):
        assert "Is the best better?" not in write_report([folder]).markdown.read_text(encoding="utf-8")
