"""Languages one after another: what is carried, what it leads to, and that a stop changes nothing."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructalign import pipeline
from instructalign.config import ReplayConfig
from instructalign.config_file import build_config, load_config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.continual_metrics import continual_scores
from instructalign.mixture.carried_replay import MemoryExample, read_carried, within_budget
from instructalign.mixture.replay_buffer import load_replay
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.training.callbacks import GracefulStop

STAGED: dict[str, Any] = {
    "seed": 1,
    "model": {"base": "toy"},
    "languages": {
        "known": ["qka", "qkb"],
        "new": ["qna", "qnb"],
        "related": ["qra"],
        "names": {"qka": "Miza", "qkb": "Biduf", "qna": "Sinup", "qnb": "Dofuf", "qra": "Uzaf"},
    },
    "corpora": [{"format": "toy", "rows": 40}],
    "instructions": {"heldout": 5, "templates": ["toy"], "objectives": {"tlm": 1, "mt": 1}},
    "replay": {"source": {"format": "toy", "rows": 50}, "size": 10},
    "training": {
        "steps": 4,
        "batch_size": 4,
        "log_every": 1,
        "checkpoint_every": 2,
        "report_to": [],
        "learning_rate": 1e-3,
    },
    "evaluation": {"tasks": ["toy_sentiment"], "items": 8, "bootstrap": 40},
    "stages": [["qna"], ["qnb"]],
    "memory": {"per_stage": 5, "budget": 13},
}


def staged(**changes: Any) -> Any:
    return build_config({**STAGED, **changes})


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in two stages; to be read only."""
    out = tmp_path_factory.mktemp("staged") / "run"
    assert pipeline.run(staged(), out).finished
    return out


def examples(model: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (model / "replay.jsonl").read_text(encoding="utf-8").splitlines()]


def test_each_stage_is_a_run_that_goes_on_from_the_one_before(done: Path) -> None:
    first, second = done / "stages" / "1-qna", done / "stages" / "2-qnb"
    configs = [yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8")) for folder in (first, second)]
    assert [config["instructions"]["targets"] for config in configs] == [["qna"], ["qnb"]]
    assert configs[1]["model"]["base"] == str(first / "model")
    assert configs[1]["languages"] == configs[0]["languages"]
    again = load_config(second / "config.yaml")
    assert (again.stages, again.memory) == (None, staged().memory)
    before = (second / "evaluation/base/predictions/toy_sentiment.qna.jsonl").read_bytes()
    assert before == (first / "evaluation/adapted/predictions/toy_sentiment.qna.jsonl").read_bytes()
    assert (done / "model/model.safetensors").read_bytes() == (second / "model/model.safetensors").read_bytes()


def test_what_is_carried_grows_and_stays_within_its_budget(done: Path) -> None:
    first, second = (examples(done / "stages" / name / "model") for name in ("1-qna", "2-qnb"))
    assert len(first) == len(second) == 13  # 10 past examples and 5 of the stage, of which 13 may stay
    origins = [Counter(line["id"].partition("/")[0] for line in lines) for lines in (first, second)]
    assert set(origins[0]) == {"past", "qna"}
    assert set(origins[1]) == {"past", "qna", "qnb"}
    kept = {line["id"]: line for line in second}
    old = {line["id"]: line for line in first}
    assert all(kept[id] == old[id] for id in kept if not id.startswith("qnb/"))
    manifest = json.loads((done / "model" / "instructalign.json").read_text(encoding="utf-8"))
    assert (manifest["base"], manifest["taught"]) == ("toy", ["qna", "qnb"])
    assert [stage["taught"] for stage in manifest["stages"]] == [["qna"], ["qnb"]]
    assert manifest["replay"] == {"file": "replay.jsonl", "examples": 13, "from": dict(origins[1])}
    record = json.loads((done / "stages" / "2-qnb" / "run.json").read_text(encoding="utf-8"))
    assert record["replay"]["chosen"] == 13


def test_another_person_goes_on_from_the_folder_with_one_key(done: Path, tmp_path: Path) -> None:
    replayed = {"source": {"format": "carried"}, "size": 13}
    config = staged(stages=None, memory=None, replay=replayed, model={"base": str(done / "model")})
    buffer = load_replay(config.replay, config.seed, config.model)
    assert sorted(each.row for each in buffer.examples) == sorted(line["id"] for line in examples(done / "model"))
    named = ReplayConfig(
        source=config.replay.source.model_copy(update={"options": {"path": done / "model"}}), size=13
    )
    assert load_replay(named, config.seed).examples == buffer.examples


def test_the_report_has_the_matrix_and_its_scores(done: Path) -> None:
    rows = json.loads((done / "report.json").read_text(encoding="utf-8"))["rows"]
    found = {row["metric"]: row for row in rows if row["group"] == "stages"}
    assert set(found) == {f"stages_{name}" for name in ("average", "backward", "forward", "forgetting")}

    def scores(folder: str) -> dict[str, float]:
        text = (done / folder / "scores.json").read_text(encoding="utf-8")
        return {
            row["language"] if row["run"] != "random" else f"random {row['language']}": row["value"]
            for row in json.loads(text)["scores"]
            if row["metric"] == "f1_weighted" and row["run"] != "majority"
        }

    base, one, two = (
        scores(f"stages/{name}")
        for name in ("1-qna/evaluation/base", "1-qna/evaluation/adapted", "2-qnb/evaluation/adapted")
    )
    matrix = [[each["qna"], each["qnb"]] for each in (base, one, two)]
    expected = continual_scores(matrix, [base["random qna"], base["random qnb"]])
    for name in ("average", "backward", "forward", "forgetting"):
        row = found[f"stages_{name}"]
        assert row["value"] == pytest.approx(getattr(expected, name), abs=1e-6)
        assert row["low"] <= row["value"] <= row["high"]
    text = (done / "report.md").read_text(encoding="utf-8")
    assert "## Accuracy by stage" in text
    assert "| Model | L1 (known) | Sinup (taught) | Dofuf (taught) | L3 (related) |" in text


def test_a_stop_in_any_stage_changes_nothing(done: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, stopped = tmp_path / "run", set()
    usual = GracefulStop.on_step_end

    def once_a_stage(self: GracefulStop, args: Any, state: Any, control: Any, **rest: Any) -> None:
        if state.global_step == 3 and args.output_dir not in stopped:
            stopped.add(args.output_dir)
            self.requested = True
        usual(self, args, state, control, **rest)

    monkeypatch.setattr(GracefulStop, "on_step_end", once_a_stage)
    assert [pipeline.run(staged(), out).finished for _ in range(3)] == [False, False, True]
    assert len(stopped) == 2
    for name in ("stages/1-qna/model", "stages/2-qnb/model"):
        for file in ("model.safetensors", "replay.jsonl"):
            assert (out / name / file).read_bytes() == (done / name / file).read_bytes(), (name, file)


def test_what_stays_is_the_same_whatever_came_first() -> None:
    every = [MemoryExample(f"past/{i}", "q", "a", "", "") for i in range(200)]
    few = within_budget(20, every, 1)
    assert len(few) == 20
    assert within_budget(20, every[::-1], 1)[::-1] == few
    assert set(few) <= set(within_budget(50, every, 1))
    assert within_budget(20, [*within_budget(20, every[:150], 1), *every[150:]], 1) == few
    assert within_budget(20, every, 2) != few
    assert within_budget(500, every, 1) == every


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stages": [["qna"], ["qnc"]]}, "qnc are not among languages.new"),
        ({"stages": [["qna"], ["qna", "qnb"]]}, "qna are listed twice"),
        ({"stages": [["qna"], ["qna"]]}, "qnb of languages.new are missing"),
        ({"stages": [["qna", "qnb"]]}, "stages: list should have at least 2 items"),
        ({"instructions": {"targets": ["qna"]}}, "leave instructions.targets out"),
        ({"replay": None}, "memory: later stages use the memory only with a replay block"),
        ({"memory": {"budget": 0}}, "memory.budget: input should be greater than or equal to 1, found 0"),
    ],
)
def test_wrong_stages_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        staged(**changes)
    assert any(message in problem for problem in caught.value.problems), caught.value.problems


