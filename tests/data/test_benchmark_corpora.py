"""The corpora that benchmarks/read.py writes are read as they were written, in every format of files."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instructalign.data import read_corpora
from instructalign.plugins import FORMATS

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

from read import WRITERS, sentences

NOT_FILES = {"hub", "flores_plus", "toy"}


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
