"""The zero-shot probe that shows forgetting while a model trains."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from instructalign import train
from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, TrainingError
from instructalign.evaluation import evaluate
from instructalign.evaluation.accuracy_monitor import make_accuracy_monitor
from instructalign.training.models import load_model
from instructalign.training.train import train as fit
from tiny import save_tiny

LANGUAGES = ("eng", "jav", "mad")


def write_items(folder: Path, split: str, count: int) -> None:
    for code in LANGUAGES:
        rows = [f"{i},{code} {split} sample {i},{'good' if i % 2 else 'bad'}" for i in range(count)]
        (folder / f"{split}-{code}.csv").write_text("id,text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")


def config(folder: Path, *, validation: bool = True, **training: Any) -> Config:
    save_tiny(folder / "base")
    write_items(folder, "test", 9)
    write_items(folder, "valid", 5)
    task = {
        "name": "reviews",
        "title": "Reviews",
        "source": "ours",
        "licence": "CC0",
        "data": {"format": "csv", "path": "test-{name}.csv"},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": {code: code for code in LANGUAGES},
        "labels": {"good": {"eng": "good"}, "bad": {"eng": "bad"}},
        "prompts": {f"en-{i}": {"language": "eng", "prompt": f"{{text}}\nGood or bad {i}?"} for i in (1, 2)},
    }
    if validation:
        task["validation"] = {"format": "csv", "path": "valid-{name}.csv"}
    (folder / "reviews.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    pairs = [(f"the place number {i} is good", f"panggonan nomer {i} iku apik") for i in range(12)]
    corpus = "eng\tjav\n" + "".join(f"{one}\t{other}\n" for one, other in pairs)
    (folder / "corpus.tsv").write_text(corpus, encoding="utf-8")
    data = {
        "model": {"base": "base"},
        "languages": {"known": ["eng"], "new": ["jav"], "related": ["mad"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "eng", "jav": "jav"}}],
        "instructions": {"heldout": 2},
        "training": {
            "steps": 4,
            "batch_size": 4,
            "learning_rate": 3e-3,
            "max_length": 96,
            "log_every": 1,
            "report_to": [],
            "probe": {"every": 2, "items": 4},
            **training,
        },
        "evaluation": {"tasks": ["reviews.yaml"], "data": ".", "bootstrap": 0},
    }
    return build_config(data, folder=folder)


def accuracy(config: Config, folder: Path, language: str, model: Path, task: Path) -> float:
    """As the evaluation itself has it, on the same items."""
    few = config.evaluation.model_copy(update={"items": 4, "tasks": [str(task)]})
    scores = evaluate(str(model), config.model_copy(update={"evaluation": few}), folder, run="x")
    return next(s.value for s in scores if s.metric == "accuracy" and s.language == language and s.run == "x")


def test_probe_is_the_evaluation_on_a_few_validation_items(tmp_path: Path) -> None:
    made = config(tmp_path)
    result = train(made, tmp_path / "run")
    lines = [
        json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert [line["step"] for line in lines if "probe" in line] == [2, 4]
    task = yaml.safe_load((tmp_path / "reviews.yaml").read_text(encoding="utf-8"))
    task["data"] = task.pop("validation")
    (tmp_path / "valid.yaml").write_text(yaml.safe_dump(task | {"name": "valid"}), encoding="utf-8")
    for group, language in (("L1", "eng"), ("L2", "jav")):
        expected = accuracy(made, tmp_path / "scores", language, result.model, tmp_path / "valid.yaml")
        assert lines[-1][f"probe/{group}"] == pytest.approx(expected, abs=1e-6)
    assert lines[-1]["probe"] == pytest.approx(fmean([lines[-1]["probe/L1"], lines[-1]["probe/L2"]]), abs=1e-6)
    assert "probe/L3" not in lines[-1]


def test_probe_takes_test_items_where_there_are_no_others(tmp_path: Path) -> None:
    made = config(tmp_path, validation=False)
    make = make_accuracy_monitor(made)
    assert make is not None
    loaded = load_model(str(tmp_path / "base"))
    values = make(loaded)(loaded.model)
    for group, language in (("L1", "eng"), ("L2", "jav")):
        expected = accuracy(made, tmp_path / "scores", language, tmp_path / "base", tmp_path / "reviews.yaml")
        assert values[f"probe/{group}"] == pytest.approx(expected)


def test_a_model_is_not_chosen_by_its_test(tmp_path: Path) -> None:
    rule = {"on": "probe", "patience": 1}
    assert make_accuracy_monitor(config(tmp_path, early_stopping=rule)) is not None
    with pytest.raises(ConfigError, match=r"on probe, but reviews has no validation items"):
        make_accuracy_monitor(config(tmp_path, validation=False, early_stopping=rule))


def test_probe_without_a_task(tmp_path: Path) -> None:
    made = config(tmp_path)
    none = made.model_copy(update={"evaluation": made.evaluation.model_copy(update={"tasks": []})})
    with pytest.raises(ConfigError, match="names no classification task to take items from"):
        make_accuracy_monitor(none)


def test_training_alone_cannot_probe(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"training\.probe needs the evaluation: train with `instructalign"):
        fit(config(tmp_path), tmp_path / "run")
