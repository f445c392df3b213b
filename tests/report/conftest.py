from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_runs import MLM, PLAIN, REPLAY, write_run

from instructalign.evaluation import mt_metrics
from instructalign.report import Report, write_report


@pytest.fixture(autouse=True, scope="session")
def _no_subwords() -> Iterator[None]:
    """Without the subword model that spBLEU would download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mt_metrics, "spbleu_is_installed", lambda: False)
        yield


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


@pytest.fixture(scope="session")
def translated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """A run with translations, and the report on it; to be read only."""
    folder = write_run(tmp_path_factory.mktemp("lines"), "replay", translate=0.3)
    return folder, write_report([folder])
