"""Bilingual lexicons: files in any corpus format, with a word or a phrase instead of a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from instructalign.errors import DataError
from instructalign.plugins import FORMATS, Entry
from instructalign.types import Counts

Lexicon = Mapping[str, Sequence[str]]
"""The translations of each word, all in one language pair."""


def read_lexicons(
    entries: Sequence[Entry], directions: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], Lexicon]:
    """Reads lexicons for the given language pairs.

    Args:
        entries: the files.
        directions: every (source, target) to read.

    Returns:
        For each direction that a file has, the translations of each word, spelled as in the file.

    Raises:
        DataError: a file is wrong, or none has any of the directions.
    """
    languages = sorted({code for pair in directions for code in pair})
    found: dict[tuple[str, str], dict[str, dict[str, None]]] = {}
    for entry in entries:
        for row in FORMATS.get(entry.name)(languages, Counts(), **entry.options):
            for source, target in directions:
                if source in row.texts and target in row.texts:
                    of_word = found.setdefault((source, target), {}).setdefault(row.texts[source], {})
                    of_word[row.texts[target]] = None
    if not found:
        raise DataError(
            f"the lexicons have no word in any of the pairs {', '.join(map('-'.join, directions))}. Add a "
            "lexicon of a pivot and a new language, or remove its objective from instructions.objectives."
        )
    return {
        pair: {word: list(translations) for word, translations in lexicon.items()}
        for pair, lexicon in found.items()
    }
