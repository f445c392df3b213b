"""The corpus formats: which languages a corpus has, and what makes a parallel row of its texts.

A reader is a generator `read_x(languages, counts, *, options...)` that yields a row for each record of its files:
it counts what it reads, and drops, with a reason, what is no parallel row. `plugins.FORMATS` lists the readers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import TypeVar

from instructalign.errors import DataError
from instructalign.languages import canonical, code_of_name
from instructalign.types import Counts, ParallelRow

T = TypeVar("T")


class MissingLanguagesError(DataError):
    """A corpus has fewer than two of the languages asked for, or not the only one.

    Attributes:
        present: the languages that it does have, as it spells them.
    """

    def __init__(self, message: str, present: Collection[str]) -> None:
        super().__init__(message)
        self.present = tuple(sorted(present))


def is_language(name: str) -> bool:
    """Whether the name of a column, a file or a subset is a language code: `eng`, `zh-TW`, `jav_Latn`."""
    if not _CODE.fullmatch(name):  # `canonical` also takes English names, such as that of Label (lbb)
        return False
    try:
        canonical(name)
    except DataError:
        return False
    return True


def language_named(name: str) -> str:
    """The language that a column, a file or a field is named by, by code or name; empty where it is none."""
    return canonical(name) if is_language(name) else code_of_name(name)


_CODE = re.compile(r"[A-Za-z]{2,3}([-_@.].*)?")

# NUL marks a file that is not text (often UTF-16 read as UTF-8); lone surrogates cannot be written anywhere.
_INVALID = re.compile("[\0\ud800-\udfff]")


def select_languages(languages: Sequence[str], present: Mapping[str, T], where: object) -> dict[str, T]:
    """The configured languages that a corpus has, in the configured order.

    Args:
        languages: canonical codes.
        present: by language code as the corpus or the user spells it, where its text is.
        where: the corpus, for the error message.

    Raises:
        DataError: two keys are one of the languages, or the corpus has too few of the languages.
    """
    places = places_of_languages(languages, present, where)
    require_languages(languages, [canonical(code) for code in present], where)
    return places


def places_of_languages(languages: Sequence[str], present: Mapping[str, T], where: object) -> dict[str, T]:
    """As `select_languages`, but there may be fewer than two.

    Raises:
        DataError: two keys are one of the languages.
    """
    places: dict[str, T] = {}
    spelled: dict[str, str] = {}
    for code, place in present.items():
        language = canonical(code)
        if (
            language in spelled and language in languages
        ):  # pt beside pt-br matters only if Portuguese is asked for
            raise DataError(
                f"{where}: both {spelled[language]!r} and {code!r} are {language}. Keep one "
                f"of them, or choose with `columns` or `files`, for example {{{language}: {code}}}."
            )
        places.setdefault(language, place)
        spelled.setdefault(language, code)
    return {code: places[code] for code in languages if code in places}


def require_languages(languages: Sequence[str], present: Collection[str], where: object) -> None:
    """Refuses a corpus that has fewer than two of the languages asked for, or not the only one (canonical codes).

    Raises:
        DataError: it has; the message lists what it does have.
    """
    found = [code for code in languages if code in present]
    if len(found) >= (1 if len(languages) == 1 else 2):
        return
    if len(languages) == 1:
        problem = f"no text in {languages[0]}."
    else:
        problem = (
            f"a parallel corpus needs text in at least two of the configured languages ({', '.join(languages)}); "
            f"found {', '.join(found) or 'none of them'}."
        )
        if found:
            problem += f" If it is monolingual text, add languages: [{found[0]}] to its entry."
        if len(present) > 1:
            problem += " If other stages teach its languages, name them as `languages` in its entry."
    raise MissingLanguagesError(
        f"{where}: {problem} Languages in the corpus: {', '.join(sorted(present)) or 'none'}.", present
    )


def make_row(id: str, fields: Iterable[tuple[str, str]], counts: Counts) -> ParallelRow | None:
    """A row from (language, text) pairs, or None where they are no parallel row, counted with the reason.

    Space around a text is left out; a language whose text is empty is left out of the row.
    """
    counts.read += 1
    texts = {code: text for code, raw in fields if (text := raw.strip())}
    if len(texts) < counts.least:
        counts.drop("text in fewer than two languages" if texts else "empty", row=id, texts=texts)
    elif not id:
        counts.drop("no id", row=id, texts=texts)
    elif any(map(_INVALID.search, texts.values())) or _INVALID.search(id):
        counts.drop("invalid characters (NUL or lone surrogate)", row=id, texts=texts)
    else:
        return ParallelRow(id, texts)
    return None


def rows_of_variants(
    id: str, variants: Mapping[str, Sequence[str]], languages: Sequence[str], counts: Counts
) -> Iterator[ParallelRow]:
    """The rows of a unit that may have several texts in a language: as many as the longest list, with one id.

    The last text of a shorter list repeats; languages that are not asked for are left out.
    """
    texts = {code: variants[code] for code in languages if variants.get(code)}
    for turn in range(max(map(len, texts.values()), default=1)):
        fields = [(code, among[min(turn, len(among) - 1)]) for code, among in texts.items()]
        if row := make_row(id, fields, counts):
            yield row


def code_by_tag(given: Mapping[str, str] | None) -> Callable[[str], str]:
    """A function from a file's name for a language to its canonical code.

    Args:
        given: by canonical code, the name in the file; every other name then stands for no language. By default
            names are language tags.

    Returns:
        A function that returns a name itself where it is no language, so that errors can list it.
    """
    names = None if given is None else {name: code for code, name in given.items()}

    def code_of(tag: str) -> str:
        if names is not None:
            return names.get(tag, tag)
        return canonical(tag) if is_language(tag) else tag

    return code_of


def lines_side_by_side(
    sides: Mapping[str, tuple[object, Iterator[tuple[int, str]]]],
) -> Iterator[tuple[int, dict[str, str]]]:
    """Line i of each text, with i from 1.

    Args:
        sides: by language, the text's name and its numbered lines.

    Raises:
        DataError: the texts differ in length; the message gives the length of each.
    """
    missing = (0, "")
    readers = [lines for _, lines in sides.values()]
    for count, lines in enumerate(zip_longest(*readers, fillvalue=missing)):
        if missing in lines:
            lengths = [
                count + (line != missing) + sum(1 for _ in reader)
                for line, reader in zip(lines, readers, strict=True)
            ]
            listed = ", ".join(f"{side} has {n}" for (side, _), n in zip(sides.values(), lengths, strict=True))
            raise DataError(
                f"line-aligned files must have the same number of lines, but {listed}. "
                "A line was lost or split on one side; the pairs after it would not be translations."
            )
        yield count + 1, {code: text for code, (_, text) in zip(sides, lines, strict=True)}


def rows_of_lines(
    sides: Mapping[str, tuple[object, Iterator[tuple[int, str]]]],
    counts: Counts,
    name: Callable[[int], str] = str,
) -> Iterator[ParallelRow]:
    """The rows of line-aligned texts: line i of each is a translation of line i of the others.

    Args:
        sides: by language, the text's name and its numbered lines.
        counts: takes what was read and dropped.
        name: makes a row's id of its line number, from 1.

    Raises:
        DataError: the texts differ in length; the message gives the length of each.
    """
    for number, texts in lines_side_by_side(sides):
        if row := make_row(name(number), texts.items(), counts):
            yield row
