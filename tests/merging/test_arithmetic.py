"""Merging of single weights, by hand."""

from __future__ import annotations

import pytest
import torch

from instructalign.merging import arithmetic
from instructalign.merging.arithmetic import Recipe, merge_weight

BASE = torch.tensor([1.0, 2.0, 3.0, 4.0])
ONE = torch.tensor([2.0, 2.0, 1.0, 4.5])  # changes 1, 0, -2, 0.5
OTHER = torch.tensor([0.0, 6.0, 0.0, 5.0])  # changes -1, 4, -3, 1


def merged(recipe: Recipe, *adapted: torch.Tensor) -> list[float]:
    result: list[float] = merge_weight("w", BASE, adapted, recipe, torch.float32).tolist()
    return result


def test_interpolation_and_its_ends() -> None:
    assert merged(Recipe(0.25), ONE) == [1.25, 2.0, 2.5, 4.125]
    odd = torch.tensor([0.1, 0.7, -1e-7, 123456.7])
    for alpha, expected in ((0.0, BASE), (1.0, odd)):
        assert torch.equal(merge_weight("w", BASE, [odd], Recipe(alpha), torch.float32), expected)


def test_task_vectors_are_added_up() -> None:
    assert merged(Recipe(1.0, (0.5, 0.5)), ONE, OTHER) == [1.0, 4.0, 0.5, 4.75]
    assert merged(Recipe(0.5, (1.0, 2.0)), ONE, OTHER) == [0.5, 6.0, -1.0, 5.25]


def test_ties_trims_elects_and_takes_the_mean_of_those_that_agree() -> None:
    # Half of each is kept: 1 and -2 of the first (the tie-less largest two), 4 and -3 of the other.
    # Signs of the sums: +, +, -, 0; means of those that agree: 1, 4, -2.5, 0.
    recipe = Recipe(1.0, (0.5, 0.5), method="ties", density=0.5)
    assert merged(recipe, ONE, OTHER) == [2.0, 6.0, 0.5, 4.0]
    # All are kept: sums 0, 4, -5, 1.5; where the sum is 0 nobody agrees.
    assert merged(Recipe(1.0, (0.5, 0.5), "ties", 1.0), ONE, OTHER) == [1.0, 6.0, 0.5, 4.75]
    # With weights 3 : 1 the first wins the first element, and the means are weighed.
    assert merged(Recipe(1.0, (0.75, 0.25), "ties", 1.0), ONE, OTHER) == [2.0, 6.0, 0.75, 4.625]


def test_dare_keeps_a_part_and_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    base = torch.zeros(20_000)
    recipe = Recipe(1.0, (1.0,), "dare", 0.25, seed=3)
    result = merge_weight("w", base, [base + 0.5], recipe, torch.float32)
    assert set(result.tolist()) == {0.0, 2.0}
    assert float((result > 0).float().mean()) == pytest.approx(0.25, abs=0.015)
    assert torch.equal(result, merge_weight("w", base, [base + 0.5], recipe, torch.float32))
    assert not torch.equal(result, merge_weight("v", base, [base + 0.5], recipe, torch.float32))
    assert merged(Recipe(1.0, (0.5, 0.5), "dare", 1.0), ONE, OTHER) == [1.0, 4.0, 0.5, 4.75]


@pytest.mark.parametrize("method", ["linear", "ties"])
def test_blocks_change_nothing(method: arithmetic.Method, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    base, one, other = (torch.randn(7, 11, generator=generator) for _ in range(3))
    recipe = Recipe(0.7, (0.4, 0.6), method, 0.3)
    whole = merge_weight("w", base, [one, other], recipe, torch.float32)
    monkeypatch.setattr(arithmetic, "BLOCK", 5)
    assert torch.equal(whole, merge_weight("w", base, [one, other], recipe, torch.float32))


def test_half_precision_is_computed_in_full() -> None:
    base, one = torch.tensor([1.0], dtype=torch.bfloat16), torch.tensor([1.0078125], dtype=torch.bfloat16)
    result = merge_weight("w", base, [one], Recipe(0.5), torch.float32)
    assert result.tolist() == [1.00390625]
    assert merge_weight("w", base, [one], Recipe(1.0), torch.bfloat16).tolist() == [1.0078125]
