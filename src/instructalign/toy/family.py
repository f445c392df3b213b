"""A made-up language family with a known truth.

Six *known* languages have their own words for the same concepts. Each *new* language descends from a known one,
each *related* language from a new one: a share of the words, the *relatedness*, is inherited through regular sound
changes, the others are replaced. A sentence is a meaning (concepts, a topic, a sentiment) that every language
expresses in its own words and word order.

Everything is a function of the family's seed and of an index, so that no data is shipped or stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from instructalign.errors import DataError, suggest
from instructalign.randomness import Draws, Permutation, digest_key

KNOWN = ("qka", "qkb", "qkc", "qkd", "qke", "qkf")
"""Codes of the languages that the shipped base model knows."""

DESCENT = {
    "qna": ("qka", 0.1),
    "qnb": ("qkb", 0.1),
    "qra": ("qna", 0.9),
    "qrb": ("qnb", 0.8),
    "qrc": ("qna", 0.7),
}
"""Of every new (`qn…`) and related (`qr…`) language: the parent and the relatedness to it.

The new ones are distant on purpose: with more common words, monolingual denoising already helps (docs/LOG.md).
"""

NEW = tuple(code for code in DESCENT if code.startswith("qn"))
RELATED = tuple(code for code in DESCENT if code.startswith("qr"))

_CONSONANTS = "ptkbdgmnslrvfhz"
_VOWELS = "aeiou"
_CHANGES = ("pf", "td", "kh", "bv", "dz", "gk", "sh", "rl", "ei", "ou", "ao", "iu", "mn", "fv", "lr", "za")
_ORDERS = ("SVO", "SOV", "VSO")


@dataclass(frozen=True, slots=True)
class ToyLanguage:
    """A toy language.

    Attributes:
        code: ISO 639-3 code for private use.
        name: its name, in its own sounds.
        words: its word for each concept; no two are the same.
        order: of subject, verb and object (`SVO`, …).
        adjective_first: whether adjectives precede their noun.
        adverb_first: whether the adverb comes first in the sentence, not last.
        sounds: consonants and vowels that new words are made of.
        changes: sound changes since the known ancestor, in order, as pairs of letters (from, to).
    """

    code: str
    name: str
    words: Mapping[str, str]
    order: str
    adjective_first: bool
    adverb_first: bool
    sounds: tuple[str, str]
    changes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Meaning:
    """The meaning of a sentence in any language: concepts by slot, and its labels."""

    topic: str
    sentiment: str
    subject: str
    object: str
    verb: str
    subject_quality: str
    object_quality: str
    manner: str


def language(code: str, *, seed: int = 0, relatedness: float | None = None) -> ToyLanguage:
    """One language of a family.

    Args:
        code: one of `KNOWN` or a key of `DESCENT`.
        seed: the family's seed; another seed is another family.
        relatedness: for a related language (`qr…`), the share of words it inherits, from 0 (none) to 1 (the same
            as the parent); that of `DESCENT` if None. The words inherited at a lower relatedness are inherited at
            a higher one too.

    Raises:
        DataError: the family has no such language, or the relatedness is outside 0 to 1.
    """
    if code not in KNOWN and code not in DESCENT:
        raise DataError(f"the toy family has no language {code!r}. {suggest(code, [*KNOWN, *DESCENT])}")
    if relatedness is not None and not 0 <= relatedness <= 1:
        raise DataError(f"relatedness must be between 0 and 1, found {relatedness}")
    return _language(code, seed, relatedness if code in RELATED else None)


@lru_cache(maxsize=256)
def _language(code: str, seed: int, relatedness: float | None) -> ToyLanguage:
    if code in KNOWN:
        return _root(code, seed)
    parent_code, usual = DESCENT[code]
    share = usual if relatedness is None else relatedness
    return _descend(_language(parent_code, seed, None), code, share, seed)


def _root(code: str, seed: int) -> ToyLanguage:
    draws = Draws(digest_key(seed, "toy language", code), 0)
    consonants, vowels = list(_CONSONANTS), list(_VOWELS)
    draws.shuffle(consonants)
    draws.shuffle(vowels)
    sounds = ("".join(consonants[:8]), "".join(vowels[:4]))
    order, adjective_first, adverb_first = draws.choice(_ORDERS), draws.below(2) == 0, draws.below(2) == 0
    words: dict[str, str] = {}
    for concept in concepts():
        words[concept] = _new_word(words, sounds, "", draws)
    name = _new_word(words, sounds, "", draws).capitalize()
    return ToyLanguage(code, name, words, order, adjective_first, adverb_first, sounds)


def _descend(parent: ToyLanguage, code: str, relatedness: float, seed: int) -> ToyLanguage:
    """A language whose words are the parent's after sound changes, a share of them replaced by new ones."""
    key = digest_key(seed, "toy language", code)
    draws = Draws(key, 0)
    pool = [change for change in _CHANGES if change not in parent.changes]
    draws.shuffle(pool)
    changes = tuple(pool[: round((1 - relatedness) * 8)])
    words: dict[str, str] = {}
    for number, concept in enumerate(concepts(), start=1):
        own = Draws(key, number)
        inherited = own.uniform() < relatedness
        word = _change(parent.words[concept], changes)
        if not inherited or word in words.values():
            word = _new_word({**parent.words, **words}, parent.sounds, (*parent.changes, *changes), own)
        words[concept] = word
    name = _new_word(words, parent.sounds, (*parent.changes, *changes), draws).capitalize()
    return ToyLanguage(
        code,
        name,
        words,
        parent.order,
        parent.adjective_first,
        parent.adverb_first,
        parent.sounds,
        (*parent.changes, *changes),
    )


