from __future__ import annotations

import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, chisquare

from instructalign.config import NoiseConfig
from instructalign.instructions.noise import Noise
from instructalign.instructions.segmentation import words
from instructalign.randomness import Draws, digest_key

KEY = digest_key(0, "noise")
CHAINS = [*NoiseConfig().mixture, "span", "delete+span", "permute+delete+infill"]
TEXTS = st.one_of(
    st.text(),
    st.lists(st.sampled_from(["kucing", "makan", "ikan", "的", "ကား", "don't", "3.5"])).map(" ".join),
)


def make(chain: str, **options: object) -> Noise:
    return Noise(NoiseConfig.model_validate({"mixture": {chain: 1}, **options}))


def noisy(noise: Noise, text: str, index: int = 0) -> str:
    return noise(text, Draws(KEY, index))


@given(TEXTS, st.sampled_from(CHAINS), st.integers(0, 1000))
def test_with_probability_0_every_text_comes_back_as_it_is(text: str, chain: str, index: int) -> None:
    assert noisy(make(chain, probability=0), text, index) == text


@given(TEXTS, st.sampled_from(CHAINS), st.floats(0, 1), st.integers(0, 1000))
def test_no_sentence_becomes_empty(text: str, chain: str, probability: float, index: int) -> None:
    result = noisy(make(chain, probability=probability), text, index)
    if words(text):
        assert result.strip()
        assert "___" in result or words(result)
    else:
        assert result == text


@given(TEXTS, st.sampled_from(CHAINS), st.integers(0, 1000))
def test_noise_is_a_function_of_its_index(text: str, chain: str, index: int) -> None:
    noise = make(chain)
    assert noisy(noise, text, index) == noisy(make(chain), text, index)


def test_operations_by_hand() -> None:
    text = "Saya, kamu (dan dia) makan nasi."
    assert noisy(make("infill", probability=1), text) == "___, ___ (___ ___) ___ ___."
    assert noisy(make("span", probability=1, span_length=1000), text) == "___."
    assert noisy(make("infill", probability=1, mask="<x>"), "我喜欢") == "<x><x><x>"
    one = noisy(make("delete", probability=1), text)
    assert len(words(one)) == 1
    mixed = noisy(make("permute"), text)
    assert Counter(words(mixed)) == Counter(words(text))
    assert mixed != text
    assert [c for c in mixed if not c.isalpha()] == [c for c in text if not c.isalpha()]


@pytest.mark.parametrize(
    ("gone", "left"),
    [
        ({"a"}, "b, c (d) e."),
        ({"b"}, "a, c (d) e."),
        ({"e"}, "a b, c (d)."),
        ({"a", "b"}, ", c (d) e."),
        ({"c", "d"}, "a b, () e."),
    ],
)
def test_a_deleted_word_takes_one_space_with_it(gone: set[str], left: str) -> None:
    noise = make("delete", probability=0.5)
    text = "a b, c (d) e."
    results = {noisy(noise, text, index) for index in range(2000)}
    assert {result.replace(" (", "(") for result in results} >= {left.replace(" (", "(")}
    assert all("  " not in result and result == result.strip() for result in results)


@pytest.mark.parametrize("probability", [0.05, 0.2, 0.7])
@pytest.mark.parametrize("operation", ["infill", "delete", "span"])
def test_the_share_of_changed_words_is_the_probability(operation: str, probability: float) -> None:
    text = " ".join(f"w{i}" for i in range(40))
    noise = make(operation, probability=probability)
    runs = 2000
    kept = sum(len([w for w in words(noisy(noise, text, index)) if w[0] == "w"]) for index in range(runs))
    if operation == "span":  # neighbours go together, so the mean over texts is what is tested
        assert abs(1 - kept / (40 * runs) - probability) < 4 * (probability * 5 / (40 * runs)) ** 0.5
    else:
        assert binomtest(40 * runs - kept, 40 * runs, probability).pvalue > 1e-4


def test_every_place_is_masked_alike_by_spans() -> None:
    text = " ".join(f"w{i}" for i in range(10))
    noise = make("span", probability=0.3)
    kept = Counter(word for index in range(5000) for word in words(noisy(noise, text, index)))
    for place in range(10):
        assert binomtest(kept[f"w{place}"], 5000, 0.7).pvalue > 1e-4


@pytest.mark.parametrize("mean", [1.0, 2.0, 4.0])
def test_span_lengths_are_geometric(mean: float) -> None:
    count = 60
    text = " ".join(f"w{i}" for i in range(count))
    noise = make("span", probability=0.15, span_length=mean)
    lengths: Counter[int] = Counter()
    for index in range(3000):
        pieces = noisy(noise, text, index).split()
        at = [int(p[1:]) if p[0] == "w" else -1 for p in pieces]
        for before, masked, after in zip(at, at[1:], at[2:], strict=False):
            # Runs with a word on both sides, begun early enough not to be cut by the end of the text.
            if before >= 0 and masked == -1 and after >= 0 and before < count // 3:
                lengths[after - before - 1] += 1
    total = sum(lengths.values())
    if mean == 1:
        assert lengths.keys() == {1}
        return
    expected = [total * (1 - 1 / mean) ** (k - 1) / mean for k in range(1, 7)]
    seen = [lengths[k] for k in range(1, 7)]
    assert chisquare([*seen, total - sum(seen)], [*expected, total - sum(expected)]).pvalue > 1e-4


def test_chains_are_drawn_by_weight() -> None:
    noise = Noise(NoiseConfig(mixture={"infill": 3, "permute": 1}, probability=1))
    text = "a b c d e f g h"
    infilled = sum("_" in noisy(noise, text, index) for index in range(4000))
    assert binomtest(infilled, 4000, 0.75).pvalue > 1e-4


def test_noise_takes_linear_time() -> None:
    text = "kata " * 200_000
    start = time.process_time()
    assert noisy(make("delete+infill+permute+span"), text)
    assert time.process_time() - start < 10  # a quadratic step takes minutes
