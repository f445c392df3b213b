"""Translations on disk."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from instructalign.errors import DataError
from instructalign.files import read_jsonl


@dataclass(frozen=True, slots=True)
class Translated:
    """What a model made of one sentence under one prompt.

    Attributes:
        task, prompt, item: what was asked.
        source, target: codes of the languages.
        text: the sentence.
        reference: what it should be in the target language.
        translation: what the model wrote, up to the end of the line.
        unfinished: whether it wrote as long as it was allowed to.
    """

    task: str
    prompt: str
    item: str
    source: str
    target: str
    text: str
    reference: str
    translation: str
    unfinished: bool = False


def read_translations(path: Path) -> list[Translated]:
    """Reads a file of translations.

    Raises:
        DataError: a line is not one; the message names it.
    """
    records = []
    for number, record in read_jsonl(path):
        try:
            records.append(Translated(**record))
        except TypeError:
            raise DataError(f"{path}:{number}: not a translation.") from None
    return records