def _new_word(
    taken: Mapping[str, str], sounds: tuple[str, str], changes: tuple[str, ...] | str, draws: Draws
) -> str:
    """A word of two syllables that is not yet taken."""
    consonants, vowels = sounds
    used = set(taken.values())
    while True:
        shape = draws.choice(("CVCV", "CVCVC", "VCVC", "CVCV"))
        word = "".join(draws.choice(consonants if sound == "C" else vowels) for sound in shape)
        word = _change(word, tuple(changes))
        if word not in used:
            return word


def _change(word: str, changes: tuple[str, ...]) -> str:
    for change in changes:
        word = word.replace(change[0], change[1])
    return word


def meaning(index: int, *, seed: int = 0) -> Meaning:
    """The meaning of sentence `index`; no two indices below `meanings()` have the same.

    All meanings are numbered, one digit a slot; a permutation keyed by the seed scatters the numbers, so
    that any range of indices is a fair sample and disjoint ranges share no sentence.
    """
    number = _scatter(seed)[index]
    sentiments, topics = _concepts()["sentiments"], _concepts()["topics"]

    def pick(choices: list[str]) -> str:
        nonlocal number
        number, digit = divmod(number, len(choices))
        return choices[digit]

    sentiment, topic = pick(list(sentiments)), pick(list(topics))
    nouns = list(topics[topic]["nouns"])
    subject = pick(nouns)
    nouns.remove(subject)  # nobody does it to themselves
    tone = sentiments[sentiment]
    return Meaning(
        topic=topic,
        sentiment=sentiment,
        subject=subject,
        object=pick(nouns),
        verb=pick(topics[topic]["verbs"]),
        subject_quality=pick(tone["adjectives"]),
        object_quality=pick(tone["adjectives"]),
        manner=pick(tone["adverbs"]),
    )


@lru_cache(maxsize=8)
def _scatter(seed: int) -> Permutation:
    return Permutation(meanings(), digest_key(seed, "toy meanings"))


@lru_cache(maxsize=1)
def meanings() -> int:
    """How many different sentences there are."""
    topics, tones = _concepts()["topics"].values(), _concepts()["sentiments"].values()
    scenes = {len(topic["nouns"]) * (len(topic["nouns"]) - 1) * len(topic["verbs"]) for topic in topics}
    colours = {len(tone["adjectives"]) ** 2 * len(tone["adverbs"]) for tone in tones}
    (scene,), (colour,) = scenes, colours  # every topic and every sentiment has as many words
    return len(topics) * len(tones) * int(scene) * int(colour)


def say(language: ToyLanguage, meaning: Meaning) -> str:
    """A meaning as a sentence of a language."""

    def phrase(noun: str, quality: str) -> list[str]:
        pair = [language.words[quality], language.words[noun]]
        return pair if language.adjective_first else pair[::-1]

    parts = {
        "S": phrase(meaning.subject, meaning.subject_quality),
        "V": [language.words[meaning.verb]],
        "O": phrase(meaning.object, meaning.object_quality),
    }
    clause = [word for part in language.order for word in parts[part]]
    manner = [language.words[meaning.manner]]
    return " ".join(manner + clause if language.adverb_first else clause + manner)


@lru_cache(maxsize=1)
def concepts() -> tuple[str, ...]:
    """Every concept that the languages have a word for."""
    groups = [*_concepts()["topics"].values(), *_concepts()["sentiments"].values()]
    return tuple(concept for group in groups for words in group.values() for concept in words)


@lru_cache(maxsize=1)
def _concepts() -> dict[str, Any]:
    text = files("instructalign.toy").joinpath("concepts.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded
