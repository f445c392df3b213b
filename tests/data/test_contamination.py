from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from instructalign.config import Entry
from instructalign.data import (
    ContaminationCheck,
    Corpus,
    ItemIndex,
    ItemText,
    check_corpus,
    check_texts,
    read_corpora,
)
from instructalign.data.contamination import Overlap
from instructalign.data.normalization import fingerprint, shingles
from instructalign.errors import DataError
from instructalign.types import Counts, ParallelRow

SENTENCE = "Tempatnya cukup bersih dan pelayanannya cepat sekali."


def item(text: str, id: str = "411", language: str = "ind", task: str = "nusax") -> ItemText:
    return ItemText(task, id, language, text)


def ways(index: ItemIndex, *texts: str, row: str = "c/1") -> list[tuple[str, str]]:
    return [(found.kind, found.item.item) for found in index.find(row, texts)]


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (SENTENCE, "exact"),
        ("tempatnya CUKUP bersih , dan pelayanannya   cepat sekali", "exact"),
        ("Tempatnya cukup bersih dan pelayanannya cepat.", "near"),
        ("Kemarin kami ke sana. Tempatnya cukup bersih dan pelayanannya cepat sekali, kata teman.", "near"),
        ("Tempatnya cukup bersih.", None),
        ("Makanannya enak dan harganya murah sekali.", None),
        ("", None),
    ],
)
def test_a_text_is_found_exactly_or_nearly_or_not(text: str, how: str | None) -> None:
    found = ways(ItemIndex([item(SENTENCE)]), text)
    assert found == ([(how, "411")] if how else [])


def test_the_likeness_is_the_share_of_the_item_in_the_training_text() -> None:
    training = "tempatnya cukup bersih dan pelayanannya cepat"
    wanted = shingles(fingerprint(SENTENCE))
    [overlap] = ItemIndex([item(SENTENCE)]).find("c/1", [training])
    assert overlap == Overlap("c/1", item(SENTENCE), "near", len(wanted & shingles(training)) / len(wanted))


def test_short_items_are_found_as_a_whole_only() -> None:
    index = ItemIndex([item("Enak sekali!")])
    assert ways(index, "enak sekali") == [("exact", "411")]
    assert ways(index, "Makanannya enak sekali, kata semua orang") == []


def test_every_item_with_the_text_is_found_once_by_the_surest_way() -> None:
    index = ItemIndex([item(SENTENCE, "1"), item(SENTENCE.upper(), "2"), item("lain", "3")])
    assert ways(index, SENTENCE, SENTENCE + " Ya.", SENTENCE) == [("exact", "1"), ("exact", "2")]


def test_ids_count_unless_they_are_bare_numbers() -> None:
    index = ItemIndex([item("satu", "emot-train-7"), item("dua", "7")])
    assert ways(index, "siji", row="nusa/emot-train-7") == [("id", "emot-train-7")]
    assert ways(index, "siji", row="nusa/7") == []
    assert ways(index, "satu", row="nusa/emot-train-7") == [("exact", "emot-train-7"), ("id", "emot-train-7")]


def test_changed_copies_are_found_as_by_comparing_all_pairs() -> None:
    generator = np.random.default_rng(3)
    words = ["".join(generator.choice(list("abdegiklmnoprstu"), 5)) for _ in range(300)]
    items = [" ".join(generator.choice(words, 15)) for _ in range(200)]
    index = ItemIndex(item(text, f"i{place}") for place, text in enumerate(items))
    found = missed = 0
    for place, text in enumerate(items):
        changed = text.split()
        for at in generator.choice(15, place % 5, replace=False):
            changed[at] = str(generator.choice(words))
        copy = shingles(" ".join(changed))
        expected = {
            f"i{other}"
            for other, candidate in enumerate(items)
            if len(shingles(candidate) & copy) / len(shingles(candidate)) >= 0.8
        }
        got = {overlap.item.item for overlap in index.find("c/1", [" ".join(changed)])}
        assert got <= expected
        found += len(got)
        missed += len(expected - got)
    assert found > 80
    assert missed <= 1


def looking_for(index: ItemIndex, action: Any = "report") -> ContaminationCheck:
    return ContaminationCheck(action, index, "")


def corpus() -> Corpus:
    texts = [SENTENCE, "Sesuatu yang lain sama sekali.", "Hal ketiga yang tidak ada di sana."]
    rows = [ParallelRow(f"c/{i}", {"ind": text, "jav": f"jawa {i}"}) for i, text in enumerate(texts)]
    return Corpus(rows, Counts(4, 3, {"empty": 1}))


def test_reporting_leaves_the_corpus_as_it_is() -> None:
    whole = corpus()
    same, found = check_corpus(whole, looking_for(ItemIndex([item(SENTENCE), item("jawa 1", "9", "jav")])))
    assert same is whole
    assert found.checked == 3
    assert found.table() == {
        ("nusax", "ind"): {"items": 1, "exact": 1, "near": 0, "id": 0},
        ("nusax", "jav"): {"items": 1, "exact": 1, "near": 0, "id": 0},
    }
    assert found.describe().splitlines()[0] == "  nusax (ind): 1 items (1 exact); c/0 contains item 411"


def test_an_item_that_one_row_has_exactly_and_another_nearly_counts_as_exact_alone() -> None:
    index = ItemIndex([item(SENTENCE)])
    found = check_texts([("c/1", [SENTENCE]), ("c/2", ["Tempatnya cukup bersih dan pelayanannya cepat."])], index)
    assert [overlap.kind for overlap in found.overlaps] == ["exact", "near"]
    assert found.table() == {("nusax", "ind"): {"items": 1, "exact": 1, "near": 0, "id": 0}}


def test_dropping_takes_out_every_row_of_the_sentence_and_counts() -> None:
    kept, _ = check_corpus(corpus(), looking_for(ItemIndex([item(SENTENCE), item("jawa 1", "9", "jav")]), "drop"))
    assert [row.id for row in kept] == ["c/2"]
    assert kept.counts == Counts(4, 1, {"empty": 1, "in a test set": 2})


def test_refusing_says_what_was_found_and_what_to_do() -> None:
    with pytest.raises(DataError, match=r"(?s)1 rows .* nusax \(ind\): 1 items .*Set contamination: drop"):
        check_corpus(corpus(), looking_for(ItemIndex([item(SENTENCE)]), "refuse"))
    same, found = check_corpus(corpus(), looking_for(ItemIndex([item("Tidak ada yang seperti ini.")]), "refuse"))
    assert (len(same), found.overlaps) == (3, [])


def test_a_corpus_of_test_items_alone_is_refused() -> None:
    index = ItemIndex(item(text, str(place), "jav") for place, text in enumerate(["jawa 0", "jawa 1", "jawa 2"]))
    with pytest.raises(DataError, match="all 3 rows of the corpus overlap with test items"):
        check_corpus(corpus(), looking_for(index, "drop"))


# The leaks that shared/data/README.md lists, with its numbers; each was first counted there by other means.


def records(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


def items_of(path: Path, task: str, language: str) -> list[ItemText]:
    return [ItemText(task, record[0], language, record[1]) for record in records(path)]


def test_nusax_translations_are_the_sentiment_items(shared_data: Path) -> None:
    index = ItemIndex(items_of(shared_data / "nusax/sentiment/indonesian/test.csv", "nusax", "ind"))
    options = {"path": shared_data / "nusax/mt/test.csv", "columns": {"ind": "indonesian", "jav": 10}, "id": 1}
    training = read_corpora([Entry(name="csv", options=options)], ["ind", "jav"])
    table = check_corpus(training, looking_for(index))[1].table()
    assert table == {("nusax", "ind"): {"items": 400, "exact": 400, "near": 0, "id": 0}}


def test_smsa_has_nusax_test_sentences(shared_data: Path) -> None:
    """110 by their words; 238 more that NusaX only respelled or shortened."""
    index = ItemIndex(items_of(shared_data / "nusax/sentiment/indonesian/test.csv", "nusax", "ind"))
    lines = (shared_data / "smsa/train.tsv").read_text(encoding="utf-8").split("\n")
    texts = [(f"smsa/{number}", [line.rpartition("\t")[0]]) for number, line in enumerate(lines) if line]
    table = check_texts(texts, index).table()
    assert table == {("nusax", "ind"): {"items": 348, "exact": 110, "near": 238, "id": 0}}


def test_nusatranslation_mt_has_the_test_items_of_its_other_tasks(shared_data: Path) -> None:
    folder = shared_data / "nusatranslation"
    tasks = {"senti": "sentiment", "emot": "emotion"}
    index = ItemIndex(
        text
        for part, task in tasks.items()
        for text in items_of(folder / f"nusa_kalimat-{part}-jav-test.csv", task, "jav")
    )
    columns = {"ind": "ind_text", "jav": "tgt_text"}
    options = {"path": folder / "nusa_kalimat-mt-jav-train.csv", "columns": columns, "id": "id"}
    training = read_corpora([Entry(name="csv", options=options)], ["ind", "jav"])
    kept, found = check_corpus(training, looking_for(index, "drop"))
    table = found.table()
    assert table["sentiment", "jav"]["id"] == 829
    assert table["emotion", "jav"]["id"] == 618
    assert table["sentiment", "jav"]["exact"] == 836  # seven items have the words of others
    assert check_corpus(kept, looking_for(index))[1].overlaps == []


def test_emot_has_the_sources_of_the_emotion_test_items(shared_data: Path) -> None:
    folder = shared_data / "nusatranslation"
    indonesian = {
        record[0]: record[1]
        for part in ("train", "valid", "test")
        for record in records(folder / f"nusa_kalimat-mt-jav-{part}.csv")
    }
    items = items_of(folder / "nusa_kalimat-emot-jav-test.csv", "emotion", "jav")
    index = ItemIndex(ItemText("emotion", text.item, "ind", indonesian[text.item]) for text in items)
    texts = [
        (f"emot/{place}", [record[1]]) for place, record in enumerate(records(shared_data / "emot/train.csv"))
    ]
    assert check_texts(texts, index).table()["emotion", "ind"]["exact"] == 821


def test_flores_dev_and_devtest_share_nothing(shared_data: Path) -> None:
    def sentences(split: str) -> list[str]:
        return (shared_data / f"flores200/{split}/eng_Latn.{split}").read_text(encoding="utf-8").splitlines()

    index = ItemIndex(item(text, f"devtest-{n}", "eng") for n, text in enumerate(sentences("devtest")))
    assert check_texts(((f"f/dev-{n}", [text]) for n, text in enumerate(sentences("dev"))), index).overlaps == []
