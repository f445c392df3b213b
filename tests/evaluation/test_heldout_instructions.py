"""Held-out alignment instructions as a task: against plain transformers and the loss of training."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from instructalign.config_file import build_config
from instructalign.errors import DataError
from instructalign.evaluation import classification, evaluate, load_task
from instructalign.evaluation.predictions import AnswerLikelihood, read_predictions, read_records
from instructalign.evaluation.task_selection import plan_heldout
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import run
from instructalign.training.batching import ExampleEncoder, LossWeights, collate
from instructalign.training.loss import token_losses
from instructalign.training.models import load_model

TEXT = "the food is good place clean here new old house big small water tree road"


@pytest.fixture
def config(tmp_path):
    words = TEXT.split()
    pairs = [(f"{a} {b} {n}", f"{b[::-1]} {a[::-1]} {n}") for n, (a, b) in enumerate(pairwise(words))]
    lines = [f"{one}\t{other}\n" for one, other in pairs]
    (tmp_path / "corpus.tsv").write_text("eng\tjav\n" + "".join(lines), encoding="utf-8")

    def make(base, heldout=6, **evaluation):
        return build_config(
            {
                "model": {"base": str(base)},
                "languages": {"known": ["eng"], "new": ["jav"]},
                "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "eng", "jav": "jav"}}],
                "instructions": {"objectives": {"mt": 1, "xss": 1, "mlm": 1}, "heldout": heldout},
                "training": {"steps": 1, "batch_size": 4, "max_length": 200, "report_to": []},
                "evaluation": {"tasks": ["heldout_instructions"], "bootstrap": 30, **evaluation},
            },
            folder=tmp_path,
        )

    return make


def values_of(scores):
    return {(s.run, s.task, s.metric, s.language): s.value for s in scores}


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_likelihoods_equal_plain_transformers(model_folder, loaded_model, config, tmp_path, family):
    scores = evaluate(model_folder(family), config(model_folder(family)), tmp_path / "out", run="base")
    loaded = loaded_model(family)
    answers = read_records(
        tmp_path / "out" / "instructions" / "heldout_instructions-mt.jav.jsonl", AnswerLikelihood
    )
    assert len(answers) == 12  # six sentences, both ways
    total = [0.0, 0]
    for each in answers:
        prompt, answer = loaded.codec.pair(each.prompt, each.answer)
        answer = [*answer, loaded.tokenizer.eos_token_id]
        with torch.no_grad():
            if loaded.encoder_decoder:
                start = torch.tensor([[loaded.model.config.decoder_start_token_id, *answer[:-1]]])
                logits = loaded.model(torch.tensor([prompt]), decoder_input_ids=start).logits[0]
            else:
                logits = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        expected = logits.log_softmax(-1)[torch.arange(len(answer)), answer].sum().item()
        assert each.score == pytest.approx(expected, abs=1e-4)
        assert each.tokens == len(answer)
        total = [total[0] + expected, total[1] + len(answer)]
    value = values_of(scores)["base", "heldout_instructions-mt", "token_probability", "jav"]
    assert value == pytest.approx(math.exp(total[0] / total[1]), rel=1e-6)


@pytest.mark.parametrize("family", ["bloom", "t5"])
def test_is_the_loss_of_training(model_folder, loaded_model, config, tmp_path, family):
    settings, loaded = config(model_folder(family)), loaded_model(family)
    scores = values_of(evaluate(model_folder(family), settings, tmp_path / "out", run="base"))
    for exam in plan_heldout(settings, load_task("heldout_instructions")):
        if exam.labels:
            continue
        encoder = ExampleEncoder(loaded.codec, 512)
        batch = collate([encoder(made) for _, _, made in exam.questions()], loaded.codec, LossWeights())
        with torch.no_grad():
            loss = token_losses(loaded.model, batch, loaded.encoder_decoder).mean().item()
        assert scores["base", exam.name, "token_probability", "jav"] == pytest.approx(math.exp(-loss), rel=1e-5)


def test_closed_questions_are_a_classification_task(model_folder, loaded_model, config, tmp_path):
    scores = values_of(evaluate(model_folder("llama"), config(model_folder("llama")), tmp_path, run="base"))
    predictions = read_predictions(tmp_path / "predictions" / "heldout_instructions-xss.jav.jsonl")
    exam = next(e for e in plan_heldout(config("x"), load_task("heldout_instructions")) if e.labels)
    loaded = loaded_model("llama")
    right = 0
    for prediction, (_, number, made) in zip(predictions, exam.questions(), strict=True):
        assert prediction.item == str(number)
        assert exam.labels[made.template][prediction.gold] == made.answer
        for label, word in exam.labels[made.template].items():
            prompt, answer = loaded.codec.pair(made.prompt, word)
            with torch.no_grad():
                logs = loaded.model(torch.tensor([[*prompt, *answer]])).logits[0].log_softmax(-1)
            expected = sum(logs[len(prompt) - 1 + place, token].item() for place, token in enumerate(answer))
            assert prediction.scores[label] == pytest.approx(expected, abs=1e-5)
        right += prediction.predicted == prediction.gold
    assert {p.gold for p in predictions} == {"yes", "no"}
    assert scores["base", "heldout_instructions-xss", "accuracy", "jav"] == pytest.approx(right / len(predictions))
    assert ("random", "heldout_instructions-xss", "accuracy", "jav") in scores


def test_only_sentences_held_out_are_asked_and_all_of_them(config):
    settings = config("x")
    rows, apart, _ = prepare_corpus(settings)
    asked = {
        made.row
        for exam in plan_heldout(settings, load_task("heldout_instructions"))
        for _, _, made in exam.questions()
    }
    assert asked == {row.id for row in apart}
    assert asked.isdisjoint({row.id for row in rows})


def test_a_limit_takes_the_beginning(config):
    task = load_task("heldout_instructions")
    few, more = (plan_heldout(config("x", items=count), task) for count in (3, 5))
    for one, other in zip(few, more, strict=True):
        assert len(one.instructions["jav"]) == 3
        assert one.instructions["jav"] == other.instructions["jav"][:3]


@pytest.mark.parametrize("heldout_rows", [0, 1])
def test_without_held_out_sentences_there_is_nothing_to_ask(config, heldout_rows):
    with pytest.raises(DataError, match=rf"there are {heldout_rows}\. Set instructions\.heldout to at least 2"):
        plan_heldout(config("x", heldout=heldout_rows), load_task("heldout_instructions"))


def test_what_is_answered_is_not_asked_again(model_folder, config, tmp_path, monkeypatch):
    settings = config(model_folder("llama"))
    scores = evaluate(model_folder("llama"), settings, tmp_path, run="base")
    monkeypatch.setattr(classification, "score_batch", None)
    assert evaluate(model_folder("llama"), settings, tmp_path, run="base") == scores


def test_goes_on_behind_the_last_batch(model_folder, config, tmp_path, monkeypatch):
    settings = config(model_folder("llama"), batch_tokens=200)
    evaluate(model_folder("llama"), settings, tmp_path / "whole", run="base")
    left, score = [3], classification.score_batch

    def counted(*given, **how):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return score(*given, **how)

    monkeypatch.setattr(classification, "score_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_folder("llama"), settings, tmp_path / "cut", run="base")
    monkeypatch.setattr(classification, "score_batch", score)
    evaluate(model_folder("llama"), settings, tmp_path / "cut", run="base")
    for name in ("predictions", "instructions"):
        whole, cut = (tmp_path / out / name for out in ("whole", "cut"))
        assert {p.name: p.read_bytes() for p in whole.iterdir()} == {p.name: p.read_bytes() for p in cut.iterdir()}


def test_long_questions_are_cut_and_counted(model_folder, config, tmp_path, monkeypatch):
    def short(*model):
        loaded = load_model(*model)
        return replace(loaded, codec=replace(loaded.codec, context=60))

    monkeypatch.setattr("instructalign.evaluation.runner.load_model", short)
    evaluate(model_folder("llama"), config(model_folder("llama")), tmp_path, run="base")
    for folder, task in (("predictions", "heldout_instructions-xss"), ("instructions", "heldout_instructions-mt")):
        entry = json.loads((tmp_path / folder / "manifest.json").read_text())["tasks"][task]
        lines = (tmp_path / folder / f"{task}.jav.jsonl").read_text().splitlines()
        assert entry["cut"] == sum('"cut": ' in line and '"cut": false' not in line for line in lines) > 0


def test_a_run_scores_it_before_and_after_and_reports_both(model_folder, config, tmp_path):
    done = run(config(model_folder("llama")), tmp_path / "run")
    for task in ("heldout_instructions-mt", "heldout_instructions-mlm", "heldout_instructions-xss"):
        assert {row.run for row in done.report.rows if row.task == task} >= {"base", "run"}
        assert task in done.report.html.read_text(encoding="utf-8")
    rows = [row for row in done.report.rows if (row.metric, row.group, row.language) == ("gain", "L2", "")]
    gains = {row.task: row for row in rows}
    assert gains.keys() == {f"heldout_instructions-{name}" for name in ("mt", "mlm", "xss")}
    row = gains["heldout_instructions-mt"]
    assert row.low <= row.value <= row.high
