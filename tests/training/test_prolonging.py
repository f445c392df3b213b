"""A finished run goes on with more steps as if asked for from the start, or says what would differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from instructalign import run, train
from instructalign.errors import RunFolderError

MADE: dict[str, Any] = {
    "model": {"base": "toy"},
    "languages": {"known": ["qka"], "new": ["qna"], "names": {"qka": "A", "qna": "B"}},
    "corpora": [{"format": "toy", "rows": 60}],
    "instructions": {"templates": ["toy"], "heldout": 10},
    "evaluation": {"tasks": ["toy_sentiment"], "items": 4, "bootstrap": 10},
}


def made(steps: int, scheduler: str = "constant") -> dict[str, Any]:
    training = {"batch_size": 4, "checkpoint_every": 2, "learning_rate": 1e-3, "report_to": []}
    return {**MADE, "training": {**training, "steps": steps, "scheduler": scheduler}}


def test_it_ends_with_the_same_weights(tmp_path: Path) -> None:
    train(made(5), tmp_path / "whole")
    run(made(3), tmp_path / "run")
    run(made(5), tmp_path / "run")
    weights = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("whole", "run")]
    assert weights[0] == weights[1]
    assert (tmp_path / "run" / "evaluation" / "adapted-3-steps" / "scores.json").is_file()
    assert (tmp_path / "run" / "evaluation" / "adapted" / "scores.json").is_file()
    with pytest.raises(RunFolderError, match=r"training\.steps \(5 there, 4 here\)"):
        train(made(4), tmp_path / "run")


def test_a_schedule_that_depends_on_the_steps_is_refused(tmp_path: Path) -> None:
    train(made(2, "linear"), tmp_path / "run")
    with pytest.raises(RunFolderError, match=r"training\.scheduler linear"):
        train(made(4, "linear"), tmp_path / "run")
