"""What SIL FieldWorks and WeSay export: interlinear texts (flextext) and dictionaries (LIFT 0.13)."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from instructalign.data.formats import code_by_tag, require_languages, rows_of_variants
from instructalign.data.formats.xml_events import read_document
from instructalign.data.readers import files_in
from instructalign.errors import DataError
from instructalign.languages import LanguageCode
from instructalign.types import Counts, ParallelRow

_CLOSING = tuple(".,;:!?)]}…»”’%")
_OPENING = tuple("([{«“‘¿¡")
_HYPHENS = ("-", "\N{HYPHEN}", "\N{NON-BREAKING HYPHEN}")
_LEVELS = ("interlinear-text", "phrase", "word", "morph")

_Texts = dict[str, list[str]]
"""By language as the file names it, its texts."""


def read_flextext(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    of: Literal["phrases", "words"] = "phrases",
    writing_systems: Mapping[LanguageCode, str] | None = None,
) -> Iterator[ParallelRow]:
    """Reads interlinear texts of FieldWorks (FLEx) as a stream: phrases with their free translations.

    The text of a phrase is that of its words; the analysis into morphemes is left out.

    Args:
        languages: canonical codes; texts in others are ignored.
        counts: takes what was read and dropped.
        path: the file, plain or compressed; or a folder with `*.flextext`.
        of: phrases with their free translations, or words with their glosses, as a lexicon.
        writing_systems: the writing system of each language as the file names it (`seh-x-kal`); by default those
            that are the tag of the language.

    Raises:
        DataError: a file is missing, not XML, or has text in fewer than two of the languages.

    Example:
        {format: flextext, path: texts/, writing_systems: {eng: en, heg: qaa-x-helong}}
    """
    for file in files_in(path, "flextext"):
        prefix = f"{file.stem}-" if file != path else ""
        units = (unit for level, unit in _phrases_and_words(file) if level == of)
        seen = yield from _rows(units, languages, counts, writing_systems, prefix)
        if seen is not None:
            require_languages(languages, seen, file)


def read_lift(
    languages: Sequence[str],
    counts: Counts,
    *,
    path: Path,
    of: Literal["glosses", "definitions", "examples"] = "glosses",
    writing_systems: Mapping[LanguageCode, str] | None = None,
) -> Iterator[ParallelRow]:
    """Reads a dictionary in LIFT as a stream: headwords with what each sense means, or its example sentences.

    Args:
        languages: canonical codes; texts in others are ignored.
        counts: takes what was read and dropped.
        path: the file, plain or compressed.
        of: headwords with the glosses, or with the definitions, of each sense, as a lexicon; or the example
            sentences with their translations, as a corpus.
        writing_systems: the writing system of each language as the file names it (`seh-x-kal`); by default those
            that are the tag of the language.

    Raises:
        DataError: the file is missing, not XML, or has text in fewer than two of the languages.

    Example:
        {format: lift, path: dictionary.lift, of: examples}
    """
    seen = yield from _rows(_senses(path, of), languages, counts, writing_systems, "")
    if of == "glosses" and len(wanted := set(languages) & (seen or set())) < 2:
        code_of = code_by_tag(writing_systems)
        defined = {code_of(tag) for sense in _senses(path, "definitions") for tag in sense} & set(languages)
        if len(defined | wanted) > 1:  # WeSay writes no glosses
            raise DataError(
                f"{path}: no sense has a gloss in two of the languages ({', '.join(languages)}), but there are "
                f"definitions in {', '.join(sorted(defined - wanted))}. To read those, set of: definitions."
            )
    if seen is not None:
        require_languages(languages, seen, path)


def _rows(
    units: Iterator[_Texts],
    languages: Sequence[str],
    counts: Counts,
    writing_systems: Mapping[str, str] | None,
    prefix: str,
) -> Generator[ParallelRow, None, set[str] | None]:
    """The rows of some units; returns the languages that they have, or None where there is no unit."""
    code_of = code_by_tag(writing_systems)
    seen: set[str] = set()
    any_unit = False
    for number, texts in enumerate(units, start=1):
        any_unit = True
        variants: _Texts = {}
        for tag, among in texts.items():
            variants.setdefault(code_of(tag), []).extend(among)
        seen.update(variants)
        yield from rows_of_variants(f"{prefix}{number}", variants, languages, counts)
    return seen if any_unit else None


def _phrases_and_words(path: Path) -> Iterator[tuple[str, _Texts]]:
    """Every phrase and every word of a document, with its texts and translations."""
    levels: list[str] = []
    words: _Texts = {}  # the phrase's words and punctuation, in order
    phrase: _Texts = {}
    word: _Texts = {}
    kind = tag = ""
    text: list[str] | None = None
    for event in read_document(path, "document"):
        name = event.value
        if event.kind == "text":
            if text is not None:
                text.append(name)
        elif event.kind == "start":
            if name in _LEVELS:
                levels.append(name)
                words, phrase = ({}, {}) if name == "phrase" else (words, phrase)
                word = {} if name == "word" else word
            elif name == "item":
                kind, tag, text = event.attributes.get("type", ""), event.attributes.get("lang", ""), []
        elif name == "item" and text is not None:
            value, text = " ".join("".join(text).split()), None
            level = levels[-1] if levels else ""
            if not value:
                continue
            if level == "word" and kind in ("txt", "punct"):
                words.setdefault(tag, []).append(value)
            if level == "word" and kind in ("txt", "gls"):
                word.setdefault(tag, []).append(value)
            elif level == "phrase" and kind in ("txt", "gls"):
                phrase.setdefault(tag, []).append(value)
        elif name in _LEVELS and levels:
            levels.pop()
            if name == "word" and word:
                yield "words", word
            elif name == "phrase":
                for language, tokens in words.items():
                    phrase.setdefault(language, [_sentence(tokens)])
                yield "phrases", phrase


def _sentence(tokens: Sequence[str]) -> str:
    """Words and punctuation marks as they are written: FLEx keeps no spaces."""
    sentence = ""
    opened: set[str] = set()  # straight quotation marks, of which every second one closes
    joined = True  # to what comes before
    for token in tokens:
        marks = [] if any(map(str.isalnum, token)) else [char for char in token if char in "\"'"]
        joined |= token.startswith(_CLOSING) or token in _HYPHENS or (bool(marks) and marks[0] in opened)
        sentence += token if joined else f" {token}"
        opened.symmetric_difference_update(marks)
        joined = token.endswith(_OPENING) or token in _HYPHENS or (token[-1] in marks and token[-1] in opened)
    return sentence


def _senses(path: Path, of: str) -> Iterator[_Texts]:
    """Every sense of a dictionary with its headword and glosses or definitions; or every example."""
    stack: list[str] = []
    headword: _Texts = {}
    found: list[_Texts] = []  # of the entry
    senses: list[_Texts] = []  # open ones: a sense and its subsenses
    example: _Texts = {}
    deleted = literal = False
    tag = ""
    text: list[str] | None = None
    for event in read_document(path, "lift"):
        name = event.value
        if event.kind == "text":
            if text is not None and "text" in stack[-3:]:
                text.append(name)
        elif event.kind == "start":
            stack.append(name)
            if name == "entry":
                headword, found, senses = {}, [], []
                deleted = "datedeleted" in event.attributes  # kept for merging, with what it was
            elif name in ("sense", "subsense"):
                senses.append({})
                found.append(senses[-1])
            elif name == "example":
                example = {}
            elif name == "translation":
                literal = "literal" in event.attributes.get("type", "").lower()  # words, not the language
            elif name in ("form", "gloss"):
                tag, text = event.attributes.get("lang", ""), []
        else:
            stack.pop()
            parent, above = ("", *stack)[-1], ("", "", *stack)[-2]
            if name in ("form", "gloss") and text is not None:
                value, text = " ".join("".join(text).split()), None
                if not value:
                    continue
                if name == "form" and parent == "lexical-unit" and above == "entry":
                    headword.setdefault(tag, []).append(value)
                elif senses and (
                    (of == "glosses" and name == "gloss" and parent in ("sense", "subsense"))
                    or (of == "definitions" and parent == "definition" and above in ("sense", "subsense"))
                ):
                    senses[-1].setdefault(tag, []).append(value)
                elif name == "form" and (
                    parent == "example" or (parent == "translation" and above == "example" and not literal)
                ):
                    example.setdefault(tag, []).append(value)
            elif name in ("sense", "subsense") and senses:
                senses.pop()
            elif name == "example" and of == "examples" and not deleted:
                yield example
            elif name == "entry" and of != "examples" and not deleted:
                for sense in found:
                    # A gloss in the language of the headword explains it, and is no translation.
                    yield {**sense, **headword}
