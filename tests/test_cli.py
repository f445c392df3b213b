"""The command line as a user meets it: outputs, exit codes, and errors without a traceback."""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from instructalign.cli import main
from tiny import save_tiny

COMMANDS = [
    "demo",
    "init",
    "validate",
    "doctor",
    "preview",
    "generate",
    "train",
    "evaluate",
    "report",
    "run",
    "sweep",
]


@dataclass(frozen=True)
class Done:
    """What a command left: its exit code and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def call(*arguments: object, folder: Path | None = None) -> Done:
    """Runs the command line in this process, as the installed command would."""
    out, err, argv, here = io.StringIO(), io.StringIO(), sys.argv, Path.cwd()
    code = 0
    try:
        os.chdir(folder or here)
        sys.argv = ["instructalign", *map(str, arguments)]
        with redirect_stdout(out), redirect_stderr(err):
            main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = argv
        os.chdir(here)
    return Done(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a user would have it: a corpus, replay data, a task of their own, a model, a configuration."""
    folder = tmp_path_factory.mktemp("project")
    save_tiny(folder / "model")
    rows = [f"the food is good {i}\tpanganane enak {i}" for i in range(12)]
    (folder / "corpus.tsv").write_text("English\tJavanese\n" + "\n".join(rows) + "\nragged\n", encoding="utf-8")
    past = [{"inputs": f"is {i} a number?", "targets": "yes"} for i in range(6)]
    (folder / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in past), encoding="utf-8")
    for code in ("eng", "jav"):
        items = "".join(f"{i},text {i},{'good' if i % 2 else 'bad'}\n" for i in range(8))
        empty = "8,,good\n" if code == "jav" else ""
        (folder / f"reviews-{code}.csv").write_text(f"id,text,label\n{items}{empty}", encoding="utf-8")
    task = {
        "name": "reviews",
        "title": "Reviews",
        "source": "ours",
        "licence": "CC0",
        "data": {"format": "csv", "path": "reviews-{name}.csv"},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": {"eng": "eng", "jav": "jav"},
        "labels": {"good": {"eng": "good"}, "bad": {"eng": "bad"}},
        "prompts": {"en-1": {"language": "eng", "prompt": "{text}\nGood or bad?"}},
    }
    (folder / "reviews.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    config = {
        "model": {"base": "model"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "English", "jav": "Javanese"}}],
        "instructions": {"heldout": 3},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 4},
        "training": {"steps": 3, "batch_size": 4, "log_every": 1, "learning_rate": 1e-3, "report_to": []},
        "evaluation": {"tasks": ["reviews.yaml"], "data": "."},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command: str) -> None:
    done = call(command, "--help")
    assert done.returncode == 0
    assert f"instructalign {command}" in done.stdout.split("Example:")[1]


def test_run_does_everything_and_again_does_nothing(project: Path) -> None:
    done = call("run", "config.yaml", "--out", "run", folder=project)
    assert done.returncode == 0, done.stderr
    run = project / "run"
    for name in ("config.yaml", "run.json", "log.jsonl", "report.md", "report.html", "report.json"):
        assert (run / name).is_file(), name
    for side in ("base", "adapted"):
        assert (run / "evaluation" / side / "scores.json").is_file()
        assert list((run / "evaluation" / side / "predictions").glob("*.jsonl"))
    assert "L1" in done.stdout
    assert "L2" in done.stdout
    counts = "rows of the corpora: 13 read, 9 kept, dropped: 1 wrong number of columns, 3 held out; "
    counts += "replay examples: 6 read, 4 kept, dropped: "
    assert done.stdout.splitlines()[-1].startswith(counts)
    rows = json.loads((run / "report.json").read_text(encoding="utf-8"))["rows"]
    keys = {"run", "task", "language", "group", "metric", "value", "low", "high", "n", "signature"}
    assert set(rows[0]) == keys
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    report = (run / "report.json").read_bytes()
    again = call("run", "config.yaml", "--out", "run", folder=project)
    assert again.returncode == 0, again.stderr
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before
    assert (run / "report.json").read_bytes() == report


