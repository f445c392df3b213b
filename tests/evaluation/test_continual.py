from __future__ import annotations

import pytest

from instructalign.errors import DataError
from instructalign.evaluation import continual_scores

# Rows: base, after stage 1, 2, 3. The expected values are computed by hand from the papers' formulas.
MATRIX = [
    [0.50, 0.40, 0.30],
    [0.80, 0.50, 0.30],
    [0.85, 0.90, 0.60],
    [0.70, 0.80, 0.90],
]


def test_by_hand():
    found = continual_scores(MATRIX, [0.5, 0.4, 0.3])
    assert found.average == pytest.approx((0.70 + 0.80 + 0.90) / 3)
    assert found.backward == pytest.approx(((0.70 - 0.80) + (0.80 - 0.90)) / 2)
    assert found.forward == pytest.approx(((0.50 - 0.40) + (0.60 - 0.30)) / 2)
    assert found.forgetting == pytest.approx(((0.85 - 0.70) + (0.90 - 0.80)) / 2)


def test_one_stage_has_an_average_only():
    found = continual_scores([[0.5], [0.9]], [0.5])
    assert (found.average, found.backward, found.forward, found.forgetting) == (0.9, None, None, None)


@pytest.mark.parametrize(
    ("matrix", "chance"), [([[0.5, 0.5]], [0.5, 0.5]), ([[1], [1], [1]], [0.5]), ([], []), ([[0.5], [0.9]], 0.5)]
)
def test_shapes_must_fit(matrix, chance):
    with pytest.raises(DataError, match=r"a matrix of shape .* does not fit"):
        continual_scores(matrix, chance)
