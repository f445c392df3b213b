"""Reads the corpora of a configuration into one."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from instructalign.config import Entry, FilterConfig
from instructalign.corpora.clean import Cleaner, Removed, cleaning
from instructalign.corpora.corpus import Corpus
from instructalign.corpora.duplicates import Marks, find_exact, find_near
from instructalign.corpora.store import RowStore, Selection
from instructalign.errors import ConfigError, DataError
from instructalign.languages import canonical
from instructalign.records import Counts, ParallelRow
from instructalign.registry import FORMATS
from instructalign.strict import explain_all

logger = logging.getLogger(__name__)


def read_corpora(
    entries: Sequence[Entry],
    languages: Sequence[str],
    filter: FilterConfig | None = None,
    optional: Collection[str] = (),
) -> Corpus:
    """Reads corpora one behind the other into one, and cleans it.

    A row's id gets the name of its corpus before it (`flores200/dev-0001`), so that ids of two corpora are
    never taken for each other: the label given to it, or the name of its file or folder. Corpora of one label
    share their ids, so that a sentence that several of them have is split as one.

    Args:
        entries: the corpora, as in a configuration: `{"format": "moses", "files": {"en": …, "id": …}}`.
        languages: the languages wanted, the known ones first; text in others is not read.
        filter: which rows to keep; all by default.
        optional: languages of which there need not be text.

    Raises:
        ConfigError: an entry is wrong.
        DataError: a file is wrong, nothing is left of a corpus, or no corpus has text in one of the others.
    """
    wanted = list(dict.fromkeys(map(canonical, languages)))
    counts = Counts()
    with cleaning(filter or FilterConfig(preset="none")) as cleaner:
        store = RowStore(_rows(check_entries(entries), wanted, counts, cleaner))
        rows = _without_duplicates(store, counts, cleaner)
    check_languages(wanted, store.languages, cleaner.removed, optional)
    return Corpus(rows, counts, store.languages, cleaner.removed)


def check_languages(
    wanted: Sequence[str], found: Collection[str], removed: Mapping[str, Removed], optional: Collection[str] = ()
) -> None:
    """Refuses corpora without text in one of the languages wanted; of optional ones the log says so.

    Raises:
        DataError: there is none; the message says what there is, and what filters took out.
    """
    spared = [code for code in wanted if code not in found and code in optional]
    absent = [code for code in wanted if code not in found and code not in optional]
    if spared and not absent:
        logger.warning("no corpus has text in %s: nothing is aligned with it", ", ".join(spared))
    if absent:
        taken = ", ".join(f"{name} {each.texts}" for name, each in removed.items())
        raise DataError(
            f"no corpus has text in {', '.join(absent)}. Languages found: "
            f"{', '.join(sorted(found)) or 'none'}. Add a corpus, or take the language out of the "
            f"configuration.{f' Texts taken out by filters: {taken}.' if taken else ''}"
        )


def check_entries(entries: Sequence[Entry | Mapping[str, Any]]) -> list[Entry]:
    """Entries with checked options; those of a configuration are so already, and stay as they are.

    Raises:
        ConfigError: an option is wrong.
    """
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
            problems.extend(explain_all(error.errors(), f"corpora.{place}", model))
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
        yield from clean_rows(read_entry(entry, name, languages, counts), cleaner, counts)
        check_kept(entry, name, counts)
        total.add(counts)


def read_entry(entry: Entry, name: str, languages: Sequence[str], counts: Counts) -> Iterator[ParallelRow]:
    """The rows of one corpus, with its name before their ids."""
    for row in FORMATS.get(entry.name)(languages, counts, **entry.options):
        yield ParallelRow(f"{name}/{row.id}", row.texts)


def clean_rows(rows: Iterable[ParallelRow], cleaner: Cleaner, counts: Counts) -> Iterator[ParallelRow]:
    """The rows that filters leave, counted as kept; the others are counted with their reasons."""
    for each in rows:
        row, reason = cleaner.clean(each)
        if row is None:
            counts.drop(reason)
        else:
            counts.kept += 1
            yield row


def check_kept(entry: Entry, name: str, counts: Counts) -> None:
    """Refuses a corpus of which nothing is left.

    Raises:
        DataError: nothing is; the message has the reasons.
    """
    if not counts.kept:
        reasons = ", ".join(f"{count} {reason}" for reason, count in counts.dropped.items())
        raise DataError(
            f"corpus {name!r} ({entry.name}) has no rows: {counts.read} read"
            f"{f', all dropped: {reasons}' if reasons else ''}."
        )


def _without_duplicates(rows: RowStore, counts: Counts, cleaner: Cleaner) -> Sequence[ParallelRow]:
    find = {"exact": find_exact, "near": find_near}.get(cleaner.duplicates)
    if find is None:
        return rows
    marks = Marks(len(rows))
    for index, likeness in find(rows):
        marks.put(index, likeness)
    return take_out(rows, marks, counts, cleaner)


def take_out(rows: Sequence[ParallelRow], marks: Marks, counts: Counts, cleaner: Cleaner) -> Sequence[ParallelRow]:
    """The rows without the duplicates that are marked, which are written down and counted."""
    if not marks.count:
        return rows
    for index, likeness in marks:
        code, text = next(iter(rows[index].texts.items()))
        cleaner.remove("duplicates", rows[index].id, code, text, likeness)
    cleaner.removed["duplicates"].rows = marks.count
    counts.drop("duplicates", marks.count)
    counts.kept -= marks.count
    return Selection(rows, marks.unmarked())


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