def test_generate_is_the_same_twice_and_a_prefix_of_more(project: Path) -> None:
    for name, count in (("a.jsonl", 20), ("b.jsonl", 20), ("c.jsonl", 50)):
        done = call("generate", "config.yaml", "--count", count, "--out", name, folder=project)
        assert done.returncode == 0, done.stderr
    first, second, longer = ((project / name).read_bytes() for name in ("a.jsonl", "b.jsonl", "c.jsonl"))
    assert first == second
    assert longer.startswith(first)
    done = call("generate", "config.yaml", "--count", 50, "--out", "d.jsonl", "--processes", 2, folder=project)
    assert done.returncode == 0, done.stderr
    assert (project / "d.jsonl").read_bytes() == longer
    record = json.loads(first.splitlines()[0])
    assert list(record) == ["prompt", "answer", "objective", "source", "target", "row"]
    call("generate", "config.yaml", "--count", 3, "--out", "m.jsonl", "--format", "messages", folder=project)
    messages = json.loads((project / "m.jsonl").read_text(encoding="utf-8").splitlines()[0])["messages"]
    assert [turn["role"] for turn in messages] == ["user", "assistant"]


def test_what_is_dropped_is_said_and_kept(project: Path) -> None:
    arguments = ("config.yaml", "--count", 3, "--out", "kept.jsonl", "--rejects", "rejects.jsonl")
    done = call("generate", *arguments, folder=project)
    counts = "rows of the corpora: 13 read, 9 kept, dropped: 1 wrong number of columns, 3 held out"
    assert done.stdout.splitlines()[-1] == counts
    rejected = json.loads((project / "rejects.jsonl").read_text(encoding="utf-8"))
    expected = {"filter": "wrong number of columns", "corpus": "corpus", "row": "14", "fields": ["ragged"]}
    assert rejected == expected


def test_preview_marks_what_carries_the_loss(project: Path) -> None:
    done = call("preview", "config.yaml", "-n", 4, "--step", 2, folder=project)
    assert done.returncode == 0, done.stderr
    assert "#8" in done.stdout
    assert done.stdout.count("⟦") == 4
    assert "</s>⟧" in done.stdout


def test_evaluate_any_model(project: Path) -> None:
    arguments = ("--config", "config.yaml", "--out", "scores", "--rejects", "rejects.jsonl")
    done = call("evaluate", "model", *arguments, folder=project)
    assert done.returncode == 0, done.stderr
    assert (project / "scores" / "scores.json").is_file()
    rejected = json.loads((project / "rejects.jsonl").read_text(encoding="utf-8"))
    assert (rejected["filter"], rejected["corpus"].split()[1]) == ("no text", "(jav)")
    assert "L1" in done.stdout
    assert (
        done.stdout.splitlines()[-1]
        == "test items: 16 scored in 2 sets of a task and language, dropped: 1 no text"
    )


def test_init_then_validate(tmp_path: Path) -> None:
    assert call("init", folder=tmp_path).returncode == 0
    assert "is valid" in call("validate", "instructalign.yaml", folder=tmp_path).stdout
    again = call("init", folder=tmp_path)
    assert again.returncode == 1
    assert "instructalign.yaml already exists" in again.stderr


