"""Where tasks read their items from: CSV, TSV and JSON-lines files, and the Hugging Face Hub.

A reader yields records as dictionaries of text, with the columns that the data has. In a path, `{name}` is
replaced by the language's name in the task file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.data.readers import Delimiter, hub_lacks, read_delimited, read_hub, renamed_subsets
from instructalign.data.readers import check_escape as check_options  # noqa: F401  (for `validate`)
from instructalign.errors import DataError, suggest
from instructalign.files import read_jsonl, read_lines
from instructalign.randomness import Draws, digest_key


def task_file(data: Path, path: str, name: str) -> Path:
    """The file that a task's path leads to for a language.

    Raises:
        DataError: the braces in the path contain anything but `{name}`.
    """
    try:
        return data / path.format(name=name)
    except (KeyError, IndexError, ValueError):
        raise DataError(f"data.path: {path!r} may have {{name}} in braces and nothing else.") from None


def read_csv_items(
    data: Path,
    language: str,
    name: str,
    *,
    path: str,
    columns: Sequence[str] | None = None,
    language_column: str | None = None,
    delimiter: Delimiter | None = None,
    quoting: bool = True,
    escape: Delimiter | None = None,
) -> Iterator[dict[str, str]]:
    """Reads a table of comma-separated values.

    Args:
        data: the folder that `path` is relative to.
        language: code of the language; unused, `name` determines the file.
        name: what the data calls the language.
        path: the file, with `{name}` in the place of the language's name.
        columns: the names of the columns of a file without a header.
        language_column: the column with the language, in a file of several; rows of others are skipped.
        delimiter: the character between two columns; by default commas, semicolons or tabs are found.
        quoting: whether quotation marks enclose values; without, they are part of the text.
        escape: with quoting, the character before a quotation mark that is text; by default it is doubled.

    Raises:
        DataError: the file is missing, is not UTF-8, or a line has another number of columns than the first.
    """
    del language
    file = task_file(data, path, name)
    header = list(columns) if columns else None
    for number, row in read_delimited(file, delimiter, quoting, escape):
        if not row:
            continue
        if header is None:
            header = row
        elif len(row) != len(header):
            raise DataError(
                f"{file}:{number}: expected {len(header)} columns ({', '.join(header)}), found {len(row)}."
            )
        else:
            record = dict(zip(header, row, strict=True))
            if _is_in(record, language_column, name, file):
                yield record


def read_tsv_items(
    data: Path,
    language: str,
    name: str,
    *,
    path: str,
    columns: Sequence[str] | None = None,
    language_column: str | None = None,
    quoting: bool = False,
    escape: Delimiter | None = None,
) -> Iterator[dict[str, str]]:
    """Reads a tab-separated table, as `read_csv_items`; quotation marks are plain text by default.

    Args:
        data, language, name: as in `read_csv_items`.
        path: the file, with `{name}` in the place of the language's name.
        columns: the names of the columns of a file without a header.
        language_column: the column with the language, in a file of several; rows of others are skipped.
        quoting: whether quotation marks enclose values.
        escape: with quoting, the character before a quotation mark that is text.
    """
    options: dict[str, Any] = {"columns": columns, "language_column": language_column}
    options |= {"quoting": quoting, "escape": escape}
    return read_csv_items(data, language, name, path=path, delimiter="\t", **options)


def read_jsonl_items(
    data: Path, language: str, name: str, *, path: str, language_column: str | None = None
) -> Iterator[dict[str, Any]]:
    """Reads JSON lines, one object an item.

    Args:
        data, language, name: as in `read_csv_items`.
        path: the file, with `{name}` in the place of the language's name.
        language_column: the key with the language, in a file of several; lines of others are skipped.

    Raises:
        DataError: the file is missing or a line is not a JSON object.
    """
    del language
    file = task_file(data, path, name)
    for _, record in read_jsonl(file):
        if _is_in(record, language_column, name, file):
            yield record


def read_hub_items(
    data: Path,
    language: str,
    name: str,
    *,
    dataset: str,
    config: str = "{name}",
    data_files: str | None = None,
    split: str = "test",
    revision: str | None = None,
    rename: Mapping[str, str] | None = None,
    language_column: str | None = None,
) -> Iterator[dict[str, Any]]:
    """Reads a dataset of the Hugging Face Hub, or its copy in the local cache.

    Args:
        data: the folder where files of the set would have been read instead; only named in the error.
        language: code of the language.
        name: what the data calls the language.
        dataset: the dataset's name.
        config: its configuration, with `{name}` or `{language}` in the place of the language's name or code.
        data_files: the files to read instead of a configuration, with the same slots; for a dataset that has
            files for each language but no configurations in its card, as a branch refs/convert/parquet.
        split: its split.
        revision: branch, tag or commit.
        rename: for columns that have another name in the set's files, the name in the files.
        language_column: the column with the language, in a configuration of several; rows of others are skipped.

    Raises:
        DataError: it can neither be downloaded nor found in the cache.
    """
    found = f"{data} has no file of it" if data.is_dir() else f"{data} is not a folder"
    advice = f"or put the files of the set under evaluation.data ({found})."
    subset, files = _hub_place(dataset, language, name, config, data_files)
    names = dict(rename or {})
    options: dict[str, Any] = {"split": split, "revision": revision}
    if files is not None:
        options["data_files"] = {split: files}
    for _, record in read_hub(dataset, subset, advice, class_names=True, **options):
        renamed = {names.get(key, key): value for key, value in record.items()}
        if _is_in(renamed, language_column, name, Path(dataset)):
            yield renamed


def _hub_place(
    dataset: str, language: str, name: str, config: str, data_files: str | None
) -> tuple[str | None, str | None]:
    """The configuration, or else the files, of a Hub dataset that hold a language."""
    if data_files is not None:
        return None, data_files.format(name=name, language=language)
    subset = config.format(name=name, language=language)
    return renamed_subsets(dataset).get(subset, subset), None


def absent_from_hub(
    language: str,
    name: str,
    *,
    dataset: str,
    config: str = "{name}",
    data_files: str | None = None,
    revision: str | None = None,
    **_: Any,
) -> str:
    """Why a Hub dataset cannot be read in a language; empty where it can, or where the Hub cannot be asked.

    Args:
        language, name: as in `read_hub_items`.
        dataset, config, data_files, revision: options of a task source that reads the Hub.
    """
    return hub_lacks(dataset, *_hub_place(dataset, language, name, config, data_files), revision)


def read_hub_pairs(
    data: Path,
    language: str,
    name: str,
    *,
    dataset: str,
    pivot: str,
    config: str = "{name}",
    split: str = "test",
    revision: str | None = None,
    text: str = "text",
    id: str = "id",
) -> Iterator[dict[str, str]]:
    """Makes sentence pairs, as `read_sentence_pairs`, of a Hub dataset with the same sentences in each language.

    Args:
        data, language, name, dataset, config, split, revision: as in `read_hub_items`.
        pivot: the name of the pivot language.
        text: the column with the sentence.
        id: the column with the sentence's id, the same in every language.

    Raises:
        DataError: the dataset cannot be loaded, or its languages do not have the same sentences.
    """
    options: dict[str, Any] = {"dataset": dataset, "config": config, "split": split, "revision": revision}
    columns = {text: "text", id: "id"}
    first, second = (
        hub_sentences(read_hub_items(data, language, each, rename=columns, **options), f"{dataset}, {each}")
        for each in (pivot, name)
    )
    yield from make_pairs(*align_sentences(first, second, f"{dataset}: {pivot} and {name}"))


def hub_sentences(records: Iterator[dict[str, Any]], where: str) -> dict[str, str]:
    """The texts of a Hub dataset by their ids, both from the columns of these names.

    Raises:
        DataError: a column is missing or an id is there twice.
    """
    sentences: dict[str, str] = {}
    for record in records:
        for column in ("id", "text"):
            if column not in record:
                raise DataError(f"{where}: no column {column!r}. {suggest(column, list(record))}")
        id = str(record["id"])
        if id in sentences:
            raise DataError(f"{where}: the id {id!r} is there twice.")
        sentences[id] = str(record["text"])
    return sentences


def align_sentences(
    first: Mapping[str, str], second: Mapping[str, str], where: str
) -> tuple[list[str], list[str]]:
    """The sentences of two languages in the order of the first.

    Raises:
        DataError: the two do not have the same ids.
    """
    if first.keys() != second.keys():
        few = ", ".join(sorted(first.keys() ^ second.keys())[:5])
        raise DataError(f"{where} do not have the same sentences; only in one of them: {few}.")
    return list(first.values()), [second[id] for id in first]


def read_sentence_pairs(
    data: Path, language: str, name: str, *, path: str, pivot: str
) -> Iterator[dict[str, str]]:
    """Makes sentence pairs of two line-aligned files: half of them translations, half crossed.

    The records have the columns `id`, `first` (in the pivot language), `second`, and `label` (`same` or
    `different`). Which lines are crossed, and with which, depends on the line's number alone: the items are the
    same in every language.

    Args:
        data: the folder that the paths are relative to.
        language: code of the language; unused, `name` determines the file.
        name: what the data calls the language.
        path: the file, with `{name}` in the place of the language's name.
        pivot: the file in the pivot language.

    Raises:
        DataError: a file is missing, or the two differ in length.
    """
    del language
    yield from make_pairs(*read_aligned(data / pivot, task_file(data, path, name)))


def make_pairs(firsts: Sequence[str], seconds: Sequence[str]) -> Iterator[dict[str, str]]:
    """The records of `read_sentence_pairs` from two aligned lists of sentences."""
    count = len(firsts)
    key = digest_key(0, "pairs")
    for number, first in enumerate(firsts):
        draws = Draws(key, number)
        other = number if draws.below(2) or count < 2 else (number + 1 + draws.below(count - 1)) % count
        label = "same" if other == number else "different"
        yield {"id": str(number + 1), "first": first, "second": seconds[other], "label": label}


def read_aligned(first: Path, second: Path) -> tuple[list[str], list[str]]:
    """The lines of two line-aligned files.

    Raises:
        DataError: a file is missing, or the two differ in length.
    """
    texts = [line for _, line in read_lines(first)], [line for _, line in read_lines(second)]
    if len(texts[0]) != len(texts[1]):
        raise DataError(
            f"{first} has {len(texts[0])} lines and {second} has {len(texts[1])}; line i of one must be a "
            "translation of line i of the other."
        )
    return texts


def _is_in(record: Mapping[str, Any], column: str | None, name: str, file: Path) -> bool:
    """Whether a record is in the language of this name."""
    if column is not None and column not in record:
        raise DataError(f"{file}: no column {column!r} for language_column. {suggest(column, list(record))}")
    return column is None or bool(record[column] == name)
