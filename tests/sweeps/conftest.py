from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml
from sweep_recipe import CONFIG

from instructalign.sweeps.workers import Ended, Job


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A configuration whose runs take a second."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return path


class Inline:
    """Does jobs one after another in this process, and remembers which."""

    def __init__(self, fail: Sequence[str] = ()) -> None:
        self.done: list[str] = []
        self.fail = fail

    def __call__(self, jobs: Sequence[Job], ended: Ended, tick: object) -> None:
        for job in jobs:
            assert set(job.after) <= {*self.done, *self.fail}, "a job was begun before what it waits for"
            error = "it was made to fail" if any(name in job.name for name in self.fail) else ""
            if not error:
                job.call(*job.arguments)
            self.done.append(job.name)
            ended(job, error, 1.0)


@pytest.fixture
def inline() -> type[Inline]:
    return Inline
