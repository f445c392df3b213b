"""FLORES folders: one file a language and split, one sentence a line, aligned over all languages.

Both layouts are read: `dev/eng_Latn.dev` as published with FLORES-200 (with or without the folder
`flores200_dataset` around it), and `dev/eng.dev` as with FLORES-101. Source: NLLB Team 2022, "No Language
Left Behind", section 3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from instructalign.data.formats.columns import make_row, select
from instructalign.data.formats.moses import align_files
from instructalign.errors import DataError, suggest
from instructalign.languages import canonical
from instructalign.types import Counts, ParallelRow


def read(
    languages: Sequence[str], counts: Counts, *, path: Path, splits: Sequence[str] = ("dev", "devtest")
) -> Iterator[ParallelRow]:
    """Reads a FLORES folder; rows are named by split and line, as in `dev-0001`.

    Args:
        languages: canonical codes; the files of others are left alone.
        counts: takes what was read and dropped.
        path: the folder that holds the splits.
        splits: folders to read, in this order.

    Raises:
        DataError: a split is not there, holds fewer than two of the languages, or its files differ in length.
    """
    for split in splits:
        folder = _split_folder(path, split)
        files = select(languages, _language_files(folder, split), folder)
        for number, fields in align_files(files):
            row = make_row(f"{split}-{number:04}", fields, counts)
            if row:
                yield row


def _split_folder(path: Path, split: str) -> Path:
    if not path.is_dir():
        raise DataError(f"{path} is not a folder: FLORES lies in folders such as {path.name}/dev.")
    for root in (path, path / "flores200_dataset", path / "flores101_dataset"):
        if (root / split).is_dir():
            return root / split
    folders = sorted(child.name for child in path.iterdir() if child.is_dir())
    raise DataError(f"{path} has no split {split!r}. {suggest(split, folders)}")


def _language_files(folder: Path, split: str) -> dict[str, Path]:
    """By language code as its file spells it; files that are named after no language are left out."""
    files: dict[str, Path] = {}
    for file in sorted(folder.glob(f"*.{split}")):
        try:
            canonical(file.stem)
        except DataError:
            continue
        files[file.stem] = file
    if not files:
        raise DataError(f"{folder} holds no file such as eng_Latn.{split}.")
    return files
