"""Test items in the training data of a run: reported, dropped, refused or ignored, in corpora and replay."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructalign import generate, preview, run, train
from instructalign.cli import main
from instructalign.config import Config
from instructalign.config_file import build_config, load_config
from instructalign.errors import ConfigError, DataError, RunFolderError
from instructalign.mixture.training_data import prepare_data
from instructalign.pipeline import contamination_check
from instructalign.report import write_report
from tiny import save_tiny

LEAKED = ("the long road to the old house is clean", "dalan dawa menyang omah lawas iku resik banget")
PAST = "the little bird sings a song in the garden every morning"


def write_project(folder: Path) -> dict[str, Any]:
    """A corpus with one test item among its rows, a past example with another, and the task that has both."""
    save_tiny(folder / "base")
    pairs = [(f"the food is good {i}", f"panganane enak {i}") for i in range(20)]
    pairs.insert(7, LEAKED)
    lines = "".join(f"{one}\t{other}\n" for one, other in pairs)
    (folder / "corpus.tsv").write_text(f"eng\tjav\n{lines}", encoding="utf-8")
    past = [{"inputs": f"is {i} a number?", "targets": "yes"} for i in range(5)]
    past.append({"inputs": f"Translate: {PAST.upper()}.", "targets": "yes"})
    (folder / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")
    texts = {"eng": [PAST, "a text of its own", "another one"], "jav": [LEAKED[1], "siji", "loro"]}
    for code, several in texts.items():
        with (folder / f"mood-{code}.csv").open("w", encoding="utf-8", newline="") as file:
            rows = [[f"{i}", text, "good" if i % 2 else "bad"] for i, text in enumerate(several)]
            csv.writer(file).writerows([["id", "text", "label"], *rows])
    task = {
        "name": "mood",
        "title": "Mood",
        "source": "ours",
        "licence": "CC0",
        "data": {"format": "csv", "path": "mood-{name}.csv"},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": {"eng": "eng", "jav": "jav"},
        "labels": {"good": {"eng": "good"}, "bad": {"eng": "bad"}},
        "prompts": {"en-1": {"language": "eng", "prompt": "{text}\nGood or bad?"}},
    }
    (folder / "mood.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    return {
        "model": {"base": "base"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
        "instructions": {"objectives": {"mt": 1}, "heldout": 0},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 6},
        "training": {"steps": 2, "batch_size": 4, "learning_rate": 1e-3, "max_length": 160, "report_to": []},
        "evaluation": {"tasks": ["mood.yaml"], "data": ".", "bootstrap": 20},
    }


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    config = write_project(folder)
    (folder / "run.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


def configure(project: Path, *overrides: str) -> Config:
    return load_config(project / "run.yaml", overrides)


def recorded(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["contamination"]
    return record


def sets(record: dict[str, Any]) -> list[tuple[Any, ...]]:
    keys = ("where", "task", "language", "size", "items", "exact", "near", "id")
    return [tuple(each[key] for key in keys) for each in record["leaked"]]


FOUND = [("corpora", "mood", "jav", 3, 1, 1, 0, 0), ("replay", "mood", "eng", 3, 1, 0, 1, 0)]


def test_a_run_reports_by_default(project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        done = run(configure(project), tmp_path / "run")
    record = recorded(tmp_path / "run")
    assert record["action"] == "report"
    assert record["not_checked"] == ""
    assert record["texts"] == 6
    assert record["checked"] == {"corpora": 21, "replay": 6}
    assert record["dropped"] == {"corpora": 0, "replay": 0}
    assert sets(record) == FOUND
    assert record["leaked"][0]["examples"] == [{"row": "corpus/9", "item": "0", "how": "exact", "text": LEAKED[1]}]
    warned = [text for text in caplog.messages if "test items found in" in text]
    assert "corpora: mood (jav) 1 of 3 (contamination: drop would leave them out)" in warned[0]
    assert "replay: mood (eng) 1 of 3" in warned[1]
    assert done.report is not None
    page = done.report.html.read_text(encoding="utf-8")
    assert LEAKED[1] in page
    assert any("test items" in text and "Mood in Javanese (1 of 3" in text for text in done.report.sentences)
    assert "6 test texts, 27 training rows" in page


def test_dropping_leaves_them_out_and_counts(project: Path, tmp_path: Path) -> None:
    config = configure(project, "contamination=drop")
    assert LEAKED[1] not in {made.answer for made in generate(config, 200)}
    assert LEAKED[1] in {made.answer for made in generate(configure(project), 200)}
    data = prepare_data(config, contamination_check(config))
    assert [row.id for row in data.corpus if row.id == "corpus/9"] == []
    assert (len(data.corpus), len(data.replay)) == (20, 5)
    assert data.corpus.counts.dropped == {"in a test set": 1}
    assert data.replay.counts.dropped == {"in a test set": 1}
    train(config, tmp_path / "run")
    record = recorded(tmp_path / "run")
    assert record["dropped"] == {"corpora": 1, "replay": 1}
    assert sets(record) == FOUND
    report = write_report([tmp_path / "run"])
    assert "2 rows were dropped" in report.html.read_text(encoding="utf-8")
    assert not any("test items" in text for text in report.sentences)


def test_a_preview_shows_what_is_trained_on(project: Path) -> None:
    kept = preview(configure(project, "contamination=drop", "replay=null"), 60)
    assert all(LEAKED[0] not in each.instruction.prompt for each in kept)
    assert any(LEAKED[0] in each.instruction.prompt for each in preview(configure(project, "replay=null"), 60))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], r"(?s)1 rows of the training corpus overlap with test items:.*mood \(jav\): 1 items \(1 exact\)"),
        (["evaluation.languages=[eng]"], r"(?s)1 of the replay examples overlap with test items:.*mood \(eng\)"),
    ],
)
def test_refusing(project: Path, tmp_path: Path, overrides: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        train(configure(project, "contamination=refuse", *overrides), tmp_path / "run")


def test_refusing_lets_clean_data_pass(project: Path, tmp_path: Path) -> None:
    config = configure(project, "contamination=refuse", "evaluation.languages=[eng]", "replay=null")
    assert train(config, tmp_path / "run").finished
    assert recorded(tmp_path / "run")["leaked"] == []
    page = write_report([tmp_path / "run"]).html.read_text(encoding="utf-8")
    assert "3 test texts, 21 training rows" in page


def test_ignoring_looks_at_nothing(project: Path, tmp_path: Path) -> None:
    train(configure(project, "contamination=ignore"), tmp_path / "run")
    record = recorded(tmp_path / "run")
    assert record["not_checked"] == "contamination is set to ignore"
    assert (record["texts"], record["leaked"]) == (0, [])
    page = write_report([tmp_path / "run"]).html.read_text(encoding="utf-8")
    assert "contamination is set to ignore" in page


def test_test_data_that_is_not_there(project: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever trains where the test data is not is told, and stopped only if its items are to be dropped."""
    away = "evaluation.data=nowhere"
    with caplog.at_level(logging.WARNING):
        assert train(configure(project, away), tmp_path / "run").finished
    assert "mood has no data for the languages of this configuration" in recorded(tmp_path / "run")["not_checked"]
    assert any("the training data is not checked for test items" in text for text in caplog.messages)
    with pytest.raises(DataError, match="mood has no data"):
        train(configure(project, away, "contamination=drop"), tmp_path / "other")


