"""Reads the corpora of a configuration into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from instructalign.corpora.corpus import Corpus
from instructalign.corpora.store import RowStore
from instructalign.errors import DataError
from instructalign.languages import canonical
from instructalign.records import Counts, ParallelRow
from instructalign.registry import FORMATS

if TYPE_CHECKING:
    from instructalign.config import Entry


def read_corpora(entries: Sequence[Entry], languages: Sequence[str]) -> Corpus:
    """Reads corpora one behind the other into one.

    A row's id gets the name of its corpus before it (`flores200/dev-0001`), so that ids of two corpora are
    never taken for each other: the label given to it, or the name of its file or folder. Corpora of one label
    share their ids, so that a sentence that several of them have is split as one.

    Args:
        entries: the corpora of a configuration.
        languages: the languages wanted; text in others is not read.

    Raises:
        DataError: a file is wrong, nothing is left of a corpus, or no corpus has text in one of the languages.
    """
    wanted = list(dict.fromkeys(map(canonical, languages)))
    counts = Counts()
    store = RowStore(_rows(entries, wanted, counts))
    absent = [code for code in wanted if code not in store.languages]
    if absent:
        raise DataError(
            f"no corpus has text in {', '.join(absent)}. Languages found: "
            f"{', '.join(sorted(store.languages))}. Add a corpus, or take the language out of the configuration."
        )
    return Corpus(store, counts, store.languages)


def _rows(entries: Sequence[Entry], languages: Sequence[str], total: Counts) -> Iterator[ParallelRow]:
    for entry, name in zip(entries, corpus_names(entries), strict=True):
        counts = Counts()
        for row in FORMATS.get(entry.name)(languages, counts, **entry.options):
            counts.kept += 1
            yield ParallelRow(f"{name}/{row.id}", row.texts)
        if not counts.kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
            raise DataError(
                f"corpus {name!r} ({entry.name}) has no rows: {counts.read} read"
                f"{f', all dropped: {reasons}' if reasons else ''}."
            )
        total.add(counts)


def corpus_names(entries: Sequence[Entry]) -> list[str]:
    """A name for each corpus: its label, or that of its file or folder, with folders where two are alike."""
    places = [_place(entry) for entry in entries]
    names: list[str] = []
    for index, (entry, parts) in enumerate(zip(entries, places, strict=True)):
        others = [other for other in places if other != parts]
        length = 1
        while length < len(parts) and any(other[-length:] == parts[-length:] for other in others):
            length += 1
        twins = sum(other == parts for other in places[:index])
        name = "/".join(parts[-length:]) + (f"-{twins + 1}" if twins else "")
        names.append(entry.label or name)
    return names


def _place(entry: Entry) -> tuple[str, ...]:
    """The parts of the first path among an entry's options, without endings; its format where it has none."""
    for option in entry.options.values():
        for value in option.values() if isinstance(option, Mapping) else [option]:
            if isinstance(value, Path):
                return (*value.parts[:-1], value.name.partition(".")[0] or value.name)
    return (entry.name,)
