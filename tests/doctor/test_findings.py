"""How findings are worded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructalign.doctor.findings import percent


@given(st.floats(min_value=0, max_value=1))
def test_shares_are_numbers_as_people_read_them(share: float) -> None:
    number = percent(share).removesuffix(" %")
    if number == "under 0.001":
        assert 0 < share < 1e-5
        return
    assert set(number) <= set("0123456789.")
    assert abs(float(number) - 100 * share) <= max(0.5, 0.5 * min(1, 100 * share))
    assert (float(number) == 0) == (share == 0)
    if 0 < share < 0.095:
        assert len(number.replace(".", "").lstrip("0").rstrip("0")) == 1


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0, "0 %"),
        (0.0042, "0.4 %"),
        (0.00096, "0.1 %"),
        (0.0949, "9 %"),
        (0.096, "10 %"),
        (0.0999, "10 %"),
        (0.124, "12 %"),
        (2e-5, "0.002 %"),
        (1e-9, "under 0.001 %"),
        (1, "100 %"),
    ],
)
def test_shares_by_hand(share: float, shown: str) -> None:
    assert percent(share) == shown
