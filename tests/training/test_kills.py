"""Signal 9 at random moments, during steps and amid the writing of a checkpoint: the weights end the same."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import killable
import pytest
import yaml
from test_train import assert_same_weights, log, settings, untimed

from processes import exit_code, start

KILLED = -signal.SIGKILL


def write(folder: Path, **training: Any) -> Path:
    path = folder / "config.yaml"
    data = settings(folder, **{"steps": 8, "checkpoint_every": 1, "keep_checkpoints": 2, **training})
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def assert_same_run(one: Path, other: Path) -> None:
    assert_same_weights(one / "model", other / "model")
    assert untimed(log(one)) == untimed(log(other))


def kill_at_events(folder: Path, config: Path, kills: int) -> list[str]:
    """Kills one run after another at random events; returns the names of those events."""
    assert exit_code(start(killable.run, config, folder / "whole", None, folder / "events")) == 0
    names = (folder / "events").read_text(encoding="utf-8").splitlines()
    chosen = random.Random(42).sample(range(1, len(names) + 1), kills)
    for fatal in chosen:
        out = folder / "killed"
        shutil.rmtree(out, ignore_errors=True)
        assert exit_code(start(killable.run, config, out, fatal)) == KILLED, names[fatal - 1]
        assert exit_code(start(killable.run_plainly, config, out)) == 0, names[fatal - 1]
        assert_same_run(folder / "whole", out)
    return [names[fatal - 1] for fatal in chosen]


def test_killed_at_three_random_events(tmp_path: Path) -> None:
    kill_at_events(tmp_path, write(tmp_path, steps=3, keep_checkpoints=1), 3)


@pytest.mark.slow
def test_killed_at_twenty_random_events_each_in_a_run_of_its_own(tmp_path: Path) -> None:
    names = kill_at_events(tmp_path, write(tmp_path), 20)
    kinds = {name.split()[1] for name in names}
    assert {"fsync", "rmtree"} <= kinds  # amid the writing and the removing of a checkpoint
    assert len(kinds) >= 4


@pytest.mark.slow
def test_killed_twenty_times_at_any_moment(tmp_path: Path) -> None:
    config = write(tmp_path, steps=150)
    began = time.monotonic()
    assert exit_code(start(killable.run_plainly, config, tmp_path / "whole")) == 0
    whole = time.monotonic() - began
    moments = random.Random(42)
    killed = amid = 0
    partial = tmp_path / "killed" / "checkpoints" / ".partial"
    while killed < 20:
        process = start(killable.run_plainly, config, tmp_path / "killed")
        process.join(timeout=moments.uniform(0.2, 0.2 * whole))
        if process.exitcode is not None:  # faster than the kills: the next ones come to another run
            assert process.exitcode == 0
            assert_same_run(tmp_path / "whole", tmp_path / "killed")
            shutil.rmtree(tmp_path / "killed")
            continue
        os.kill(process.pid, signal.SIGKILL)
        assert exit_code(process) == KILLED
        killed += 1
        amid += any(partial.glob("checkpoint-*")) if partial.is_dir() else 0
    print(f"killed {killed} times, {amid} of them amid a checkpoint")
    assert exit_code(start(killable.run_plainly, config, tmp_path / "killed")) == 0
    assert amid > 0
    assert_same_run(tmp_path / "whole", tmp_path / "killed")
