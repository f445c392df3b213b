"""Instruction data in the new languages: a stream of its own, with its share, held-out part and language."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.data import ContaminationCheck, ItemIndex, ItemText
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.task_selection import plan_heldout
from instructalign.evaluation.tasks import load_task
from instructalign.files import text_hash
from instructalign.mixture.training_data import describe_mixture, prepare_data
from instructalign.run_folder import _learned, training_hash


def write(path: Path, records: list[dict[str, Any]]) -> dict[str, Any]:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return {"format": "jsonl", "path": str(path)}


def settings(folder: Path, **blocks: Any) -> dict[str, Any]:
    lines = "".join(f"sentence number {n}\tukara nomer {n}\tkalimah nomer {n}\n" for n in range(40))
    (folder / "pairs.tsv").write_text("eng\tjav\tsun\n" + lines, encoding="utf-8")
    alpaca = [{"instruction": f"Apa {n}?", "input": "", "output": f"Wangsulan {n}."} for n in range(30)]
    chat = [
        {
            "messages": [
                {"role": "user", "content": f"Naon {n}?"},
                {"role": "assistant", "content": f"Jawaban {n}."},
            ]
        }
        for n in range(30)
    ]
    replay = write(folder / "replay.jsonl", [{"inputs": f"What {n}?", "targets": f"That {n}."} for n in range(30)])
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav", "sun"]},
        "corpora": [{"format": "tsv", "path": str(folder / "pairs.tsv")}],
        "instructions": {"heldout": 5},
        "replay": {"source": replay, "size": 20, "share": 0.5},
        "instruction_data": {
            "sources": {"jav": write(folder / "jav.jsonl", alpaca), "sun": write(folder / "sun.jsonl", chat)},
            "size": 20,
            "heldout": 6,
            "share": 0.25,
        },
        "training": {"steps": 50, "batch_size": 8},
        **blocks,
    }


def config(folder: Path, **blocks: Any) -> Config:
    return build_config(settings(folder, **blocks))


def test_a_stream_of_its_own_beside_alignment_and_replay(tmp_path: Path) -> None:
    data = prepare_data(config(tmp_path))
    made = [data.mixture[i] for i in range(400)]
    kinds = Counter(each.objective for each in made)
    assert kinds["replay"] == 200
    assert kinds["instruction_data"] == 50
    of = [each for each in made if each.objective == "instruction_data"]
    assert {each.target for each in of} == {"jav", "sun"}
    assert all((each.target == "jav") == each.answer.startswith("Wangsulan") for each in of)
    assert Counter(each.target for each in data.taught.examples) == {"jav": 10, "sun": 10}
    assert {each.prompt for each in of}.isdisjoint(each.prompt for each in data.taught.heldout)
    planned = describe_mixture(config(tmp_path), data.mixture)
    assert planned["instruction_data"] == {"share": 0.125, "size": 20, "rows": 50, "repeats": 2.5}
    assert planned["replay"] == 0.5


def test_alignment_and_replay_are_those_without_it(tmp_path: Path) -> None:
    whole = prepare_data(config(tmp_path))
    plain = prepare_data(config(tmp_path, instruction_data=None))

    def of(data: Any, kind: str, count: int) -> list[Any]:
        made = [data.mixture[i] for i in range(count)]
        return [each for each in made if (each.objective == "replay") == (kind == "replay")]

    assert of(whole, "replay", 100) == of(plain, "replay", 100)
    new = [each for each in of(whole, "new", 400) if each.objective != "instruction_data"]
    assert new == of(plain, "new", 400)[: len(new)]


def test_old_runs_keep_their_hash(tmp_path: Path) -> None:
    plain, with_data = config(tmp_path, instruction_data=None), config(tmp_path)
    learned = yaml.safe_load(plain.to_yaml())
    assert learned.pop("instruction_data") is None
    assert training_hash(plain) == text_hash(_learned(learned)) != training_hash(with_data)
    read_back = build_config(yaml.safe_load(with_data.to_yaml()))
    assert read_back == with_data
    assert training_hash(read_back) == training_hash(with_data)


def test_what_is_held_out_is_a_task(tmp_path: Path) -> None:
    run = config(tmp_path, evaluation={"tasks": ["heldout_instruction_data"]})
    [plan] = plan_heldout(run, load_task("heldout_instruction_data"))
    held = {code: {made.answer for _, made in some} for code, some in plan.instructions.items()}
    assert {code: len(some) for code, some in held.items()} == {"jav": 3, "sun": 3}
    data = prepare_data(run)
    assert set().union(*held.values()) == {each.answer for each in data.taught.heldout}


@pytest.mark.parametrize(("past", "taught"), [(0, 6), (6, 0), (2, 6)])
def test_neither_block_trains_on_what_the_other_holds_out(tmp_path: Path, past: int, taught: int) -> None:
    given = settings(tmp_path)
    records = [{"inputs": f"Apa {n}?", "targets": f"Wangsulan {n}."} for n in range(15, 45)]
    given["replay"] = {"source": write(tmp_path / "replay.jsonl", records), "size": 30, "heldout": past}
    given["instruction_data"]["sources"] = {"jav": given["instruction_data"]["sources"]["jav"]}
    given["instruction_data"] |= {"size": 30, "heldout": taught}
    data = prepare_data(build_config(given))

    def texts(examples: Any) -> set[tuple[str, str]]:
        return {(each.prompt, each.answer) for each in examples}

    held = [texts(buffer.heldout) for buffer in (data.replay, data.taught)]
    assert [len(each) for each in held] == [past, taught]
    for buffer, numbers, mine, others, name in (
        (data.replay, range(15, 45), *held, "instruction_data"),
        (data.taught, range(30), *held[::-1], "replay"),
    ):
        there = {(f"Apa {n}?", f"Wangsulan {n}.") for n in numbers}
        assert texts(buffer.examples) == there - mine - others
        lost = {"held out": len(mine), f"held out by {name}": len(there & others - mine)}
        assert buffer.counts.dropped == {reason: count for reason, count in lost.items() if count}
        assert buffer.counts.read == buffer.counts.kept + sum(buffer.counts.dropped.values())
    apart = {**data.replay.counts.dropped, **data.taught.counts.dropped}
    assert any(reason.startswith("held out by") for reason in apart)
    shown = {(each.prompt, each.answer) for each in map(data.mixture.__getitem__, range(400))}
    assert shown.isdisjoint(held[0] | held[1])


def test_a_block_of_which_nothing_is_left(tmp_path: Path) -> None:
    given = settings(tmp_path)
    records = [{"inputs": f"Apa {n}?", "targets": f"Wangsulan {n}."} for n in range(30)]
    given["instruction_data"] |= {
        "sources": {"jav": write(tmp_path / "jav.jsonl", records)},
        "heldout": 29,
        "size": 1,
    }
    run = build_config(given)
    [held, *_] = prepare_data(run).taught.heldout
    write(tmp_path / "replay.jsonl", [{"inputs": held.prompt, "targets": held.answer}])
    with pytest.raises(DataError, match=r"all 1 examples of replay .*instruction_data\.heldout"):
        prepare_data(run)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"sources": {"ind": {"format": "jsonl", "path": "x.jsonl"}}}, "instruction_data.sources"),
        ({"sources": {}}, "instruction_data.sources"),
        ({"share": 1}, "instruction_data.share"),
        ({"sources": {"jav": {"format": "jsonl", "pth": "x"}}}, "instruction_data.sources.jav"),
    ],
)
def test_errors_name_the_key(tmp_path: Path, change: dict[str, Any], key: str) -> None:
    given = settings(tmp_path)
    given["instruction_data"] = {**given["instruction_data"], **change}
    with pytest.raises(ConfigError) as error:
        build_config(given)
    assert any(key in problem for problem in error.value.problems)


def test_too_few_to_hold_out(tmp_path: Path) -> None:
    given = settings(tmp_path)
    given["instruction_data"]["heldout"] = 100
    with pytest.raises(DataError, match=r"instruction_data\.heldout"):
        prepare_data(build_config(given))


def test_test_items_are_dropped_from_it(tmp_path: Path) -> None:
    given = settings(tmp_path, contamination="drop")
    long = "pitakonan sing dawa banget babagan panganan lan omben-omben ing desa kita"
    records = [{"instruction": f"Apa {n}?", "output": f"Wangsulan {n}."} for n in range(10)]
    source = write(tmp_path / "jav.jsonl", [*records, {"instruction": long, "output": "apik"}])
    given["instruction_data"] = {"sources": {"jav": source}, "size": 11, "share": 0.5}
    index = ItemIndex([ItemText("task", "item-1", "jav", long)])
    data = prepare_data(build_config(given), ContaminationCheck("drop", index, ""))
    assert len(data.taught) == 10
    assert long not in {each.prompt for each in data.taught.examples}


def test_rejects_name_the_block_that_their_source_is_of(tmp_path: Path) -> None:
    given = settings(tmp_path, filter={"rejects": str(tmp_path / "rejects.jsonl")})
    for name in ("jav", "replay"):
        with (tmp_path / f"{name}.jsonl").open("a") as file:
            file.write('{"instruction": "Apa?", "output": null, "inputs": "What?", "targets": null}\n')
    prepare_data(build_config(given))
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert {line["corpus"] for line in lines} == {"replay jsonl", "instruction_data jav"}
