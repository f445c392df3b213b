"""Shares of tokens, counted again from the stream itself."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from instructalign.config import Entry, ReplayConfig
from instructalign.config_file import build_config
from instructalign.errors import DataError
from instructalign.mixture import Mixture, ReplayBuffer
from instructalign.mixture.plan import describe_plan
from instructalign.mixture.replay_share import planned
from instructalign.mixture.token_shares import BLOCK, Lengths
from instructalign.mixture.training_data import build_data
from instructalign.randomness import Draws, digest_key
from instructalign.training.example_lengths import Measured
from instructalign.types import Instruction


class Varied:
    """A stream whose answers have lengths of a skewed distribution: most short, a few very long."""

    def __init__(self, usual: int, seed: int = 0) -> None:
        self._usual, self._key = usual, digest_key(seed, "lengths")

    def __getitem__(self, index: int) -> Instruction:
        return Instruction("p" * 10, "a" * skewed(self._usual, Draws(self._key, index)), "mt")


def skewed(usual: int, draws: Draws) -> int:
    return max(1, min(400, int(usual * (1 - draws.uniform()) ** -0.7)))  # a Pareto tail, cut


def past(count: int, usual: int) -> ReplayBuffer:
    key = digest_key(7, "past lengths")
    made = (Instruction(f"p{i:09d}", "a" * skewed(usual, Draws(key, i)), "replay") for i in range(count))
    return ReplayBuffer(tuple(made))


def by_letters(instructions: Sequence[Instruction]) -> list[Lengths]:
    return [Lengths(len(each.prompt) + len(each.answer), len(each.answer)) for each in instructions]


def mixed(share: float = 0.5, unit: str = "loss_tokens", new: int = 20, old: int = 3, size: int = 200) -> Mixture:
    return Mixture(Varied(new), past(size, old), share, 1, unit=unit, measure=by_letters)  # type: ignore[arg-type]


def realised(mixture: Mixture, first: int, last: int) -> tuple[float, float, float]:
    """Replay's share in rows, tokens and loss tokens of a stretch of the stream."""
    counts = {True: [0, 0, 0], False: [0, 0, 0]}
    for i in range(first, last):
        [length] = by_letters([mixture[i]])
        for place, value in enumerate((1, *length)):
            counts[mixture[i].objective == "replay"][place] += value
    rows, tokens, loss = (a / (a + b) for a, b in zip(counts[True], counts[False], strict=True))
    return rows, tokens, loss


@pytest.mark.parametrize("unit", ["tokens", "loss_tokens"])
@pytest.mark.parametrize(("new", "old"), [(20, 3), (3, 20), (8, 8)])
def test_the_share_is_what_was_asked_for_in_its_unit(unit: str, new: int, old: int) -> None:
    for share in (0.1, 0.5, 0.8):
        mixture = mixed(share, unit, new, old)
        rows, tokens, loss = realised(mixture, 0, 8000)
        assert (tokens if unit == "tokens" else loss) == pytest.approx(share, rel=0.01)
        if new != old:
            assert abs(rows - share) > 0.03  # or rows would have done


def test_the_share_holds_over_stretches_not_only_at_the_end() -> None:
    mixture = mixed()
    for first in range(0, 8000, 1000):
        assert realised(mixture, first, first + 1000)[2] == pytest.approx(0.5, abs=0.03)


def test_a_share_that_changes_is_followed() -> None:
    schedule = {"shape": "linear", "to": 0.1}
    config = ReplayConfig.model_validate({"source": Entry(name="toy"), "share": 0.6, "schedule": schedule})
    mixture = Mixture(
        Varied(20), past(200, 3), planned(config, 250, 32), 1, unit="loss_tokens", measure=by_letters
    )
    assert realised(mixture, 0, 1000)[2] == pytest.approx(0.57, abs=0.02)
    assert realised(mixture, 7000, 8000)[2] == pytest.approx(0.13, abs=0.02)
    assert realised(mixture, 0, 8000)[2] == pytest.approx(mixture.mean(8000), rel=0.01)


@settings(max_examples=5)
@given(indices=st.lists(st.integers(0, 1000), min_size=1, max_size=20))
def test_an_example_does_not_depend_on_who_asks_and_when(indices: list[int]) -> None:
    whole = mixed()
    inorder = [whole[i] for i in range(1001)]
    other = mixed()
    assert [other[i] for i in indices] == [inorder[i] for i in indices]


def test_nothing_is_skipped_or_repeated_too_early() -> None:
    mixture = mixed(size=50)
    taken = [mixture[i] for i in range(2000)]
    old = [each.prompt for each in taken if each.objective == "replay"]
    assert len(set(old[:50])) == len(set(old[50:100])) == 50
    fresh = [each.answer for each in taken if each.objective == "mt"]
    assert fresh == [mixture.instructions[k].answer for k in range(len(fresh))]


def test_a_plan_read_back_goes_on_as_the_one_that_made_it() -> None:
    first, second, third = mixed(), mixed(), pickle.loads(pickle.dumps(mixed()))
    assert first.balance
    assert second.balance
    plan = first.balance.plan(1000)
    assert len(plan["counts"]) == -(-1000 // BLOCK) + 1
    second.balance.restore(plan)
    assert [second[i] for i in range(900, 1500)] == [first[i] for i in range(900, 1500)]
    assert [third[i] for i in range(900, 1500)] == [first[i] for i in range(900, 1500)]


def test_past_examples_without_a_token_are_refused() -> None:
    empty = ReplayBuffer((Instruction("past", "", "replay"),))
    with pytest.raises(DataError, match=r"replay\.share_of is loss_tokens, but none of the 1 replayed examples"):
        Mixture(Varied(5), empty, 0.5, 1, unit="loss_tokens", measure=by_letters)


def test_real_text_gets_its_share_over_a_thousand_steps(shared_data: Path) -> None:
    """FLORES and P3 at batches of 8: 8 000 examples, whose answers differ from one token to dozens."""
    config = build_config(
        {
            "model": {"base": "toy"},
            "languages": {"known": ["eng"], "new": ["jav", "sun"]},
            "corpora": [{"format": "flores", "path": str(shared_data / "flores200"), "splits": ["dev"]}],
            "replay": {"source": {"format": "jsonl", "path": str(shared_data / "p3")}, "share": 0.4},
            "training": {"steps": 1000, "batch_size": 8},
        },
        overrides=["replay.share_of=loss_tokens"],
    )
    measure = Measured(config)
    mixture = build_data(config, measure=measure).mixture
    examples = [mixture[i] for i in range(8000)]
    counted = [each.loss_tokens for each in measure(examples)]
    past = sum(n for n, each in zip(counted, examples, strict=True) if each.objective == "replay")
    assert past / sum(counted) == pytest.approx(0.4, rel=0.01)
    planned_rows = describe_plan(config, mixture, measure)["rows"]
    assert planned_rows == sum(each.objective == "replay" for each in examples)
    assert planned_rows / 8000 > 0.5  # rows would have given replay much less than its share
