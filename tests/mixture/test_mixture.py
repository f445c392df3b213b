"""The stream of new and replayed examples, on sources small enough to check by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructalign.config import Entry, ReplayConfig, SelectConfig, ShareScheduleConfig
from instructalign.config_file import build_config
from instructalign.errors import DataError
from instructalign.mixture import Mixture, ReplayBuffer, load_replay, training_data
from instructalign.mixture.replay import choose
from instructalign.mixture.replay_share import planned
from instructalign.mixture.replay_sources import read_hub, read_jsonl
from instructalign.types import Counts, Instruction


class Counting:
    """A stream whose k-th instruction says k."""

    def __getitem__(self, index: int) -> Instruction:
        return Instruction(f"new {index}", "x", "mt")


def past(count: int) -> list[Instruction]:
    return [Instruction(f"past {i}", "x", "replay") for i in range(count)]


def test_half_share_alternates_strictly() -> None:
    mixture = Mixture(Counting(), ReplayBuffer(past(3)), 0.5, seed=1)
    kinds = [mixture[i].objective for i in range(8)]
    assert kinds == ["mt", "replay"] * 4
    assert [mixture[i].prompt for i in range(0, 8, 2)] == ["new 0", "new 1", "new 2", "new 3"]


@given(share=st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.9]), count=st.integers(1, 2000))
def test_every_prefix_holds_its_share(share: float, count: int) -> None:
    mixture = Mixture(Counting(), ReplayBuffer(past(7)), share, seed=3)
    realised = sum(mixture[i].objective == "replay" for i in range(count))
    assert abs(realised - share * count) <= 1


def test_new_instructions_are_neither_skipped_nor_repeated() -> None:
    mixture = Mixture(Counting(), ReplayBuffer(past(5)), 0.3, seed=9)
    new = [mixture[i].prompt for i in range(1000) if mixture[i].objective == "mt"]
    assert new == [f"new {k}" for k in range(len(new))]


def test_replay_goes_through_all_before_repeating_and_reorders() -> None:
    mixture = Mixture(Counting(), ReplayBuffer(past(50)), 0.5, seed=2)
    walk = [mixture[i].prompt for i in range(1, 200, 2)]
    assert set(walk[:50]) == set(walk[50:]) == {f"past {i}" for i in range(50)}
    assert walk[:50] != walk[50:]


def test_the_papers_preset_is_strict_alternation() -> None:
    config = ReplayConfig(source=Entry(name="toy"), size=3, preset="paper")
    mixture = Mixture(Counting(), ReplayBuffer(past(3)), planned(config, steps=100, batch_size=8), seed=1)
    assert [mixture[i].objective for i in range(800)] == ["mt", "replay"] * 400


def test_a_share_that_grows_from_nothing() -> None:
    schedule = ShareScheduleConfig(shape="linear", to=0.5)
    config = ReplayConfig(source=Entry(name="toy"), share=0.0, schedule=schedule)
    mixture = Mixture(Counting(), ReplayBuffer(past(7)), planned(config, steps=100, batch_size=8), seed=1)
    kinds = [mixture[i].objective == "replay" for i in range(800)]
    assert [sum(kinds[i : i + 200]) for i in range(0, 800, 200)] == [12, 38, 62, 88]  # 12.5, 37.5, 62.5, 87.5
    new = [mixture[i].prompt for i in range(800) if mixture[i].objective == "mt"]
    assert new == [f"new {k}" for k in range(600)]


def test_no_replay_leaves_only_new() -> None:
    mixture = Mixture(Counting(), ReplayBuffer(), 0.5, seed=2)
    assert {mixture[i].objective for i in range(20)} == {"mt"}
    assert mixture.share.mean(20) == 0


def select(examples: list[Instruction], size: int, seed: int, **how: Any) -> tuple[list[Instruction], Counts]:
    counts = Counts()
    chosen = choose(examples, size, seed, SelectConfig(**how), counts)
    return list(chosen.examples), counts


def test_smaller_selection_is_part_of_larger_one() -> None:
    (small, counts), (large, _) = select(past(500), 20, seed=4), select(past(500), 100, seed=4)
    assert small == large[:20]
    assert select(past(500), 20, seed=5)[0] != small
    assert counts.read == 500


def test_selection_is_uniform() -> None:
    drawn = [0] * 10
    for seed in range(2000):
        for example in select(past(10), 3, seed)[0]:
            drawn[int(example.prompt.split()[1])] += 1
    # 600 expected of each; the standard deviation of a count is sqrt(2000 * 0.3 * 0.7) = 20.5.
    assert all(abs(count - 600) < 5 * 20.5 for count in drawn)


def test_unusable_examples_are_counted() -> None:
    examples = [Instruction(" ", "x", "replay"), Instruction("p", "", "replay"), Instruction("p", "a", "replay")]
    chosen, counts = select(examples, 10, seed=0)
    assert counts.dropped == {"empty prompt": 1, "empty answer": 1}
    assert [example.prompt for example in chosen] == ["p"]


def write(path: Path, records: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def test_jsonl_file_and_folder(tmp_path: Path) -> None:
    records: list[dict[str, object]] = [
        {"inputs": "2+2? ", "targets": " 4", "task": "sums", "lang": "en"},
        {"inputs": "deux?", "targets": "2", "task": "sums", "lang": "fr"},
    ]
    file = write(tmp_path / "a.jsonl", records)
    [first, second] = read_jsonl(path=file)
    assert (first.prompt, first.answer, first.template, first.target) == ("2+2?", "4", "sums", "en")
    assert first.objective == second.objective == "replay"
    assert [example.prompt for example in read_jsonl(path=tmp_path, languages=["fr"])] == ["deux?"]


def test_jsonl_names_the_line_with_a_missing_field(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"inputs": "q", "targets": "a"}, {"question": "q", "targets": "a"}])
    with pytest.raises(
        DataError, match=r"a\.jsonl:2: no text under 'inputs'; found the fields 'question', 'targets'"
    ):
        list(read_jsonl(path=file))


def test_missing_file_and_empty_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl does not exist"):
        list(read_jsonl(path=tmp_path / "no.jsonl"))
    with pytest.raises(DataError, match=r"holds no \*\.jsonl file"):
        list(read_jsonl(path=tmp_path))
    file = write(tmp_path / "empty.jsonl", [])
    config = ReplayConfig(source=Entry(name="jsonl", options={"path": file}), size=3)
    with pytest.raises(DataError, match="holds no usable example"):
        load_replay(config, seed=1)


def test_hub_layout_is_read_in_streaming_mode(tmp_path: Path) -> None:
    folder = tmp_path / "xP3"
    (folder / "en").mkdir(parents=True)
    write(folder / "en" / "part.jsonl", [{"inputs": f"q{i}", "targets": "a", "lang": "en"} for i in range(10)])
    rows = list(read_hub(name=str(folder), data_files="en/*.jsonl", scan=4))
    assert [row.prompt for row in rows] == ["q0", "q1", "q2", "q3"]


def test_files_of_a_type_are_read_without_a_data_set_around_them(tmp_path: Path) -> None:
    file = write(tmp_path / "merged.jsonl", [{"inputs": f"q{i}", "targets": "a"} for i in range(10)])
    assert len(list(read_hub(name="json", data_files=str(file), scan=None))) == 10


def test_hub_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        list(read_hub(name=str(tmp_path / "nowhere")))


def test_kept_corpus_is_read_again_where_its_file_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "corpus.tsv"
    path.write_text("eng\tjav\nthe food\tpangan\nthe place\tpanggonan\n", encoding="utf-8")
    config = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav"]},
            "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
            "instructions": {"heldout": 0},
            "training": {"steps": 1},
        },
        folder=tmp_path,
    )
    monkeypatch.setattr(training_data, "_kept", {})
    first = training_data.read_rows(config)[0]
    assert len(training_data._kept or {}) == 1
    with path.open("a", encoding="utf-8") as file:
        file.write("the house\tomah\n")
    assert [len(training_data.read_rows(config)[0]), len(first)] == [3, 2]
