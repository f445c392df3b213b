"""The commands that need no model: tasks export, score."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from instructalign.cli import app
from instructalign.errors import ModelError
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
    assert "past_instructions" in call("tasks", "ls").stdout
    assert "those that the configuration knows" in call("tasks", "show", "past_instructions").stdout


def test_a_task_is_shown_with_its_labels_and_where_its_data_is_looked_for():
    shown = " ".join(call("tasks", "show", "nusax_senti").stdout.split())
    assert (
        "files under evaluation.data: nusax/sentiment/{name}/test.csv; {name} is one of acehnese (ace)," in shown
    )
    where = "indonlp/NusaX-senti ({language}/test/*.parquet, revision refs/convert/parquet)"
    assert f"the Hub, if there is no such file: {where}" in shown
    assert "put in eng put in ind" in shown
    assert "neutral neutral netral" in shown
    assert "flores200/devtest/{name}.devtest" in call("tasks", "show", "flores_translation").stdout
    assert "the package generates the items" in call("tasks", "show", "toy_topic").stdout
    pairs = " ".join(call("tasks", "show", "flores_xss").stdout.split())
    assert "{name}.devtest and flores200/devtest/eng_Latn.devtest" in pairs


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


def test_scores_of_nothing_are_an_error(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    assert f"no predictions in {tmp_path / 'empty.jsonl'}" in str(
        call("score", tmp_path / "empty.jsonl").exception
    )


def test_models_that_cannot_be_loaded_are_named(model_folder, make_config, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="the model 'nomodel' is no folder and cannot be loaded from the Hub"):
        evaluate("nomodel", make_config(), tmp_path / "1", run="none")
    cut = tmp_path / "cut"
    shutil.copytree(model_folder("llama"), cut)
    weights = cut / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    with pytest.raises(ModelError, match=r"cut.model.safetensors is damaged or truncated .*header"):
        evaluate(str(cut), make_config(), tmp_path / "2", run="cut")


@pytest.mark.parametrize("command", [["score"], ["tasks", "export"]])
def test_help_has_an_example(command):
    done = call(*command, "--help")
    assert f"instructalign {' '.join(command)}" in done.stdout.split("Example:")[1]
