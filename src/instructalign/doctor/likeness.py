"""Does each column of the corpora hold the language that it is named after? Told by its likeness to test items."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from instructalign.corpora import Corpus, ItemText
from instructalign.doctor.corpus import spread
from instructalign.doctor.findings import Findings, percent

ENOUGH = 30  # texts that a language is known from, and that are judged
LOOKED_AT = 300  # texts of each language at most, on either side
SMOOTHING = 0.1  # what an unseen trigram counts


def examine_likeness(corpus: Corpus | None, items: Iterable[ItemText]) -> Findings:
    """Warns of columns most of whose texts are nearer to another language's test items than to their own.

    Nearness is the likelihood under the smoothed frequencies of three letters in a row (as in Cavnar and Trenkle
    1994). On FLORES-200, judged by NusaX's items, 78 to 100 per cent of the sentences of nine languages, Banjarese
    and Minangkabau among them, are nearest to their own.

    Args:
        corpus: the rows to train on.
        items: the texts of the evaluation, which are taken to be what they are said to be.
    """
    findings = Findings("corpus")
    known = {code: texts for code, texts in _by_language(items).items() if len(texts) >= ENOUGH}
    models = _models(known)
    for code, texts in _texts(corpus).items() if corpus else ():
        if code not in models or len(texts) < ENOUGH or len(models) < 2:
            continue
        nearest = Counter(_nearest(text, models) for text in texts)
        other, count = nearest.most_common(1)[0]
        if other != code and 2 * count > len(texts):
            share = percent(count / len(texts))
            findings.warn(
                f"The texts given as {code} look like {other}: {share} of them are nearest to the test items in "
                f"{other}.",
                "Look at the columns or files of corpora; two may be named the wrong way round.",
            )
    return findings


def _by_language(items: Iterable[ItemText]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for item in items:
        some = found.setdefault(item.language, [])
        if len(some) < LOOKED_AT:
            some.append(item.text)
    return found


def _texts(corpus: Corpus) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in spread(corpus, LOOKED_AT):
        for code, text in row.texts.items():
            found.setdefault(code, []).append(text)
    return found


def _models(known: Mapping[str, Sequence[str]]) -> dict[str, tuple[Mapping[str, float], float]]:
    """By language, the logarithm of each trigram's probability, and that of an unseen one."""
    counts = {code: Counter(part for text in texts for part in _trigrams(text)) for code, texts in known.items()}
    kinds = len(set().union(*counts.values())) if counts else 0
    models: dict[str, tuple[Mapping[str, float], float]] = {}
    for code, count in counts.items():
        total = math.log(sum(count.values()) + SMOOTHING * kinds)
        seen = {part: math.log(number + SMOOTHING) - total for part, number in count.items()}
        models[code] = (seen, math.log(SMOOTHING) - total)
    return models


def _nearest(text: str, models: Mapping[str, tuple[Mapping[str, float], float]]) -> str:
    parts = list(_trigrams(text))
    return max(models, key=lambda code: sum(models[code][0].get(part, models[code][1]) for part in parts))


def _trigrams(text: str) -> Iterator[str]:
    spaced = f" {' '.join(text.casefold().split())} "
    return (spaced[start : start + 3] for start in range(len(spaced) - 2))
