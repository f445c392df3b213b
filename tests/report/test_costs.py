"""What strategies took, in the report."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from instructalign.files import write_json, write_text
from instructalign.report.costs import size, strategies
from instructalign.report.outcome import Facts
from instructalign.report.run_results import read_runs


def facts_of(folder: Path, taken: Any) -> Any:
    write_json(folder / "run.json", {"run": "r", "timings": {"training_seconds": 50.0}, "strategies": taken})
    write_text(folder / "config.yaml", "seed: 1\n")
    runs = read_runs([folder])
    empty: Any = {}
    return Facts(runs=runs, rows=[], best=frozenset(), refused=empty, label=str, text=empty, correlation="")


def test_time_memory_and_what_was_done(tmp_path: Path) -> None:
    taken = {
        "replay": {"seconds": 0.0},
        "ewc": {"seconds": 5.0, "memory": 2_500_000, "disk": 1_200},
        "agem": {"seconds": 1.26, "projected": 1234},
    }
    section = strategies(facts_of(tmp_path, taken))
    assert section is not None
    [table] = section.blocks
    assert [[cell.text for cell in row] for row in table.rows] == [  # type: ignore[union-attr]
        ["r", "ewc", "5.0 s", "2.5 MB", "1.2 kB", ""],
        ["r", "agem", "1.3 s", "–", "–", "1,234 steps projected"],
    ]
    assert table.rows[0][2].note == "10 %"  # type: ignore[union-attr]


@pytest.mark.parametrize("taken", [None, {}, {"replay": {"seconds": 0.0}}, {"none": {}}, "nonsense"])
def test_nothing_is_said_where_nothing_was_taken(taken: Any, tmp_path: Path) -> None:
    assert strategies(facts_of(tmp_path, taken)) is None


def test_sizes() -> None:
    counts = (0, 999, 1_500, 25_000, 3e9, 4e13)
    assert [size(count) for count in counts] == ["–", "999 B", "1.5 kB", "25 kB", "3.0 GB", "40 TB"]


def test_facts_are_read_from_any_run(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, {"ema": {"seconds": 0.1, "memory": 10}})
    other = replace(facts.runs[0], record={})
    assert strategies(replace(facts, runs=[other])) is None
