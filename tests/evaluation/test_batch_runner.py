"""Two processes over gloo answer what one answers, and go on where any number of them stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from instructalign.evaluation import batch_runner, evaluate
from instructalign.evaluation.batch_runner import BatchRunner, Journal
from instructalign.evaluation.predictions import read_predictions
from instructalign.progress import silent

# Runs the command line, and stops each process when its batches are used up.
DRIVER = """
import os
import sys
from instructalign.cli import main
from instructalign.evaluation import classification

left, score = int(os.environ["BATCHES"]), classification.score_batch

def counted(*given, **how):
    global left
    left -= 1
    if left < 0:
        os._exit(9)
    return score(*given, **how)

classification.score_batch = counted
main()
"""


def launch(processes: int, *command: str, batches: int = 1000) -> subprocess.CompletedProcess[str]:
    driver = Path(command[command.index("--out") + 1]).parent / "driver.py"
    driver.write_text(DRIVER, encoding="utf-8")
    arguments = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BATCHES": str(batches)}
    return subprocess.run(
        [*arguments, str(driver), *command], capture_output=True, text=True, env=environment, timeout=280
    )


def assert_same(one: Path, other: Path, tolerance: float = 1e-5) -> None:
    """The same files of predictions; likelihoods differ by rounding at most."""
    assert [path.name for path in sorted(one.iterdir())] == [path.name for path in sorted(other.iterdir())]
    for path in one.glob("*.jsonl"):
        for mine, theirs in zip(read_predictions(path), read_predictions(other / path.name), strict=True):
            assert mine.scores == pytest.approx(theirs.scores, abs=tolerance)
            assert mine.prior == pytest.approx(theirs.prior, abs=tolerance)
            if tolerance < 1e-4:
                assert replace(mine, scores={}, prior={}) == replace(theirs, scores={}, prior={})


@pytest.fixture
def config_file(make_config, tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text(make_config(batch_tokens=500).to_yaml(), encoding="utf-8")
    return path


@pytest.mark.slow
def test_two_processes_answer_what_one_answers(model_folder, make_config, config_file, tmp_path):
    evaluate(
        model_folder("llama"), make_config(batch_tokens=500), tmp_path / "one", run=model_folder("llama").name
    )
    place = tmp_path / "two"
    command = ["evaluate", str(model_folder("llama")), "--config", str(config_file), "--out", str(place)]
    done = launch(2, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("scores and predictions are in") == 1
    assert_same(place / "predictions", tmp_path / "one" / "predictions")
    assert json.loads((place / "scores.json").read_text()) == json.loads(
        (tmp_path / "one" / "scores.json").read_text()
    )


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (2, 2), (1, 2)])
def test_what_some_processes_left_others_finish(model_folder, make_config, config_file, tmp_path, before, after):
    evaluate(model_folder("llama"), make_config(batch_tokens=500), tmp_path / "whole", run="base")
    place = tmp_path / "cut"
    command = ["evaluate", str(model_folder("llama")), "--config", str(config_file), "--out", str(place)]
    assert launch(before, *command, batches=2).returncode != 0
    left = [path.read_text().count('"batch"') for path in place.glob("predictions/.nusax_senti.unfinished*")]
    assert sum(left) == 2 * before
    done = launch(after, *command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(place / "predictions", tmp_path / "whole" / "predictions")


@pytest.mark.slow
def test_a_run_of_two_processes_ends_like_a_run_of_one(tmp_path):
    data = yaml.safe_load(files("instructalign.toy").joinpath("demo.yaml").read_text(encoding="utf-8"))
    data["training"] |= {"steps": 2, "warmup": 0}
    data["evaluation"] |= {"items": 10, "bootstrap": 20}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    for processes in (1, 2):
        done = launch(processes, "run", str(tmp_path / "run.yaml"), "--out", str(tmp_path / f"of-{processes}"))
        assert done.returncode == 0, done.stderr[-3000:]
        assert done.stdout.count("report: ") == 1
    one, two = tmp_path / "of-1", tmp_path / "of-2"
    assert {path.name for path in one.iterdir()} == {path.name for path in two.iterdir()}
    for what, tolerance in (("base", 1e-5), ("adapted", 1e-2)):  # sums over a batch in another order, learnt from
        folders = [run / "evaluation" / what / "predictions" for run in (one, two)]
        assert_same(*folders, tolerance)


# -- the journal -----------------------------------------------------------------------------------------


@pytest.fixture
def as_process(monkeypatch):
    """Takes the part of one of several processes, which need not wait for each other here."""

    def become(index: int, count: int) -> None:
        state = SimpleNamespace(
            process_index=index, num_processes=count, is_main_process=index == 0, wait_for_everyone=lambda: None
        )
        monkeypatch.setattr(batch_runner, "this_process", lambda: state)

    return become


def test_processes_share_batches_and_get_every_answer(as_process, tmp_path, monkeypatch):
    batches = [[4, 2], [0], [1, 3], [5]]
    asked, parts = [], []

    def answer(batch):
        asked.append(batch)
        return [f"answer {index}" for index in batch]

    def gather(part):
        parts.append(dict(part))
        return {number: answers for some in parts for number, answers in some.items()}

    monkeypatch.setattr(batch_runner, "gather", gather)
    as_process(0, 2)
    with pytest.raises(KeyError):  # what the other process answers has not come
        BatchRunner(tmp_path / "one", "task", "key", "evaluating", silent).run(batches, answer)
    assert asked == [[4, 2], [1, 3]]
    as_process(1, 2)
    runner = BatchRunner(tmp_path / "other", "task", "key", "evaluating", silent)
    (tmp_path / "other").mkdir()
    assert runner.run(batches, answer) == [f"answer {index}" for index in range(6)]
    assert asked[2:] == [[0], [5]]


def test_batches_in_the_journal_are_not_asked_again(tmp_path):
    batches, asked, told = [[1, 0], [2]], [], []

    def answer(batch):
        if 2 in batch:
            raise KeyboardInterrupt
        asked.append(batch)
        return [(f"text {index}", False) for index in batch]

    with pytest.raises(KeyboardInterrupt):
        BatchRunner(tmp_path, "task", "key", "evaluating", silent).run(batches, answer)
    again = BatchRunner(tmp_path, "task", "key", "evaluating base", lambda *given: told.append(given))
    found = again.run(batches, lambda batch: [(f"text {index}", True) for index in batch])
    assert [tuple(each) for each in found] == [("text 0", False), ("text 1", False), ("text 2", True)]
    assert asked == [[1, 0]]
    assert told == [("evaluating base", 3, 3, "task")]
    again.close()
    assert not list(tmp_path.iterdir())


def test_a_journal_gathers_what_all_processes_wrote(as_process, tmp_path):
    path = tmp_path / ".task.unfinished"
    for index in range(3):
        as_process(index, 3)
        Journal(path, "key").add(index, [[[-1.0 - index], None]])
    for index in range(2):
        as_process(index, 2)
        journal = Journal(path, "key")
        assert journal.done == {number: [[[-1.0 - number], None]] for number in range(3)}
    as_process(0, 1)
    assert Journal(path, "another key").done == {}
