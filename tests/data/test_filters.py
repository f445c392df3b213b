from __future__ import annotations

import csv
import json
import struct
import sys
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import regex
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax

import instructalign.data.filters
from instructalign.config import Bounds, Entry, FilterConfig
from instructalign.data import read_corpora
from instructalign.data.contamination import ItemIndex, ItemText
from instructalign.data.deduplication import find_exact, find_near
from instructalign.data.filters import (
    Cleaner,
    score_alphabetic,
    score_control,
    score_identical,
    score_language_by,
    score_length_ratio,
    score_script,
)
from instructalign.data.normalization import _INVISIBLE, fingerprint, fold, normalise, plain, shingles
from instructalign.data.shared_sentences import find_placeholders, text_keys
from instructalign.errors import DataError
from instructalign.instructions.segmentation import words
from instructalign.types import Counts, ParallelRow

UNICODE = st.text(st.characters(codec="utf-8"))


@given(UNICODE)
def test_normalising_is_idempotent_and_gives_nfc(text: str) -> None:
    once = normalise(text)
    assert normalise(once) == once
    assert unicodedata.is_normalized("NFC", once)
    assert "  " not in once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" a\t b\u00a0\u3000c\r\nd\u2028e ", "a b c d e"),
        ("cafe\u0301", "café"),
        ("a\u202eb\u202c \u2066c\u2069\ufeff", "ab c"),
        ("می\u200cخواهم", "می\u200cخواهم"),  # Persian writes the non-joiner
        ("ක්\u200dෂ", "ක්\u200dෂ"),  # Sinhala writes the joiner
        ("ខ្ញុំ\u200bស្រលាញ់", "ខ្ញុំ\u200bស្រលាញ់"),  # Khmer may part words by the zero-width space
        ("น้ำ", "น้ำ"),  # NFKC would take Thai am apart
        ("x² ﬁ", "x² ﬁ"),
    ],
)
def test_normalising_keeps_what_languages_need(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_fingerprints_are_of_words_alone() -> None:
    assert fingerprint("  «Apa kabar?» — Kucing's, 3 ekor!\n") == "apa kabar kucing s 3 ekor"
    assert fingerprint("हिन्दी में।") == "हिन्दी में"
    assert fingerprint("cafe\u0301") == fingerprint("CAFÉ")
    assert fingerprint("?!") == ""


TYPED = {  # one sentence, as two people type it
    "Uzbek": ("Oʻzbekiston haqida soʻzladi.", "O‘zbekiston haqida so‘zladi."),
    "Uzbek in ASCII": ("Toʻgʻri yoʻlni koʻrsatdi", "To`g'ri yo´lni ko’rsatdi"),
    "Tlapanec": ("naꞌni", "na'ni"),
    "Khmer": ("ខ្ញុំ\u200bចូលចិត្ត\u200bអាន", "ខ្ញុំចូលចិត្តអាន"),
    "Persian": ("کتاب\u200cهای تازه", "کتابهای تازه"),
    "soft hyphens": ("pa\xaddha do\xadla\xadnan", "padha dolanan"),
    "marks of direction": ("\u200fשלום\u200e עולם", "שלום עולם"),
    "byte-order mark": ("\ufeffone word\u2060s", "one words"),
    "full width": ("ＡＢＣ　１２３", "ABC 123"),
    "ligatures": ("ﬁne oﬃce", "fine office"),
    "Arabic presentation forms": ("ﺳﻼﻡ", "سلام"),
    "marks apart": ("cafe\u0301", "café"),
    "no-break space": ("one\u00a0 word", "one word"),
}


@pytest.mark.parametrize("language", TYPED)
def test_one_sentence_typed_twice_is_one_to_everything_that_compares(language: str) -> None:
    one, other = TYPED[language]
    assert plain(one) == plain(other)
    assert fold(one) == fold(other.upper())
    assert fingerprint(one) == fingerprint(other)
    rows = [ParallelRow(id, {"eng": text, "ind": text}) for id, text in (("a", one), ("b", other))]
    assert [number for number, _ in find_exact(rows)] == [1]
    index = ItemIndex([ItemText("task", "item", "xxx", one)])
    assert [overlap.kind for overlap in index.find("c/1", [other])] == ["exact"]
    assert len(words(one)) == len(words(other)) or language == "Khmer"  # where a break may part syllables


@given(UNICODE)
def test_folding_is_idempotent(text: str) -> None:
    for change in (plain, fold, fingerprint):
        assert change(change(text)) == change(text)


@given(st.text(st.characters(max_codepoint=127)))
def test_the_fast_way_of_ascii_gives_the_same(text: str) -> None:
    assert fingerprint(text) == fingerprint(f"{text} é").removesuffix("é").strip()
    assert fold(text) == fold(f"{text} é").removesuffix("é").strip()


def test_the_invisible_characters_are_those_of_unicode() -> None:
    every = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert "".join(_INVISIBLE.findall(every)) == "".join(regex.findall(r"\p{Default_Ignorable_Code_Point}", every))


def test_what_differs_stays_different() -> None:
    for one, other in (("si", "sí"), ("on", "ön"), ("كتب", "كتاب"), ("ka", "qa"), ("a b", "ab")):
        assert fingerprint(one) != fingerprint(other)


def test_shingles() -> None:
    assert shingles("abcdefg") == {"abcde", "bcdef", "cdefg"}
    assert shingles("abc") == {"abc"}


@pytest.mark.parametrize(
    ("score", "one", "two", "expected"),
    [
        (score_alphabetic, "abc 123", "eng", 0.5),
        (score_alphabetic, "ngoko ꦗꦮ 1", "jav", 7 / 8),
        (score_alphabetic, "हिन्दी", "hin", 1.0),  # vowel signs belong to their letters
        (score_alphabetic, "  ", "eng", 0.0),
        (score_script, "abc где", "eng", 0.5),
        (score_script, "abc где", "rus", 0.5),
        (score_script, "漢字かなカナ", "jpn", 1.0),
        (score_script, "漢字 한글", "kor", 1.0),
        (score_script, "漢字 latin", "zho", 2 / 7),
        (score_script, "سلام", "ace_Arab", 1.0),
        (score_script, "سلام", "ace", 0.0),
        (score_script, "12 !?", "eng", 1.0),
        (score_script, "где", "qaa", 1.0),  # a private code has no script
        (score_control, "a\tb\nc", "eng", 0.0),
        (score_control, "a\x00b\x9f\ufffd\ue000\u202e", "eng", 5.0),
        (score_length_ratio, "a" * 10, "b" * 30, 2.0),
        (score_length_ratio, "b" * 30, "a" * 10, 2.0),
        (score_length_ratio, "漢" * 10, "b" * 20, 1.0),
        (score_length_ratio, "", "b" * 10, 2.0),
        (score_identical, "The same old words!", "the same old words", 1.0),
        (score_identical, "Same words", "same words", 0.0),  # names of two words are the same everywhere
        (score_identical, "The same old words", "The same old word", 0.0),
    ],
)
def test_scores_by_hand(score: Any, one: str, two: str, expected: float) -> None:
    assert score(one, two) == pytest.approx(expected)


def clean(row: dict[str, str], config: FilterConfig) -> tuple[dict[str, str] | None, str, Cleaner]:
    cleaner = Cleaner(config)
    kept, reason = cleaner.clean(ParallelRow("c/1", row))
    return (None if kept is None else dict(kept.texts)), reason, cleaner


def only(**filters: Any) -> FilterConfig:
    return FilterConfig(preset="none", **filters)


def test_a_text_that_is_not_accepted_leaves_its_row() -> None:
    row = {"eng": "one two", "ind": "satu", "jav": "x" * 21}
    texts, reason, cleaner = clean(row, only(length=Bounds(min=4, max=20)))
    assert (texts, reason) == ({"eng": "one two", "ind": "satu"}, "")
    assert cleaner.removed["length"].texts == 1
    assert cleaner.removed["length"].rows == 0
    example = {"row": "c/1", "language": "jav", "text": "x" * 21, "score": 21}
    assert cleaner.removed["length"].examples == [example]


def test_a_row_of_one_text_is_dropped_for_the_filter_that_took_the_last() -> None:
    texts, reason, cleaner = clean({"eng": "one", "ind": "x" * 21}, only(length=Bounds(max=20)))
    assert (texts, reason) == (None, "length")
    assert cleaner.removed["length"].rows == 1


def test_pairs_are_judged_by_the_first_text_that_is_left() -> None:
    row = {"eng": "\x01", "ind": "a" * 30, "jav": "b" * 30, "sun": "c" * 200}
    texts, _, cleaner = clean(row, only(control=Bounds(max=0), length_ratio=Bounds(max=2)))
    assert texts == {"ind": "a" * 30, "jav": "b" * 30}
    assert {name: removed.texts for name, removed in cleaner.removed.items()} == {
        "control": 1,
        "length_ratio": 1,
    }


def test_the_first_text_is_the_odd_one_where_most_others_disagree_with_it() -> None:
    row = {"eng": "a" * 100, "ind": "a" * 30, "jav": "b" * 30, "sun": "c" * 120}
    texts, _, cleaner = clean(row, only(length_ratio=Bounds(max=2)))
    assert texts == {"ind": "a" * 30, "jav": "b" * 30}
    assert [example["language"] for example in cleaner.removed["length_ratio"].examples] == ["eng", "sun"]


def test_a_text_of_display_controls_alone_is_taken_out() -> None:
    texts, reason, cleaner = clean({"eng": "\u202e\u2066", "ind": "satu"}, FilterConfig())
    assert (texts, reason) == (None, "normalise")
    assert cleaner.removed["normalise"].texts == 1


def test_copies_of_one_text_are_no_row() -> None:
    row = dict.fromkeys(["eng", "ind", "jav", "sun"], "not translated at all")
    assert clean(row, only(identical=Bounds(max=0)))[:2] == (None, "identical")


def test_only_the_first_examples_are_kept_and_all_rejects_written(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("eng,ind,jav\n" + "".join(f"word {i},{'x' * 30},kata {i}\n" for i in range(9)))
    config = only(length=Bounds(max=20), rejects=tmp_path / "rejects.jsonl")
    corpus = read_corpora([Entry(name="csv", options={"path": table})], ["eng", "ind", "jav"][::2], config)
    assert corpus.removed == {}
    with pytest.raises(DataError, match=r"no corpus has text in ind\. .* taken out by filters: length 9"):
        read_corpora([Entry(name="csv", options={"path": table})], ["eng", "ind", "jav"], config)
    assert [json.loads(line) for line in config.rejects.read_text().splitlines()][8] == {  # type: ignore[union-attr]
        "filter": "length",
        "row": "a/10",
        "language": "ind",
        "text": "x" * 30,
        "score": 30,
    }


def test_filters_and_duplicates_are_counted_by_reason(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("eng,ind\none,satu\none,satu\ntwo,d\x01ua\nthree,tiga\nfour,\n")
    corpus = read_corpora([Entry(name="csv", options={"path": table})], ["eng", "ind"], FilterConfig())
    assert [row.texts["eng"] for row in corpus] == ["one", "three"]
    assert corpus.counts == Counts(5, 2, {"text in fewer than two languages": 1, "control": 1, "duplicates": 1})
    assert corpus.removed["duplicates"].examples == [
        {"row": "a/3", "language": "eng", "text": "one", "score": 1.0}
    ]


def test_presets_are_filters_of_the_configuration() -> None:
    folder = Path(instructalign.data.filters.__file__).parent
    presets = yaml.safe_load((folder / "presets.yaml").read_text(encoding="utf-8"))
    assert list(presets) == ["none", "basic", "standard", "strict"]
    for name, preset in presets.items():
        cleaner = Cleaner(FilterConfig(**preset))
        again = Cleaner(FilterConfig(preset=name))
        assert cleaner._text_filters == again._text_filters or name == "none"


def test_a_filter_of_the_preset_can_be_changed_or_left_out() -> None:
    text = "a" * 1200
    assert clean({"eng": text, "ind": text}, FilterConfig(preset="standard"))[1] == "length"
    longer = FilterConfig(preset="standard", length=Bounds(max=2000), without=["alphabetic"])
    assert clean({"eng": text, "ind": text}, longer)[1] == ""


ROWS = st.lists(
    st.builds(
        ParallelRow,
        st.just("x"),
        st.dictionaries(st.sampled_from(["eng", "ind"]), st.sampled_from(["a", "b", "ab", ""]), min_size=1),
    ),
    max_size=30,
)


@settings(deadline=None)
@given(ROWS)
def test_exact_duplicates_are_those_seen_before(rows: list[ParallelRow]) -> None:
    expected = [i for i, row in enumerate(rows) if any(row.texts == earlier.texts for earlier in rows[:i])]
    assert sorted(index for index, _ in find_exact(rows)) == expected


def test_near_duplicates_against_every_pair() -> None:
    """The oracle compares all pairs; hashing may miss a few at the very threshold, and invents none."""
    generator = np.random.default_rng(5)
    words = ["".join(generator.choice(list("abcdefgiklmnoprstu"), 6)) for _ in range(400)]
    rows: list[ParallelRow] = []
    for _ in range(60):
        sentence = list(generator.choice(words, 14))
        for changes in (0, 1, 2, 7):
            changed = list(sentence)
            for place in generator.choice(14, changes, replace=False):
                changed[place] = str(generator.choice(words))
            rows.append(ParallelRow(str(len(rows)), {"eng": " ".join(changed), "ind": " ".join(sentence[::-1])}))
    found = dict(find_near(rows))
    sets = [shingles("\n".join(fingerprint(text) for text in row.texts.values())) for row in rows]
    alike, missed = 0, 0
    for i in range(len(rows)):
        likeness = max((len(sets[i] & sets[j]) / len(sets[i] | sets[j]) for j in range(i)), default=0.0)
        if i in found:
            assert likeness >= found[i] >= 0.8
        elif likeness >= 0.8:
            missed += 1
        alike += likeness >= 0.8
    assert alike > 80
    assert missed <= 4


def test_near_duplicates_ignore_case_and_marks_but_not_other_sentences() -> None:
    texts = ["The cat sat on the mat.", "the CAT sat on the mat!!", "A dog lay under the table.", "?", "!"]
    rows = [ParallelRow(str(i), {"eng": text, "ind": text}) for i, text in enumerate(texts)]
    assert [index for index, _ in find_near(rows)] == [1]


class Identifier:
    """Stands in for a fastText model that hears Javanese wherever there is an o."""

    labels = ("__label__jav_Latn", "__label__ind_Latn", "__label__und_Latn")

    def predict(self, text: str, k: int) -> tuple[Sequence[str], Sequence[float]]:
        share = 0.9 if "o" in text else 0.2
        shares = (share, 1 - share, 0.0)
        return (self.labels, shares) if k == -1 else (self.labels[:2], shares[:2])


def test_language_identification(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=lambda path: Identifier()))
    score = score_language_by(tmp_path / "lid.bin")
    assert (score("loro", "jav"), score("loro", "ind")) == (0.9, pytest.approx(0.1))
    assert score("loro", "sun") == 1.0  # the model does not know Sundanese


def write_fasttext(path: Path, words: dict[str, list[float]], labels: dict[str, list[float]]) -> None:
    """A supervised fastText model (file format 12) of given vectors, without n-grams."""
    two = len(next(iter(words.values())))
    args = struct.pack("<12id", two, 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)  # softmax, supervised, no buckets
    entries = [(word, 0) for word in words] + [(label, 1) for label in labels]
    dictionary = struct.pack("<3i2q", len(entries), len(words), len(labels), 100, -1)
    for text, kind in entries:
        dictionary += text.encode() + b"\0" + struct.pack("<qb", 10, kind)
    matrices = b""
    for vectors in (list(words.values()), list(labels.values())):
        flat = [value for vector in vectors for value in vector]
        matrices += struct.pack(f"<?2q{len(flat)}f", False, len(vectors), two, *flat)
    path.write_bytes(struct.pack("<2i", 793712314, 12) + args + dictionary + matrices)


def test_the_score_is_the_share_that_a_fasttext_model_gives_the_language(tmp_path: Path) -> None:
    """Against the softmax of the model's own vectors, computed here."""
    pytest.importorskip("fasttext", reason="fastText is not installed: pip install 'instructalign[lid]'")
    words = {"</s>": [0.5, 0.5], "watu": [2.0, 0.0], "batu": [0.0, 2.0], "stone": [-2.0, -2.0]}
    labels = {"__label__jav_Latn": [1.0, 0.0], "__label__ind_Latn": [0.0, 1.0], "__label__eng_Latn": [-1.0, -1.0]}
    write_fasttext(tmp_path / "lid.bin", words, labels)
    score = score_language_by(tmp_path / "lid.bin")
    for text in ("watu", "watu watu batu", "batu stone", "watu\nbatu"):
        hidden = np.mean([words[word] for word in (*text.split(), "</s>")], axis=0)  # the end of the line counts
        expected = softmax([np.dot(vector, hidden) for vector in labels.values()])
        found = [score(text, code) for code in ("jav", "ind", "eng")]
        assert found == pytest.approx(list(expected), abs=1e-4)
    assert score("watu", "sun") == 1.0
    settings = {"language": {"model": tmp_path / "lid.bin", "min": 0.5}, "preset": "none"}
    row = {"eng": "stone stone", "jav": "batu batu", "ind": "batu"}
    assert clean(row, FilterConfig.model_validate(settings))[0] == {"eng": "stone stone", "ind": "batu"}


def test_a_file_that_is_no_model_is_refused_by_the_library(tmp_path: Path) -> None:
    pytest.importorskip("fasttext", reason="fastText is not installed: pip install 'instructalign[lid]'")
    write_fasttext(
        tmp_path / "mood.bin", {"</s>": [1.0]}, {"__label__positive": [1.0], "__label__neutral": [-1.0]}
    )
    with pytest.raises(DataError, match=r"mood\.bin: .*none of its labels is a language's.*__label__"):
        score_language_by(tmp_path / "mood.bin")
    (tmp_path / "bad.bin").write_bytes(b"not a model, but long enough")
    for name in ("bad.bin", "absent.bin"):
        with pytest.raises(DataError, match=rf"{name}: not a fastText model that can be read"):
            score_language_by(tmp_path / name)


def test_language_identification_without_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fasttext", None)
    with pytest.raises(DataError, match=r"pip install 'instructalign\[lid\]'"):
        score_language_by(tmp_path / "lid.bin")


def test_a_language_model_that_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def load(path: str) -> None:
        raise ValueError(f"{path} cannot be opened for loading!")

    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=load))
    with pytest.raises(DataError, match=r"lid\.bin: not a fastText model that can be read"):
        score_language_by(tmp_path / "lid.bin")


