from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from made_up_runs import BASE, GROUPS, LABELS, MLM, PLAIN, REPLAY, predictions, write_run
from sklearn.metrics import f1_score

from instructalign.errors import DataError, RunFolderError
from instructalign.evaluation import tasks as load_module
from instructalign.report import Report, write_report
from instructalign.report.report_facts import task_titles
from instructalign.report.run_results import read_runs


def rows_of(path: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = json.loads(path.read_text(encoding="utf-8"))["rows"]
    return rows


def value(rows: list[dict[str, object]], **wanted: str) -> float:
    found = [row["value"] for row in rows if all(row[key] == want for key, want in wanted.items())]
    assert len(found) == 1, wanted
    assert isinstance(found[0], float)
    return found[0]


def test_three_runs_share_one_base_row(demo_report: Report) -> None:
    names = [row[0].text for row in demo_report.table.rows]
    assert names == ["base", "no-replay", "replay", "mlm", "random", "majority"]
    assert [column.title for column in demo_report.table.columns] == ["Run", "L1", "L2", "L3", "Forgetting"]


def test_another_base_gets_a_row_of_its_own(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, "one"), write_run(tmp_path, "two", base="ffff")]
    names = [row[0].text for row in write_report(folders).table.rows]
    assert names == ["base", "one", "base of two", "two", "random", "majority"]


def test_a_run_without_a_base_of_its_own_takes_that_of_the_same_model(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, "one"), write_run(tmp_path, "two", seed=2)]
    shutil.rmtree(folders[1] / "evaluation" / "base")
    runs = read_runs(folders)
    assert runs[1].base is runs[0].base is not None


def test_gains_and_forgetting_equal_scikit_learn(demo_report: Report) -> None:
    rows = rows_of(demo_report.json)

    def weighted_f1(skill: dict[str, float], seed: int, group: str) -> float:
        found = predictions("mood", skill, seed)
        scores = []
        for code in GROUPS[group]:
            for prompt in ("en-1", "en-2"):
                some = [p for p in found if (p.language, p.prompt) == (code, prompt)]
                truth, answer = [p.gold for p in some], [p.predicted for p in some]
                scores.append(f1_score(truth, answer, average="weighted", labels=LABELS, zero_division=0))
        return sum(scores) / len(scores)

    for run, skill, seed in (("no-replay", PLAIN, 1), ("replay", REPLAY, 2), ("mlm", MLM, 3)):
        for group in GROUPS:
            change = weighted_f1(skill, seed, group) - weighted_f1(BASE, 100, group)
            assert value(rows, run=run, group=group, metric="gain", language="") == pytest.approx(change)
            if group == "L1":
                assert value(rows, run=run, metric="forgetting", language="") == pytest.approx(-change)


def test_rows_have_the_fields_of_the_contract(demo_report: Report) -> None:
    rows = rows_of(demo_report.json)
    fields = ["run", "task", "language", "group", "metric", "value", "low", "high", "n", "signature"]
    assert all(list(row) == fields for row in rows)
    gain = next(row for row in rows if row["metric"] == "gain" and row["run"] == "replay" and row["language"])
    assert (gain["signature"]["base"], gain["signature"]["model"]) == ({"model": "0a1b2c3d"}, "adapted2")


def test_best_is_bold_only_where_the_paired_test_supports_it(demo_report: Report) -> None:
    table = demo_report.table
    bold = [(row[0].text, table.columns[i].title) for row in table.rows for i, c in enumerate(row) if c.best]
    # Replay is best by far on L2. On L1 it is level with the base and with MLM, so nobody is best there.
    assert ("replay", "L2") in bold
    assert not [column for _, column in bold if column in ("L1", "Forgetting")]


def test_the_run_that_forgets_less_is_best_though_the_base_forgets_nothing(
    demo_runs: list[Path], tmp_path: Path
) -> None:
    table = write_report(demo_runs[:2], tmp_path).table
    bold = {(row[0].text, table.columns[i].title) for row in table.rows for i, c in enumerate(row) if c.best}
    assert ("replay", "Forgetting") in bold
    assert not {column for _, column in bold if column == "L1"}


def test_runs_that_are_level_have_no_best(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, name, BASE, seed=seed) for seed, name in enumerate(("a", "b"))]
    table = write_report(folders).table
    assert not [cell for row in table.rows for cell in row if cell.best]


def test_sentences_follow_the_intervals(demo_report: Report) -> None:
    sentences = demo_report.sentences
    assert sentences[0].startswith("replay learned the new languages (L2")
    assert "lost nothing measurable on the known ones" in sentences[0]
    assert "carried over to related ones" in sentences[0]
    last = next(sentence for sentence in sentences if sentence.startswith("no-replay"))
    assert "forgot part of what it knew" in last


