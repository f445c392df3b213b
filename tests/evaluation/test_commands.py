"""The commands that need no model: tasks export, score."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from instructalign.cli import app
from instructalign.evaluation import evaluate


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_export_says_how_to_run(sentiment, tmp_path):
    done = call("tasks", "export", "nusax_senti", "--data", sentiment, "--out", tmp_path / "h", "--items", 2)
    assert done.exit_code == 0
    assert "wrote 18 tasks" in done.stdout
    assert "--tasks nusax_senti" in done.stdout
    assert len(list((tmp_path / "h").glob("*.yaml"))) == 19


def test_tasks_without_data_of_their_own_are_listed_and_shown():
    assert "heldout_instructions" in call("tasks", "ls").stdout
    assert "those that the configuration aligns" in call("tasks", "show", "heldout_instructions").stdout


def test_translations_are_not_exported(sentiment, tmp_path):
    done = call("tasks", "export", "flores_translation", "--data", sentiment, "--out", tmp_path)
    assert "flores_translation is a task of translation; lm-eval takes classification" in str(done.exception)


@pytest.mark.parametrize("rule", [[], ["--rule", "mean"], ["--rule", "bytes"], ["--rule", "calibrated"]])
def test_score_shows_a_row_for_each_language(model_folder, make_config, tmp_path, rule):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    done = call("score", *sorted((tmp_path / "predictions").glob("*.jsonl")), "--bootstrap", 20, *rule)
    assert done.exit_code == 0
    rows = [line for line in done.stdout.splitlines() if "accuracy" in line]
    assert len(rows) == 3
    assert all(" to " in row for row in rows)


@pytest.mark.parametrize("command", [["score"], ["tasks", "export"]])
def test_help_has_an_example(command):
    done = call(*command, "--help")
    assert f"instructalign {' '.join(command)}" in done.stdout.split("Example:")[1]
