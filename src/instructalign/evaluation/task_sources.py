"""Where tasks read their items from: CSV, TSV and JSON-lines files, and the Hugging Face Hub.

A reader yields records as dictionaries of text, with the columns that the data has. `{name}` in a path stands
for the language's name in the task file.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import StringConstraints

from instructalign.errors import DataError, suggest
from instructalign.files import read_jsonl as json_objects
from instructalign.files import read_lines
from instructalign.randomness import Draws, digest_key


def place(data: Path, path: str, name: str) -> Path:
    """The file that a task's path leads to for a language.

    Raises:
        DataError: something else than `{name}` stands in braces.
    """
    try:
        return data / path.format(name=name)
    except (KeyError, IndexError, ValueError):
        raise DataError(f"data.path: {path!r} may hold {{name}} in braces and nothing else.") from None


def read_csv(
    data: Path,
    language: str,
    name: str,
    *,
    path: str,
    columns: Sequence[str] | None = None,
    language_column: str | None = None,
    delimiter: Annotated[str, StringConstraints(min_length=1, max_length=1)] = ",",
    quoting: bool = True,
) -> Iterator[dict[str, str]]:
    """Reads a table of comma-separated values.

    Args:
        data: the folder that `path` is relative to.
        language: code of the language; unused, `name` tells the file.
        name: what the data calls the language.
        path: the file, with `{name}` where the language's name stands.
        columns: the names of the columns of a file without a header.
        language_column: the column that names the language, in a file of several; other rows are passed over.
        delimiter: what stands between two columns.
        quoting: whether quotation marks enclose values; without, they are part of the text.

    Raises:
        DataError: the file is missing, is not UTF-8, or a line has another number of columns than the first.
    """
    del language
    file = place(data, path, name)
    lines = (f"{line}\n" for _, line in read_lines(file))
    rows = csv.reader(
        lines, delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=True
    )
    header = list(columns) if columns else None
    try:
        for row in rows:
            if not row:
                continue
            if header is None:
                header = row
            elif len(row) != len(header):
                raise DataError(
                    f"{file}:{rows.line_num}: {len(row)} columns where {len(header)} were expected "
                    f"({', '.join(header)})."
                )
            else:
                record = dict(zip(header, row, strict=True))
                if _speaks(record, language_column, name, file):
                    yield record
    except csv.Error as error:
        raise DataError(f"{file}:{rows.line_num}: not CSV ({error}).") from None


def read_tsv(
    data: Path,
    language: str,
    name: str,
    *,
    path: str,
    columns: Sequence[str] | None = None,
    language_column: str | None = None,
    quoting: bool = False,
) -> Iterator[dict[str, str]]:
    """Reads a table whose columns are set apart by tabs; see `read_csv`. Quotation marks are plain text."""
    return read_csv(
        data,
        language,
        name,
        path=path,
        columns=columns,
        language_column=language_column,
        delimiter="\t",
        quoting=quoting,
    )


def read_jsonl(
    data: Path, language: str, name: str, *, path: str, language_column: str | None = None
) -> Iterator[dict[str, str]]:
    """Reads JSON lines, one object an item; values that are not text are taken as JSON writes them.

    Args:
        data: the folder that `path` is relative to.
        language: code of the language; unused, `name` tells the file.
        name: what the data calls the language.
        path: the file, with `{name}` where the language's name stands.
        language_column: the key that names the language, in a file of several; other lines are passed over.

    Raises:
        DataError: the file is missing or a line is not a JSON object.
    """
    del language
    file = place(data, path, name)
    for _, record in json_objects(file):
        if _speaks(record, language_column, name, file):
            yield {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}


def read_pairs(data: Path, language: str, name: str, *, path: str, pivot: str) -> Iterator[dict[str, str]]:
    """Makes pairs of sentences out of two files whose lines say the same: half as they are, half crossed.

    The records have the columns `id`, `first` (in the pivot language), `second`, and `label` (`same` or
    `different`). Which lines are crossed, and with which, goes by the line's number alone: the items are the
    same in every language.

    Args:
        data: the folder that the paths are relative to.
        language: code of the language; unused, `name` tells the file.
        name: what the data calls the language.
        path: the file, with `{name}` where the language's name stands.
        pivot: the file in the pivot language.

    Raises:
        DataError: a file is missing, or the two differ in length.
    """
    del language
    firsts, seconds = read_aligned(data / pivot, place(data, path, name))
    count = len(firsts)
    key = digest_key(0, "pairs")
    for number, first in enumerate(firsts):
        draws = Draws(key, number)
        other = number if draws.below(2) or count < 2 else (number + 1 + draws.below(count - 1)) % count
        label = "same" if other == number else "different"
        yield {"id": str(number + 1), "first": first, "second": seconds[other], "label": label}


def read_aligned(first: Path, second: Path) -> tuple[list[str], list[str]]:
    """The lines of two files that say the same.

    Raises:
        DataError: a file is missing, or the two differ in length.
    """
    texts = [line for _, line in read_lines(first)], [line for _, line in read_lines(second)]
    if len(texts[0]) != len(texts[1]):
        raise DataError(
            f"{first} has {len(texts[0])} lines and {second} has {len(texts[1])}; line by line they should say "
            "the same."
        )
    return texts


def read_hub(
    data: Path,
    language: str,
    name: str,
    *,
    dataset: str,
    config: str = "{name}",
    split: str = "test",
    revision: str | None = None,
    rename: Mapping[str, str] | None = None,
) -> Iterator[dict[str, str]]:
    """Reads a dataset of the Hugging Face Hub, or its copy in the local cache.

    Args:
        data: the folder where files of the set would have been read instead; only named in the error.
        language: code of the language.
        name: what the data calls the language.
        dataset: the dataset's name.
        config: its configuration, with `{name}` or `{language}` where the language's name or code stands.
        split: its split.
        revision: branch, tag or commit.
        rename: for columns that the files of the set call otherwise, the name in the files.

    Raises:
        DataError: it can neither be downloaded nor found in the cache.
    """
    from datasets import ClassLabel, load_dataset

    config = config.format(name=name, language=language)
    try:
        rows: Any = load_dataset(dataset, config, split=split, revision=revision)
    except Exception as error:  # the Hub's client raises a score of unrelated types
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        looked = f"{data} has no file of it" if data.is_dir() else f"{data} is no folder"
        raise DataError(
            f"the dataset {dataset} ({config}, {split}) cannot be loaded: {first.rstrip('.')}. "
            f"Check the network, or put the files of the set under evaluation.data ({looked})."
        ) from None
    classes = {key: value for key, value in rows.features.items() if isinstance(value, ClassLabel)}
    names = dict(rename or {})
    for row in rows:
        yield {
            names.get(key, key): classes[key].int2str(value) if key in classes and value >= 0 else str(value)
            for key, value in row.items()
        }


def _speaks(record: Mapping[str, Any], column: str | None, name: str, file: Path) -> bool:
    """Whether a record is in the wanted language."""
    if column is None:
        return True
    if column not in record:
        raise DataError(f"{file}: no column {column!r} for language_column. {suggest(column, list(record))}")
    return bool(record[column] == name)
