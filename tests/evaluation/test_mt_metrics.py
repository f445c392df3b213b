"""What is counted of translations: by hand, and against sacrebleu, langcodes and difflib where they can tell."""

from __future__ import annotations

import sys
from difflib import SequenceMatcher
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from instructalign.errors import DataError
from instructalign.evaluation import mt_metrics
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.gains import compare_samples
from instructalign.evaluation.mt_metrics import (
    is_copied,
    is_in_wrong_script,
    measure,
    metrics_for,
    refusal,
    script_of,
)
from instructalign.evaluation.predictions import Translated


@pytest.fixture(autouse=True)
def _no_subwords(monkeypatch):
    monkeypatch.setattr(mt_metrics, "spbleu_is_installed", lambda: False)


def translated(number, translation, reference="ora", *, text="sumber", target="jav", prompt="p"):
    return Translated("t", prompt, str(number), "eng", target, text, reference, translation)


def value(measured, name):
    sample, _ = measured[name]
    return float(Bootstrap(0, 0).scores([sample])[0])


WORDS = st.lists(st.sampled_from(["aku", "kowe", "lunga", "sega.", "Pasar", "ing", "ő", "中文"]), max_size=7).map(
    " ".join
)


@settings(max_examples=40)
@given(st.lists(st.tuples(WORDS, WORDS.filter(bool)), min_size=1, max_size=12))
def test_random_translations_score_as_in_sacrebleu(pairs):
    texts, references = zip(*pairs, strict=True)
    measured = measure([translated(n, *pair) for n, pair in enumerate(pairs)])
    for name, metric in (("chrf", CHRF(word_order=2)), ("bleu", BLEU())):
        expected = metric.corpus_score(list(texts), [list(references)]).score
        assert 100 * value(measured, name) == pytest.approx(expected, abs=1e-9)


REFERENCES = [f"aku lunga menyang pasar dina {n} karo bapak lan ibu" for n in range(40)]


def outputs(seed, share):
    """Translations of which a share of the words is wrong."""
    draw = np.random.default_rng(seed)
    return [" ".join("x" if draw.random() < share else word for word in text.split()) for text in REFERENCES]


def gain(before, after, rounds):
    samples = [
        [measure([translated(n, *pair) for n, pair in enumerate(zip(some, REFERENCES, strict=True))])["chrf"][0]]
        for some in (before, after)
    ]
    rows = compare_samples(*samples, {"L2": ["jav"]}, "run", Bootstrap(rounds, 0), lambda _: {}, "chrf")
    return {row.metric: row for row in rows if row.language}


@pytest.mark.parametrize(("seed", "share"), [(1, 0.3), (2, 0.22), (3, 0.25)])
def test_paired_tests_agree_with_sacrebleus(seed, share):
    before, after = outputs(9, 0.3), outputs(seed, share)
    found = gain(before, after, 4000)
    metric = {"chrF": CHRF(word_order=2, references=[REFERENCES])}
    systems = [("base", before), ("adapted", after)]
    shuffled = PairedTest(systems, metric, None, test_type="ar", n_samples=4000)()[1]["chrF2++"][1]
    assert found["gain"].value * 100 == pytest.approx(
        CHRF(word_order=2).corpus_score(after, [REFERENCES]).score
        - CHRF(word_order=2).corpus_score(before, [REFERENCES]).score
    )
    assert found["gain_p"].value == pytest.approx(shuffled.p_value, abs=0.025)


def test_interval_and_test_agree_where_the_case_is_clear():
    before = outputs(9, 0.3)
    better, same = gain(before, outputs(1, 0.1), 500), gain(before, outputs(2, 0.3), 500)
    assert better["gain"].low > 0
    assert better["gain_p"].value < 0.01
    assert same["gain"].low < 0 < same["gain"].high
    assert same["gain_p"].value > 0.1


# -- what goes wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("translation", "reference", "expected"),
    [
        ("The cat sat on the mat.", "Kucing lungguh ing klasa.", True),
        ("the CAT sat on the mat", "Kucing lungguh ing klasa.", True),  # case and marks do not count
        ("The cat sat on the mats.", "Kucing lungguh ing klasa.", True),  # nearly
        ("Kucing lungguh ing klasa.", "Kucing lungguh ing klasa.", False),
        ("The cat", "Kucing lungguh ing klasa.", False),  # a part of it
        ("", "Kucing lungguh ing klasa.", False),
        ("The cat sat on the mat.", "The cat sat on the mat!", False),  # where copying is right
    ],
)
def test_copies(translation, reference, expected):
    record = translated(0, translation, reference, text="The cat sat on the mat.")
    assert is_copied(record) is expected


@given(st.text("ab c", max_size=12), st.text("ab c", max_size=12))
def test_likeness_is_difflibs(one, other):
    exact = bool(one and other) and SequenceMatcher(None, one, other, autojunk=False).ratio() >= 0.9
    assert mt_metrics.are_similar(one, other) == exact


@pytest.mark.parametrize(
    ("target", "translation", "expected"),
    [
        ("ace_Arab", "ureueng nyan jak", True),
        ("ace_Arab", "اورڠ ڽن", False),
        ("jav", "kucing 3 (ꦏꦸꦕꦶꦁ)", False),
        ("jav", "ꦏꦸꦕꦶꦁ", True),
        ("jpn", "猫がいる", False),
        ("zho", "ねこがいるよ", True),
        ("jav", "kꦏ", True),  # half of them
        ("jav", "12 %", None),  # no letters, no script
        ("jav", "", None),
    ],
)
def test_wrong_script(target, translation, expected):
    assert is_in_wrong_script(translated(0, translation, target=target)) is expected


