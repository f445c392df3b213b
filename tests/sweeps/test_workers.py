"""Processes that do jobs: a job that fails, or whose process dies, is one job that failed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from instructalign.errors import DataError
from instructalign.sweeps.workers import Job, LocalExecutor, run_jobs


def note(path: Path) -> None:
    print("said by the job")
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['OMP_NUM_THREADS']}\n")


def refuse() -> None:
    raise DataError("the data is wrong.")


def crash() -> None:
    raise ZeroDivisionError("by zero")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_forever(path: Path) -> None:
    path.write_text(str(os.getpid()), encoding="utf-8")
    time.sleep(600)


def test_failures_and_deaths_stop_nothing_else(tmp_path: Path) -> None:
    notes, ends, log = tmp_path / "notes", {}, tmp_path / "log"
    jobs = [
        Job("wrong", refuse, (), log),
        Job("dead", die, (), log),
        Job("broken", crash, (), log, after=("dead",)),
        *(Job(f"good {i}", note, (notes,), log, after=("wrong", "broken")) for i in range(3)),
    ]
    environments = [{"CUDA_VISIBLE_DEVICES": str(i), "OMP_NUM_THREADS": "1"} for i in range(2)]
    run_jobs(jobs, LocalExecutor(environments), lambda job, error, _: ends.update({job.name: error}))
    assert ends["wrong"] == "the data is wrong."
    assert "SIGKILL; it may have run out of memory" in ends["dead"]
    assert ends["broken"].startswith("ZeroDivisionError: by zero (see ")
    assert [ends[f"good {i}"] for i in range(3)] == [""] * 3
    assert list(ends).index("broken") > list(ends).index("dead")
    lines = [line.split() for line in notes.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == 3
    assert {tuple(line[1:]) for line in lines} <= {("0", "1"), ("1", "1")}
    text = log.read_text(encoding="utf-8")
    assert "said by the job" in text
    assert "Traceback" in text


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="needs POSIX signals")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_processes_end_with_the_one_that_started_them(tmp_path: Path, way: signal.Signals) -> None:
    place = tmp_path / "process"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from test_workers import wait_forever\n"
        "from instructalign.sweeps.workers import Job, LocalExecutor, run_jobs\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job('a', wait_forever, (Path(sys.argv[2]),), Path(sys.argv[2] + '.log'))]\n"
        "    executor = LocalExecutor([{'PYTHONPATH': sys.argv[1] + ':' + sys.argv[3]}])\n"
        "    run_jobs(jobs, executor, print)\n"
    )
    script = tmp_path / "start.py"
    script.write_text(code, encoding="utf-8")
    source = str(Path(__file__).parents[2] / "src")
    started = subprocess.Popen(
        [sys.executable, str(script), str(Path(__file__).parent), str(place), source],
        env={**os.environ, "PYTHONPATH": source},
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not (place.exists() and place.read_text(encoding="utf-8")) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(place.read_text(encoding="utf-8"))
    started.send_signal(way)
    started.wait(30)
    while _alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
