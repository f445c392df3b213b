"""benchmarks/gpu: the stages run on a processor at a tiny size, by the commands that a machine with a GPU gets."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KIT = ROOT / "benchmarks" / "gpu"


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_kit_checks_measures_and_scores_on_a_processor(shared_data: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(KIT / "run"), "--device", "cpu", "--tiny", "--data", str(shared_data)]
    command += [
        "--out",
        str(tmp_path),
        "--minutes",
        "19",
        "--stages",
        "check",
        "train-560m",
        "train-1b",
        "lora-1b",
        "score",
        "profile",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = {each["check"]: each["right"] for each in json.loads((tmp_path / "check.json").read_text())}
    assert len(found) == 6
    assert [check for check, right in found.items() if right is None] == [
        "operations within a step that wait for the GPU"
    ]
    table = (tmp_path / "train-560m.md").read_text(encoding="utf-8")
    assert "ours trains **" in table
    assert "trl-packing" in table
    assert "lm-evaluation-harness" in (tmp_path / "score.md").read_text(encoding="utf-8")
    assert "Self CPU" in (tmp_path / "profile.txt").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheels_install_without_a_network(shared_data: Path, tmp_path: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    copy = tmp_path / "checkout"
    (copy / "benchmarks" / "gpu").mkdir(parents=True)
    for name in ("constraints.txt", "benchmarks/gpu/prepare"):
        (copy / name).write_bytes((ROOT / name).read_bytes())
    prepare = [sys.executable, str(copy / "benchmarks" / "gpu" / "prepare")]
    subprocess.run([*prepare, "--data", str(shared_data), "--python", version], check=True)
    wheels = sorted(map(str, (copy / ".gpu" / "wheels").glob("*.whl")))
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target", str(target)]
    subprocess.run([*install, *wheels], check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    assert {"datasets", "pydantic", "trl", "lm_eval", "python_calamine"} <= {f.name for f in target.iterdir()}
