"""What run.json says of machine, data and energy, and the script that repeats a run."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from instructalign.config_file import build_config
from instructalign.run_folder import open_folder
from instructalign.training import hardware
from instructalign.training.hardware import EnergyMeter, commits, describe_machine
from instructalign.training.metrics_log import data_hashes


def counter(folder: Path, name: str, microjoules: int) -> None:
    (folder / name).mkdir(exist_ok=True)
    (folder / name / "energy_uj").write_text(f"{microjoules}\n")
    (folder / name / "max_energy_range_uj").write_text("10000000\n")


def test_energy_is_summed_over_packages_and_over_the_end_of_a_counter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_RAPL", tmp_path)
    monkeypatch.setattr(hardware, "_gpu_joules", lambda: gpus)
    gpus = [100.0, 200.0]
    for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0"):
        counter(tmp_path, name, 9_000_000)
    (tmp_path / "intel-rapl:2").mkdir()  # for root alone
    meter = EnergyMeter()
    counter(tmp_path, "intel-rapl:0", 9_500_000)
    counter(tmp_path, "intel-rapl:1", 2_000_000)  # went over its end
    counter(tmp_path, "intel-rapl:0:0", 9_900_000)  # a part of the first
    gpus = [130.0, 207.0]
    found = meter.end()
    assert found == {"cpu_joules": 3.5, "gpu_joules": 37.0, "kwh": round(40.5 / 3.6e6, 6)}


def test_no_counter_no_energy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_RAPL", tmp_path)
    assert EnergyMeter().end() == {}


def test_machine_and_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert describe_machine()["cores"] == os.cpu_count()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=b"]
    subprocess.run([*git, "init", "-q"], check=True)
    (tmp_path / "mine.yaml").write_text("seed: 1\n")
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-qm", "mine"], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.chdir(tmp_path)
    assert commits()["working_folder"] == head
    (tmp_path / "mine.yaml").write_text("seed: 2\n")
    assert commits()["working_folder"] == f"{head}+"


def test_hashes_of_the_data(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_bytes(b"a\tb\n")
    (tmp_path / "lines").mkdir()
    for code in ("en", "jv"):
        (tmp_path / "lines" / f"text.{code}").write_text(f"{code}\n")
    config = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [
                {"format": "tsv", "path": "pairs.tsv", "columns": {"eng": "a", "jav": "b"}},
                {"format": "moses", "files": {"eng": "lines/text.en", "jav": "lines/text.jv"}},
            ],
            "replay": {"source": {"format": "jsonl", "path": "gone.jsonl"}, "size": 1},
            "instruction_data": {"sources": {"jav": {"format": "jsonl", "path": "lines/text.jv"}}},
        },
        folder=tmp_path,
    )
    found = data_hashes(config)
    assert found["corpora.0.path"] == {
        "name": "pairs.tsv",
        "bytes": 4,
        "sha256": hashlib.sha256(b"a\tb\n").hexdigest(),
    }
    assert {"corpora.1.files.eng", "corpora.1.files.jav"} <= set(found)
    assert found["replay.source.path"] == {"name": "gone.jsonl", "bytes": 0}
    [taught] = (about for place, about in found.items() if place.startswith("instruction_data.sources.jav"))
    assert taught["sha256"] == hashlib.sha256(b"jv\n").hexdigest()


def test_the_script_of_a_run_repeats_it(tmp_path: Path) -> None:
    data = {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "toy"}],
    }
    open_folder(tmp_path / "my run", build_config({**data, "training": {"steps": 1}}))
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "instructalign"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    path = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    script = [str(tmp_path / "my run" / "reproduce.sh"), "elsewhere"]
    done = subprocess.run(script, env={**os.environ, **path}, capture_output=True, text=True, check=True, cwd="/")
    folder = (tmp_path / "my run").resolve()
    assert done.stdout.splitlines() == ["run", str(folder / "config.yaml"), "--out", "elsewhere"]
