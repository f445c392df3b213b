"""The corpora that benchmarks/read.py writes are read as they were written, in every format of files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instructalign.data import read_corpora
from instructalign.errors import DataError
from instructalign.plugins import FORMATS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from data.reading import read as read_format
from read import WRITERS, sentences

NOT_FILES = {"hub", "flores_plus", "toy", "text"}  # or no pairs


def test_every_format_of_files_is_measured() -> None:
    ours = {name for name in FORMATS.names() if FORMATS.describe(name).package == "instructalign"}
    assert ours - NOT_FILES - {"flores"} == set(WRITERS)


@pytest.mark.parametrize("format", WRITERS)
def test_pairs_are_read_as_they_were_written(format: str, tmp_path: Path) -> None:
    if format == "xlsx":
        pytest.importorskip("openpyxl")
    entry = {"format": format, **WRITERS[format](tmp_path, 120)}
    corpus = read_corpora([entry], ["eng", "ind"])
    expected = [*sentences(120)]
    if format == "vref":  # every tenth verse has no text of its own on one side
        assert len(corpus) == 108
        return
    read = {(row.texts["eng"], row.texts["ind"]) for row in (corpus[number] for number in range(len(corpus)))}
    assert read == set(expected)
    assert len(corpus) == 120


@pytest.mark.parametrize("format", WRITERS)
def test_a_beginning_of_a_file_is_rows_with_honest_counts_or_a_named_error(format: str, tmp_path: Path) -> None:
    """A download that broke off, at some hundred places of each file: nothing else may come of it."""
    if format == "xlsx":
        pytest.importorskip("openpyxl")
    options = WRITERS[format](tmp_path, 6)
    whole, counts = read_format(format, ["eng", "ind"], **options)
    assert counts.read == len(whole) + sum(counts.dropped.values())
    refused: list[str] = []
    for file in [each for each in sorted(tmp_path.rglob("*")) if each.is_file()]:
        content = file.read_bytes()
        step = max(1, len(content) // 60)
        for length in [*range(0, len(content), step), *range(max(0, len(content) - 12), len(content))]:
            file.write_bytes(content[:length])
            try:
                rows, counts = read_format(format, ["eng", "ind"], **options)
            except DataError as error:
                refused.append(str(error))
            else:
                assert counts.read == len(rows) + sum(counts.dropped.values())
                assert len(rows) <= len(whole)
        file.write_bytes(content)
    assert refused
    assert [error for error in refused if str(tmp_path) not in error] == []  # each names its file
