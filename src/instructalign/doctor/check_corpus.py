"""Checks of the parallel corpus: size, filters, split, and columns in the wrong language."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product

from instructalign.config import Config, FilterConfig
from instructalign.data import Corpus, ItemText
from instructalign.data.corpus import read_entry
from instructalign.data.filters import Cleaner
from instructalign.data.shared_sentences import find_placeholders, text_keys
from instructalign.doctor.findings import Findings, first_few, percent
from instructalign.errors import DataError
from instructalign.languages import is_synthetic, plain_code
from instructalign.mixture.training_data import corpus_languages, optional_languages, prepare_corpus
from instructalign.types import Counts, ParallelRow

_FEW_ROWS = 500  # of a pair, below which a warning is due: the smallest amount that the paper trained on
_MANY_DROPPED = 0.2  # share of rows
_MANY_SUSPICIOUS = 0.02  # share of texts
_MANY_HELD_OUT = 0.2  # share of rows

_MIN_TEXTS = 30  # per language, to learn its trigrams from, and to judge
_MAX_TEXTS = 300  # per language, of the corpus and of the test items
_SMOOTHING = 0.1  # count of an unseen trigram


@dataclass(frozen=True, slots=True)
class CorpusPart:
    """What was read and what is left.

    Attributes:
        read: rows read, over all corpora.
        dropped: rows dropped, by reason.
        filtered: by filter, how many texts it removed from rows.
        looked_at: how many rows the stricter filters were tried on.
        texts: how many texts those rows have.
        stricter: by filter of the preset `standard`, how many of these texts it would remove in addition.
        train, heldout: rows to train on and held-out rows.
        sentences: rows to train on by language.
        pairs: rows to train on by pair of a pivot and a target, `eng-jav`.
    """

    read: int
    dropped: dict[str, int]
    filtered: dict[str, int]
    looked_at: int
    texts: int
    stricter: dict[str, int]
    train: int
    heldout: int
    sentences: dict[str, int]
    pairs: dict[str, int]


def examine_corpus(
    config: Config, sample: int
) -> tuple[Corpus | None, Corpus | None, CorpusPart | None, Findings]:
    """Reads the corpora as a run would, and counts.

    Args:
        config: the run's configuration.
        sample: how many rows to try stricter filters on.

    Returns:
        The rows to train on and those held out; these and the part are None if the corpora cannot be read.
    """
    findings = Findings("corpora")
    try:
        corpus, heldout, _ = prepare_corpus(config)
    except DataError as error:
        for number, entry in enumerate(config.corpora):  # each corpus that cannot be read alone
            try:
                for _ in read_entry(entry, "", corpus_languages(config), Counts()):
                    pass
            except DataError as reason:
                findings.problem(str(reason), f"Fix the file given in corpora.{number} (counted from 0).")
        if not findings:
            findings.problem(str(error), "Change corpora, languages, filter or instructions.heldout accordingly.")
        return None, None, None, findings
    sentences: Counter[str] = Counter()
    counts: Counter[tuple[str, str]] = Counter()
    alone: Counter[str] = Counter()
    optional = optional_languages(config)
    pivots = [code for code in config.pivots if code in corpus.languages or code not in optional]
    pairs = [(pivot, target) for pivot, target in product(pivots, config.targets) if pivot != target]
    for row in corpus:
        sentences.update(row.texts.keys())
        counts.update((pivot, target) for pivot, target in pairs if pivot in row.texts and target in row.texts)
        if len(row.texts) == 1:
            alone.update(row.texts.keys())
    rows = list(evenly_spaced(corpus, sample))
    cleaner = Cleaner(FilterConfig(preset="standard", without=["duplicates", "normalise"]))
    findings.extend(_check_placeholders(corpus))
    for row in rows:
        cleaner.clean(row)
    part = CorpusPart(
        read=corpus.counts.read,
        dropped={reason: count for reason, count in corpus.counts.dropped.items() if reason != "held out"},
        filtered={name: removed.texts for name, removed in corpus.removed.items()},
        looked_at=len(rows),
        texts=sum(len(row.texts) for row in rows),
        stricter={name: removed.texts for name, removed in cleaner.removed.items()},
        train=len(corpus),
        heldout=len(heldout),
        sentences={code: sentences[code] for code in dict.fromkeys([*config.pivots, *config.targets])},
        pairs={f"{pivot}-{target}": counts[pivot, target] for pivot, target in pairs},
    )
    findings.ok(f"{part.read:,} rows read; {part.train:,} to train on, {part.heldout:,} held out.")
    synthetic = [f"{count:,} in {plain_code(code)}" for code, count in sentences.items() if is_synthetic(code)]
    if synthetic:
        findings.ok(f"Synthetic sentences, given and never taught: {', '.join(synthetic)}.")
    dropped = sum(part.dropped.values())
    if dropped > _MANY_DROPPED * part.read:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in part.dropped.items())
        findings.warn(
            f"{percent(dropped / part.read)} of the rows read are dropped: {reasons}.",
            "Write them to a file with filter.rejects and check them; if good rows are dropped, change filter.",
        )
    stricter = sum(part.stricter.values())
    if config.filter.preset in ("none", "basic") and stricter > _MANY_SUSPICIOUS * part.texts:
        reasons = ", ".join(f"{name} {percent(count / part.texts)}" for name, count in part.stricter.items())
        findings.warn(
            f"{percent(stricter / part.texts)} of the texts look damaged or misplaced ({reasons}).",
            "Set filter.preset to standard, which drops them, and filter.rejects to a file that lists them.",
        )
    if part.heldout > _MANY_HELD_OUT * (part.train + part.heldout):
        findings.warn(
            f"{percent(part.heldout / (part.train + part.heldout))} of the rows are held out.",
            f"Lower instructions.heldout ({part.heldout}), or add a corpus.",
        )
    most = {target: max((counts[pivot, target] for pivot in pivots), default=0) for target in config.targets}
    few = [f"{target} {count}" for target, count in most.items() if 0 < count < _FEW_ROWS]
    few += [f"{code} {count}" for code, count in alone.items() if count < _FEW_ROWS and not most.get(code)]
    if few:
        findings.warn(
            f"Few rows to learn from: {first_few(few)}.",
            f"Add a corpus under corpora; the paper's smallest has {_FEW_ROWS} rows.",
        )
    return corpus, heldout, part, findings


def _check_placeholders(corpus: Corpus) -> Findings:
    """Warns of texts that stand in the place of missing translations."""
    findings = Findings("corpora")
    whole = corpus.whole  # with duplicates, which tell a sentence that is often there from a placeholder
    columns = list(text_keys(whole, len(whole), corpus.languages))
    for code, keys, distinct in zip(corpus.languages, columns, find_placeholders(columns), strict=True):
        rows = distinct.nonzero()[0]
        if not len(rows):
            continue
        number, among = len(rows), int((keys != 0).sum())
        texts = list(dict.fromkeys(whole[int(row)].texts[code] for row in rows))
        findings.warn(
            f"{number:,} of the {among:,} texts in {code} stand in the place of missing translations, "
            f"one text against many different ones: {first_few([repr(text) for text in texts])}.",
            "Set filter.preset to standard, or filter.placeholders to drop.",
        )
    return findings


def evenly_spaced(corpus: Corpus, sample: int) -> Iterator[ParallelRow]:
    """At most `sample` rows of a corpus at equal distances, so that each of several files has its part."""
    count = min(sample, len(corpus))
    return (corpus[number * len(corpus) // count] for number in range(count))


def check_column_languages(corpus: Corpus | None, items: Iterable[ItemText]) -> Findings:
    """Warns of columns most of whose texts are more similar to another language's test items than to their own.

    A text is assigned to the language with the highest likelihood under smoothed character-trigram frequencies (as
    in Cavnar and Trenkle 1994). On FLORES-200, by NusaX's items, 78 to 100 per cent of the sentences of nine
    languages, Banjarese and Minangkabau among them, are assigned to their own.

    Args:
        corpus: the rows to train on.
        items: the texts of the evaluation, whose languages are taken as given.
    """
    findings = Findings("corpus")
    known: dict[str, list[str]] = {}
    for item in items:
        if len(known.setdefault(item.language, [])) < _MAX_TEXTS:
            known[item.language].append(item.text)
    counts = {
        code: Counter(gram for text in texts for gram in _trigrams(text))
        for code, texts in known.items()
        if len(texts) >= _MIN_TEXTS
    }
    if corpus is None or len(counts) < 2:
        return findings
    kinds = len(set().union(*counts.values()))
    # By language: the log-probability of each trigram, and of an unseen one.
    models: dict[str, tuple[dict[str, float], float]] = {}
    for code, count in counts.items():
        total = math.log(sum(count.values()) + _SMOOTHING * kinds)
        seen = {gram: math.log(number + _SMOOTHING) - total for gram, number in count.items()}
        models[code] = (seen, math.log(_SMOOTHING) - total)

    def most_likely(text: str) -> str:
        grams = list(_trigrams(text))
        return max(models, key=lambda code: sum(models[code][0].get(gram, models[code][1]) for gram in grams))

    columns: dict[str, list[str]] = {}
    for row in evenly_spaced(corpus, _MAX_TEXTS):
        for code, text in row.texts.items():
            columns.setdefault(code, []).append(text)
    for code, texts in columns.items():
        if code not in models or len(texts) < _MIN_TEXTS:
            continue
        other, number = Counter(map(most_likely, texts)).most_common(1)[0]
        if other != code and 2 * number > len(texts):
            findings.warn(
                f"The texts given as {code} look like {other}: {percent(number / len(texts))} of them are most "
                f"similar to the test items in {other}.",
                "Check the columns or files under corpora; two may be swapped.",
            )
    return findings


def _trigrams(text: str) -> Iterator[str]:
    spaced = f" {' '.join(text.casefold().split())} "
    return (spaced[start : start + 3] for start in range(len(spaced) - 2))