def test_the_same_folders_give_the_same_bytes(demo_runs: list[Path], demo_report: Report, tmp_path: Path) -> None:
    twice = write_report(demo_runs, tmp_path)
    for kind in ("html", "markdown", "json"):
        assert getattr(demo_report, kind).read_bytes() == getattr(twice, kind).read_bytes()


def test_several_tasks(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "replay", tasks=("mood", "moods"))
    report = write_report([folder])
    assert report.html == folder / "report.html"
    assert [column.title for column in report.table.columns][:2] == ["Run", "Task"]
    assert [row[1].text for row in report.table.rows[:3]] == ["mood", "mood", "mood"]
    assert [sentence.split(")")[0] for sentence in report.sentences] == ["replay (mood", "replay (moods"]
    assert "replay, moods" in report.html.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("kept", "there", "absent"),
    [
        (["log.jsonl"], ["training"], ["result", "languages", "mixture", "dropped", "reproduce"]),
        (["run.json"], ["mixture", "dropped", "reproduce"], ["result", "training", "confusion"]),
        (["evaluation"], ["result", "languages", "heat-map", "items"], ["training", "mixture"]),
    ],
)
def test_sections_without_data_are_absent(
    run_folder: Path, kept: list[str], there: list[str], absent: list[str]
) -> None:
    for path in run_folder.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = write_report([run_folder]).html.read_text(encoding="utf-8")
    assert [anchor for anchor in [*there, *absent] if f'id="{anchor}"' in page] == there


def test_a_run_in_which_nothing_happened_yet_is_refused(run_folder: Path, demo_runs: list[Path]) -> None:
    for path in run_folder.iterdir():
        if path.name not in ("config.yaml", "run.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    record = json.loads((run_folder / "run.json").read_text(encoding="utf-8"))
    del record["timings"]  # as it is before the first step
    (run_folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    nothing = r"replay has nothing to report yet: .*: "
    with pytest.raises(RunFolderError, match=nothing + r"instructalign run configs/replay\.yaml --out"):
        write_report([run_folder])
    (run_folder / "run.json").unlink()
    with pytest.raises(RunFolderError, match=nothing + r"instructalign run \S+/config\.yaml --out \S+/replay"):
        write_report([run_folder])
    assert not (run_folder / "report.html").exists()
    beside = write_report([demo_runs[0], run_folder], run_folder).markdown.read_text(encoding="utf-8")
    assert "has nothing to report yet" in beside


def test_a_run_that_was_only_evaluated_before_training(run_folder: Path) -> None:
    shutil.rmtree(run_folder / "evaluation" / "adapted")
    report = write_report([run_folder])
    assert [row[0].text for row in report.table.rows] == ["base", "random", "majority"]
    assert report.sentences == ()


def test_the_folder_of_a_single_evaluation_is_a_row(run_folder: Path, demo_runs: list[Path]) -> None:
    single = run_folder / "evaluation" / "adapted"
    single = single.rename(run_folder.parent / "bloomz")
    report = write_report([single, demo_runs[2]], run_folder.parent)
    assert [row[0].text for row in report.table.rows] == ["bloomz", "base", "mlm", "random", "majority"]
    assert [sentence.split()[0] for sentence in report.sentences] == ["mlm"]


def test_predictions_that_do_not_match_are_not_compared_and_said_so(run_folder: Path) -> None:
    path = run_folder / "evaluation" / "adapted" / "predictions" / "mood.eng.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line for line in lines if '"item": "0"' not in line) + "\n", encoding="utf-8")
    text = write_report([run_folder]).markdown.read_text(encoding="utf-8")
    assert (
        "replay was not compared with its base: mood in eng: the two models were not evaluated on the same items"
        in text
    )


def test_where_the_files_go(run_folder: Path) -> None:
    runs = run_folder.parent
    other = Path(shutil.copytree(run_folder, runs / "second"))
    assert write_report([str(run_folder)]).html == run_folder / "report.html"
    assert write_report([run_folder, other]).html == runs / "report.html"
    named = write_report([run_folder, other], str(runs / "comparison.html"))
    assert [named.html.name, named.markdown.name, named.json.name] == [
        "comparison.html",
        "comparison.md",
        "comparison.json",
    ]
    # A pattern such as runs/* now names the files of earlier reports too.
    everything = sorted(runs.iterdir())
    assert len(everything) == 8
    assert write_report(everything, runs / "out").html == runs / "out" / "report.html"


def test_names_that_collide_are_told_apart(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, "base"), write_run(tmp_path, "base", folder="again", seed=3)]
    names = [row[0].text for row in write_report(folders).table.rows]
    assert names[:3] == ["base", "base (2)", "base (3)"]


def test_no_folder() -> None:
    with pytest.raises(RunFolderError, match=r"no run folder was given: name at least one"):
        write_report([])


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"nowhere is not a folder\. A run folder is what"):
        write_report([tmp_path / "nowhere"])


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(
        RunFolderError, match=r"has none of config\.yaml, run\.json, log\.jsonl, scores\.json, evaluation"
    ):
        write_report([tmp_path])


