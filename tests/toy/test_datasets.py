from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import yaml

from instructalign.errors import DataError
from instructalign.toy import datasets
from instructalign.toy.datasets import read_corpus, read_replay, read_task, replay_instruction
from instructalign.toy.family import DESCENT, KNOWN, language, meanings
from instructalign.types import Counts

EVERY = [*KNOWN, *DESCENT]
PACKAGE = Path(datasets.__file__).parent.parent


def items(code: str, **options: object) -> list[dict[str, str]]:
    return list(read_task(Path(), code, code, **options))  # type: ignore[arg-type]


def test_the_ranges_of_sentences_are_disjoint_and_exist() -> None:
    assert datasets.REPLAY_SENTENCES.stop <= datasets.CORPUS_SENTENCES.start
    assert datasets.CORPUS_SENTENCES.stop <= datasets.TEST_SENTENCES.start
    assert datasets.TEST_SENTENCES.stop <= meanings()


def test_no_test_sentence_is_in_the_corpus_or_in_replay_data_in_any_language() -> None:
    tested = {row["text"] for code in EVERY for row in items(code, items=300)}
    rows = read_corpus(EVERY, Counts(), rows=2000)
    assert not tested & {text for row in rows for text in row.texts.values()}
    replayed: set[str] = set()
    for each in read_replay(rows=5000):
        words = f"{each.prompt} {each.answer}".split()
        replayed |= {" ".join(words[start : start + 6]) for start in range(len(words) - 5)}
    assert all(len(text.split()) == 6 for text in tested)
    assert not tested & replayed


def test_corpus_rows_are_the_same_sentence_in_each_language() -> None:
    counts = Counts()
    rows = list(read_corpus(["qka", "qna", "eng"], counts, rows=50))
    assert counts.read == len(rows) == 50
    assert len({row.id for row in rows}) == 50
    assert all(list(row.texts) == ["qka", "qna"] for row in rows)
    concept = {code: {w: c for c, w in language(code).words.items()} for code in ("qka", "qna")}
    for row in rows:
        meant = [sorted(concept[code][word] for word in text.split()) for code, text in row.texts.items()]
        assert meant[0] == meant[1]


def test_more_rows_are_a_continuation() -> None:
    few, many = (list(read_corpus(["qka", "qnb"], Counts(), rows=rows)) for rows in (20, 40))
    assert many[:20] == few
    assert list(read_replay(rows=40))[:20] == list(read_replay(rows=20))
    assert list(read_corpus(["qka", "qnb"], Counts(), rows=20, skip=20)) == many[20:]
    with pytest.raises(DataError, match=r"rows .*1 and 9.*found 10"):
        list(read_corpus(["qka"], Counts(), rows=10, skip=199_991))


@pytest.mark.parametrize("task", ["sentiment", "topic"])
def test_replay_data_and_test_items_have_the_same_wording(task: str) -> None:
    spec = yaml.safe_load((PACKAGE / f"evaluation/tasks/toy_{task}.yaml").read_text(encoding="utf-8"))
    (prompt,) = (each["prompt"] for each in spec["prompts"].values())
    head, tail = prompt.split("{text}")
    words = {word["eng"] for word in spec["labels"].values()}
    asked = [each for each in read_replay(rows=2000) if each.prompt.startswith(head)]
    assert len(asked) > 300
    assert {each.answer for each in asked} == words
    assert all(each.prompt.endswith(tail) for each in asked)


def test_replay_labels_are_true() -> None:
    spec = yaml.safe_load((PACKAGE / "evaluation/tasks/toy_topic.yaml").read_text(encoding="utf-8"))
    concepts = yaml.safe_load((PACKAGE / "toy/concepts.yaml").read_text(encoding="utf-8"))["topics"]
    head = spec["prompts"]["place"]["prompt"].split("{text}")[0]
    for each in read_replay(rows=500):
        if each.prompt.startswith(head):
            spoken = {word: concept for concept, word in language(each.source).words.items()}
            meant = {spoken[word] for word in each.prompt[len(head) : -2].split()}
            assert meant & set(concepts[each.answer]["nouns"])


def test_replay_data_is_in_all_known_languages_and_no_other() -> None:
    replayed = list(read_replay(rows=3000))
    assert {each.objective for each in replayed} == {"replay"}
    sources_seen = Counter(each.source for each in replayed)
    assert set(sources_seen) == set(KNOWN)
    assert min(sources_seen.values()) > 400
    pairs = Counter((each.source, each.target) for each in replayed if each.target)
    assert len(pairs) == len(KNOWN) * (len(KNOWN) - 1)
    assert min(pairs.values()) > 20
    assert 0.45 < sum(pairs.values()) / len(replayed) < 0.55


def test_replay_translations_are_true() -> None:
    for index in range(300):
        each = replay_instruction(index)
        if each.target:
            given = {word: concept for concept, word in language(each.source).words.items()}
            asked = {word: concept for concept, word in language(each.target).words.items()}
            text = each.prompt.removeprefix(f"Into {language(each.target).name}: ").removesuffix(" =")
            assert {given[word] for word in text.split()} == {asked[word] for word in each.answer.split()}


def test_items_are_the_same_sentences_in_all_languages_and_labels_are_balanced() -> None:
    first, other = items("qka", task="topic"), items("qrb", task="topic")
    assert [row["id"] for row in first] == [row["id"] for row in other]
    assert [row["label"] for row in first] == [row["label"] for row in other]
    assert len(first) == 200
    assert min(Counter(row["label"] for row in first).values()) > 30
    assert min(Counter(row["label"] for row in items("qka")).values()) > 40


def test_relatedness_changes_the_test_items() -> None:
    assert [row["text"] for row in items("qra", relatedness=1.0)] == [row["text"] for row in items("qna")]


def test_the_tasks_of_the_relatedness_sweep_differ_in_nothing_else() -> None:
    shipped = yaml.safe_load((PACKAGE / "evaluation/tasks/toy_sentiment.yaml").read_text(encoding="utf-8"))
    files = sorted((PACKAGE.parents[1] / "configs/toy/dial").glob("*.yaml"))
    assert [file.stem[-3:] for file in files] == ["000", "025", "050", "075", "100"]
    for file in files:
        task = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert task["data"].pop("relatedness") == int(file.stem[-3:]) / 100
        assert {**task, "title": shipped["title"]} == shipped


@pytest.mark.parametrize("rows", [0, -1, 10**7])
def test_counts_out_of_range_are_refused(rows: int) -> None:
    with pytest.raises(DataError, match=f"rows .*1 and 200000.*found {rows}"):
        list(read_corpus(["qka"], Counts(), rows=rows))
    with pytest.raises(DataError, match=f"rows .*1 and 600000.*found {rows}"):
        list(read_replay(rows=rows))
    with pytest.raises(DataError, match=f"items .*1 and 200000.*found {rows}"):
        items("qka", items=rows)


def test_a_language_outside_the_family_has_no_items() -> None:
    with pytest.raises(DataError, match="'eng'"):
        items("eng")
