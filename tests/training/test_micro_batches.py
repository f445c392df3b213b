"""Dividing a step into micro-batches, against trying all ways; packing, against its promises."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructalign.training.batching import MicroBatchLimits, pack_rows, padded_tokens, plan_micro_batches

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=9).map(sorted)
LIMITS = st.builds(
    MicroBatchLimits,
    rows=st.none() | st.integers(1, 6),
    tokens=st.none() | st.integers(1, 120),
    overhead=st.integers(0, 40),
)


def cost(parts: list[range], lengths: list[tuple[int]], limits: MicroBatchLimits) -> int:
    return sum(limits.overhead + padded_tokens(part, lengths) for part in parts)


@given(LENGTHS, LIMITS)
def test_no_other_division_takes_less_time(numbers: list[int], limits: MicroBatchLimits) -> None:
    lengths = [(number,) for number in numbers]
    places = range(1, len(lengths))
    ways = [
        [range(a, b) for a, b in zip((0, *ends), (*ends, len(lengths)), strict=True)]
        for count in range(len(lengths))
        for ends in combinations(places, count)
    ]
    allowed = [way for way in ways if all(limits.allow(len(part), padded_tokens(part, lengths)) for part in way)]
    assert cost(plan_micro_batches(lengths, limits), lengths, limits) == min(
        cost(way, lengths, limits) for way in allowed
    )


@given(LENGTHS, LIMITS, st.integers(1, 4))
def test_every_row_is_in_one_part_and_parts_are_a_multiple(
    numbers: list[int], limits: MicroBatchLimits, by: int
) -> None:
    lengths = [(number,) for number in numbers for _ in range(by)]
    parts = plan_micro_batches(lengths, limits, by)
    assert [row for part in parts for row in part] == list(range(len(lengths)))
    assert len(parts) % by == 0
    assert all(limits.allow(len(part), padded_tokens(part, lengths)) for part in parts)


def test_encoder_and_decoder_are_padded_apart() -> None:
    lengths = [(2, 9), (10, 2)]
    assert padded_tokens(range(2), lengths) == 2 * (10 + 9)
    assert plan_micro_batches(lengths, MicroBatchLimits(overhead=100)) == [range(2)]
    assert plan_micro_batches(lengths, MicroBatchLimits(tokens=37, overhead=100)) == [range(1), range(1, 2)]


@pytest.mark.parametrize(
    ("limits", "rows"),
    [
        (MicroBatchLimits(), 1 << 30),
        (MicroBatchLimits(rows=4), 4),
        (MicroBatchLimits(rows=4, tokens=30), 3),
        (MicroBatchLimits(tokens=5), 1),
    ],
)
def test_rows_of_a_length(limits: MicroBatchLimits, rows: int) -> None:
    assert limits.rows_of(10) == rows


@given(st.lists(st.integers(1, 30), min_size=1, max_size=40), st.integers(1, 3))
def test_packing_keeps_every_example_whole_and_rows_alike(numbers: list[int], by: int) -> None:
    lengths = [number for number in numbers for _ in range(by)]
    rows = pack_rows(lengths, 60, by)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    sums = [sum(lengths[number] for number in row) for row in rows]
    assert max(sums) <= 60
    assert len(rows) % by == 0
    assert max(sums) - min(sums) <= max(lengths)  # as the rule of the shortest row so far leaves it
