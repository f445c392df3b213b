from __future__ import annotations

import errno
import io
import multiprocessing
import pickle
import tracemalloc
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from instructalign.config import Entry
from instructalign.data import Corpus, read_corpora
from instructalign.data.corpus import RowStore, corpus_names, monolingual, rank
from instructalign.data.normalization import fingerprint, fold
from instructalign.errors import ConfigError, DataError
from instructalign.randomness import digest_key
from instructalign.types import Counts, ParallelRow

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
CODES = st.sampled_from(["eng", "ind", "jav", "ace_Arab"])
ROWS = st.lists(
    st.builds(ParallelRow, st.integers(0, 30).map(str), st.dictionaries(CODES, TEXTS, min_size=2)),
    max_size=40,
)


def corpus(ids: list[str]) -> Corpus:
    return Corpus([ParallelRow(id, {"eng": f"e{id}", "ind": f"i{id}"}) for id in ids], Counts())


def ids(part: Corpus) -> list[str]:
    return [row.id for row in part]


@pytest.fixture(params=["in memory", "in a file"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "in a file":
        monkeypatch.setattr("instructalign.data.corpus._IN_MEMORY", 0)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_a_store_gives_back_what_was_put_in(place: None, rows: list[ParallelRow]) -> None:
    store = RowStore(iter(rows))
    assert list(store) == rows == [store[i] for i in range(len(rows))] == store[:]
    assert store.languages == {code for row in rows for code in row.texts}
    assert list(pickle.loads(pickle.dumps(store))) == rows
    if rows:
        assert store[-1] == rows[-1]
        assert store[1:5:2] == rows[1:5:2]
    for index in (len(rows), -len(rows) - 1):
        with pytest.raises(IndexError):
            store[index]


MIXED = st.lists(
    st.builds(ParallelRow, st.integers(0, 30).map(str), st.dictionaries(CODES, TEXTS, min_size=1)), max_size=40
)


@settings(deadline=None)
@given(rows=MIXED, data=st.data())
def test_the_languages_of_a_stores_rows_are_known_without_reading_them(
    rows: list[ParallelRow], data: st.DataObject
) -> None:
    store = RowStore(rows)
    store.row = None  # type: ignore[assignment, method-assign]
    chosen = data.draw(st.sets(st.sampled_from(range(len(rows))))) if rows else set[int]()
    spoken = [frozenset(code for code, text in row.texts.items() if text.strip()) for row in rows]
    for index in (None, range(len(rows)), sorted(chosen)):
        part = Corpus(store, Counts(), index=index)
        expected = spoken if index is None else [spoken[number] for number in index]
        assert list(part.language_runs()) == [(key, len(list(several))) for key, several in groupby(expected)]
        assert part.languages == tuple(sorted({code for codes in expected for code in codes}))
        assert monolingual(part).tolist() == [len(codes) == 1 for codes in expected]


def test_fewer_documents_held_out_than_asked_for_are_said(caplog: pytest.LogCaptureFixture) -> None:
    alone = Corpus([ParallelRow(str(number), {"jav": f"ukara {number}"}) for number in range(60)], Counts())
    assert len(alone.split(6, seed=1)[1]) == len(alone.split(None, seed=1)[1]) == 6
    assert caplog.text == ""
    assert len(alone.split(40, seed=1)[1]) == 6
    assert "instructions.heldout is 40; of monolingual text, 6 documents" in caplog.text


def test_forked_processes_read_one_file_at_a_time_of_their_own(place: None) -> None:
    store = RowStore(ParallelRow(str(i), {"eng": f"e{i}", "ind": f"i{i}" * 50}) for i in range(2000))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        found = pool.map(store.__getitem__, range(2000), chunksize=500)
    assert found == list(store)


def test_a_large_corpus_takes_eight_bytes_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """See benchmarks/read.py: ten million pairs (1.6 GB of Moses files) took 125 MB, 211 MB with the split."""
    monkeypatch.setattr("instructalign.data.corpus._IN_MEMORY", 0)
    for code in ("eng", "ind"):
        (tmp_path / f"c.{code}").write_text("".join(f"{code} {i} {'text ' * 30}\n" for i in range(5_000)))
    files = {code: tmp_path / f"c.{code}" for code in ("eng", "ind")}
    read_corpora([entry("moses", files=files)], ["eng", "ind"]).split(100, 1)  # so that everything is imported
    tracemalloc.start()
    try:
        train, _ = read_corpora([entry("moses", files=files)], ["eng", "ind"]).split(100, 1)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(train) == 4_900
    assert held < 5_000 * 16  # 8 bytes for the offset, 4 for the index of the split
    assert peak < 5_000 * 40 + 600_000  # the texts themselves are 1.5 MB


def test_a_full_disk_is_said_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, data: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tempfile.TemporaryFile", lambda **_: Full())
    with pytest.raises(DataError, match=r"cannot be kept in .*: No space left on device\. .*set TMPDIR"):
        RowStore([ParallelRow("1", {"eng": "e", "ind": "i"})])


SENTENCES = st.sampled_from(
    ["a", "b", "A.", "c d", "c  d!", "é", "e\u0301", "ka\u2018o", "ka\u02bbo", *"fghijklmn"]
)
SHARING = st.lists(
    st.builds(
        ParallelRow,
        st.integers(0, 30).map(str),
        st.dictionaries(st.sampled_from(["eng", "ind", "jav"]), SENTENCES | TEXTS.filter(str.strip), min_size=2),
    ),
    min_size=1,
    max_size=40,
)


def sentences_of(rows: Iterable[ParallelRow]) -> set[tuple[str, str]]:
    return {(code, fingerprint(text) or fold(text)) for row in rows for code, text in row.texts.items()}


@settings(deadline=None, max_examples=300)
@given(SHARING, st.integers(0, 10), st.integers(0, 5))
def test_no_sentence_of_any_language_is_on_both_sides(rows: list[ParallelRow], heldout: int, seed: int) -> None:
    whole = Corpus(rows, Counts())
    try:
        train, test = whole.split(heldout, seed)
    except DataError as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert heldout >= len({row.id for row in rows}) or "share sentences" in refused
        return
    held = set(ids(test))
    assert not set(ids(train)) & held
    assert list(train) == [row for row in rows if row.id not in held]
    assert list(test) == [row for row in rows if row.id in held]
    assert not sentences_of(train) & sentences_of(test)
    assert len(held) <= heldout
    assert (len(held) > 0) == (heldout > 0)
    assert len(train) > 0


@given(st.integers(1, 40), st.integers(1, 39), st.integers(0, 5))
def test_where_no_sentence_is_shared_those_with_the_smallest_hashes_are_held_out(
    count: int, heldout: int, seed: int
) -> None:
    whole = corpus([str(number // 2) for number in range(2 * count)])  # each sentence in two rows
    if heldout >= count:
        with pytest.raises(DataError, match=f"{heldout} sentences are to be held out"):
            whole.split(heldout, seed)
        return
    expected = sorted(set(ids(whole)), key=lambda id: rank(id, digest_key(seed, "heldout")))[:heldout]
    assert set(ids(whole.split(heldout, seed)[1])) == set(expected)


def test_one_sentence_with_many_translations_is_on_one_side() -> None:
    """As in Tatoeba's pairs: every English sentence has three translations, a row each."""
    rows = [ParallelRow(str(n), {"eng": f"e{n // 3}", "jav": f"j{n}"}) for n in range(300)]
    train, test = Corpus(rows, Counts()).split(30, 1)
    assert (len(train), len(test)) == (270, 30)
    assert not sentences_of(train) & sentences_of(test)


def test_a_group_that_spans_the_corpus_stays_in_training(caplog: pytest.LogCaptureFixture) -> None:
    """Half of the rows have one text in common; a tenth are in groups that would fill a held-out set of 20."""
    rows = [ParallelRow(str(n), {"eng": f"e{n}", "jav": "TODO" if n % 2 else f"j{n}"}) for n in range(400)]
    rows += [ParallelRow(f"g{n}", {"eng": f"g{n // 15}", "jav": f"jg{n}"}) for n in range(45)]
    test = Corpus(rows, Counts()).split(20, 1)[1]
    assert len(test) == 20
    assert not [row for row in test if row.texts["jav"] == "TODO" or row.id.startswith("g")]
    assert not caplog.messages
    test = Corpus(rows[400:] + rows[1:400:2], Counts()).split(20, 1)[1]  # only groups: one of 15 is taken
    assert len(test) == 15
    assert "15 sentences are held out, not 20" in caplog.text
    with pytest.raises(DataError, match=r"in groups of 15 and more\. Raise instructions\.heldout"):
        Corpus(rows[400:], Counts()).split(10, 1)


def test_rows_added_anywhere_move_no_other_sentence_into_the_heldout_ones() -> None:
    _, before = corpus([str(i) for i in range(1000)]).split(100, 7)
    _, after = corpus([str(i) for i in range(2000, 0, -1)]).split(100, 7)
    stayed = set(ids(before)) & set(ids(after))
    assert {id for id in ids(after) if int(id) < 1000} == stayed - {"0"}
    assert 30 < len(stayed) < 70  # half of the smallest hashes are new


def test_another_seed_holds_other_sentences_out() -> None:
    whole = corpus([str(i) for i in range(1000)])
    one, two = (set(ids(whole.split(100, seed)[1])) for seed in (1, 2))
    assert len(one & two) < 30
    assert set(ids(whole.split(100, 1)[1])) == one


def test_a_limited_number_of_sentences_is_exact_and_part_of_every_larger_one() -> None:
    whole = corpus([str(number % 30) for number in range(60)])  # each sentence in two rows
    before: set[str] = set()
    for sentences in (1, 7, 30):
        part = ids(whole.limit(sentences, seed=3))
        assert len(set(part)) == sentences
        assert len(part) == 2 * sentences
        assert before <= set(part)
        before = set(part)
    with pytest.raises(DataError, match="31"):
        whole.limit(31, seed=3)


def test_split_counts_and_languages() -> None:
    rows = [ParallelRow(str(i), {"eng": f"e{i}", "ind" if i % 2 else "jav": f"x{i}"}) for i in range(10)]
    train, test = Corpus(rows, Counts(12, 10, {"empty": 2})).split(1, 0)
    assert train.counts == Counts(12, 9, {"empty": 2, "held out": 1})
    assert test.counts == Counts(12, 1, {"empty": 2, "kept for training": 9})
    assert train.languages == ("eng", "ind", "jav")
    assert len(test.languages) == 2


def entry(format: str, label: str | None = None, **options: Any) -> Entry:
    return Entry(name=format, label=label, options=options)


def csv(folder: Path, name: str, content: str) -> Path:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def test_corpora_are_read_in_order_with_their_names_before_the_ids(tmp_path: Path) -> None:
    one = csv(tmp_path, "a/train.csv", "eng,ind\none,satu\nbad,\n")
    two = csv(tmp_path, "b/train.csv", "eng,jav\none,siji\n")
    whole = read_corpora([entry("csv", path=one), entry("csv", path=two)], ["en", "ind", "jav"])
    assert ids(whole) == ["a/train/2", "b/train/2"]
    assert whole.languages == ("eng", "ind", "jav")
    assert whole.counts == Counts(3, 2, {"text in fewer than two languages": 1})


def test_corpora_of_one_label_share_their_ids(tmp_path: Path) -> None:
    entries = [
        entry("csv", "nusa", path=csv(tmp_path, f"{code}.csv", f"ind,{code}\nsatu,siji\n"))
        for code in ("jav", "sun")
    ]
    assert ids(read_corpora(entries, ["ind", "jav", "sun"])) == ["nusa/2", "nusa/2"]


def test_corpora_can_be_given_as_in_a_configuration(tmp_path: Path) -> None:
    csv(tmp_path, "c.en", "one\n")
    csv(tmp_path, "c.id", "satu\n")
    files = {code: str(tmp_path / f"c.{code}") for code in ("en", "id")}
    whole = read_corpora([{"format": "moses", "label": "mine", "files": files}], ["eng", "ind"])
    assert list(whole) == [ParallelRow("mine/1", {"eng": "one", "ind": "satu"})]


def test_wrong_entries_are_all_named() -> None:
    entries = [{"format": "moses", "file": {}}, {"format": "csv", "path": "a.csv", "columns": {"xx-x": 1}}]
    with pytest.raises(ConfigError) as caught:
        read_corpora(entries, ["eng", "ind"])
    assert "corpora.0.file: unknown key, found {}. Write files" in str(caught.value)
    assert "corpora.1.columns" in str(caught.value)
    with pytest.raises(ConfigError, match=r"corpora\.0\.format: .*'mosses'\. Did you mean 'moses'"):
        read_corpora([{"format": "mosses"}], ["eng", "ind"])


def test_names_of_corpora(tmp_path: Path) -> None:
    entries = [
        entry("flores", path=Path("/data/flores200")),
        entry("moses", files={"eng": Path("/data/x/c.en"), "ind": Path("/data/x/c.id")}),
        entry("csv", path=Path("/other/c.csv")),
        entry("csv", path=Path("/other/c.csv")),
        entry("toy"),
    ]
    assert corpus_names(entries) == ["flores200", "x/c", "other/c", "other/c-2", "toy"]


def test_a_language_in_no_corpus_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, "a.csv", "eng,ind\none,satu\n")
    with pytest.raises(DataError, match=r"no corpus has text in jav, sun. Languages found: eng, ind."):
        read_corpora([entry("csv", path=path)], ["eng", "ind", "jav", "sun"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("eng,ind\n", r"corpus 'a' \(csv\) has no rows: 0 read\."),
        ("eng,ind\none,\n,dua\n,\n", "3 read, all dropped: 2 text in fewer than two languages, 1 empty"),
    ],
)
def test_a_corpus_without_rows_is_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_corpora([entry("csv", path=csv(tmp_path, "a.csv", content))], ["eng", "ind"])


def test_real_sets_are_read_whole(shared_data: Path) -> None:
    """The numbers are those of shared/data/README.md and of `wc -l`."""
    nine = ["ace", "ban", "bjn", "bug", "eng", "ind", "jav", "min", "sun"]
    flores = read_corpora([entry("flores", path=shared_data / "flores200")], nine)
    assert len(flores) == 997 + 1012
    assert all(len(row.texts) == 9 for row in flores)
    columns = {"ind": "indonesian", "bbc": "toba_batak", "mad": "madurese"}
    path = shared_data / "nusax/mt/test.csv"
    nusax = read_corpora([entry("csv", path=path, columns=columns, id=1)], ["ind", "bbc", "mad"])
    assert (len(nusax), ids(nusax)[0], nusax.counts.dropped) == (400, "test/0", {})
    options = {"columns": {"ace": 1, "eng": 2}, "header": False}
    gatitos = read_corpora([entry("tsv", path=shared_data / "gatitos/ace_en.tsv", **options)], ["ace", "eng"])
    assert gatitos.counts == Counts(4193, 4193)
