"""Past examples that are never replayed: which they are, whatever else is chosen, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructalign.config import Entry, ReplayConfig, SelectConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.mixture import load_replay
from instructalign.mixture.replay_buffer import Holdout, choose
from instructalign.run_folder import training_hash
from instructalign.types import Counts, Instruction


def pool(count: int, copies: int = 0) -> list[Instruction]:
    """So many different examples, and some of them again."""
    made = [Instruction(f"question {n}", f"answer {n}", "replay", template=f"task {n % 3}") for n in range(count)]
    return [*made, *made[:copies]]


def texts(examples: Any) -> list[str]:
    return [each.prompt for each in examples]


def split(examples: list[Instruction], size: int, heldout: int, seed: int = 1, **how: Any) -> Any:
    counts, holdout = Counts(), Holdout(heldout)
    chosen = choose(iter(examples), size, seed, SelectConfig(**how), counts, holdout=holdout)
    return [example for example, _ in chosen], holdout.examples, counts


@settings(max_examples=60)
@given(
    st.integers(1, 60),
    st.integers(0, 30),
    st.integers(0, 25),
    st.integers(0, 70),
    st.integers(0, 9),
    st.sampled_from([{}, {"by": "task"}, {"by": "task", "counts": "proportional"}, {"order": "longest"}]),
)
def test_held_out_as_by_sorting_all_and_never_chosen(count, copies, heldout, size, seed, how) -> None:
    examples = pool(count, min(copies, count))
    chosen, held, counts = split(examples, size, heldout, seed, **how)
    # The definition in other words: of all different texts, sorted by their keyed hash, the first.
    secret = blake2b(b"0\x1fpast held out", digest_size=32).digest()

    def rank(each: Instruction) -> bytes:
        return blake2b(f"{each.prompt}\x1f{each.answer}".encode(), key=secret, digest_size=16).digest()

    assert held == sorted(set(examples), key=rank)[:heldout]
    left = [each for each in examples if each not in held]
    assert not set(chosen) & set(held)
    assert len(chosen) == min(size, len(left))
    assert not Counter(chosen) - Counter(left)
    assert counts.read == len(examples)
    assert counts.dropped == ({"held out": len(examples) - len(left)} if held else {})


def test_without_any_the_choice_is_what_it_was() -> None:
    examples = pool(200, 20)
    for how in ({}, {"by": "task"}, {"order": "shortest"}):
        before = [example for example, _ in choose(examples, 50, 7, SelectConfig(**how), Counts())]
        assert split(examples, 50, 0, 7, **how)[0] == before


def test_the_same_for_every_size_and_a_smaller_choice_begins_a_larger_one() -> None:
    examples = pool(300, 60)
    wanted, held, _ = split(examples, 400, 40)
    for size in (0, 1, 10, 100):
        chosen, apart, _ = split(examples, size, 40)
        assert (chosen, apart) == (wanted[:size], held)
    assert split(examples, 0, 10)[1] == held[:10]
    other, apart, _ = split(examples, 100, 40, seed=2)
    assert apart == held
    assert other != wanted[:100]


def test_depends_on_no_order_and_on_nothing_that_cannot_be_used() -> None:
    examples = pool(100)
    spoilt = [*examples[::-1], Instruction("", "x", "replay"), Instruction("x", " ", "replay")]
    assert texts(split(spoilt, 0, 30)[1]) == texts(split(examples, 0, 30)[1])
    assert split(spoilt, 0, 30)[2].dropped == {"empty prompt": 1, "empty answer": 1, "held out": 30}


def write(path: Path, name: str, lines: list[Instruction]) -> Entry:
    records = [{"inputs": each.prompt, "targets": each.answer, "task": each.template} for each in lines]
    file = path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return Entry(name="jsonl", options={"path": file}, label=name)


def test_several_sources_give_by_their_weights(tmp_path: Path) -> None:
    new = [replace(each, prompt=f"new {each.prompt}") for each in pool(200)]
    sources = [write(tmp_path, "old", pool(200)), write(tmp_path, "new", new).model_copy(update={"weight": 3.0})]
    whole = load_replay(ReplayConfig(source=sources, size=300, heldout=40), seed=1)
    assert Counter(each.prompt[:3] for each in whole.heldout) == {"new": 30, "que": 10}
    assert not {*texts(whole.heldout)} & {*texts(whole.examples)}
    assert len(whole) == 300
    assert {name: counts.dropped for name, counts in whole.sources.items()} == {
        "old": {"held out": 10},
        "new": {"held out": 30},
    }
    none = load_replay(ReplayConfig(source=sources, size=0, heldout=40), seed=1)
    assert (len(none), none.heldout) == (0, whole.heldout)
    few = load_replay(ReplayConfig(source=sources, size=20, heldout=12), seed=1)
    assert few.heldout == whole.heldout[:12]
    assert whole.without(lambda each: each is whole.examples[0], "test item").heldout == whole.heldout


def test_what_another_source_holds_out_is_not_replayed(tmp_path: Path) -> None:
    sources = [write(tmp_path, "some", pool(50)), write(tmp_path, "same", pool(50))]
    buffer = load_replay(ReplayConfig(source=sources, size=100, heldout=10), seed=1)
    # Both hold the same five, since keys go by text, and these are in neither part of the buffer.
    assert Counter(Counter(texts(buffer.heldout)).values()) == {2: 5}
    assert not {*texts(buffer.heldout)} & {*texts(buffer.examples)}
    sources[0] = sources[0].model_copy(update={"weight": 9.0})
    buffer = load_replay(ReplayConfig(source=sources, size=100, heldout=10), seed=1)
    assert not {*texts(buffer.heldout)} & {*texts(buffer.examples)}
    assert buffer.counts.dropped == {"held out": 18}  # nine of each, one of which both hold out


def test_too_few_are_refused(tmp_path: Path) -> None:
    source = write(tmp_path, "past", pool(20, copies=20))
    with pytest.raises(DataError, match=r"takes 21 different examples of .* past .* only 20 are usable"):
        load_replay(ReplayConfig(source=source, size=0, heldout=21), seed=1)
    with pytest.raises(DataError, match=r"no usable example beyond the 20 that replay\.heldout takes"):
        load_replay(ReplayConfig(source=source, size=5, heldout=20), seed=1)
    assert len(load_replay(ReplayConfig(source=source, size=0, heldout=20), seed=1).heldout) == 20


def config(**changes: Any) -> Any:
    replay = {"source": {"format": "toy", "rows": 50}, "size": 10, **changes.pop("replay", {})}
    return build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav", "sun"]},
            "corpora": [{"format": "toy", "rows": 40}],
            "replay": replay,
            "training": {"steps": 2},
            **changes,
        }
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"replay": {"heldout": -1}}, "replay.heldout: input should be greater than or equal to 0"),
        (
            {"replay": {"heldout": 5, "source": {"format": "self", "seeds": "toy"}}},
            "heldout is 5, but a source has format: self",
        ),
        (
            {"replay": {"heldout": 5}, "stages": [["jav"], ["sun"]]},
            "the 5 examples of replay.heldout",
        ),
    ],
)
def test_what_holds_nothing_out(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        config(**changes)
    assert message in str(error.value)


def test_changes_the_training_only_where_something_is_held_out() -> None:
    assert training_hash(config(replay={"heldout": 0})) == training_hash(config())
    assert training_hash(config(replay={"heldout": 5})) != training_hash(config())
    assert training_hash(config(replay={"heldout": 5})) == training_hash(config(replay={"heldout": 5}))