def test_the_figures_in_the_presets_file(shared_data: Path) -> None:
    def removed(entries: list[Entry], languages: list[str]) -> tuple[int, dict[str, int]]:
        corpus = read_corpora(entries, languages, FilterConfig(preset="standard"))
        taken = {name: removed.texts for name, removed in corpus.removed.items()}
        return sum(len(row.texts) for row in corpus), taken

    names = "indonesian acehnese banjarese english madurese sundanese balinese buginese javanese minangkabau"
    codes = ["ind", "ace", "bjn", "eng", "mad", "sun", "ban", "bug", "jav", "min", "bbc"]
    columns = dict(zip(codes, [*names.split(), "toba_batak"], strict=True))
    nusax = [
        Entry(name="csv", options={"path": shared_data / f"nusax/mt/{part}.csv", "columns": columns, "id": 1})
        for part in ("train", "valid", "test")
    ]
    assert removed(nusax, codes) == (10_989, {"length_ratio": 11})
    flores = Entry(name="flores", options={"path": shared_data / "flores200"})
    languages = [path.stem for path in sorted((shared_data / "flores200/dev").glob("*.dev"))]
    lost = {"control": 14, "identical": 1, "length_ratio": 1}
    assert removed([flores], ["eng", *languages]) == (40_180 - 16, lost)


