"""What each command asks for, and no more; and that what `run` refuses is found before it, all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

from instructalign.config_file import build_config, load_config
from instructalign.doctor import examine
from instructalign.errors import ConfigError
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import check_config, run, train
from instructalign.training.requirements import TRACKERS
from test_cli import call
from tiny import save_tiny

Settings = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The blocks of a configuration without `training`, with others in their place; and its files."""
    save_tiny(tmp_path / "base")
    lines = [f"the house number {n}\tomah angka {n}\n" for n in range(40)]
    (tmp_path / "corpus.tsv").write_text("eng\tjav\n" + "".join(lines), encoding="utf-8")

    def make(**blocks: Any) -> dict[str, Any]:
        data: dict[str, Any] = {
            "model": {"base": "base"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
            "evaluation": {"tasks": ["heldout_translation"], "prompts": ["en-1"], "bootstrap": 0},
            **blocks,
        }
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
        return data

    return make


def test_commands_that_do_not_train_need_no_training_block(settings: Settings, tmp_path: Path) -> None:
    settings()
    assert not load_config(tmp_path / "c.yaml").has_training
    done = call("generate", "c.yaml", "--count", 6, "--out", "out.jsonl", folder=tmp_path)
    assert (done.returncode, len((tmp_path / "out.jsonl").read_text().splitlines())) == (0, 6), done
    done = call("preview", "c.yaml", "-n", 2, folder=tmp_path)
    assert (done.returncode, "omah" in done.stdout) == (0, True), done
    done = call("evaluate", "base", "--config", "c.yaml", "--out", "scores", folder=tmp_path)
    assert (done.returncode, (tmp_path / "scores" / "scores.json").exists()) == (0, True), done
    diagnosis = json.loads(call("doctor", "c.yaml", "--json", folder=tmp_path).stdout)
    found = [each for each in diagnosis["findings"] if "training block" in each["found"]]
    assert [(each["about"], each["level"]) for each in found] == [("configuration", "warning")]
    for command in ("validate", "train", "run"):
        done = call(command, "c.yaml", folder=tmp_path)
        assert (done.returncode, "training: missing" in done.stderr) == (2, True), (command, done)
    assert not (tmp_path / "runs").exists()


def test_a_training_block_without_steps_is_still_refused(settings: Settings, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"training\.steps: missing"):
        build_config(settings(training={}), folder=tmp_path)
    made = build_config(settings(), folder=tmp_path, overrides=["training.steps=7"])
    assert (made.has_training, made.training.steps) == (True, 7)
    again = build_config(yaml.safe_load(made.to_yaml()))
    assert (again, again.has_training) == (made, True)
    for call_it in (train, run):
        with pytest.raises(ConfigError, match="training: missing"):
            call_it(build_config(settings(), folder=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("rows", "heldout"), [(9, 0), (10, 1), (300, 30), (1009, 100), (2000, 100)])
def test_a_tenth_is_held_out_at_most_100(settings: Settings, tmp_path: Path, rows: int, heldout: int) -> None:
    lines = [f"a house {n}\tomah {n}\n" for n in range(rows)]
    (tmp_path / "corpus.tsv").write_text("eng\tjav\n" + "".join(lines), encoding="utf-8")
    train_rows, held_out, _ = prepare_corpus(build_config(settings(), folder=tmp_path))
    assert (len(train_rows), len(held_out)) == (rows - heldout, heldout)
    given = build_config(settings(instructions={"heldout": heldout}), folder=tmp_path)
    assert [row.id for row in prepare_corpus(given)[1]] == [row.id for row in held_out]


def test_trackers_are_those_of_transformers() -> None:
    assert set(TRACKERS) == set(INTEGRATION_TO_CALLBACK)


REFUSED = {
    "training.report_to": ({"training": {"steps": 1, "report_to": ["wnadb"]}}, "Did you mean 'wandb'"),
    "training.report_to: clearml": ({"training": {"steps": 1, "report_to": ["clearml"]}}, "pip install clearml"),
    "training.evaluate_every": (
        {"training": {"steps": 1, "evaluate_every": 1}, "instructions": {"heldout": 0}},
        "instructions.heldout",
    ),
    "training.kl": ({"training": {"steps": 1, "kl": {}}, "instructions": {"heldout": 0}}, "instructions.heldout"),
    "training.probe": ({"training": {"steps": 1, "probe": {}}}, "evaluation.tasks"),
    "evaluation.tasks: heldout_translation": (
        {"training": {"steps": 1}, "instructions": {"heldout": 1}},
        "instructions.heldout",
    ),
}


@pytest.mark.parametrize("key", REFUSED)
def test_what_run_refuses_is_found_by_validate_and_doctor(settings: Settings, tmp_path: Path, key: str) -> None:
    blocks, advice = REFUSED[key]
    config = build_config(settings(**blocks), folder=tmp_path)
    with pytest.raises(ConfigError) as caught:
        check_config(config)
    (problem,) = [each for each in caught.value.problems if key in each]
    assert advice in problem
    name = key.rpartition(": ")[2]
    found = [each for each in examine(config, sample=20).findings if name in each.found and advice in each.found]
    assert [each.level for each in found] == ["problem"]


def test_the_doctor_finds_what_only_the_model_shows(settings: Settings, tmp_path: Path) -> None:
    config = build_config(settings(training={"steps": 1, "max_length": 60}), folder=tmp_path)
    found = [each for each in examine(config, sample=20).findings if "alone takes" in each.found]
    assert [(each.level, "training.max_length" in each.advice) for each in found] == [("problem", True)]


def test_all_problems_are_listed_at_once(settings: Settings, tmp_path: Path) -> None:
    data = settings(
        training={"steps": 1, "report_to": ["wnadb", "mlfow"]},
        evaluation={"tasks": ["nusax"], "prompts": ["en-1"]},
        instructions={"templates": ["engl"]},
    )
    with pytest.raises(ConfigError) as caught:
        check_config(build_config(data, folder=tmp_path))
    assert len(caught.value.problems) == 4
