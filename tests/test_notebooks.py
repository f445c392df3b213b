"""The package from Python: configurations of any kind, checks as functions, tables and progress in a notebook."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

import instructalign
from instructalign import Corpus, generate, load_config, validate
from instructalign.config import Config
from instructalign.errors import ConfigError, DataError
from instructalign.notebooks import default_progress, html_table
from instructalign.progress import silent
from instructalign.report import Report
from instructalign.report.rendering import ReportTable, TableCell, TableColumn
from test_cli import call

ROOT = Path(__file__).parents[1]
NOTEBOOKS = {page.stem: page for page in sorted((ROOT / "docs" / "notebooks").glob("*.md"))}
MADE: dict[str, Any] = {
    "model": {"base": "toy"},
    "languages": {"known": ["qka"], "new": ["qna"], "names": {"qka": "A", "qna": "B"}},
    "corpora": [{"format": "toy", "rows": 40}],
    "instructions": {"templates": ["toy"]},
    "training": {"steps": 1},
}


def test_a_configuration_is_a_file_a_dictionary_or_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # paths of dictionaries are relative to it
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(MADE), encoding="utf-8")
    of_file, of_blocks = load_config(tmp_path / "mine.yaml"), load_config(MADE)
    assert of_file == of_blocks == load_config(of_file)
    changed = load_config(of_blocks, ["training.steps=7"])
    assert (changed.training.steps, of_blocks.training.steps) == (7, 1)
    assert MADE["training"] == {"steps": 1}
    first = [next(iter(generate(each, 1))) for each in (tmp_path / "mine.yaml", MADE, of_blocks)]
    assert first[0] == first[1] == first[2]


def test_validate_lists_every_problem() -> None:
    assert validate(MADE) == []
    problems = validate({**MADE, "training": {"stps": 1}, "seed": -1})
    assert {each.partition(":")[0] for each in problems} == {"training.stps", "seed"}
    untrained = {key: value for key, value in MADE.items() if key != "training"}
    assert [each.partition(":")[0] for each in validate(untrained)] == ["training"]
    assert validate(untrained, trains=False) == []
    with pytest.raises(ConfigError):
        load_config({"model": {}})


def test_doctor_is_called_like_a_function_whatever_was_imported_before() -> None:
    from instructalign.doctor import examine
    from instructalign.doctor.diagnosis import Diagnosis

    diagnosis = instructalign.doctor(MADE, sample=20)
    assert isinstance(diagnosis, Diagnosis)
    assert diagnosis.findings == examine(load_config(MADE), sample=20).findings
    assert diagnosis._repr_html_().count("<tr>") == 1 + len(diagnosis.findings)


def test_a_corpus_of_pairs_is_saved_and_read_back(tmp_path: Path) -> None:
    pairs = [("good food", "panganan enak"), ("rain", None), ("<b>big</b>", "gedhe")]
    corpus = Corpus.from_pairs(pairs, ["English", "jav"])
    assert corpus.languages == ("eng", "jav")
    assert (str(corpus.counts), len(corpus)) == ("3 read, 2 kept, dropped: 1 fewer than two languages", 2)
    assert "&lt;b&gt;big" in corpus._repr_html_()
    entry = corpus.save(tmp_path / "pairs.jsonl")
    blocks = {**MADE, "languages": {"known": ["eng"], "new": ["jav"]}, "corpora": [entry]}
    config = load_config({**blocks, "instructions": {"heldout": 0, "templates": ["eng"]}})
    again = instructalign.read_corpora(config.corpora, ["eng", "jav"], config.filter)
    assert [(row.id, dict(row.texts)) for row in again] == [(f"pairs/{row.id}", dict(row.texts)) for row in corpus]
    with pytest.raises(DataError, match="pair 2"):
        Corpus.from_pairs([("a", "b"), ("a",)], ["eng", "jav"])
    with pytest.raises(DataError, match="pair 1"):
        Corpus.from_pairs(["ab"], ["eng", "jav"])
    with pytest.raises(DataError, match="jv, jav are the same language"):
        Corpus.from_pairs([("a", "b")], ["jv", "jav"])


@pytest.mark.parametrize("entries", ["pairs.csv", Path("pairs.csv"), {"format": "csv", "path": "pairs.csv"}])
def test_a_file_alone_is_no_list_of_corpora(entries: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        instructalign.read_corpora(entries, ["eng", "jav"])
    [problem] = caught.value.problems
    assert problem.startswith("corpora: ")
    assert "pairs.csv'}]" in problem


def test_a_corpus_of_a_data_frame() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"eng": ["good", "rain"], "Javanese": ["apik", float("nan")]})
    corpus = Corpus.from_frame(frame)
    assert [dict(row.texts) for row in corpus] == [{"eng": "good", "jav": "apik"}]
    with pytest.raises(DataError, match="'id' could be Indonesian or the row ids"):
        Corpus.from_frame(frame.assign(id=["1", "2"]))
    assert Corpus.from_frame(frame.rename(columns={"eng": "id"})).languages == ("ind", "jav")


def test_a_report_shows_its_table(tmp_path: Path) -> None:
    table = ReportTable("F1", (TableColumn("L2", "new"),), ((TableCell("35.5", "31–40"),),))
    report = Report(tmp_path, tmp_path, tmp_path, (), ("<won> 1 point.",), table)
    text = report._repr_html_()
    assert "<p>&lt;won&gt; 1 point.</p>" in text
    assert "<td>35.5<br><small>31–40</small></td>" in text
    assert html_table(["a"], []).count("<tr>") == 1


def test_progress_shows_in_a_notebook_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert default_progress() is silent
    shown: list[str] = []
    handle = types.SimpleNamespace(update=shown.append)
    display = types.SimpleNamespace(HTML=str, display=lambda line, display_id: shown.append(line) or handle)
    shell = types.SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(display=display, get_ipython=lambda: shell))
    progress = default_progress()
    for done in range(1, 11):
        progress("training <x>", done, 10, "loss 1")
    assert shown[0] == 'training &lt;x&gt; <progress value="1" max="10"></progress> 1 of 10 loss 1'
    assert shown[-1].endswith("10 of 10 loss 1")
    assert len(shown) == 2  # the others came within a moment
    shell.kernel = None
    del shell.kernel
    assert default_progress() is silent  # IPython in a terminal


def test_schema_and_version(tmp_path: Path) -> None:
    done = call("schema", "--out", "instructalign.schema.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "instructalign.schema.json").read_text(encoding="utf-8"))
    assert json.loads(call("schema").stdout) == written
    steps = written["$defs"]["TrainingConfig"]["properties"]["steps"]
    assert steps["description"].startswith("Optimizer steps; `doctor` says how many an epoch has")
    assert written["properties"].keys() == {*Config.model_fields, "sweep"}
    call("init", folder=tmp_path)
    first = (tmp_path / "instructalign.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=instructalign.schema.json"
    assert call("--version").stdout == f"instructalign {instructalign.__version__}\n"
    assert call("--show-completion", "--help").returncode == 0


def cells(notebook: str) -> list[str]:
    text = NOTEBOOKS[notebook].read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("notebook", NOTEBOOKS)
def test_a_notebook_uses_public_names_alone(notebook: str) -> None:
    nodes = [node for code in cells(notebook) if code[0] != "!" for node in ast.walk(ast.parse(code))]
    imported = [node for node in nodes if isinstance(node, ast.ImportFrom) and "instructalign" in str(node.module)]
    assert imported
    assert {node.module for node in imported} == {"instructalign"}
    assert {name.name for node in imported for name in node.names} <= {*instructalign.__all__}


def execute(notebook: str) -> tuple[dict[str, Any], list[str]]:
    """What a notebook's cells leave behind, and what each shows of its last expression."""
    names: dict[str, Any] = {}
    shown = []
    for code in cells(notebook):
        if code.startswith("!"):
            command = code.removeprefix("!").replace("instructalign", f"{sys.executable} -m instructalign", 1)
            subprocess.run(command, shell=True, check=True)
            continue
        tree = ast.parse(code)
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, notebook, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), notebook, "eval"), names)
            if value is not None:
                shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    return names, shown


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, from which commands find this package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "src"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_first_steps(place: Path) -> None:
    names, shown = execute("first-steps")
    gains = {row.group: row for row in names["result"].report.rows if row.metric == "gain" and not row.language}
    assert gains["L2"].value > 0.1 > abs(gains["L1"].value)  # what the page promises of the tiny base
    corpus, diagnosis, report, frame, answer = shown
    assert [text.count("<table") for text in (corpus, diagnosis, report, frame)] == [1, 1, 1, 1]
    assert "1,000 rows" in corpus
    assert "ready to train" in diagnosis
    assert f"{100 * names['result'].report.rows[0].value:.1f}" in report
    assert answer == repr(names["translated"].translation)  # chat asks as translate does
    assert (place / "runs" / "first-steps" / "report.html").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_your_own_language(place: Path) -> None:
    names, shown = execute("your-own-language")
    assert names["config"].languages.new == ["heg"]
    assert "Translation of held-out sentences from English" in shown[1]
    letter, translated = ((place / name).read_text(encoding="utf-8") for name in ("letter.txt", "letter.heg.txt"))
    assert letter.count("\n") == translated.count("\n") == 3
    assert [len(names["more"].corpora), names["corpus"].languages] == [2, ("eng", "heg")]
    read = instructalign.read_corpora(names["more"].corpora, ["eng", "heg"], names["more"].filter)
    assert dict(read[len(read) - 1].texts) == {"eng": "Thank you.", "heg": "Makasi."}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_reproduce_the_paper(place: Path) -> None:
    names, shown = execute("reproduce-the-paper")
    config, compared = names["config"], names["compared"]
    assert (config.training.loss_on, config.evaluation.scoring, config.replay.preset) == ("all", "paper", "paper")
    assert compared.failed == {}
    cells = {row[0].text for row in compared.report.table.rows}
    assert {"replay.size=0", "replay.size=1000"} <= cells
    assert "replay.size=1000" in shown[-1]
    forgotten = {
        row.run: row.value for row in compared.report.rows if row.metric == "forgetting" and not row.language
    }
    assert forgotten["replay.size=0"] > forgotten["replay.size=1000"]