def test_without_the_items_dropping_is_refused(project: Path) -> None:
    with pytest.raises(DataError, match=r"contamination is drop, but no test items were given.*instructalign"):
        prepare_data(configure(project, "contamination=drop"))
    assert len(prepare_data(configure(project, "contamination=drop", "evaluation.tasks=[]")).corpus) == 21


def test_all_of_the_replay_in_a_test_set(project: Path) -> None:
    only = json.dumps({"inputs": PAST, "targets": "yes"}) + "\n"
    (project / "only.jsonl").write_text(only, encoding="utf-8")
    config = configure(project, "contamination=drop", "replay.source.path=only.jsonl")
    with pytest.raises(DataError, match="all 1 replay examples overlap with test items"):
        prepare_data(config, contamination_check(config))


def test_what_is_dropped_belongs_to_the_run(project: Path, tmp_path: Path) -> None:
    """Where test items are dropped, other tasks make other training data; otherwise evaluation may change."""
    train(configure(project, "contamination=drop"), tmp_path / "dropped")
    with pytest.raises(RunFolderError, match=r"different: evaluation\.items"):
        train(configure(project, "contamination=drop", "evaluation.items=1"), tmp_path / "dropped")
    with pytest.raises(RunFolderError, match="different: contamination"):
        train(configure(project), tmp_path / "dropped")
    train(configure(project), tmp_path / "reported")
    assert train(configure(project, "contamination=ignore", "evaluation.items=1"), tmp_path / "reported").finished


def test_the_command_line_generates_without_them(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "made.jsonl"
    arguments = ["generate", str(project / "run.yaml"), "--count", "100", "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["instructalign", *arguments, "--set", "contamination=drop"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert LEAKED[1] not in out.read_text(encoding="utf-8")


def test_unknown_actions_are_refused_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"contamination: input should be 'report', 'drop', 'refuse' or 'ignore'"
    ):
        build_config({**write_project(tmp_path), "contamination": "remove"}, folder=tmp_path)
