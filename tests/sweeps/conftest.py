from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from sweep_recipe import CONFIG

from instructalign.sweeps.workers import Job


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    """A configuration whose runs take a second."""
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(CONFIG), encoding="utf-8")
    return path


class Inline:
    """An executor that runs jobs one after another in this process, and remembers which."""

    def __init__(self, fail: Sequence[str] = ()) -> None:
        self.done: list[str] = []
        self.fail = fail
        self._current: Job | None = None

    def has_room(self) -> bool:
        return self._current is None

    def start(self, job: Job) -> None:
        assert set(job.after) <= {*self.done}, "a job was started before those it depends on"
        self._current = job

    def ended(self) -> Iterator[tuple[Job, str]]:
        job, self._current = self._current, None
        assert job is not None, "nothing was started"
        error = "it was made to fail" if any(name in job.name for name in self.fail) else ""
        if not error:
            job.call(*job.arguments)
        self.done.append(job.name)
        yield job, error

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def inline() -> type[Inline]:
    return Inline
