"""Tatoeba's weekly exports: a table of sentences and a table of links between them (https://tatoeba.org/downloads)."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from instructalign.data.formats import is_language, make_row, require_languages
from instructalign.errors import DataError
from instructalign.files import read_lines
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow


def read_tatoeba(
    languages: Sequence[str], counts: Counts, *, sentences: Path | list[Path], links: Path
) -> Iterator[ParallelRow]:
    """Reads Tatoeba's sentences and links; each link between two of the languages is a row.

    A sentence with several translations is in several rows. Row ids are the numbers of the two sentences.

    Args:
        languages: canonical codes; sentences in others are ignored.
        counts: takes what was read and dropped.
        sentences: `sentences.csv` or `sentences_detailed.csv`: number, language and text, separated by tabs; or a
            list of the files by language (`eng_sentences.tsv`).
        links: `links.csv`, or that of two languages (`jav-eng_links.tsv`): the numbers of a sentence and its
            translation, separated by a tab.

    Raises:
        DataError: a file is missing or not of this kind, or has fewer than two of the languages.

    Example:
        {format: tatoeba, sentences: sentences.csv, links: links.csv}
    """
    # A temporary database on disk, which SQLite removes: millions of sentences do not fill the memory.
    with closing(sqlite3.connect("")) as database:
        database.execute("PRAGMA journal_mode = OFF")
        database.execute("CREATE TABLE sentences (id INTEGER PRIMARY KEY, code TEXT, text TEXT)")
        codes: dict[str, str] = {}
        files = [sentences] if isinstance(sentences, Path) else sentences
        for file in files:
            rows = _sentences(file, set(languages), codes)
            database.executemany("INSERT OR REPLACE INTO sentences VALUES (?, ?, ?)", rows)
        found = {code for code in codes.values() if code}
        require_languages(languages, found, ", ".join(map(str, files)))
        database.execute("CREATE TABLE links (one INTEGER, other INTEGER, PRIMARY KEY (one, other)) WITHOUT ROWID")
        query = "SELECT code, text FROM sentences WHERE id = ?"
        for ids in _links(links):
            pair = [database.execute(query, (id,)).fetchone() for id in ids]
            if None in pair or pair[0][0] == pair[1][0]:  # a language that is not asked for; a paraphrase
                continue
            # The full export has each link in both directions, that of a pair of languages in one.
            new = database.execute("INSERT OR IGNORE INTO links VALUES (?, ?)", ids).rowcount
            if new and (row := make_row("{}-{}".format(*ids), pair, counts)):
                yield row


def _sentences(path: Path, wanted: set[str], codes: dict[str, str]) -> Iterator[tuple[int, str, str]]:
    for number, line in read_lines(path):
        id, _, rest = line.partition("\t")
        tag, tab, text = rest.partition("\t")
        if not id.isdecimal() or len(id) > 18 or not tab:
            raise DataError(
                f"{path}:{number}: expected a number, a language code and a sentence, separated by tabs, found "
                f"{line[:60]!r}."
            )
        if tag not in codes:
            codes[tag] = canonical(tag) if is_language(tag) else ""
        if codes[tag] in wanted:
            yield int(id), codes[tag], text.partition("\t")[0]


def _links(path: Path) -> Iterator[tuple[int, int]]:
    for number, line in read_lines(path):
        one, tab, other = line.partition("\t")
        if not (tab and one.isdecimal() and other.isdecimal()) or len(line) > 37:
            raise DataError(f"{path}:{number}: expected the numbers of two sentences, found {line[:60]!r}.")
        yield min(int(one), int(other)), max(int(one), int(other))
