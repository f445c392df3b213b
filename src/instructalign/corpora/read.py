"""Reads the corpora of a configuration into one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from instructalign.config import Entry, FilterConfig
from instructalign.corpora.clean import Cleaner, cleaning
from instructalign.corpora.corpus import Corpus
from instructalign.corpora.duplicates import find_exact, find_near
from instructalign.corpora.store import RowStore, Selection
from instructalign.errors import ConfigError, DataError
from instructalign.languages import canonical
from instructalign.records import Counts, ParallelRow
from instructalign.registry import FORMATS
from instructalign.strict import explain


def read_corpora(entries: Sequence[Entry], languages: Sequence[str], filter: FilterConfig | None = None) -> Corpus:
    """Reads corpora one behind the other into one, and cleans it.

    A row's id gets the name of its corpus before it (`flores200/dev-0001`), so that ids of two corpora are
    never taken for each other: the label given to it, or the name of its file or folder. Corpora of one label
    share their ids, so that a sentence that several of them have is split as one.

    Args:
        entries: the corpora, as in a configuration: `{"format": "moses", "files": {"en": …, "id": …}}`.
        languages: the languages wanted, the known ones first; text in others is not read.
        filter: which rows to keep; all by default.

    Raises:
        ConfigError: an entry is wrong.
        DataError: a file is wrong, nothing is left of a corpus, or no corpus has text in one of the languages.
    """
    wanted = list(dict.fromkeys(map(canonical, languages)))
    counts = Counts()
    with cleaning(filter or FilterConfig(preset="none")) as cleaner:
        store = RowStore(_rows(_check_entries(entries), wanted, counts, cleaner))
        rows = _without_duplicates(store, counts, cleaner)
    absent = [code for code in wanted if code not in store.languages]
    if absent:
        taken = ", ".join(f"{name} {removed.texts}" for name, removed in cleaner.removed.items())
        raise DataError(
            f"no corpus has text in {', '.join(absent)}. Languages found: "
            f"{', '.join(sorted(store.languages)) or 'none'}. Add a corpus, or take the language out of the "
            f"configuration.{f' Texts taken out by filters: {taken}.' if taken else ''}"
        )
    return Corpus(rows, counts, store.languages, cleaner.removed)


def _check_entries(entries: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
    """Entries with checked options; those of a configuration are so already, and stay as they are."""
    checked: list[Entry] = []
    problems: list[str] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, Entry):
            options = dict(entry)
            name, label = str(options.pop("format", "")), options.pop("label", None)
            entry = Entry(name=name, label=label, options=options)
        model = FORMATS.options(entry.name)
        try:
            found = model.model_validate(entry.options)
        except ValidationError as error:
            problems.extend(explain(details, f"corpora.{place}", model) for details in error.errors())
        else:
            values = {key: getattr(found, key) for key in model.model_fields}
            checked.append(entry.model_copy(update={"options": values}))
    if problems:
        raise ConfigError(problems)
    return checked


def _rows(
    entries: Sequence[Entry], languages: Sequence[str], total: Counts, cleaner: Cleaner
) -> Iterator[ParallelRow]:
    for entry, name in zip(entries, corpus_names(entries), strict=True):
        counts = Counts()
        for read in FORMATS.get(entry.name)(languages, counts, **entry.options):
            row, reason = cleaner.clean(ParallelRow(f"{name}/{read.id}", read.texts))
            if row is None:
                counts.drop(reason)
            else:
                counts.kept += 1
                yield row
        if not counts.kept:
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
            raise DataError(
                f"corpus {name!r} ({entry.name}) has no rows: {counts.read} read"
                f"{f', all dropped: {reasons}' if reasons else ''}."
            )
        total.add(counts)


def _without_duplicates(rows: RowStore, counts: Counts, cleaner: Cleaner) -> Sequence[ParallelRow]:
    find = {"exact": find_exact, "near": find_near}.get(cleaner.duplicates)
    if find is None:
        return rows
    doubled = bytearray(len(rows))
    for index, likeness in find(rows):
        doubled[index] = True
        code, text = next(iter(rows[index].texts.items()))
        cleaner.remove("duplicates", rows[index].id, code, text, likeness)
    if not any(doubled):
        return rows
    cleaner.removed["duplicates"].rows = sum(doubled)
    counts.drop("duplicates", sum(doubled))
    counts.kept -= sum(doubled)
    return Selection(rows, (index for index, double in enumerate(doubled) if not double))


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
