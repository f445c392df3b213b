from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from instructalign.errors import DataError
from instructalign.toy.family import DESCENT, KNOWN, NEW, RELATED, concepts, language, meaning, meanings, say

EVERY = [*KNOWN, *DESCENT]


@pytest.mark.parametrize("code", EVERY)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_language_has_one_word_for_each_concept_and_no_homonyms(code: str, seed: int) -> None:
    toy_language = language(code, seed=seed)
    assert list(toy_language.words) == list(concepts())
    assert len(set(toy_language.words.values())) == len(concepts())
    assert all(word.isalpha() and word.islower() for word in toy_language.words.values())


def test_codes_are_private_and_names_differ() -> None:
    assert all("qaa" <= code <= "qtz" for code in EVERY)
    assert len({language(code).name for code in EVERY}) == len(EVERY)
    assert NEW == ("qna", "qnb")
    assert RELATED == ("qra", "qrb", "qrc")


def test_known_languages_share_at_most_chance_words() -> None:
    for code in KNOWN[1:]:
        shared = sum(language(code).words[concept] == language("qka").words[concept] for concept in concepts())
        assert shared <= 2


def test_another_seed_is_another_family() -> None:
    assert language("qka", seed=0).words != language("qka", seed=1).words


@pytest.mark.parametrize("code", DESCENT)
def test_inherited_words_are_the_parents_after_the_sound_changes(code: str) -> None:
    parent_code, relatedness = DESCENT[code]
    parent, child = language(parent_code), language(code)
    own = child.changes[len(parent.changes) :]
    assert child.changes[: len(parent.changes)] == parent.changes
    inherited = 0
    for concept in concepts():
        word = parent.words[concept]
        for change in own:  # letter by letter, unlike the code under test
            word = "".join(change[1] if letter == change[0] else letter for letter in word)
        inherited += word == child.words[concept]
    # 90 independent draws: four standard deviations are at most 0.21; a merger can cost an heir or two.
    assert abs(inherited / len(concepts()) - relatedness) < 0.2
    assert (child.order, child.adjective_first) == (parent.order, parent.adjective_first)


def test_relatedness_goes_from_no_words_to_all_and_only_adds_words() -> None:
    parent = language("qna")
    assert language("qra", relatedness=1).words == parent.words
    stranger = language("qra", relatedness=0)
    assert not [concept for concept in concepts() if stranger.words[concept] == parent.words[concept]]

    def kept(relatedness: float) -> int:
        child = language("qra", relatedness=relatedness)
        changes = child.changes[len(parent.changes) :]
        return sum(
            "".join(_changed(letter, changes) for letter in parent.words[concept]) == child.words[concept]
            for concept in concepts()
        )

    counts = [kept(dial) for dial in (0, 0.25, 0.5, 0.75, 1)]
    assert counts == sorted(counts)
    assert counts[0] < 10
    assert counts[-1] == len(concepts())


def _changed(letter: str, changes: tuple[str, ...]) -> str:
    for change in changes:
        letter = change[1] if letter == change[0] else letter
    return letter


def test_relatedness_changes_related_languages_only() -> None:
    assert language("qna", relatedness=0.9).words == language("qna").words
    assert language("qka", relatedness=0.1).words == language("qka").words


@given(st.integers(0, meanings() - 1), st.integers(0, meanings() - 1))
def test_no_two_indices_have_the_same_meaning(first: int, second: int) -> None:
    one, other = meaning(first), meaning(second)
    assert (one == other) == (first == second)
    toy_language = language("qnb")
    assert (say(toy_language, one) == say(toy_language, other)) == (first == second)


def test_every_slot_is_used_evenly() -> None:
    sentences = [meaning(index) for index in range(3000)]
    for slot, kinds in (("sentiment", 3), ("topic", 4), ("manner", 18), ("subject", 32)):
        counts = Counter(getattr(each, slot) for each in sentences)
        expected = 3000 / kinds
        assert len(counts) == kinds
        assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())
    assert all(each.subject != each.object for each in sentences)


def test_a_sentence_follows_its_languages_word_order() -> None:
    sentence = meaning(7)
    for code in KNOWN:
        toy_language = language(code)
        spoken = {word: concept for concept, word in toy_language.words.items()}
        order = [spoken[word] for word in say(toy_language, sentence).split()]
        assert sorted(order) == sorted(
            [
                sentence.subject,
                sentence.object,
                sentence.verb,
                sentence.subject_quality,
                sentence.object_quality,
                sentence.manner,
            ]
        )
        places = {
            "S": order.index(sentence.subject),
            "V": order.index(sentence.verb),
            "O": order.index(sentence.object),
        }
        assert "".join(sorted(places, key=places.__getitem__)) == toy_language.order
        assert (order.index(sentence.subject_quality) < places["S"]) == toy_language.adjective_first
        assert (order[0] == sentence.manner) == toy_language.adverb_first


def test_an_unknown_language_or_relatedness_is_refused() -> None:
    with pytest.raises(DataError, match=r"'qkz'.*qka, qkb"):
        language("qkz")
    with pytest.raises(DataError, match=r"relatedness .*found 1\.5"):
        language("qra", relatedness=1.5)