def toy(*languages: str) -> dict[str, Any]:
    return {"format": "toy", "rows": 40, "languages": [*languages]}


LATER: dict[str, tuple[dict[str, Any], str]] = {
    "text of the first alone": (
        {
            "corpora": [toy("qka", "qna", "qnb"), toy("qna")],
            "instructions": {**STAGED["instructions"], "objectives": {"lm": 1, "tlm": 1}},
        },
        "stages.1 (qnb): instructions.objectives: lm ",
    ),
    "text beside the first's": ({"corpora": [toy("qka", "qna"), toy("qna", "qnb")]}, "stages.1 (qnb): corpora: "),
    "instruction data of the first alone": (
        {
            "instruction_data": {"sources": {"qna": {"format": "toy", "rows": 9}}, "size": 4, "heldout": 2},
            "evaluation": {"tasks": ["heldout_instruction_data"]},
        },
        "stages.1 (qnb): evaluation.tasks: heldout_instruction_data ",
    ),
}


@pytest.mark.parametrize("fault", LATER)
def test_a_fault_of_a_later_stage_is_found_before_the_first(fault: str) -> None:
    changes, message = LATER[fault]
    (problem,) = pipeline.validate({**STAGED, **changes})
    assert problem.startswith(message)


def test_a_language_that_no_corpus_is_read_in_is_found_without_reading() -> None:
    (problem,) = pipeline.validate({**STAGED, "corpora": [toy("qka", "qna")]})
    assert problem.startswith("corpora: none is of qnb:")


def test_train_alone_refuses_stages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"train does one stage alone\. `instructalign run` trains"):
        pipeline.train(staged(), tmp_path / "run")


def test_a_folder_that_carries_nothing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"carries no replay examples: it has no replay\.jsonl"):
        list(read_carried(replace(ReplayRequest(), model=staged(model={"base": str(tmp_path)}).model)))
    (tmp_path / "replay.jsonl").write_text('{"id": "past/1", "inputs": "a"}\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"replay\.jsonl:1: no text under targets"):
        list(read_carried(ReplayRequest(), path=tmp_path))
