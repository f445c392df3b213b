"""Tasks of lm-evaluation-harness in our evaluation, beside the harness itself on the same model."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
import yaml
from harness_tasks import ITEMS, write_task

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError, UnknownNameError
from instructalign.evaluation import evaluate
from instructalign.evaluation.lm_eval_tasks import find_units
from instructalign.evaluation.model_results import read_results
from instructalign.evaluation.run_comparison import TrainedRun, compare_runs
from instructalign.evaluation.task_selection import select_tasks
from instructalign.evaluation.tasks import HarnessTask, load_task
from test_cli import call

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its own and its libraries'
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

pytestmark = pytest.mark.filterwarnings("ignore")
CASES: dict[str, tuple[dict[str, str], int | None]] = {
    "belebele_ind_Latn": ({"ind": "ind_Latn"}, None),
    "mmlu_anatomy": ({"ind": "anatomy"}, 2),
    "gsm8k": ({"ind": "gsm8k"}, None),
    "lambada_openai": ({"ind": "openai"}, None),
    "wmt14-fr-en": ({"ind": "fr"}, 0),
}


@pytest.fixture
def light(monkeypatch):
    """The harness without its own index of tasks, which takes seconds to make."""
    from instructalign.evaluation import lm_eval_tasks

    def make(include: str | None) -> Any:
        return TaskManager(include_path=include, include_defaults=False)

    monkeypatch.setattr(lm_eval_tasks, "_manager", make)


def write_own(folder, name: str, **keys: Any) -> str:
    """A task file of ours for a task of the harness."""
    file = folder / f"own-{name}.yaml"
    file.write_text(yaml.safe_dump({"kind": "lm-eval", "name": name, "include": "harness", **keys}))
    return str(file)


def make_config(folder, tasks: list[str], **evaluation: Any) -> Any:
    return build_config(
        {
            "model": {"base": "base"},
            "languages": {"known": ["ind"], "new": ["jav"]},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
            "evaluation": {"tasks": tasks, "data": str(folder), "bootstrap": 50, **evaluation},
        }
    )


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_are_the_harnesss(light, model_folder, tmp_path, name):
    languages, shots = CASES[name]
    (tmp_path / "harness").mkdir()
    write_task(tmp_path / "harness", name)
    own = write_own(tmp_path, name, task=name, languages=languages, shots=shots)
    scores = evaluate(model_folder("llama"), make_config(tmp_path, [own]), tmp_path / "out", run="base")
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model_folder("llama")), device="cpu", batch_size=4, dtype="float32"),
        tasks=[name],
        num_fewshot=shots,
        task_manager=TaskManager(include_path=str(tmp_path / "harness"), include_defaults=False),
        bootstrap_iters=0,
    )
    expected = {
        metric.removesuffix(",none").replace("chrf", "chrf2"): value
        / (100 if metric.startswith(("bleu", "chrf")) else 1)
        for metric, value in theirs["results"][name].items()
        if isinstance(value, float) and "stderr" not in metric and not metric.startswith(("perplexity", "ter"))
    }
    found = {score.metric: score.value for score in scores if score.language == "ind"}
    assert found == pytest.approx(expected, abs=1e-12)
    assert [(s.group, s.n) for s in scores if not s.language] == [("L1", ITEMS)] * len(expected)
    lines = (tmp_path / "out" / "harness" / f"{name}.ind.jsonl").read_text().splitlines()
    for line, sample in zip(map(json.loads, lines), theirs["samples"][name][:ITEMS], strict=True):
        assert line["prompt"] == sample["arguments"][0][0]
        if isinstance(line["answers"][0][0], list):
            mine = [answer[0][0] for answer in line["answers"]]
            assert mine == pytest.approx([answer[0][0] for answer in sample["resps"]], abs=1e-4)
        else:
            assert line["answers"] == sample["resps"]


def test_languages_have_groups_intervals_and_paired_tests(light, model_folder, tmp_path):
    (tmp_path / "harness").mkdir()
    for code in ("ind", "jav"):
        write_task(tmp_path / "harness", "belebele_ind_Latn")
        made = (tmp_path / "harness" / "belebele_ind_Latn.yaml").read_text()
        (tmp_path / "harness" / f"{code}.yaml").write_text(
            made.replace("task: belebele_ind_Latn", f"task: b_{code}")
        )
    (tmp_path / "harness" / "belebele_ind_Latn.yaml").unlink()
    own = write_own(tmp_path, "reading", task="b_{language}")
    config = make_config(tmp_path, [own], items=4)
    assert [unit for plan in select_tasks(config).harness for unit in plan.units.items()] == [
        ("ind", "b_ind"),
        ("jav", "b_jav"),
    ]
    results = {}
    for run, family in (("base", "llama"), ("adapted", "qwen2")):
        scores = evaluate(model_folder(family), config, tmp_path / run, run=run)
        assert {(s.group, s.language) for s in scores} == {("L1", "ind"), ("L2", "jav"), ("L1", ""), ("L2", "")}
        assert all(s.n == 4 and s.low is not None for s in scores)
        assert all(s.signature["lm_eval"] and s.signature["harness"]["jav"] == "b_jav" for s in scores)
        results[run] = read_results(tmp_path / run, run)
    compared = compare_runs([TrainedRun("adapted", {}, results["base"], results["adapted"])], 50)
    assert compared.refused == []
    values = {(s.run, s.metric, s.language): s.value for r in results.values() for s in r.scores}
    gains = {row.language: row for row in compared.rows if row.metric == "gain" and row.language}
    for code in ("ind", "jav"):
        change = values["adapted", "acc", code] - values["base", "acc", code]
        assert gains[code].value == pytest.approx(change, abs=1e-12)
        assert gains[code].low is not None
    assert any(row.metric == "gain_p" for row in compared.rows)


def test_a_group_of_the_harness_is_its_tasks_together(light, model_folder, tmp_path):
    folder = tmp_path / "harness"
    folder.mkdir()
    for name in ("sciq", "openbookqa"):
        write_task(folder, name)
    rows = (folder / "sciq.test.jsonl").read_text().splitlines(keepends=True)
    (folder / "sciq.test.jsonl").write_text("".join(rows[:2]))
    metrics = [{"metric": "acc", "aggregation": "mean", "weight_by_size": True}]
    group = {"group": "science", "task": ["sciq", "openbookqa"], "aggregate_metric_list": metrics}
    (folder / "science.yaml").write_text(yaml.safe_dump(group))
    config = make_config(tmp_path, [write_own(tmp_path, "science", task="science", languages={"ind": "x"})])
    scores = evaluate(model_folder("llama"), config, tmp_path / "out", run="base")
    theirs = lm_eval.simple_evaluate(
        model=HFLM(pretrained=str(model_folder("llama")), device="cpu", batch_size=4, dtype="float32"),
        tasks=["science"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    found = next(score for score in scores if score.metric == "acc" and score.language == "ind")
    assert found.value == pytest.approx(theirs["groups"]["science"]["acc,none"], abs=1e-12)
    assert found.n == 2 + ITEMS


def test_an_evaluation_that_is_done_is_not_done_again(light, model_folder, tmp_path, monkeypatch):
    (tmp_path / "harness").mkdir()
    write_task(tmp_path / "harness", "sciq")
    config = make_config(tmp_path, [write_own(tmp_path, "sciq", task="sciq", languages={"ind": "sciq"})])
    first = evaluate(model_folder("llama"), config, tmp_path / "out", run="base")
    monkeypatch.setattr("instructalign.evaluation.runner.ask_harness", None)
    assert evaluate(model_folder("llama"), config, tmp_path / "out", run="base") == first
    texts = list(select_tasks(config).item_texts())
    assert {text.item for text in texts} == set(map(str, range(ITEMS)))
    assert {text.language for text in texts} == {"ind"}


NAMES = ["belebele_jav_Latn", "belebele_ind_Latn", "xcopa_id", "include_javanese_og", "piqa", "mmlu", "sib-jv"]


@pytest.mark.parametrize(
    ("task", "found"),
    [
        ("belebele", {"ind": "belebele_ind_Latn", "jav": "belebele_jav_Latn"}),
        ("xcopa", {"ind": "xcopa_id"}),
        ("xcopa_id", {"ind": "xcopa_id"}),
        ("include_{language}_og", {"jav": "include_javanese_og"}),
        ("sib", {"jav": "sib-jv"}),
        ("piqa@ind", {"ind": "piqa"}),
    ],
)
def test_languages_are_found_by_the_harnesss_names(task, found):
    made = load_task(f"lm-eval:{task}")
    assert isinstance(made, HarnessTask)
    assert find_units(made, ["ind", "jav"], NAMES) == found


@pytest.mark.parametrize(
    ("task", "error", "message"),
    [
        ("piqa", DataError, "lm-eval:piqa@ind"),
        ("belebele_fra", UnknownNameError, "belebele_fra"),
        ("piqaa@ind", UnknownNameError, "piqa"),
        ("piqa@eng", DataError, "only eng"),
        ("include", DataError, "none of the languages ind, jav"),
    ],
)
def test_what_is_not_found_is_named(task, error, message):
    with pytest.raises(error, match=message):
        find_units(load_task(f"lm-eval:{task}"), ["ind", "jav"], NAMES)


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"task": "a_{code}"}, "task"),
        ({"task": "a", "languages": {"ind": "id", "jav": "jv"}}, "task"),
        ({"task": "a_{name}"}, "task"),
        ({"task": "a", "shots": -1}, "shots"),
        ({}, "task"),
    ],
)
def test_a_wrong_task_file_is_refused(tmp_path, keys, path):
    with pytest.raises(ConfigError, match=path):
        load_task(write_own(tmp_path, "own", **keys))
    with pytest.raises(ConfigError, match="languages"):
        load_task("lm-eval:piqa@klingonese")


def test_what_cannot_be_shown_is_refused(light, tmp_path):
    (tmp_path / "harness").mkdir()
    write_task(tmp_path / "harness", "wikitext")
    own = write_own(tmp_path, "wikitext", task="wikitext", languages={"ind": "x"})
    with pytest.raises(DataError, match="lm-eval:wikitext is not a task of choices"):
        select_tasks(make_config(tmp_path, [own]))
    write_task(tmp_path / "harness", "nq_open", generation_kwargs={"max_gen_toks": 256, "do_sample": False})
    config = make_config(tmp_path, [write_own(tmp_path, "nq", task="nq_open", languages={"ind": "x"})])
    toy = config.model_copy(update={"model": config.model.model_copy(update={"base": "toy"})})
    with pytest.raises(DataError, match=r"lm-eval:nq_open generates up to 256 tokens.*context of toy, 256"):
        select_tasks(toy)
    (tmp_path / "harness" / "wikitext.test.jsonl").unlink()
    with pytest.raises(DataError, match="lm-eval:wikitext cannot be loaded"):
        select_tasks(make_config(tmp_path, [own]))
    (tmp_path / "harness").rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"include: .*harness is not a folder"):
        select_tasks(make_config(tmp_path, [own]))


def test_tasks_show_names_the_harnesss_task():
    shown = call("tasks", "show", "lm-eval:belebele")
    assert shown.returncode == 0
    assert "lm-evaluation-harness: belebele" in shown.stdout
    assert "languages: eng" in call("tasks", "show", "lm-eval:piqa@eng").stdout