def lexicon_like(number: int) -> list[dict[str, str]]:
    """A word with many translations among words with one: what real lexicons have at most (docs/LOG.md)."""
    return [{"eng": f"word {n}", "jav": "jalan" if n < number else f"tembung {n}"} for n in range(100 * number)]


def dialogue(number: int) -> list[dict[str, str]]:
    """A short sentence that is often there, a few times with other translations."""
    short = [
        {"eng": "Yes.", "jav": ("Ya.", "Inggih.", "Nggih.")[n % 3] if n % 5 else f"Bener {n}."}
        for n in range(number)
    ]
    return short + [{"eng": f"line {n}", "jav": f"larik {n}"} for n in range(number)]


def standing_in(text: str, number: int, others: int) -> list[dict[str, str]]:
    """A text in the place of missing translations."""
    missing = [{"eng": f"line {n}", "jav": text} for n in range(number)]
    return missing + [{"eng": f"other {n}", "jav": f"liyane {n}"} for n in range(others)]


def placeholders_in(rows: list[dict[str, str]], codes: Sequence[str] = ("eng", "jav")) -> set[str]:
    made = [ParallelRow(str(n), row) for n, row in enumerate(rows)]
    found = find_placeholders(list(text_keys(made, len(made), codes)))
    return {
        made[int(place)].texts[code] for code, one in zip(codes, found, strict=True) for place in one.nonzero()[0]
    }


