"""Which past examples are chosen, from one source and from several."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructalign.config import Entry, ReplayConfig, SelectConfig
from instructalign.errors import DataError
from instructalign.mixture import load_replay
from instructalign.mixture.replay_buffer import apportion, choose
from instructalign.types import Counts, Instruction


def examples(**tasks: int) -> list[Instruction]:
    """So many examples of each task, in a row."""
    return [
        Instruction(f"{task} {i}", "x" * (i + 1), "replay", template=task, target=task[:3])
        for task, count in tasks.items()
        for i in range(count)
    ]


def chosen(size: int, pool: list[Instruction], seed: int = 1, **how: Any) -> list[Instruction]:
    return [example for example, _ in choose(pool, size, seed, SelectConfig(**how), Counts())]


def test_equal_strata_give_the_same_and_take_over_from_small_ones() -> None:
    pool = examples(sums=500, news=60, rare=4)
    assert Counter(each.template for each in chosen(90, pool, by="task")) == {"sums": 43, "news": 43, "rare": 4}
    assert len(chosen(1000, pool, by="task")) == 564


def test_proportional_strata_give_as_they_have() -> None:
    picked = chosen(100, examples(sums=600, news=300, rare=100), by="task", counts="proportional")
    assert Counter(each.template for each in picked) == {"sums": 60, "news": 30, "rare": 10}


def test_by_language_and_by_length() -> None:
    pool = examples(english=100, javanese=20)
    assert Counter(each.target for each in chosen(40, pool, by="language")) == {"eng": 20, "jav": 20}
    sizes = Counter((len(e.prompt) + len(e.answer)).bit_length() for e in chosen(12, pool, by="length"))
    assert sizes == {4: 3, 5: 3, 6: 3, 7: 3}  # 8 to 15 characters, 16 to 31, 32 to 63, 64 to 127


def test_the_longest_and_the_shortest_first() -> None:
    pool = examples(sums=50)
    assert [len(each.answer) for each in chosen(4, pool, order="longest")] == [50, 49, 48, 47]
    assert [len(each.answer) for each in chosen(4, pool, order="shortest")] == [1, 2, 3, 4]


@settings(max_examples=30)
@given(
    tasks=st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 30), min_size=1),
    by=st.sampled_from([None, "task", "length"]),
    counts=st.sampled_from(["equal", "proportional"]),
    order=st.sampled_from(["random", "longest", "shortest"]),
    seed=st.integers(0, 5),
)
def test_a_smaller_choice_is_the_beginning_of_a_larger_one(
    tasks: dict[str, int], by: Any, counts: Any, order: Any, seed: int
) -> None:
    pool = examples(**tasks)
    whole = chosen(len(pool), pool, seed, by=by, counts=counts, order=order)
    assert sorted(each.prompt for each in whole) == sorted(each.prompt for each in pool)
    for size in range(1, len(pool), 5):
        assert chosen(size, pool, seed, by=by, counts=counts, order=order) == whole[:size]


def test_seats_of_an_election_by_the_method_of_webster() -> None:
    # Balinski and Young 1982 and many textbooks after: votes 53 000, 24 000, 23 000 and 7 seats give 3, 2, 2.
    assert Counter(apportion(7, [53_000, 24_000, 23_000], [7, 7, 7])) == {0: 3, 1: 2, 2: 2}


def test_strata_that_no_example_names() -> None:
    pool = [Instruction("a question", "an answer", "replay")]
    with pytest.raises(DataError, match=r"replay.select.by is task, but none of the 1 examples .* names one"):
        chosen(1, pool, by="task")


def write(path: Path, name: str, count: int, lang: str = "en") -> Entry:
    lines = [{"inputs": f"{name} {i}", "targets": "x", "task": name, "lang": lang} for i in range(count)]
    file = path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return Entry(name="jsonl", options={"path": file}, label=name)


def test_several_sources_give_by_their_weights(tmp_path: Path) -> None:
    sources = [write(tmp_path, "old", 500), write(tmp_path, "new", 500).model_copy(update={"weight": 3.0})]
    buffer = load_replay(ReplayConfig(source=sources, size=100), seed=1)
    assert Counter(each.template for each in buffer.examples) == {"new": 75, "old": 25}
    assert {name: (counts.read, counts.kept) for name, counts in buffer.sources.items()} == {
        "old": (500, 25),
        "new": (500, 75),
    }
    assert (buffer.counts.read, buffer.counts.kept) == (1000, 100)
    smaller = load_replay(ReplayConfig(source=sources, size=40), seed=1)
    assert smaller.examples == buffer.examples[:40]


def test_a_source_that_runs_out_is_made_up_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sources = [write(tmp_path, "few", 10), write(tmp_path, "many", 500)]
    buffer = load_replay(ReplayConfig(source=sources, size=100, select=SelectConfig(by="task")), seed=1)
    assert buffer.strata == {"many": 90, "few": 10}
    assert not caplog.messages
    load_replay(ReplayConfig(source=sources, size=1000), seed=1)
    assert caplog.messages == ["replay.size is 1000, but there are only 510 usable examples"]


def test_one_source_of_several_without_anything_usable_is_named(tmp_path: Path) -> None:
    sources = [write(tmp_path, "some", 10), write(tmp_path, "nothing", 0)]
    with pytest.raises(DataError, match=r"the replay source nothing \(path .*nothing.jsonl.*holds no usable"):
        load_replay(ReplayConfig(source=sources, size=5), seed=1)


def test_examples_in_other_languages_are_counted(tmp_path: Path) -> None:
    entry = write(tmp_path, "mixed", 3)
    with (tmp_path / "mixed.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"inputs": "un", "targets": "x", "lang": "fr"}) + "\n")
    entry = entry.model_copy(update={"options": {**entry.options, "languages": ["en"]}})
    buffer = load_replay(ReplayConfig(source=entry, size=3), seed=1)
    assert (buffer.counts.read, buffer.counts.dropped) == (4, {"other language": 1})


def test_tasks_are_taken_or_left_by_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        {"inputs": f"{i}", "targets": "x", "task": task} for i, task in enumerate(["nli", "qa", "nli", "sum"])
    ]
    (tmp_path / "past.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")

    def load(**options: Any) -> tuple[list[str], dict[str, int]]:
        entry = Entry(name="jsonl", options={"path": tmp_path / "past.jsonl", **options})
        buffer = load_replay(ReplayConfig(source=entry, size=9), seed=1)
        return sorted(example.template for example in buffer.examples), dict(buffer.counts.dropped)

    assert load(tasks=["nli"]) == (["nli", "nli"], {"other task": 2})
    assert load(without_tasks=["nli"]) == (["qa", "sum"], {"other task": 2})
    caplog.clear()
    assert load(without_tasks=["nil"])[1] == {}
    assert [m for m in caplog.messages if "'nil'" in m and "Did you mean 'nli'?" in m]
