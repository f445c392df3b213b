from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from made_up_runs import MLM, PLAIN, REPLAY, write_run

from instructalign.report import Report, write_report


@pytest.fixture(scope="session")
def demo_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The demo's three runs, which share a base; to be read only."""
    place = tmp_path_factory.mktemp("demo")
    return [
        write_run(place, "no-replay", PLAIN, share=0.0, seed=1),
        write_run(place, "replay", REPLAY, seed=2),
        write_run(place, "mlm", MLM, seed=3),
    ]


@pytest.fixture(scope="session")
def demo_report(demo_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report on the demo's three runs."""
    return write_report(demo_runs, tmp_path_factory.mktemp("report"))


@pytest.fixture
def run_folder(demo_runs: list[Path], tmp_path: Path) -> Path:
    """A run's folder to be changed."""
    return Path(shutil.copytree(demo_runs[1], tmp_path / "replay"))