@pytest.mark.parametrize("text", ["__NULL__", "<range>", "TODO", "N/A", "-", "…"])
def test_one_text_against_many_different_ones_is_a_placeholder(text: str) -> None:
    for number, others in ((5, 40), (20, 1900), (100, 20_000)):
        assert placeholders_in(standing_in(text, number, others)) == {text}
    both = [
        {"eng": text if n % 3 else f"e{n}", "jav": text if n % 2 else f"j{n}", "sun": f"s{n}"} for n in range(90)
    ]
    assert placeholders_in(both, ("eng", "jav", "sun")) == {text}


def test_short_sentences_and_words_with_many_translations_are_none() -> None:
    for rows in (lexicon_like(13), dialogue(2000), standing_in("sijine", 4, 10), standing_in("sijine", 19, 400)):
        assert placeholders_in(rows) == set()


def test_placeholders_leave_their_rows(tmp_path: Path) -> None:
    lines = [f"line {n},{'TODO' if n % 4 == 0 else f'larik {n}'},baris {n}\n" for n in range(40)]
    lines += [f"only {n},TODO,\n" for n in range(3)]
    (tmp_path / "a.csv").write_text("eng,jav,ind\n" + "".join(lines))
    entries = [Entry(name="csv", options={"path": tmp_path / "a.csv"})]
    kept = read_corpora(entries, ["eng", "jav", "ind"], FilterConfig())
    assert (len(kept), kept.removed) == (43, {})
    config = FilterConfig(preset="standard", rejects=tmp_path / "rejects.jsonl")
    corpus = read_corpora(entries, ["eng", "jav", "ind"], config)
    assert not [row for row in corpus if row.texts.get("jav") == "TODO"]
    assert corpus.counts == Counts(43, 40, {"placeholders": 3})
    assert (corpus.removed["placeholders"].texts, corpus.removed["placeholders"].rows) == (13, 3)
    first = json.loads((tmp_path / "rejects.jsonl").read_text().splitlines()[0])
    assert first == {"filter": "placeholders", "row": "a/2", "language": "jav", "text": "TODO", "score": 13.0}
    assert len(read_corpora(entries, ["eng", "jav", "ind"], FilterConfig(placeholders="drop"))) == 40


