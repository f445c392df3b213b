"""FLORES: folders with one file a language and split, or FLORES+ on the Hub with one subset a language.

Both layouts of folders are read: `dev/eng_Latn.dev` as published with FLORES-200 (with or without the folder
`flores200_dataset` around it), and `dev/eng.dev` as with FLORES-101. Source: NLLB Team 2022, "No Language
Left Behind", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from instructalign.data.formats import is_language, make_row, rows_of_lines, select_languages
from instructalign.data.readers import FLORES_PLUS, hub_error, read_hub, renamed_subsets
from instructalign.errors import DataError, suggest
from instructalign.files import read_lines
from instructalign.hub_access import prepare_hub
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow

_ADVICE = "or download it and give its folder with format: flores."


def read_flores(
    languages: Sequence[str], counts: Counts, *, path: Path, splits: Sequence[str] = ("dev", "devtest")
) -> Iterator[ParallelRow]:
    """Reads a FLORES folder; a row's id is its split and line, as in `dev-0001`.

    Args:
        languages: canonical codes; the files of others are ignored.
        counts: takes what was read and dropped.
        path: the folder that contains the splits.
        splits: folders to read, in this order.

    Raises:
        DataError: a split does not exist, has fewer than two of the languages, or its files differ in length.

    Example:
        {format: flores, path: flores200_dataset, splits: [dev]}
    """
    if not path.is_dir():
        raise DataError(
            f"{path} is not a folder; expected a folder with the splits of FLORES, as {path.name}/dev."
        )
    roots = (path, path / "flores200_dataset", path / "flores101_dataset")
    for split in splits:
        folder = next((root / split for root in roots if (root / split).is_dir()), None)
        if folder is None:
            folders = sorted(child.name for child in path.iterdir() if child.is_dir())
            raise DataError(f"{path} has no split {split!r}. {suggest(split, folders)}")
        files = {file.stem: file for file in sorted(folder.glob(f"*.{split}")) if is_language(file.stem)}
        if not files:
            raise DataError(f"{folder} contains no file such as eng_Latn.{split}.")
        chosen = select_languages(languages, files, folder)
        sides = {code: (file, read_lines(file)) for code, file in chosen.items()}
        yield from rows_of_lines(sides, counts, partial("{}-{:04}".format, split))


def read_flores_plus(
    languages: Sequence[str],
    counts: Counts,
    *,
    name: str = FLORES_PLUS,
    splits: Sequence[str] = ("dev", "devtest"),
    revision: str | None = None,
    text: str = "text",
    id: str = "id",
) -> Iterator[ParallelRow]:
    """Reads a Hub dataset that has a subset for each language, with the same sentences in the same order: FLORES+.

    Args:
        languages: canonical codes, those of FLORES-200 or of FLORES+ (Guarani is grn or gug); the
            subsets of others are ignored.
        counts: takes what was read and dropped.
        name: the dataset, or a local folder in the Hub's layout.
        splits: read in this order.
        revision: as in `datasets.load_dataset`.
        text: the column with the sentence.
        id: the column with the sentence's id.

    Raises:
        DataError: the dataset cannot be loaded, or its subsets do not have the same sentences.

    Example:
        {format: flores_plus, splits: [dev]}
    """
    if not Path(name).exists():
        prepare_hub()
    from datasets import get_dataset_config_names

    try:
        every = get_dataset_config_names(name, revision=revision)
    except Exception as error:
        raise hub_error(name, error, _ADVICE) from None
    found: dict[str, str] = {}
    for subset in sorted(every):  # of two subsets for one language, the first
        code = "_".join(subset.split("_")[:2])
        if is_language(code):
            found.setdefault(canonical(code), subset)
    for old, new in renamed_subsets(name).items():
        if canonical(new) in found:
            found.setdefault(canonical(old), found[canonical(new)])
    subsets = select_languages(languages, found, name)
    for split in splits:
        options: dict[str, Any] = {"split": split, "revision": revision, "streaming": True}
        sides = [read_hub(name, subset, _ADVICE, **options) for subset in subsets.values()]
        for several in zip_longest(*sides, fillvalue=(0, {})):
            records = [record for _, record in several]
            names = {str(record.get(id)) for record in records}
            if len(names) > 1:
                raise DataError(
                    f"{name}: the languages {', '.join(subsets)} do not have the same sentences in {split}: "
                    f"the column {id!r} has {', '.join(sorted(names))} in one place."
                )
            fields = [(code, str(record.get(text) or "")) for code, record in zip(subsets, records, strict=True)]
            if row := make_row(f"{split}-{names.pop()}", fields, counts):
                yield row
