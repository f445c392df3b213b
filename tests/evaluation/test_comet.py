"""COMET, whose command cannot be installed beside this: a stand-in checks the calls and answers likewise."""

from __future__ import annotations

import json
import sys

import pytest
import yaml
from random_models import TEXTS

from instructalign.config import CometConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation import evaluate, mt_metrics
from instructalign.evaluation.comet import comet_scores
from instructalign.evaluation.predictions import Translated

TASK = """\
name: tiny_translation
kind: translation
path: "flores/{name}.txt"
pivot: eng
languages: {eng: english, jav: javanese, mad: madurese}
prompts:
  p: {language: eng, prompt: "{text}\\nIn {target}, from {source}:"}
tokens: 8
"""


@pytest.fixture(autouse=True)
def _no_subwords(monkeypatch):
    monkeypatch.setattr(mt_metrics, "spbleu_is_installed", lambda: False)


@pytest.fixture
def config(tmp_path, make_config):
    folder = tmp_path / "data" / "flores"
    folder.mkdir(parents=True)
    for name, mark in (("english", "e"), ("javanese", "j"), ("madurese", "m")):
        (folder / f"{name}.txt").write_text("".join(f"{mark}{n} {text}\n" for n, text in enumerate(TEXTS[:4])))
    (tmp_path / "task.yaml").write_text(TASK)

    def make(**changes):
        tasks = [str(tmp_path / "task.yaml")]
        made = make_config(**{"tasks": tasks, "prompts": None, "data": str(folder.parent), **changes})
        languages = made.languages.model_copy(update={"known": ["eng"], "new": ["jav"], "related": ["mad"]})
        return made.model_copy(update={"languages": languages})

    return make


# Answers in the form of comet-score 2.2.7: by file of translations, a list of segments. The score is the length.
COMMAND = """#!{python}
import json, sys
given = dict(zip(sys.argv[1:-4:2], sys.argv[2:-4:2]))
assert sys.argv[-4:-1] == ["--quiet", "--only_system", "--to_json"], sys.argv
assert given["--model"] == "{model}", given
assert (given["--batch_size"], given["--gpus"]) == ("16", "0"), given
read = lambda key: [line.strip() for line in open(given[key], encoding="utf-8").readlines()]
columns = zip(read("-s"), read("-t"), read("-r"), strict=True)
rows = [dict(src=s, mt=t, ref=r, COMET=len(t) / 100) for s, t, r in columns]
{broken}
json.dump({{given["-t"]: rows}}, open(sys.argv[-1], "w", encoding="utf-8"))
open({log!r}, "a").write("called\\n")
"""


@pytest.fixture
def comet(tmp_path):
    """Writes a stand-in for comet-score and gives the settings that name it, and how often it was called."""
    log = tmp_path / "calls.log"

    def make(broken=""):
        path = tmp_path / "comet-score"
        model = CometConfig().model
        path.write_text(COMMAND.format(python=sys.executable, model=model, log=str(log), broken=broken))
        path.chmod(0o755)
        return CometConfig(command=path)

    make.calls = lambda: len(log.read_text().splitlines()) if log.exists() else 0
    return make


def records(*texts):
    return [Translated("t", "p", str(n), "eng", "jav", "x\u2028y", "r", text) for n, text in enumerate(texts)]


def test_comet_is_asked_once(comet, tmp_path):
    settings, cache = comet(), tmp_path / "kept" / "scores.json"
    some = records("loro", "", "a\rb")  # a line end within a text must not become two lines
    assert comet_scores(some, settings, cache) == [0.04, 0.0, 0.03]
    assert comet_scores(some, settings, cache) == [0.04, 0.0, 0.03]
    assert comet.calls() == 1
    assert comet_scores(records("loro", "siji"), settings, cache) == [0.04, 0.04]
    assert comet.calls() == 2
    assert json.loads(cache.read_text())["model"] == settings.model


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("sys.exit('no such model')", r"comet-score failed with exit status 1: no such model"),
        ("rows.pop()", r"1 scores for 2 translations"),
        ("sys.exit(0)", r"failed with exit status 0: "),
    ],
)
def test_comet_that_fails(comet, tmp_path, broken, message):
    with pytest.raises(DataError, match=message):
        comet_scores(records("a", "b"), comet(broken), tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_comet_scores_the_languages_it_covers_and_says_which_not(comet, model_folder, config, tmp_path, caplog):
    made = config(comet=comet().model_dump(mode="json"))
    scores = evaluate(model_folder("llama"), made, tmp_path / "out", run="base")
    by_comet = {(s.task, s.language): s for s in scores if s.metric == "comet" and s.language}
    assert set(by_comet) == {("tiny_translation/from-eng", "jav"), ("tiny_translation/into-eng", "jav")}
    assert comet.calls() == 2
    assert "COMET is left out from eng into mad: mad: the encoder of COMET was not trained on it" in caplog.text
    assert "COMET is left out from mad into eng: mad: " in caplog.text
    score = by_comet["tiny_translation/from-eng", "jav"]
    assert score.signature["comet"] == "Unbabel/wmt22-comet-da"
    assert score.low < score.value < score.high


def test_a_missing_command_is_told_before_anything_is_translated(model_folder, config, tmp_path):
    made = config(comet={"command": "no/comet-score"})
    with pytest.raises(ConfigError, match=r"evaluation\.comet\.command: .*/no/comet-score'"):
        evaluate(model_folder("llama"), made, tmp_path / "out", run="base")
    assert not (tmp_path / "out" / "translations").exists()


def test_comets_languages_are_canonical_codes(config):
    made = config(comet={"languages": ["en", "yo"]}, language_id="lid.bin")
    assert made.evaluation.comet.languages == ["eng", "yor"]
    assert build_config(yaml.safe_load(made.to_yaml())) == made
