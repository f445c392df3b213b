"""The planned share: its exact sum against sums made otherwise, and the rows that follow from it."""

from __future__ import annotations

from fractions import Fraction
from math import cos, pi

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad

from instructalign.config import Entry, ReplayConfig
from instructalign.mixture.replay_share import constant, planned

SHARES = st.integers(0, 99).map(lambda percent: percent / 100)


def configured(share: float = 0.5, **schedule: object) -> ReplayConfig:
    data = {"source": Entry(name="toy"), "share": share, "schedule": schedule or None}
    return ReplayConfig.model_validate(data)


@given(share=SHARES, count=st.integers(0, 10**7))
def test_a_share_that_holds_is_exact(share: float, count: int) -> None:
    assert constant(share).due(count) == Fraction(round(100 * share), 100) * count
    assert constant(share).whole(count) == round(100 * share) * count // 100


@given(start=SHARES.filter(bool), end=SHARES, steps=st.integers(1, 400), batch=st.integers(1, 64), data=st.data())
def test_a_linear_share_sums_to_the_area_of_a_trapezium(
    start: float, end: float, steps: int, batch: int, data: st.DataObject
) -> None:
    share, total = planned(configured(start, shape="linear", to=end), steps, batch), steps * batch
    count = data.draw(st.integers(0, 2 * total))
    inside = min(count, total)
    there = start + (end - start) * inside / total
    expected = inside * (start + there) / 2 + (count - inside) * end
    assert float(share.due(count)) == pytest.approx(expected, abs=1e-6)


@settings(max_examples=30)
@given(start=SHARES.filter(bool), end=SHARES, data=st.data())
def test_a_cosine_share_sums_to_its_integral(start: float, end: float, data: st.DataObject) -> None:
    total = 32 * data.draw(st.integers(10, 2000))
    share = planned(configured(start, shape="cosine", to=end), total // 32, 32)
    count = data.draw(st.integers(0, total))
    expected, _ = quad(lambda x: end + (start - end) * (1 + cos(pi * x / total)) / 2, 0, count)
    # Straight pieces lie beside a cosine by a hundred-thousandth at most.
    assert float(share.due(count)) == pytest.approx(expected, abs=1e-5 * total)
    assert float(share.due(total)) == pytest.approx(total * (start + end) / 2)


def test_a_staged_share_holds_each_stage() -> None:
    stages = [{"at": 10, "share": 0.2}, {"at": 30, "share": 0.0}]
    share = planned(configured(0.5, shape="staged", stages=stages), 50, 8)
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
    share = planned(configured(start, shape=shape, to=end), steps, batch)
    total = steps * batch + 20
    rows = np.array([share.whole(n) for n in range(total + 1)])
    assert set(np.diff(rows)) <= {0, 1}
    assert np.cumsum([share.at(i) for i in range(total)]) == pytest.approx(
        [float(share.due(n)) for n in range(1, total + 1)]
    )
    assert all(rows[n] == int(share.due(n)) for n in range(total))


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