def test_shares_count_what_can_be_judged():
    records = [
        translated(0, "sumber bening", text="sumber bening"),
        translated(1, ""),
        translated(2, "ꦏꦸꦕꦶꦁ"),
        translated(3, "12"),
    ]
    measured = measure(records)
    assert value(measured, "copied") == 0.25
    assert value(measured, "empty") == 0.25
    assert value(measured, "wrong_script") == 0.5  # of the two that have letters
    assert measured["wrong_script"][1] == {"measure": "half of the letters or more in another script"}
    assert value(measure([translated(0, "")]), "wrong_script") == 0


def test_a_made_up_language_has_no_script_to_be_wrong():
    assert "wrong_script" not in measure([translated(0, "ꦏꦸꦕꦶꦁ", target="qaa")])
    assert (script_of("qaa"), script_of("ace_Arab"), script_of("jav")) == ("", "Arab", "Latn")


class Hears:
    """Stands in for a fastText model: Javanese where there is an o, else Indonesian; knows no Sundanese."""

    labels = ("__label__jav_Latn", "__label__ind_Latn", "__label__nolanguage")

    def predict(self, text, k):
        ranked = self.labels if "o" in text else self.labels[1::-1]
        return (self.labels, (0.5, 0.4, 0.1)) if k == -1 else (ranked[:k], (0.9, 0.1)[:k])


@pytest.fixture
def language_id(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fasttext", SimpleNamespace(load_model=lambda path: Hears()))
    mt_metrics._identifier.cache_clear()
    path = tmp_path / "lid.bin"
    path.write_bytes(b"model")
    return path


def test_off_target_by_language_identification(language_id, caplog):
    records = [
        translated(0, "loro", "ora"),
        translated(1, "dua", "ora"),
        translated(2, "", "tiga"),
        translated(3, "tiga", "ora"),
    ]
    measured = measure(records, language_id=language_id)
    assert value(measured, "off_target") == pytest.approx(2 / 3)  # the empty one is in no language
    assert value(measured, "off_target_reference") == 0.25  # what the model itself gets wrong
    # printf model | sha256sum
    assert measured["off_target"][1] == {"measure": "fastText lid.bin 9372c470"}
    unknown = measure([translated(0, "dua", target="sun")], language_id=language_id)
    assert "off_target" not in unknown
    assert "into sun" in caplog.text


def test_off_target_needs_its_library(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "fasttext", None)
    mt_metrics._identifier.cache_clear()
    with pytest.raises(DataError, match=r"evaluation\.language_id.*pip install 'instructalign\[lid\]'"):
        measure([translated(0, "a")], language_id=tmp_path / "lid.bin")


def test_shares_have_intervals_and_average_prompts():
    texts = "mata air pegunungan"
    records = [translated(n, texts if n < 5 else "loro", text=texts) for n in range(20)]
    records += [translated(n, "loro", text=texts, prompt="q") for n in range(20)]
    sample, _ = measure(records)["copied"]
    values = Bootstrap(2000, 0).by_prompt(sample).mean(0)
    assert values[0] == pytest.approx(0.125)
    # Of 20 resampled sentences a quarter are copies under one of two prompts.
    assert values[1:].std() == pytest.approx((0.25 * 0.75 / 20) ** 0.5 / 2, rel=0.06)


# -- which metric covers which language --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "covered", "not_covered"),
    [
        (
            "comet",
            ["eng", "ind", "jav", "sun", "zsm", "zho_Hant"],
            ["min", "ban", "bug", "ace", "bjn", "mad", "qaa"],
        ),
        ("spbleu", ["eng", "jav", "ace", "ace_Arab", "ban", "bug", "min", "bjn"], ["mad", "nij", "bbc", "qaa"]),
        ("bleu", ["jav", "mad", "kor", "qaa"], ["tha", "jpn", "zho", "zho_Hant", "mya", "khm", "lao", "bod"]),
        ("chrf", ["jav", "mad", "tha", "qaa"], []),
        ("copied", ["jav", "qaa"], []),
    ],
)
def test_coverage(metric, covered, not_covered):
    assert {code: refusal(metric, code) for code in covered} == dict.fromkeys(covered, "")
    assert all(refusal(metric, code) for code in not_covered)


def test_comet_models_with_another_encoder_say_what_they_cover():
    assert refusal("comet", "yor")
    assert refusal("comet", "yor", ["eng", "yor"]) == ""
    assert refusal("comet", "jav", ["eng", "yor"]) == "the encoder of COMET was not trained on it"


def test_metrics_follow_the_coverage(monkeypatch):
    monkeypatch.setattr(mt_metrics, "spbleu_is_installed", lambda: True)
    monkeypatch.setattr("sacrebleu.metrics.bleu.BLEU.__init__", lambda self, **_: None)
    assert list(metrics_for("jav")) == ["chrf", "bleu", "spbleu"]
    assert list(metrics_for("mad")) == ["chrf", "bleu"]
    assert list(metrics_for("tha")) == ["chrf", "spbleu"]
