"""Scoring rules by hand and against plain transformers; test_lm_eval_export has the harness."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from instructalign.errors import DataError, UnknownNameError
from instructalign.evaluation import classification, evaluate, load_task
from instructalign.evaluation.decision_rules import RULES, decide
from instructalign.evaluation.predictions import read_predictions
from instructalign.types import Prediction


def predictions_of(out, language):
    return read_predictions(out / "predictions" / f"nusax_senti.{language}.jsonl")


SHORT_OR_LONG = Prediction(
    task="t",
    language="ind",
    prompt="p",
    item="1",
    gold="short",
    predicted="",
    scores={"short": -2.0, "long": -3.0},
    tokens={"short": 1, "long": 3},
    bytes={"short": 4, "long": 5},
    prior={"short": -1.5, "long": -3.5},
)


@pytest.mark.parametrize(
    ("rule", "changes", "expected"),
    [
        ("sum", {}, "short"),  # -2 against -3
        ("mean", {}, "long"),  # -2 against -1
        ("bytes", {}, "short"),  # -2 / 4 against -3 / 5
        ("bytes", {"bytes": {"short": 4, "long": 8}}, "long"),  # -0.5 against -0.375
        ("calibrated", {}, "long"),  # -0.5 against +0.5
        ("calibrated", {"prior": {"short": -2.5, "long": -3.0}}, "short"),  # +0.5 against 0
        ("paper", {"prompt_score": -8.0, "prompt_tokens": 1}, "long"),  # -10 / 2 against -11 / 4
        ("paper", {"prompt_score": -0.1, "prompt_tokens": 9}, "short"),  # -2.1 / 10 against -3.1 / 12
    ],
)
def test_rules_decide_by_hand(rule, changes, expected):
    assert decide(replace(SHORT_OR_LONG, **changes), rule) == expected


@pytest.mark.parametrize("rule", RULES)
def test_the_first_of_equal_labels_wins(rule):
    alike = replace(SHORT_OR_LONG, prompt_score=-1.0, prompt_tokens=3)
    for name in ("scores", "tokens", "bytes", "prior"):
        alike = replace(alike, **{name: dict.fromkeys(("b", "a"), getattr(alike, name)["short"])})
    assert decide(alike, rule) == "b"


@pytest.mark.parametrize(
    ("rule", "lacks", "message"),
    [
        (
            "bytes",
            {"bytes": {}},
            r"t in ind: the predictions lack the length of the labels, which the rule bytes needs",
        ),
        (
            "calibrated",
            {"prior": {"short": -1.0}},
            "lack the labels' likelihood with an empty input, which the rule calibrated needs",
        ),
        ("paper", {}, r"lack the likelihood of the prompts, .* evaluate with evaluation\.scoring: paper"),
    ],
)
def test_a_rule_says_what_predictions_lack(rule, lacks, message):
    with pytest.raises(DataError, match=message):
        decide(replace(SHORT_OR_LONG, **lacks), rule)


def test_unknown_rule():
    with pytest.raises(UnknownNameError, match=r"unknown scoring rule 'byte'. Did you mean 'bytes'\?"):
        decide(SHORT_OR_LONG, "byte")


@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_calibration_is_what_an_empty_item_gives(model_folder, loaded_model, make_config, tmp_path, family):
    evaluate(model_folder(family), make_config(scoring="calibrated", prompts=["id-2"]), tmp_path, run="base")
    loaded, task = loaded_model(family), load_task("nusax_senti")
    prompt = task.prompts["id-2"].prompt.replace("{text}", "")
    expected = {}
    for label, word in (("positive", "positif"), ("neutral", "netral"), ("negative", "negatif")):
        with torch.no_grad():
            if loaded.encoder_decoder:
                ids = loaded.tokenizer.encode(word, add_special_tokens=False)
                asked = {"decoder_input_ids": torch.tensor([[0, *ids[:-1]]])}
                logits = loaded.model(loaded.tokenizer(prompt, return_tensors="pt").input_ids, **asked).logits[0]
            else:
                head = loaded.tokenizer.encode(prompt)
                ids = loaded.tokenizer.encode(f"{prompt} {word}")[len(head) :]
                logits = loaded.model(torch.tensor([[*head, *ids]])).logits[0, len(head) - 1 :]
        logs = logits.log_softmax(-1)
        expected[label] = sum(logs[place, token].item() for place, token in enumerate(ids))
    for language in ("ind", "ace", "mad"):
        for prediction in predictions_of(tmp_path, language):
            assert prediction.prior == pytest.approx(expected, abs=1e-5)
            gains = {label: prediction.scores[label] - expected[label] for label in expected}
            assert prediction.predicted == max(gains, key=gains.get)


def test_calibration_is_computed_once_a_prompt(model_folder, make_config, tmp_path, monkeypatch):
    asked = []
    score = classification.score_batch
    monkeypatch.setattr(
        classification,
        "score_batch",
        lambda loaded, queries, **how: asked.extend(queries) or score(loaded, queries, **how),
    )
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    assert len(asked) == 3 * 2 * 12 + 2  # languages, prompts, items; and an empty item under each prompt


def test_saved_lines_hold_what_every_rule_needs(model_folder, make_config, tmp_path):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    line = json.loads((tmp_path / "predictions" / "nusax_senti.ind.jsonl").read_text().splitlines()[0])
    assert line["bytes"] == {"positive": 8, "neutral": 7, "negative": 8}
    assert line["prior"].keys() == line["scores"].keys()


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_predictions_of_the_papers_rule_can_be_decided_anew(model_folder, make_config, tmp_path, family):
    evaluate(model_folder(family), make_config(scoring="paper"), tmp_path, run="base")
    for prediction in predictions_of(tmp_path, "ind"):
        assert decide(prediction, "paper") == prediction.predicted
        if family == "mt5":
            assert decide(prediction, "mean") == prediction.predicted