def test_no_real_text_is_taken_for_a_placeholder(shared_data: Path) -> None:
    """The corpora of the figures below; docs/LOG.md has the figures for these and others."""
    for path in sorted((shared_data / "gatitos").glob("*.tsv")):
        rows = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines()]
        assert placeholders_in([{"eng": english, "jav": other} for other, english in rows]) == set(), path
    for path in sorted((shared_data / "nusax/lexicon").glob("*.csv")):
        _, *records = csv.reader(path.read_text(encoding="utf-8").splitlines())
        pairs = [{"ind": record[1], "jav": record[2]} for record in records if record[2].strip()]
        assert placeholders_in(pairs, ("ind", "jav")) == set(), path


def test_rejects_have_what_readers_drop_with_its_reason(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("eng,ind\none,satu\ntwo\n,\nthree,\nfour,em\x00pat\nfive,lima\nfive,lima\nsix,en\x01am\n")
    config = FilterConfig(rejects=tmp_path / "rejects.jsonl")
    corpus = read_corpora([Entry(name="csv", options={"path": table})], ["eng", "ind"], config)
    lines = [json.loads(line) for line in (tmp_path / "rejects.jsonl").read_text().splitlines()]
    assert [(line["filter"], line["row"]) for line in lines] == [
        ("wrong number of columns", "3"),
        ("empty", "4"),
        ("text in fewer than two languages", "5"),
        ("invalid characters (NUL or lone surrogate)", "6"),
        ("control", "a/9"),
        ("duplicates", "a/8"),
    ]
    assert (lines[0]["corpus"], lines[0]["fields"]) == ("a", ["two"])
    assert lines[2]["texts"] == {"eng": "three"}
    assert corpus.counts.dropped == {line["filter"]: 1 for line in lines}
    assert str(corpus.counts).startswith("8 read, 2 kept, dropped: 1 wrong number of columns, 1 empty,")
