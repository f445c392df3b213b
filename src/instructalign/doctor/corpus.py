"""The corpora: what is read, what the filters drop, and what is left for each language and pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from instructalign.config import Config, Entry, FilterConfig
from instructalign.corpora import Corpus
from instructalign.corpora.clean import Cleaner
from instructalign.doctor.findings import Findings, listed, percent
from instructalign.errors import DataError
from instructalign.mixture.build import optional_of, read_rows
from instructalign.records import Counts, ParallelRow
from instructalign.registry import FORMATS

FEW = 500
"""Rows of a pair below which a warning is due: the smallest amount that the paper trained on."""
DROPPED = 0.2  # share of rows
STRICTER = 0.02  # share of texts
HELD_OUT = 0.2  # share of rows


@dataclass(frozen=True, slots=True)
class CorpusPart:
    """What was read and what is left.

    Attributes:
        read: rows read, over all corpora.
        dropped: rows dropped, by reason.
        filtered: by filter, how many texts it took out of rows.
        looked_at: how many rows the stricter filters were tried on.
        texts: how many texts those rows have.
        stricter: by filter of the preset `standard`, how many of these texts it would take out besides.
        train, heldout: rows to train on and rows kept apart.
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


def examine_corpus(config: Config, sample: int) -> tuple[Corpus | None, CorpusPart | None, Findings]:
    """Reads the corpora as a run would, and counts.

    Args:
        config: the run's configuration.
        sample: how many rows to try stricter filters on.

    Returns:
        The rows to train on; both parts are None where the corpora cannot be read.
    """
    findings = Findings("corpora")
    # A run writes the file of rejects; an examination leaves no trace.
    quiet = config.model_copy(update={"filter": config.filter.model_copy(update={"rejects": None})})
    try:
        corpus, heldout = read_rows(quiet)
    except DataError as error:
        broken = list(_broken(config))
        for key, reason in broken:
            findings.problem(reason, f"Mend what {key} names.")
        if not broken:
            findings.problem(str(error), "Change corpora, languages, filter or instructions.heldout as it says.")
        return None, None, findings
    part = _count(config, corpus, heldout, sample)
    _judge(config, part, findings)
    return corpus, part, findings


def _broken(config: Config) -> Iterator[tuple[str, str]]:
    """Each corpus that cannot be read, with the reason."""
    languages = list(dict.fromkeys([*config.pivots, *config.targets]))
    for number, entry in enumerate(config.corpora):
        try:
            for _ in _rows(entry, languages):
                pass
        except DataError as error:
            yield f"corpora.{number}", str(error)


def _rows(entry: Entry, languages: list[str]) -> Iterator[ParallelRow]:
    yield from FORMATS.get(entry.name)(languages, Counts(), **entry.options)


def _count(config: Config, corpus: Corpus, heldout: Corpus, sample: int) -> CorpusPart:
    sentences: Counter[str] = Counter()
    pairs: Counter[str] = Counter()
    pivots = [code for code in config.pivots if code in corpus.languages or code not in optional_of(config)]
    wanted = [(one, other) for one, other in product(pivots, config.targets) if one != other]
    for row in corpus:
        sentences.update(row.texts.keys())
        pairs.update(f"{one}-{other}" for one, other in wanted if one in row.texts and other in row.texts)
    rows = list(spread(corpus, sample))
    cleaner = Cleaner(FilterConfig(preset="standard", without=["duplicates", "normalise"]))
    for row in rows:
        cleaner.clean(row)
    return CorpusPart(
        read=corpus.counts.read,
        dropped={reason: count for reason, count in corpus.counts.dropped.items() if reason != "held out"},
        filtered={name: removed.texts for name, removed in corpus.removed.items()},
        looked_at=len(rows),
        texts=sum(len(row.texts) for row in rows),
        stricter={name: removed.texts for name, removed in cleaner.removed.items()},
        train=len(corpus),
        heldout=len(heldout),
        sentences={code: sentences[code] for code in dict.fromkeys([*config.pivots, *config.targets])},
        pairs={f"{one}-{other}": pairs[f"{one}-{other}"] for one, other in wanted},
    )


def spread(corpus: Corpus, sample: int) -> Iterator[ParallelRow]:
    """So many rows of a corpus at even distances, so that each of several files has its part."""
    count = min(sample, len(corpus))
    return (corpus[number * len(corpus) // count] for number in range(count))


def _judge(config: Config, part: CorpusPart, findings: Findings) -> None:
    findings.ok(f"{part.read:,} rows read; {part.train:,} to train on, {part.heldout:,} held out.")
    dropped = sum(part.dropped.values())
    if dropped > DROPPED * part.read:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in part.dropped.items())
        findings.warn(
            f"{percent(dropped / part.read)} of the rows read are dropped: {reasons}.",
            "Look at them in a file named by filter.rejects; where good rows go, change the bounds in filter.",
        )
    stricter = sum(part.stricter.values())
    if config.filter.preset in ("none", "basic") and stricter > STRICTER * part.texts:
        reasons = ", ".join(f"{name} {percent(count / part.texts)}" for name, count in part.stricter.items())
        findings.warn(
            f"{percent(stricter / part.texts)} of the texts look damaged or misplaced ({reasons}).",
            "Set filter.preset to standard, which drops them, and filter.rejects to a file that shows them.",
        )
    if part.heldout > HELD_OUT * (part.train + part.heldout):
        findings.warn(
            f"{percent(part.heldout / (part.train + part.heldout))} of the rows are held out.",
            f"Lower instructions.heldout ({config.instructions.heldout}), or add a corpus.",
        )
    few = {}
    for target in config.targets:
        most = max((count for pair, count in part.pairs.items() if pair.endswith(f"-{target}")), default=0)
        if 0 < most < FEW:
            few[target] = most
    if few:
        findings.warn(
            f"Few rows to learn from: {listed([f'{code} {count}' for code, count in few.items()])}.",
            f"Add a corpus under corpora; the least that the method was tried with is {FEW} rows.",
        )
