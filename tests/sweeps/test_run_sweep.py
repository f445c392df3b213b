"""Sweeps: work that cells share is done once, what is done stays, a failure stops nothing else, kills neither."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock
from sweep_recipe import CONFIG

from instructalign import sweep
from instructalign.errors import ConfigError, RunFolderError
from instructalign.report import write_report
from instructalign.sweeps.workers import local_executor

MIXTURES = "instructions.objectives={tlm: 1, mt: 1},{mlm: 1}"


def record(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "sweep.json").read_text(encoding="utf-8")))


def states(folder: Path) -> dict[str, str]:
    return {cell["folder"]: cell["status"] for cell in record(folder)["cells"]}


def test_cells_are_runs_that_share_the_base(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out, execute = tmp_path / "out", inline()
    result = sweep(recipe, out, settings=[MIXTURES], seeds=[1, 2], executor=execute)
    assert execute.done[0].startswith("base-")
    assert execute.done[1:] == ["tlm+mt_seed=1", "tlm+mt_seed=2", "mlm_seed=1", "mlm_seed=2"]
    folders = [out / "cells" / cell for cell in states(out)]
    for folder in folders:
        for name in ("config.yaml", "run.json", "log.jsonl", "model", "report.html"):
            assert (folder / name).exists(), name
    predictions = {
        (folder / "evaluation/base/predictions/toy_sentiment.qka.jsonl").read_bytes() for folder in folders
    }
    assert len(predictions) == 1
    assert result.report is not None
    assert {row.run for row in result.report.rows} == {"base", "tlm+mt", "mlm", "random", "majority"}
    [single] = write_report([out / "cells" / "mlm_seed=1"], tmp_path / "single").rows[:1]
    assert single.run == "base"


def test_a_finished_cell_leaves_no_checkpoints_unless_several_are_kept(
    recipe: Path, tmp_path: Path, inline: Any
) -> None:
    languages = {**CONFIG["languages"], "new": ["qna", "qra"], "related": []}
    staged = tmp_path / "staged.yaml"
    staged.write_text(
        yaml.safe_dump({**CONFIG, "languages": languages, "stages": [["qna"], ["qra"]]}), encoding="utf-8"
    )
    sweep(recipe, tmp_path / "plain", seeds=[1], executor=inline())
    sweep(staged, tmp_path / "stages", seeds=[1], executor=inline())
    assert len(list(tmp_path.glob("*/cells/*/model"))) == 2
    assert not [*(tmp_path / "plain").rglob("checkpoints"), *(tmp_path / "stages").rglob("checkpoints")]
    sweep(recipe, tmp_path / "kept", settings=["training.keep_checkpoints=2"], seeds=[1], executor=inline())
    kept = sorted(path.name for path in (tmp_path / "kept").glob("cells/*/checkpoints/checkpoint-*"))
    assert kept == ["checkpoint-1", "checkpoint-2"]


def test_again_does_nothing_and_more_does_only_more(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    first = sweep(recipe, out, settings=["replay.size=0,5"], executor=inline())
    assert first.report is not None
    before = first.report.json.read_bytes()
    again = inline()
    second = sweep(recipe, out, settings=["replay.size=0,5"], executor=again)
    assert again.done == []
    assert second.report is not None
    assert second.report.json.read_bytes() == before
    more = inline()
    sweep(recipe, out, settings=["replay.size=0,5,9"], executor=more)
    assert more.done[1:] == ["replay.size=9_seed=1"]
    assert len(states(out)) == 3


def test_a_failed_cell_is_shown_and_tried_again(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    result = sweep(recipe, out, settings=[MIXTURES], executor=inline(fail=["mlm"]))
    assert states(out) == {"tlm+mt_seed=1": "done", "mlm_seed=1": "failed"}
    assert result.failed == {"mlm_seed=1": "it was made to fail"}
    assert result.report is not None
    assert "it was made to fail" in result.report.html.read_text(encoding="utf-8")
    again = inline()
    assert sweep(recipe, out, settings=[MIXTURES], executor=again).failed == {}
    assert again.done[1:] == ["mlm_seed=1"]


def test_cells_that_train_the_same_share_the_model(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    sweep(recipe, out, settings=["evaluation.scoring=sum,mean"], executor=inline())
    first, second = (out / "cells" / name for name in states(out))
    weights = [(folder / "model" / "model.safetensors") for folder in (first, second)]
    assert weights[0].samefile(weights[1])
    assert json.loads((second / "run.json").read_text(encoding="utf-8"))["trained_in"] == first.name
    assert not (second / "checkpoints").exists()
    rules = [(folder / "evaluation/adapted/scores.json").read_text(encoding="utf-8") for folder in (first, second)]
    assert '"scoring": "sum"' in rules[0]
    assert '"scoring": "mean"' in rules[1]


def test_a_corpus_is_read_once_in_a_process(recipe: Path, tmp_path: Path, inline: Any, monkeypatch: Any) -> None:
    from instructalign.mixture import training_data
    from instructalign.sweeps import run_sweep

    monkeypatch.setattr(run_sweep, "_corpora", training_data.CorpusCache())
    reads: list[object] = []
    usual = training_data.read_corpora
    monkeypatch.setattr(training_data, "read_corpora", lambda *args: reads.append(args) or usual(*args))
    sweep(recipe, tmp_path / "out", settings=["replay.size=0,5,9"], executor=inline())
    assert len(reads) == 1


def test_bad_use_is_refused_before_any_work(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConfigError, match=r"training.stpes: unknown key. Did you mean 'steps'\?"):
        sweep(recipe, out, settings=["training.stpes=1,2"], executor=inline())
    assert not out.exists()
    with pytest.raises(ConfigError, match="--workers: must be at least 1, found 0"):
        sweep(recipe, out, settings=["replay.size=0,5"], workers=0)


def test_folders_of_others_are_left_alone(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(RunFolderError, match=r"is not empty and holds no sweep \(found: thesis.tex\)"):
        sweep(recipe, out, executor=inline())
    with pytest.raises(RunFolderError, match="is a file; a sweep needs a folder"):
        sweep(recipe, recipe, executor=inline())


def test_a_cell_of_another_configuration_is_refused(recipe: Path, tmp_path: Path, inline: Any) -> None:
    out = tmp_path / "out"
    sweep(recipe, out, executor=inline())
    with pytest.raises(RunFolderError, match=r"another configuration; different: training\.batch_size"):
        sweep(recipe, out, settings=["training.batch_size=2"], executor=inline())


def test_two_sweeps_at_a_time_in_one_folder_are_refused(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "cells").mkdir(parents=True)
    with FileLock(out / ".lock"), pytest.raises(RunFolderError, match="another process"):
        sweep(recipe, out)


def test_every_process_has_its_share_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)

    def environments(workers: int | None, jobs: int) -> list[dict[str, str]]:
        return [dict(worker.environment) for worker in local_executor(workers, jobs)._workers]

    assert environments(None, 9) == [
        {"OMP_NUM_THREADS": "4", "OMP_WAIT_POLICY": "PASSIVE", "CUDA_VISIBLE_DEVICES": device}
        for device in ("4", "6")
    ]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert environments(None, 9) == [{"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}] * 8
    assert [each["OMP_NUM_THREADS"] for each in environments(2, 9)] == ["4", "4"]
    assert len(environments(None, 3)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_killed_at_a_random_moment_it_ends_with_the_same_report(tmp_path: Path, seed: int) -> None:
    """Killed again and again, with its processes in the middle of their work, until it is done."""
    path = tmp_path / "recipe.yaml"
    config = {**CONFIG, "training": {**CONFIG["training"], "steps": 30, "learning_rate": 1e-3}}
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    moments = random.Random(seed)
    steady, shaken = tmp_path / "steady", tmp_path / "shaken"
    assert start(path, steady).wait(280) == 0
    kills = 0
    while True:
        process = start(path, shaken)
        try:
            assert process.wait(moments.uniform(3, 12) + 4 * kills) == 0
            break
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
    assert kills > 0
    assert (shaken / "report.json").read_bytes() == (steady / "report.json").read_bytes()
    texts = [
        (out / "report.md").read_text(encoding="utf-8").partition("## What it took")[0] for out in (steady, shaken)
    ]
    assert texts[0] == texts[1]
    assert len(texts[0]) > 1000


def start(path: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "instructalign", "sweep", str(path), "--set", "replay.size=0,5,10"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    return subprocess.Popen(
        [*command, "--seeds", "1,2", "--workers", "2", "--out", str(out)],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