def test_a_folder_of_runs(demo_runs: list[Path]) -> None:
    message = r"instructalign report \S+/mlm \S+/no-replay"
    with pytest.raises(RunFolderError, match=message):
        write_report([demo_runs[0].parent])


def test_runs_in_different_places_need_a_place_for_the_report(tmp_path: Path) -> None:
    folders = [write_run(tmp_path, "a"), write_run(tmp_path / "else", "b")]
    with pytest.raises(RunFolderError, match=r"--out comparison"):
        write_report(folders)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", r"run\.json: .*Expecting property name"),
        ("run.json", "[]", r"run\.json: .*found list"),
        ("config.yaml", "a: [", r"config\.yaml: .*while parsing"),
        ("log.jsonl", '{"step": 1}\nnope\n', r"log\.jsonl:2: not JSON"),
        ("evaluation/base/scores.json", "{}", r'scores\.json: expected a list under "scores"\. Delete it'),
        (
            "evaluation/base/scores.json",
            '{"scores": [{"run": "base"}]}',
            r"score 0: not a score: task, language, .* missing",
        ),
        (
            "evaluation/base/predictions/mood.eng.jsonl",
            '{"task": "mood"}\n',
            r"mood\.eng\.jsonl:1: not a Prediction: language, prompt, .* missing",
        ),
    ],
)
def test_broken_files_are_named(run_folder: Path, name: str, content: str, message: str) -> None:
    (run_folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        write_report([run_folder])


def test_tasks_have_their_titles_on_every_page_and_their_names_in_the_rows(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one", tasks=("mood", "topic"), translate=0.3)
    for name, title in (("mood", "How people feel"), ("topic", "What a text is about")):
        path = tmp_path / f"{name}.yaml"
        path.write_text(path.read_text(encoding="utf-8").replace(f"title: {name}", f"title: {title}"), "utf-8")
    report = write_report([folder], forms=("latex",))
    assert {row["task"] for row in rows_of(report.json)} >= {"mood", "topic", "lines/from-eng"}
    assert {row[1].text for row in report.table.rows if row[0].text == "one"} == {
        "How people feel",
        "What a text is about",
        "lines from English",
        "lines into English",
    }
    for path in (report.html, report.markdown, *report.more):
        text = path.read_text(encoding="utf-8").replace("</small>", "</small> ")
        results = re.split('<section id="reproduce"|## Reproducibility', text)[0]
        assert results.count("How people feel") >= 8, path
        # The name stands beside the title where the table by language says what it shows.
        assert "on How people feel (mood) by language" in results
        elsewhere = re.sub(r"\((mood|topic|lines/\w+-eng)\)", "", results)
        assert re.findall(r".{40}\b(?:mood|topic|lines/|from-eng)\b", elsewhere) == []


def test_titles_of_tasks(tmp_path: Path) -> None:
    shipped = yaml.safe_load((Path(load_module.__file__).parent / "tasks" / "nusax_senti.yaml").read_text("utf-8"))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**shipped, "name": "mine"}), "utf-8")
    tasks = ["nusax_senti", "heldout_translation", str(tmp_path / "mine.yaml"), str(tmp_path / "gone.yaml")]
    title = task_titles([{"evaluation": {"tasks": tasks}}, {}], {"eng": "English"}.__getitem__)
    assert title("nusax_senti") == "NusaX sentiment (nusax_senti)"  # a copy has the same title
    assert (title("mine"), title("gone"), title("xnli")) == ("NusaX sentiment (mine)", "gone", "XNLI")
    assert title("heldout_translation/into-eng") == "Translation of held-out sentences into English"
    (tmp_path / "untitled.yaml").write_text(yaml.safe_dump({**shipped, "name": "plain", "title": ""}), "utf-8")
    (tmp_path / "same.yaml").write_text(yaml.safe_dump({**shipped, "name": "other", "title": "plain"}), "utf-8")
    both = {"tasks": [str(tmp_path / "untitled.yaml"), str(tmp_path / "same.yaml")]}
    assert {*map(task_titles([{"evaluation": both}], str), ("plain", "other"))} == {
        "plain (plain)",
        "plain (other)",
    }
    assert title("past_instructions/anli") == "Held-out replay examples, anli"
