"""Two processes learn what one learns, and go on from each other's checkpoints."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from test_train import log, settings, weights

pytestmark = pytest.mark.slow


def launch(processes: int, config: Path, out: Path) -> None:
    """Trains in several processes, over gloo on this machine."""
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command += ["-m", "instructalign", "train", str(config), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_close(one: Path, other: Path, updates: float = 0.05) -> None:
    """Weights differ by no more than a part of one update (Adam amplifies rounding where gradients vanish)."""
    first, second = weights(one), weights(other)
    for name in first:
        assert torch.allclose(first[name], second[name], atol=3e-3 * updates), name


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    data = settings(tmp_path, steps=4, micro_batch_size=2, keep_checkpoints=5)
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    return path


def test_two_processes_learn_what_one_learns(tmp_path: Path, config: Path) -> None:
    launch(1, config, tmp_path / "one")
    launch(2, config, tmp_path / "two")
    assert_close(tmp_path / "one" / "model", tmp_path / "two" / "model")
    for first, second in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-4)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_checkpoints_are_shared(tmp_path: Path, config: Path, before: int, after: int) -> None:
    launch(before, config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "model")
    shutil.rmtree(tmp_path / "half" / "checkpoints" / "checkpoint-4")
    launch(after, config, tmp_path / "half")
    assert_close(tmp_path / "whole" / "model", tmp_path / "half" / "model")
