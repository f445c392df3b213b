"""Columns that are named after the wrong language are noticed, and related languages are told apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from healthy import sentences

from instructalign.data import Corpus, ItemText
from instructalign.doctor.check_corpus import check_column_languages
from instructalign.types import Counts, ParallelRow

NUSAX = {
    "eng": "english",
    "ind": "indonesian",
    "sun": "sundanese",
    "jav": "javanese",
    "ban": "balinese",
    "min": "minangkabau",
    "bug": "buginese",
    "ace": "acehnese",
    "bjn": "banjarese",
}


def corpus_of(pairs: list[tuple[str, str]], first: str, second: str) -> Corpus:
    rows = [ParallelRow(f"r{i}", {first: one, second: other}) for i, (one, other) in enumerate(pairs)]
    return Corpus(rows, Counts())


def items_of(pairs: list[tuple[str, str]]) -> list[ItemText]:
    return [
        ItemText("reviews", f"{i}", code, text)
        for i, pair in enumerate(pairs)
        for code, text in zip(("eng", "jav"), pair, strict=True)
    ]


def test_columns_the_wrong_way_round_are_noticed() -> None:
    pairs = sentences()
    items = items_of(pairs[::2][:60])
    assert not check_column_languages(corpus_of(pairs[1::2], "eng", "jav"), items)
    found = check_column_languages(corpus_of(pairs[1::2], "jav", "eng"), items)
    assert [each.found.partition(":")[0] for each in found] == [
        "The texts given as jav look like eng",
        "The texts given as eng look like jav",
    ]
    assert all(each.level == "warning" for each in found)


@pytest.mark.parametrize("count", [0, 29])
def test_nothing_is_said_from_few_items(count: int) -> None:
    pairs = sentences()
    assert not check_column_languages(corpus_of(pairs[100:], "jav", "eng"), items_of(pairs[:count]))
    assert not check_column_languages(None, items_of(pairs))


def test_related_languages_are_told_apart(shared_data: Path) -> None:
    items = []
    for code, name in NUSAX.items():
        with (shared_data / f"nusax/sentiment/{name}/test.csv").open(encoding="utf-8", newline="") as file:
            items += [ItemText("nusax_senti", row["id"], code, row["text"]) for row in csv.DictReader(file)]
    columns = {
        code: (shared_data / f"flores200/dev/{code}_Latn.dev").read_text(encoding="utf-8").splitlines()
        for code in NUSAX
    }
    rows = [
        ParallelRow(f"r{i}", dict(zip(columns, texts, strict=True)))
        for i, texts in enumerate(zip(*columns.values(), strict=True))
    ]
    assert not check_column_languages(Corpus(rows, Counts()), items)
    named = {"min": "bjn", "bjn": "min"}
    swapped = [
        ParallelRow(row.id, {named.get(code, code): text for code, text in row.texts.items()}) for row in rows
    ]
    found = [each.found.partition(":")[0] for each in check_column_languages(Corpus(swapped, Counts()), items)]
    assert sorted(found) == ["The texts given as bjn look like min", "The texts given as min look like bjn"]