def test_interrupting_says_how_to_resume(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("instructalign.pipeline.preview", interrupt)
    done = call("preview", "config.yaml", folder=project)
    assert (done.returncode, done.stdout) == (130, "")
    assert "Rerun the same command to resume" in done.stderr


def test_a_file_that_is_not_yaml_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("seed: 1\nlanguages:\n  new: [jav\n  known: [eng]\n", encoding="utf-8")
    done = call("validate", "mine.yaml", folder=tmp_path)
    assert done.returncode == 2
    assert "not YAML: line 4, column 8: expected ',' or ']', but got ':'" in done.stderr
    assert "(while parsing a flow sequence that begins in line 3)" in done.stderr


def test_a_task_needs_no_title(project: Path) -> None:
    task = yaml.safe_load((project / "reviews.yaml").read_text(encoding="utf-8"))
    plain = {key: value for key, value in task.items() if key not in ("title", "source", "licence")}
    (project / "plain.yaml").write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    assert call("tasks", "validate", "plain.yaml", folder=project).stdout == "plain.yaml is valid: reviews\n"
    shown = call("tasks", "show", "plain.yaml", folder=project).stdout
    assert shown.startswith("reviews\nsource not named (licence not named)\nlanguages: eng, jav\n")


def test_lists() -> None:
    assert "nusax_senti" in call("tasks", "ls").stdout
    assert (
        "Acehnese" in call("tasks", "show", "nusax_senti").stdout
        or "ace" in call("tasks", "show", "nusax_senti").stdout
    )
    assert "eng" in call("templates", "ls").stdout
    assert "{noisy}" in call("templates", "show", "ind").stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["validate", "no.yaml"], 2, "the file does not exist"),
        (["validate", "config.yaml", "--set", "training.steps=-1"], 2, "training.steps"),
        (["validate", "config.yaml", "--set", "evaluation.tasks=[nusax_sent]"], 2, "Did you mean 'nusax_senti'?"),
        (["train", "config.yaml", "--set", "model.base=./nowhere"], 1, "does not exist"),
        (["train", "config.yaml", "--set", "corpora.0.path=no.tsv"], 1, "no.tsv does not exist"),
        (["train", "config.yaml", "--set", "languages.new=[sun]"], 1, "at least two of the configured languages"),
        (["run", "config.yaml", "--out", "past.jsonl"], 1, "past.jsonl is a file; a run needs a folder"),
        (["generate", "config.yaml", "--count", "3", "--out", "past.jsonl/x.jsonl"], 1, "past.jsonl"),
        (["generate", "config.yaml", "--count", "3", "--out", "model"], 1, "model is a folder. Name a file"),
        (["generate", "config.yaml", "--count", "3", "--out", "g.txt"], 1, "Name a file: .jsonl or .parquet"),
        (["generate", "config.yaml", "--count", "3", "--out", "past.jsonl"], 1, "past.jsonl already exists"),
        (["report", "model"], 1, "is not a run folder"),
        (["init", "--out", "past.jsonl/mine.yaml"], 1, "a file with this name exists"),
        (["validate", "config.yaml", "--set", "evaluation.prompts=[en-9]"], 2, "unknown prompt of task reviews"),
        (["train", "config.yaml", "--set", "evaluation.tasks=[smsaa]"], 2, "Did you mean 'smsa'?"),
        (["tasks", "export", "reviews.yaml", "--data", "model", "--out", "h"], 1, "data in none of its languages"),
        (["generate", "config.yaml", "--out", "x.jsonl"], 2, "--count"),
    ],
)
def test_wrong_use_is_explained_without_a_traceback(
    project: Path, arguments: list[str], code: int, message: str
) -> None:
    done = call(*arguments, *(["--out", "wrong"] if arguments[0] == "train" else []), folder=project)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    assert message in done.stderr


def test_formats_are_listed_and_shown() -> None:
    listed = call("formats", "ls")
    assert listed.returncode == 0
    assert {"xlsx", "usfm", "flextext", "tatoeba", "csv"} <= set(listed.stdout.split())
    shown = call("formats", "show", "xlsx")
    assert shown.returncode == 0
    assert "  - format: xlsx\n    path: pairs.xlsx\n" in shown.stdout
    assert "required" in shown.stdout
    assert "whole number" in shown.stdout
    wrong = call("formats", "show", "excel")
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert "unknown corpus format 'excel'" in wrong.stderr
