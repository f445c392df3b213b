"""The stream of new and replayed examples, on sources small enough to check by hand."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from fractions import Fraction
from math import cos, pi
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from instructalign.config import Entry, ReplayConfig, SelectConfig, ShareScheduleConfig
from instructalign.config_file import build_config
from instructalign.errors import DataError
from instructalign.mixture import Mixture, ReplayBuffer, load_replay
from instructalign.mixture.mixture import ReplaySchedule
from instructalign.mixture.replay_buffer import choose
from instructalign.mixture.replay_sources import ReplayRequest, read_hub_examples, read_jsonl_examples
from instructalign.mixture.training_data import CorpusCache, prepare_corpus
from instructalign.types import Counts, Instruction


class Counting:
    """A stream whose k-th instruction says k."""

    def __getitem__(self, index: int) -> Instruction:
        return Instruction(f"new {index}", "x", "mt")


def past(count: int) -> list[Instruction]:
    return [Instruction(f"past {i}", "x", "replay") for i in range(count)]


SHARES = st.integers(0, 99).map(lambda percent: percent / 100)


def configured(share: float = 0.5, **schedule: object) -> ReplayConfig:
    data = {"source": Entry(name="toy"), "share": share, "schedule": schedule or None}
    return ReplayConfig.model_validate(data)


def scheduled(config: ReplayConfig, steps: int, batch_size: int) -> ReplaySchedule:
    return ReplaySchedule(config.share, config.schedule, steps=steps, batch_size=batch_size)


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
    mixture = Mixture(Counting(), ReplayBuffer(past(3)), scheduled(config, 100, 8), seed=1)
    assert [mixture[i].objective for i in range(800)] == ["mt", "replay"] * 400


def test_a_share_that_grows_from_nothing() -> None:
    schedule = ShareScheduleConfig(shape="linear", to=0.5)
    config = ReplayConfig(source=Entry(name="toy"), share=0.0, schedule=schedule)
    mixture = Mixture(Counting(), ReplayBuffer(past(7)), scheduled(config, 100, 8), seed=1)
    kinds = [mixture[i].objective == "replay" for i in range(800)]
    assert [sum(kinds[i : i + 200]) for i in range(0, 800, 200)] == [12, 38, 62, 88]  # 12.5, 37.5, 62.5, 87.5
    new = [mixture[i].prompt for i in range(800) if mixture[i].objective == "mt"]
    assert new == [f"new {k}" for k in range(600)]


def test_no_replay_leaves_only_new() -> None:
    mixture = Mixture(Counting(), ReplayBuffer(), 0.5, seed=2)
    assert {mixture[i].objective for i in range(20)} == {"mt"}
    assert mixture.schedule.mean(20) == 0


@given(share=SHARES, count=st.integers(0, 10**7))
def test_a_share_that_holds_is_exact(share: float, count: int) -> None:
    assert ReplaySchedule(share).due(count) == Fraction(round(100 * share), 100) * count
    assert ReplaySchedule(share).replayed(count) == round(100 * share) * count // 100


@given(start=SHARES.filter(bool), end=SHARES, steps=st.integers(1, 400), batch=st.integers(1, 64), data=st.data())
def test_a_linear_share_sums_to_the_area_of_a_trapezium(
    start: float, end: float, steps: int, batch: int, data: st.DataObject
) -> None:
    share, total = scheduled(configured(start, shape="linear", to=end), steps, batch), steps * batch
    count = data.draw(st.integers(0, 2 * total))
    inside = min(count, total)
    there = start + (end - start) * inside / total
    expected = inside * (start + there) / 2 + (count - inside) * end
    assert float(share.due(count)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30)
@given(start=SHARES.filter(bool), end=SHARES, data=st.data())
def test_a_cosine_share_sums_to_its_integral(start: float, end: float, data: st.DataObject) -> None:
    total = 32 * data.draw(st.integers(10, 2000))
    share = scheduled(configured(start, shape="cosine", to=end), total // 32, 32)
    count = data.draw(st.integers(0, total))
    expected, _ = quad(lambda x: end + (start - end) * (1 + cos(pi * x / total)) / 2, 0, count)
    assert float(share.due(count)) == pytest.approx(expected, abs=1e-5)
    assert float(share.due(total)) == pytest.approx(total * (start + end) / 2)


def test_a_staged_share_holds_each_stage() -> None:
    stages = [{"at": 10, "share": 0.2}, {"at": 30, "share": 0.0}]
    share = scheduled(configured(0.5, shape="staged", stages=stages), 50, 8)
    assert [share.at(i) for i in (0, 79, 80, 239, 240, 10_000)] == [0.5, 0.5, 0.2, 0.2, 0.0, 0.0]
    assert share.due(400) == 80 * Fraction(1, 2) + 160 * Fraction(1, 5)


@settings(max_examples=30)
@given(
    start=SHARES.filter(bool),
    end=SHARES,
    shape=st.sampled_from(["linear", "cosine"]),
    steps=st.integers(1, 40),
    batch=st.integers(1, 8),
)
def test_rows_never_jump_and_the_shares_of_examples_add_up(
    start: float, end: float, shape: str, steps: int, batch: int
) -> None:
    share = scheduled(configured(start, shape=shape, to=end), steps, batch)
    total = steps * batch + 20
    rows = np.array([share.replayed(n) for n in range(total + 1)])
    assert set(np.diff(rows)) <= {0, 1}
    assert np.cumsum([share.at(i) for i in range(total)]) == pytest.approx(
        [float(share.due(n)) for n in range(1, total + 1)]
    )


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"shape": "linear"}, "shape linear needs to"),
        ({"shape": "staged"}, "shape staged needs stages"),
        ({"shape": "cosine", "to": 0.1, "stages": [{"at": 3, "share": 0.1}]}, "shape cosine takes to, not stages"),
        ({"shape": "staged", "to": 0.1, "stages": [{"at": 3, "share": 0.1}]}, "shape staged takes stages, not to"),
        (
            {"shape": "staged", "stages": [{"at": 3, "share": 0.1}, {"at": 3, "share": 0.2}]},
            "each stage must begin later",
        ),
        ({"shape": "linear", "to": 1.0}, "less than 1"),
    ],
)
def test_schedules_that_do_not_fit(schedule: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        configured(0.5, **schedule)


def select(examples: list[Instruction], size: int, seed: int, **how: Any) -> tuple[list[Instruction], Counts]:
    counts = Counts()
    chosen = choose(examples, size, seed, SelectConfig(**how), counts)
    return [example for example, _ in chosen], counts


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
    [first, second] = read_jsonl_examples(path=file)
    assert (first.prompt, first.answer, first.template, first.target) == ("2+2?", "4", "sums", "en")
    assert first.objective == second.objective == "replay"
    (tmp_path / "._a.jsonl").write_bytes(b"\0\5\x16\7")  # left by a Mac
    assert [example.prompt for example in read_jsonl_examples(path=tmp_path, languages=["fr"])] == ["deux?"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.json", "a.json.gz"])
def test_a_folder_of_compressed_files_or_arrays(tmp_path: Path, name: str) -> None:
    content = json.dumps([{"inputs": "q", "targets": "a"}] * 2).encode()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [example.row for example in read_jsonl_examples(path=tmp_path)] == [f"{name}:1", f"{name}:2"]


def test_jsonl_names_the_line_with_a_missing_field(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"inputs": "q", "targets": "a"}, {"question": "q", "targets": "a"}])
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*'inputs'.* question, targets\."):
        list(read_jsonl_examples(path=file))


def test_jsonl_fields_may_be_nested(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", [{"row": {"question": "q", "answer": " a"}, "task.name": "t"}])
    [example] = read_jsonl_examples(path=file, prompt="row.question", answer="row.answer", task="task.name")
    assert (example.prompt, example.answer, example.template) == ("q", "a", "t")


def test_missing_file_and_empty_source(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no\.jsonl does not exist"):
        list(read_jsonl_examples(path=tmp_path / "no.jsonl"))
    with pytest.raises(DataError, match=r"contains no \*\.jsonl or \*\.json file"):
        list(read_jsonl_examples(path=tmp_path))
    file = write(tmp_path / "empty.jsonl", [])
    config = ReplayConfig(source=Entry(name="jsonl", options={"path": file}), size=3)
    with pytest.raises(DataError, match=r"holds no usable example.*path and columns"):
        load_replay(config, seed=1)


def test_a_base_that_writes_nothing_usable_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructalign.synthesis.self_replay.read_self", lambda *_, **__: iter(()))
    config = ReplayConfig(source=Entry(name="self", options={}), size=3)
    with pytest.raises(DataError) as caught:
        load_replay(config, seed=1)
    assert "replay source self" in str(caught.value)
    assert "from a file or the Hub" in str(caught.value)
    assert "columns" not in str(caught.value)


def test_hub_layout_is_read_in_streaming_mode(tmp_path: Path) -> None:
    folder = tmp_path / "xP3"
    (folder / "en").mkdir(parents=True)
    write(folder / "en" / "part.jsonl", [{"inputs": f"q{i}", "targets": "a", "lang": "en"} for i in range(10)])
    rows = list(read_hub_examples(name=str(folder), data_files="en/*.jsonl", scan=4))
    assert [row.prompt for row in rows] == ["q0", "q1", "q2", "q3"]


def test_some_rows_of_each_file_of_a_dataset_are_scanned(tmp_path: Path) -> None:
    for file, count in zip("abcdef", (40, 40, 2, 40, 40, 40), strict=True):
        write(tmp_path / f"{file}.jsonl", [{"inputs": f"{file}{i}", "targets": "x"} for i in range(count)])

    def scanned(scan: int | None, seed: int = 0) -> list[str]:
        request = ReplayRequest(seed=seed)
        rows = read_hub_examples(request, name=str(tmp_path), data_files="*.jsonl", scan=scan)
        return [row.prompt for row in rows]

    drawn = scanned(30)
    counts = Counter(prompt[0] for prompt in drawn)
    assert counts.pop("c") == 2
    assert set(counts) == set("abdef")
    assert max(counts.values()) - min(counts.values()) <= 2  # three more than their share in the files after c
    assert len(set(drawn)) == len(drawn) >= 27
    assert scanned(30, seed=7) == drawn  # so that the examples held out do not depend on the seed
    order = list(dict.fromkeys(prompt[0] for prompt in drawn))
    assert order != sorted(order)  # of the files
    assert len({prompt[0] for prompt in scanned(2)}) == 2
    assert len(scanned(1000)) == len(scanned(None)) == 202


def test_files_of_a_type_are_read_without_a_data_set_around_them(tmp_path: Path) -> None:
    file = write(tmp_path / "merged.jsonl", [{"inputs": f"q{i}", "targets": "a"} for i in range(10)])
    assert len(list(read_hub_examples(name="json", data_files=str(file), scan=None))) == 10


def test_hub_name_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be loaded"):
        list(read_hub_examples(name=str(tmp_path / "nowhere")))


def test_a_cached_corpus_is_read_again_where_its_file_changed(tmp_path: Path) -> None:
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
    cache = CorpusCache()
    first = cache.read(config)
    assert cache.read(config) is first
    assert prepare_corpus(config, cache=cache)[0] is first
    with path.open("a", encoding="utf-8") as file:
        file.write("the house\tomah\n")
    assert [len(cache.read(config)), len(first)] == [3, 2]


def test_a_cached_corpus_is_read_again_for_another_filter(tmp_path: Path) -> None:
    (tmp_path / "corpus.tsv").write_text("eng\tjav\nthe food\tpangan\nthe food\tpangan\n", encoding="utf-8")
    data: dict[str, Any] = {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
        "training": {"steps": 1},
    }
    cache = CorpusCache()
    sizes = []
    for filters in ({"preset": "none"}, {"preset": "none", "duplicates": "exact"}, {"preset": "none"}):
        sizes.append(len(cache.read(build_config({**data, "filter": filters}, folder=tmp_path))))
    assert sizes == [2, 1, 2]
