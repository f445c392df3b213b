"""Translated files: likelihoods against transformers, calibration against scikit-learn, resumption, review."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from instructalign import translate, translate_file
from instructalign.cli import main
from instructalign.data.formats.spreadsheets import write_table
from instructalign.errors import ConfigError, DataError, RunFolderError
from instructalign.instructions.segmentation import split_sentences
from instructalign.interact import file_translation
from instructalign.interact.file_translation import fit_calibration
from instructalign.synthesis.back_translation import placeholder_problems
from instructalign.training.models import load_model
from tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("model"), "bloom")


def review_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_the_likelihood_is_that_of_plain_transformers(family: str, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m", family)
    sentences = ["the food is good", "clean", "the place is clean and good"]  # of different lengths: padded
    made = translate(sentences, folder, "eng", "jav")
    loaded = load_model(str(folder))
    model: Any = loaded.model
    for sentence, each in zip(sentences, made, strict=True):
        prompt = f"Translate the following text from English to Javanese.\nText: {sentence}\nTranslation:"
        ids = torch.tensor([loaded.tokenizer.encode(prompt)])
        out = model.generate(
            ids, max_new_tokens=300, do_sample=False, output_logits=True, return_dict_in_generate=True
        )
        new = out.sequences[0, 1 if family == "mt5" else ids.shape[1] :].tolist()
        logs, text = [], ""
        most = math.ceil(4 * len(loaded.tokenizer.encode(sentence))) + 16
        for token, logits in list(zip(new, out.logits, strict=True))[:most]:
            logs.append(float(torch.log_softmax(logits[0], -1)[token]))
            text += loaded.tokenizer.decode([token], skip_special_tokens=True)
            if token == 1 or "\n" in text.lstrip():
                break
        assert each.likelihood == pytest.approx(math.exp(sum(logs) / len(logs)), rel=1e-3)
        assert each.confidence is None


def test_a_file_and_its_review(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"One %s.": ("Siji.", False, 0.9), "Two.": ("Loro.", False, 0.2), "Three.": ("Telu.", True, 0.8)}

    def run(self: Any, texts: Any, runner: Any, progress: Any) -> Any:
        return [said.get(text, ("Papat.", False, 0.1)) for text in texts]

    monkeypatch.setattr(file_translation._Translator, "run", run)
    file = tmp_path / "a.txt"
    file.write_text("One %s. Two.\n\nTwo. Three.\nFour.\n", encoding="utf-8")
    done = translate_file(file, model, "English", "jv")
    assert done.out.read_text(encoding="utf-8") == "Siji. Loro.\n\nLoro. Telu.\nPapat.\n"
    assert (done.out.name, done.review.name) == ("a.jav.txt", "a.jav.txt.review.csv")
    rows = review_of(done.review)
    assert [(row["source"], row["place"]) for row in rows] == [
        ("Three.", "line 3"),
        ("One %s.", "line 1"),
        ("Four.", "line 4"),
        ("Two.", "line 1"),
    ]
    assert [row["problems"] for row in rows] == ["cut off", "lost %s", "", ""]
    with pytest.raises(RunFolderError, match="--fresh"):
        translate_file(file, model, "eng", "jav")
    with pytest.raises(RunFolderError, match="Choose another --out"):
        translate_file(file, model, "eng", "jav", file, fresh=True)
    with pytest.raises(ConfigError, match=r"must end in \.txt"):
        translate_file(file, model, "eng", "jav", tmp_path / "b.csv")
    with pytest.raises(ConfigError, match="both Javanese"):
        translate_file(file, model, "jv", "Javanese")
    empty = tmp_path / "empty.txt"
    empty.write_text("12\n\n", encoding="utf-8")
    with pytest.raises(DataError, match="nothing to translate"):
        translate_file(empty, model, "eng", "jav")


def test_interrupted_it_goes_on_where_it_was(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.txt"
    file.write_text("".join(f"the food is good {'very ' * n}\n" for n in range(6)), encoding="utf-8")
    monkeypatch.setattr(file_translation, "_BATCH_TOKENS", 200)
    generate, calls, kill = file_translation.generate_batch, 0, 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == kill:
            raise KeyboardInterrupt
        return generate(*arguments, **options)

    monkeypatch.setattr(file_translation, "generate_batch", counted)
    whole = translate_file(file, model, "eng", "jav", tmp_path / "whole.txt").out.read_bytes()
    batches, calls, kill = calls, 0, 3
    with pytest.raises(KeyboardInterrupt):
        translate_file(file, model, "eng", "jav")
    assert not (tmp_path / "a.jav.txt").exists()
    unfinished = tmp_path / ".a.jav.txt.unfinished"
    assert len(unfinished.read_text(encoding="utf-8").splitlines()) == 3  # the key and two batches
    calls = kill = 0
    assert translate_file(file, model, "eng", "jav").out.read_bytes() == whole
    assert calls == batches - 2
    assert not unfinished.exists()


def test_a_sentence_without_room_is_left_and_said(model: Path, tmp_path: Path) -> None:
    folder = save_tiny(tmp_path / "m", "llama")  # a context of 512
    file = tmp_path / "a.txt"
    file.write_text(f"{'word ' * 400}\ngood\n", encoding="utf-8")
    done = translate_file(file, folder, "eng", "jav")
    assert done.sentences[0].translation == done.sentences[0].source
    assert "no translation" in done.sentences[0].problems


@given(st.text(alphabet='ab .!?。\n"”DrM5(', min_size=1).filter(lambda text: any(map(str.isalpha, text))))
def test_sentences_and_what_is_between_make_the_text(text: str) -> None:
    parts = split_sentences(text)
    assert "".join(parts) == text.strip()
    assert all(any(map(str.isalpha, sentence)) for sentence in parts[::2])
    assert not any(any(map(str.isalpha, between)) for between in parts[1::2])


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith came. He left.", ["Dr. Smith came.", "He left."]),
        ('"Who?" she asked. "Me." Yes.', ['"Who?" she asked.', '"Me."', "Yes."]),
        ("A 1.5 l bottle, e.g. milk", ["A 1.5 l bottle, e.g. milk"]),
        ("食べる。飲む。", ["食べる。", "飲む。"]),
        ("1. One\n2. Two", ["1. One", "2. Two"]),
    ],
)
def test_sentences(text: str, sentences: list[str]) -> None:
    assert split_sentences(text)[::2] == sentences


@pytest.mark.parametrize(
    ("source", "translation", "problems"),
    [
        ("%d of %s", "%s saka %d", []),
        ("%(name)s {0} <b>x</b>", "%(name)s {1} <b>x", ["lost {0} </b>", "added {1}"]),
        ("100% sure", "100% yakin", []),
        ("%1$s & more", "&amp; %1$s", ["added &amp;"]),
    ],
)
def test_placeholders(source: str, translation: str, problems: list[str]) -> None:
    assert placeholder_problems(source, translation) == problems


@pytest.mark.parametrize("kind", ["tsv", "xlsx"])
def test_control_characters_of_a_model_reach_no_file(
    kind: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_translation, "decode_until", lambda *_: ("one\ttwo\x0bthree\x00", False))
    path = tmp_path / f"a.{kind}"
    write_table(path, [("English",), ("good",)])
    done = translate_file(path, str(model), "eng", "jav")
    assert [each.translation for each in done.sentences] == ["one two three"]
    assert done.out.exists()


def test_calibration_against_scikit_learn() -> None:
    draws = np.random.default_rng(0)
    likelihoods = draws.uniform(0.1, 0.9, 200)
    good = draws.uniform(size=200) < likelihoods  # a likelihood is the very share
    fitted = fit_calibration(likelihoods, good)
    bins = np.array_split(np.argsort(likelihoods), 20)
    means = [likelihoods[b].mean() for b in bins]
    oracle = IsotonicRegression(out_of_bounds="clip").fit(means, [good[b].mean() for b in bins])
    for value in (0.0, 0.3, 0.52, 0.99):
        assert fitted.confidence(value) == pytest.approx(oracle.predict([value])[0])
    assert fitted.error < 0.15
    assert fit_calibration(likelihoods, draws.uniform(size=200) < 0.5).good == pytest.approx(0.5, abs=0.1)
    # Likelihoods that say nothing of one half's translations are found out: error is measured on the other half.
    wrong = np.arange(200) % 2 == 0
    assert fit_calibration(likelihoods, wrong).error > 0.8


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    pairs = "".join(f"the food {n} is good\tpanganane {n} enak\n" for n in range(60))
    (folder / "pairs.tsv").write_text(f"eng\tjav\n{pairs}", encoding="utf-8")
    config = {
        "model": {"base": str(model)},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "pairs.tsv"}],
        "instructions": {"heldout": 25},
        "training": {"steps": 1},
        "evaluation": {"items": 4},  # fewer than a calibration needs: it takes all that are held out
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    (folder / "model").symlink_to(model)
    return folder


def test_a_run_calibrates_once(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nclean food\n", encoding="utf-8")
    monkeypatch.setattr("sys.argv", f"x translate {tmp_path}/a.srt --model {run} --from eng --to jav".split())
    main_without_exit()
    out = capsys.readouterr().out
    assert "calibration error" in out
    assert "on 25 pairs" in out
    kept = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert kept["translation_confidence"]["eng-jav"]["pairs"] == 25
    [row] = review_of(tmp_path / "a.jav.srt.review.csv")
    assert 0 <= float(row["confidence"]) <= 1
    monkeypatch.setattr(file_translation, "_heldout_pairs", lambda *_: pytest.fail("calibrated again"))
    [made] = translate("clean food", run, "eng", "jav")
    assert made.confidence is not None
    monkeypatch.setattr(file_translation, "_heldout_pairs", lambda *_: None)
    done = translate_file(tmp_path / "a.srt", run, "jav", "sun")
    assert done.calibration is None
    assert "0 pairs of jav-sun" in done.uncalibrated


def test_a_run_that_is_read_only_calibrates_all_the_same(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: Any, **entries: Any) -> None:
        raise PermissionError(13, "Permission denied", str(run / "run.json"))

    monkeypatch.setattr(file_translation, "read_run_metadata", lambda _: {})
    monkeypatch.setattr(file_translation, "update_run_metadata", refuse)
    [made] = translate("clean food", run, "eng", "jav")
    assert made.confidence is not None
    assert "the calibration is not kept" in caplog.text


def main_without_exit() -> None:
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
