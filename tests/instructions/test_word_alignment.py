from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from instructalign.instructions.word_alignment import WordAligner, train_aligner

VOCABULARY = {f"a{i}": f"b{(i * 7) % 60}" for i in range(60)}


def pairs(count: int, *, shuffled: bool, seed: int = 0) -> list[tuple[list[str], list[str], list[int]]]:
    """Sentences of a made-up language, word by word translations of them, and the true links."""
    random_words = random.Random(seed)
    made = []
    for _ in range(count):
        source = random_words.sample(list(VOCABULARY), 8)
        order = list(range(8))
        if shuffled:
            random_words.shuffle(order)
        made.append((source, [VOCABULARY[source[i]] for i in order], order))
    return made


@pytest.mark.parametrize("shuffled", [False, True])
def test_it_finds_the_links_of_a_known_lexicon(shuffled: bool) -> None:
    made = pairs(300, shuffled=shuffled)
    aligner = train_aligner((" ".join(source), " ".join(target)) for source, target, _ in made)
    right = found = 0
    for source, target, order in made:
        links = aligner.links(source, target)
        found += len(links)
        right += sum(order[j] == i for i, j in links)
        assert len({i for i, _ in links}) == len({j for _, j in links}) == len(links)
    assert right / found > 0.99
    assert found / (8 * 300) > 0.9


def test_words_without_a_counterpart_stay_unlinked() -> None:
    made = pairs(300, shuffled=True)
    aligner = train_aligner(
        (" ".join(source), " ".join([*target, f"only{i}"])) for i, (source, target, _) in enumerate(made)
    )
    source, target, _ = made[0]
    links = aligner.links([*source, "unseen"], [*target, "only0"])
    assert 8 not in {i for i, _ in links}
    assert 8 not in {j for _, j in links}


def test_the_opposite_direction_finds_the_same() -> None:
    made = pairs(50, shuffled=True)
    aligner = train_aligner((" ".join(source), " ".join(target)) for source, target, _ in made)
    for source, target, _ in made:
        there = aligner.links(source, target)
        back = aligner.reversed().links(target, source)
        assert sorted((i, j) for j, i in back) == there


def test_case_does_not_matter_and_links_follow_the_diagonal() -> None:
    aligner = WordAligner({"a": {"x": 0.9}})
    assert aligner.links(["A"], ["X"]) == [(0, 0)]
    assert aligner.links(["a", "q", "a"], ["x", "q", "x"]) == [(0, 0), (2, 2)]
    assert aligner.links(["a", "a"], ["x"]) in ([(0, 0)], [(1, 0)])
    assert aligner.links([], ["x"]) == aligner.links(["a"], []) == []


def test_nothing_to_learn_from() -> None:
    assert train_aligner([]).links(["a"], ["b"]) == []
    assert train_aligner([("", "b"), ("a", "?")]).links(["a"], ["b"]) == []


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("instructalign.instructions.word_alignment._CELLS", 500)
    monkeypatch.setattr("instructalign.instructions.word_alignment._LONG", 10)
    read = []

    def endless() -> Iterator[tuple[str, str]]:
        yield "x " * 100, "y " * 100  # too long to learn from
        while True:
            read.append(1)
            yield "a b", "c d"

    aligner = train_aligner(endless())
    assert len(read) == 126
    assert aligner.links(["x"], ["y"]) == []
    assert aligner.links(["a", "b"], ["c", "d"]) == [(0, 0), (1, 1)]
