"""Exported tasks in lm-evaluation-harness itself, beside our own evaluation of them."""

from __future__ import annotations

import warnings
from importlib.resources import files
from types import SimpleNamespace

import pytest
import yaml
from random_models import TEXTS
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from instructalign.errors import DataError
from instructalign.evaluation import evaluate, load_task
from instructalign.evaluation.lm_eval_export import _jinja, export_lm_eval
from instructalign.evaluation.predictions import read_predictions
from instructalign.training.tokenization import Codec
from tiny import tiny_tokenizer


@pytest.fixture
def harness():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own and its libraries'
        lm_eval = pytest.importorskip("lm_eval")
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager

        yield lambda folder, include, tasks: lm_eval.simple_evaluate(
            model=HFLM(pretrained=str(folder), device="cpu", batch_size=4, dtype="float32"),
            tasks=tasks,
            task_manager=TaskManager(include_path=str(include), include_defaults=False),
            bootstrap_iters=0,
        )


@pytest.mark.parametrize("family", ["bloom", "llama"])
def test_the_harness_gives_the_same_numbers(harness, model_folder, make_config, sentiment, tmp_path, family):
    names = export_lm_eval(
        load_task("nusax_senti"), tmp_path / "tasks", sentiment, languages=["ind", "ace"], prompts=["en-1", "id-2"]
    )
    assert names == [f"nusax_senti_{code}_{prompt}" for code in ("ind", "ace") for prompt in ("en-1", "id-2")]
    theirs = harness(model_folder(family), tmp_path / "tasks", ["nusax_senti"])
    evaluate(model_folder(family), make_config(), tmp_path / "out", run="base")
    for language in ("ind", "ace"):
        ours = read_predictions(tmp_path / "out" / "predictions" / f"nusax_senti.{language}.jsonl")
        for prompt in ("en-1", "id-2"):
            name = f"nusax_senti_{language}_{prompt}"
            mine = {p.item: p for p in ours if p.prompt == prompt}
            samples = theirs["samples"][name]
            assert len(samples) == len(mine) == 12
            for sample in samples:
                prediction = mine[sample["doc"]["id"]]
                likelihoods = [float(answer[0]) for answer in sample["filtered_resps"]]
                assert list(prediction.scores.values()) == pytest.approx(likelihoods, abs=1e-4)
            accuracy = sum(p.predicted == p.gold for p in mine.values()) / len(mine)
            assert theirs["results"][name]["acc,none"] == pytest.approx(accuracy, abs=1e-12)


def test_the_harness_agrees_on_bytes(harness, model_folder, make_config, sentiment, tmp_path):
    words = {"positive": "very good indeed", "neutral": "так себе", "negative": "bad"}
    plain = yaml.safe_load(
        files("instructalign.evaluation").joinpath("tasks/nusax_senti.yaml").read_text(encoding="utf-8")
    )
    (tmp_path / "own.yaml").write_text(yaml.safe_dump({**plain, "labels": words}), encoding="utf-8")
    own = str(tmp_path / "own.yaml")
    export_lm_eval(load_task(own), tmp_path / "tasks", sentiment, languages=["ind"], prompts=["en-1"])
    theirs = harness(model_folder("llama"), tmp_path / "tasks", ["nusax_senti"])["results"]["nusax_senti_ind_en-1"]
    found = {}
    for rule in ("sum", "bytes"):
        config = make_config(tasks=[own], languages=["ind"], prompts=["en-1"], scoring=rule)
        scores = evaluate(model_folder("llama"), config, tmp_path / rule, run="base")
        found[rule] = next(s.value for s in scores if (s.run, s.metric, s.language) == ("base", "accuracy", "ind"))
    assert found["sum"] == pytest.approx(theirs["acc,none"], abs=1e-12)
    assert found["bytes"] == pytest.approx(theirs["acc_bytes,none"], abs=1e-12)
    by_rule = [
        [p.predicted for p in read_predictions(tmp_path / rule / "predictions" / "nusax_senti.ind.jsonl")]
        for rule in ("sum", "bytes")
    ]
    assert by_rule[0] != by_rule[1]


def test_exports_every_language_with_data_and_limits_items(sentiment, tmp_path):
    names = export_lm_eval(load_task("nusax_senti"), tmp_path, sentiment, prompts=["en-1"], items=5)
    assert names == ["nusax_senti_ace_en-1", "nusax_senti_ind_en-1", "nusax_senti_mad_en-1"]
    assert yaml.safe_load((tmp_path / "nusax_senti.yaml").read_text()) == {"group": "nusax_senti", "task": names}
    assert len((tmp_path / "nusax_senti.mad.jsonl").read_text().splitlines()) == 5


def test_a_named_language_must_have_data(sentiment, tmp_path):
    with pytest.raises(DataError, match=r"ngaju/test\.csv does not exist"):
        export_lm_eval(load_task("nusax_senti"), tmp_path, sentiment, languages=["nij"])


def test_braces_and_percent_signs_of_a_prompt_survive_jinja():
    from jinja2 import Template

    prompt = "100 %}} {{of}} {text}\n{{% raw %}} {{# no #}}?"
    assert Template(_jinja(prompt)).render(text="{x}") == prompt.format(text="{x}")


def sentencepiece_like(model, **options):
    """A tokenizer in the manner of SentencePiece: spaces are part of the words behind them."""
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(**options)
    tokenizer.decoder = decoders.Metaspace(**options)
    special = ["<pad>", "</s>", "<unk>"]
    if isinstance(model, models.BPE):
        trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    else:
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    tokenizer.train_from_iterator([*TEXTS, "is it positive or not at all positive, or neutral"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def words(scheme, **options):
    return sentencepiece_like(models.BPE(unk_token="<unk>"), prepend_scheme=scheme, **options)


TOKENIZERS = {
    "byte-level BPE": tiny_tokenizer,
    "BPE with a space in front": lambda: words("always"),
    "BPE without": lambda: words("never"),
    "BPE over words": lambda: words("first", split=False),
    "unigram": lambda: sentencepiece_like(models.Unigram(), prepend_scheme="always"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_seam_of_prompt_and_label_is_the_harnesss(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.api.model import TemplateLM

    tokenizer = TOKENIZERS[name]()
    harness = SimpleNamespace(backend="causal", tok_encode=tokenizer.encode)
    codec = Codec(tokenizer, encoder_decoder=False)
    for prompt in ("Good or bad?", "The mood is", "Mood:", "ends with spaces  ", "it is pos"):
        for word in ("positive", "not at all", "yes"):
            theirs = TemplateLM._encode_pair(harness, prompt, f" {word}")
            assert codec.pair(prompt, word) == codec.pairs([prompt], [word])[0] == theirs
            assert theirs[1]
