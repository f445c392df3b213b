"""Jobs through submitit: its local executor runs them as Slurm would, in processes of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from test_workers import crash, note, refuse

from instructalign import sweep
from instructalign.errors import ConfigError, InstructAlignError
from instructalign.sweeps import slurm
from instructalign.sweeps.slurm import SlurmExecutor, read_slurm_parameters
from instructalign.sweeps.workers import Job, run_jobs

pytest.importorskip("submitit")


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    source, tests = Path(__file__).parents[2] / "src", Path(__file__).parent
    monkeypatch.setenv("PYTHONPATH", f"{source}:{tests}")
    monkeypatch.setattr(slurm, "_POLL_SECONDS", 0.1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


def test_jobs_end_as_they_do_on_this_machine(tmp_path: Path) -> None:
    notes, ends, log = tmp_path / "notes", {}, tmp_path / "log"
    jobs = [
        Job("good", note, (notes,), log, after=("wrong",)),
        Job("wrong", refuse, (), log),
        Job("broken", crash, (), log),
    ]
    executor = SlurmExecutor(tmp_path, {"gpus_per_node": 0}, cluster="local")
    run_jobs(jobs, executor, lambda job, error, seconds: ends.update({job.name: error}))
    assert ends["good"] == ""
    assert ends["wrong"] == "the data is wrong."
    assert ends["broken"].startswith("ZeroDivisionError: by zero (see ")
    assert list(ends).index("good") > list(ends).index("wrong")
    assert len(notes.read_text(encoding="utf-8").splitlines()) == 1
    assert "said by the job" in log.read_text(encoding="utf-8")
    assert not (tmp_path / "logs" / "submitit" / "jobs.json").exists()


def test_a_running_job_is_not_submitted_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after the end of the process that had submitted the job."""

    class Handle:
        looks = 0

        def __init__(self, place: Path, id: str) -> None:
            assert (place, id) == (tmp_path / "logs" / "submitit", "77")
            self.job_id = id

        def done(self, force_check: bool = False) -> bool:
            Handle.looks += 1
            return Handle.looks > 2

        def exception(self) -> None:
            return None

        def result(self) -> str:
            return "what it said"

    class Executor:
        job_class = Handle

        def submit(self, *args: Any) -> None:
            raise AssertionError("submitted again")

    place = tmp_path / "logs" / "submitit"
    place.mkdir(parents=True)
    (place / "jobs.json").write_text(json.dumps({"good": "77"}), encoding="utf-8")
    monkeypatch.setattr(slurm, "_submitit", lambda *args: Executor())
    ends = {}
    job = Job("good", note, (tmp_path / "notes",), tmp_path / "log")
    run_jobs([job], SlurmExecutor(tmp_path, {}), lambda job, error, _: ends.update({job.name: error}))
    assert ends == {"good": "what it said"}


def test_parameters() -> None:
    assert read_slurm_parameters(["partition=gpu,timeout_min=600", "mem_gb=64"]) == {
        "partition": "gpu",
        "timeout_min": 600,
        "mem_gb": 64,
    }
    with pytest.raises(ConfigError, match="--slurm gpu: expected name=value"):
        read_slurm_parameters(["gpu"])


def test_bad_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InstructAlignError, match="cannot submit jobs to Slurm"):
        SlurmExecutor(tmp_path, {})
    with pytest.raises(ConfigError, match=r"--slurm: .*slurm_partitoin"):
        SlurmExecutor(tmp_path, {"partitoin": "gpu"}, cluster="local")
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(InstructAlignError, match=r"pip install 'instructalign\[slurm\]'"):
        SlurmExecutor(tmp_path, {})


@pytest.mark.slow
def test_a_sweep_through_submitit(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    executor = SlurmExecutor(out, {"gpus_per_node": 0}, cluster="local")
    result = sweep(recipe, out, settings=["replay.size=0,5"], executor=executor)
    assert result.failed == {}
    assert result.report is not None
    assert {row.run for row in result.report.rows} >= {"base", "replay.size=0", "replay.size=5"}
