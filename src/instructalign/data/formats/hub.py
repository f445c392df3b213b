"""Data sets on the Hugging Face Hub, or folders in its layout, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from instructalign.data.formats.columns import Language, make_row, rows_from_records, select
from instructalign.errors import DataError
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow


def read(
    languages: Sequence[str],
    counts: Counts,
    *,
    name: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    data_files: str | list[str] | None = None,
    columns: Mapping[Language, str] | None = None,
    id: str | None = None,
    streaming: bool = True,
) -> Iterator[ParallelRow]:
    """Reads a data set that has a column for each language.

    Args:
        languages: canonical codes; the columns of others are left alone.
        counts: takes what was read and dropped.
        name: the data set, or a local folder in the Hub's layout.
        subset, split, revision, data_files: as in `datasets.load_dataset`.
        columns: the column of each language; dots lead into objects (`translation.en`). By default those
            that are language codes, or are so within an object `translation`.
        id: the column that names the rows; by default they are named by their number.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the data set cannot be loaded, or has no such column.
    """
    records = _records(name, subset, split=split, revision=revision, data_files=data_files, streaming=streaming)
    numbered = enumerate(records, start=1)
    yield from rows_from_records(languages, counts, numbered, name, columns=columns, id=id)


def read_by_language(
    languages: Sequence[str],
    counts: Counts,
    *,
    name: str = "openlanguagedata/flores_plus",
    splits: Sequence[str] = ("dev", "devtest"),
    revision: str | None = None,
    text: str = "text",
    id: str = "id",
) -> Iterator[ParallelRow]:
    """Reads a data set that has a subset for each language, with the same sentences in the same order: FLORES+.

    Args:
        languages: canonical codes; the subsets of others are left alone.
        counts: takes what was read and dropped.
        name: the data set, or a local folder in the Hub's layout.
        splits: read in this order.
        revision: as in `datasets.load_dataset`.
        text: the column that holds the sentence.
        id: the column that names the sentence.

    Raises:
        DataError: the data set cannot be loaded, or its subsets do not hold the same sentences.
    """
    subsets = select(languages, _subsets(name, revision), name)
    for split in splits:
        options = {"split": split, "revision": revision, "streaming": True}
        sides = [_records(name, subset, **options) for subset in subsets.values()]
        for records in zip_longest(*sides):
            names = {str((record or {}).get(id)) for record in records}
            if len(names) > 1:
                raise DataError(
                    f"{name}: the languages {', '.join(subsets)} do not have the same sentences in {split}: "
                    f"under {id!r} they have {', '.join(sorted(names))} in one place."
                )
            fields = [(code, str(record.get(text) or "")) for code, record in zip(subsets, records, strict=True)]
            row = make_row(f"{split}-{names.pop()}", fields, counts)
            if row:
                yield row


def _records(name: str, subset: str | None, **options: Any) -> Iterator[dict[str, Any]]:
    from datasets import load_dataset

    try:
        yield from load_dataset(name, subset, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from None


def _subsets(name: str, revision: str | None) -> dict[str, str]:
    """The subsets that are named by a language; of two for one language, the first in their order."""
    from datasets import get_dataset_config_names

    found: dict[str, str] = {}
    try:
        subsets = get_dataset_config_names(name, revision=revision)
    except (OSError, ValueError, RuntimeError) as error:
        raise _unreadable(name, error) from None
    for subset in sorted(subsets):
        try:
            found.setdefault(canonical("_".join(subset.split("_")[:2])), subset)
        except DataError:
            continue
    return found


def _unreadable(name: str, error: Exception) -> DataError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return DataError(
        f"the data set {name!r} cannot be read: {reason} Check its name, the network and your access token "
        "(`hf auth login`; a gated set also wants its terms accepted on its page); or download it and give its "
        "files as jsonl, csv, parquet or flores."
    )
