from __future__ import annotations

from collections import Counter
from hashlib import blake2b

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from instructalign.randomness import Draws, Permutation, digest_key, permuted

KEY = digest_key(42, "test")


def test_keys_differ_by_seed_and_by_name() -> None:
    keys = {digest_key(seed, *parts) for seed in (1, 2) for parts in (("a",), ("b",), ("a", "b"), ("ab",))}
    assert len(keys) == 8


@given(st.integers(0, 2**64 - 1), st.integers(0, 60))
def test_bits_are_the_hash_of_key_index_and_block(index: int, skip: int) -> None:
    draws = Draws(KEY, index)
    for _ in range(skip):
        draws.bits()
    block, place = divmod(skip, 8)
    digest = blake2b(KEY + index.to_bytes(8, "little") + block.to_bytes(8, "little")).digest()
    assert draws.bits() == int.from_bytes(digest[8 * place : 8 * place + 8], "little")


@given(st.integers(0, 200))
def test_many_gives_new_numbers_each_time(count: int) -> None:
    draws = Draws(KEY, count)
    first, second = draws.many(count), draws.many(count)
    assert len(first) == len(second) == count
    assert all(0 <= number < 2**32 for number in first)
    if count:
        assert first != second
    assert Draws(KEY, count).many(count) == first


def test_draws_are_uniform() -> None:
    draws = Draws(KEY, 7)
    assert chisquare(list(Counter(draws.below(10) for _ in range(20_000)).values())).pvalue > 1e-4
    assert chisquare(list(Counter(int(draws.uniform() * 10) for _ in range(20_000)).values())).pvalue > 1e-4
    assert chisquare(list(Counter(n >> 28 for n in draws.many(32_000)).values())).pvalue > 1e-4


def test_weighted_follows_the_weights() -> None:
    draws = Draws(KEY, 8)
    counts = Counter(draws.weighted([1.0, 1.0, 4.0]) for _ in range(8_000))
    assert counts[1] == 0
    assert chisquare([counts[0], counts[2]], [2_000, 6_000]).pvalue > 1e-4


def test_every_order_is_as_likely_in_a_shuffle() -> None:
    orders: Counter[tuple[int, ...]] = Counter()
    for index in range(6_000):
        items = [0, 1, 2]
        Draws(KEY, index).shuffle(items)
        orders[tuple(items)] += 1
    assert len(orders) == 6
    assert chisquare(list(orders.values())).pvalue > 1e-4


@given(st.integers(1, 3_000), st.integers(0, 100))
def test_a_permutation_visits_everything_once(size: int, seed: int) -> None:
    permutation = Permutation(size, digest_key(seed))
    assert len(permutation) == size
    assert sorted(permutation[i] for i in range(size)) == list(range(size))


def test_a_permutation_puts_each_element_anywhere() -> None:
    size = 12
    places = Counter(Permutation(size, digest_key(seed))[5] for seed in range(6_000))
    assert len(places) == size
    assert chisquare(list(places.values())).pvalue > 1e-4


def test_neighbours_do_not_stay_neighbours() -> None:
    permutation = Permutation(10_000, KEY)
    steps = Counter((permutation[i + 1] - permutation[i]) % 10_000 for i in range(9_999))
    assert steps.most_common(1)[0][1] < 12


def test_a_permutation_refuses_what_it_does_not_have() -> None:
    with pytest.raises(IndexError, match="index 3 is outside 0 … 2"):
        Permutation(3, KEY)[3]
    with pytest.raises(ValueError, match="at least one element"):
        Permutation(0, KEY)


def test_a_walk_goes_through_all_in_a_new_order_each_time() -> None:
    walk = [permuted(i, 50, 1, "walk") for i in range(150)]
    epochs = [walk[:50], walk[50:100], walk[100:]]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    assert walk != [permuted(i, 50, 2, "walk") for i in range(150)]
