"""Bits per byte of plain text: against lm-evaluation-harness, by hand across tokenizers, and from end to end."""

from __future__ import annotations

import math
import warnings

import pytest
import random_models
import torch
from random_models import random_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from instructalign.errors import DataError
from instructalign.evaluation import evaluate, load_task
from instructalign.evaluation.perplexity import text_windows
from instructalign.evaluation.predictions import AnswerLikelihood, read_records
from instructalign.evaluation.score_table import BITS
from instructalign.evaluation.task_selection import select_tasks
from instructalign.pipeline import run
from instructalign.report import write_report
from tiny import tiny_tokenizer

TEXTS = [text.strip() for text in random_models.TEXTS]
LONG = " ".join(TEXTS) * 4  # longer than the context of the tiny models


@pytest.fixture
def task(tmp_path, sentiment):
    """A task file on the texts, in the languages of `make_config`."""
    for name in ("ind", "ace", "mad"):
        (sentiment / f"{name}.txt").write_text("\n".join([*TEXTS, "", LONG, name]) + "\n", encoding="utf-8")
    path = tmp_path / "plain.yaml"
    path.write_text("{name: plain, kind: text, path: '{name}.txt', languages: [ind, ace, mad]}", encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("family", ["llama", "bloom", "qwen3", "mt5"])
def test_the_harness_gives_the_same_log_likelihoods(model_folder, make_config, task, tmp_path, family):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("lm_eval")
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        backend = "seq2seq" if family == "mt5" else "causal"
        harness = HFLM(
            pretrained=str(model_folder(family)), device="cpu", batch_size=1, dtype="float32", backend=backend
        )
        texts = [*TEXTS, LONG]
        requests = [Instance("loglikelihood_rolling", {}, (text,), index) for index, text in enumerate(texts)]
        theirs = harness.loglikelihood_rolling(requests, disable_tqdm=True)
    scores = evaluate(model_folder(family), make_config(tasks=[task]), tmp_path / "out", run="base")
    ours = read_records(tmp_path / "out" / "texts" / "plain.ind.jsonl", AnswerLikelihood)
    assert [each.item for each in ours] == [*map(str, range(1, 10)), "11", "12"]  # the blank line is no text
    assert [each.answer for each in ours[:-1]] == texts
    assert ours[9].tokens > 512 or family != "llama"
    assert [each.score for each in ours[:-1]] == pytest.approx(theirs, rel=1e-6, abs=1e-4)
    total = -sum(each.score for each in ours) / math.log(2) / sum(len(each.answer.encode()) for each in ours)
    found = next(s for s in scores if (s.task, s.metric, s.language) == ("plain", BITS, "ind"))
    assert (found.value, found.n) == (pytest.approx(total), 11)
    assert found.low < found.value < found.high


def words_tokenizer():
    """Splits at spaces, and knows four words."""
    tokenizer = Tokenizer(models.WordLevel({"</s>": 0, "pangan": 1, "enak": 2, "sing": 3}, unk_token="</s>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")


def test_two_tokenizers_by_hand(make_config, sentiment, task, tmp_path):
    # A model that finds all tokens equally likely needs log2(vocabulary) bits for each.
    (sentiment / "ind.txt").write_text("pangan sing enak\nenak\n", encoding="utf-8")
    found = {}
    for name, tokenizer in (("words", words_tokenizer()), ("bytes", tiny_tokenizer())):
        model = random_model("llama")
        model.resize_token_embeddings(len(tokenizer))
        torch.nn.init.zeros_(model.lm_head.weight)
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        config = make_config(tasks=[task], languages=["ind"])
        scores = evaluate(tmp_path / name, config, tmp_path / f"out-{name}", run="base")
        found[name] = next(s.value for s in scores if s.metric == BITS and s.language == "ind")
    assert found["words"] == pytest.approx((3 + 1) * 2 / (16 + 4), abs=1e-6)  # 4 words of 4 in 20 bytes
    tokens = sum(len(tiny_tokenizer()(text)["input_ids"]) for text in ("pangan sing enak", "enak"))
    assert found["bytes"] == pytest.approx(tokens * math.log2(len(tiny_tokenizer())) / 20, abs=1e-5)


def test_windows_predict_every_token_once_and_fit():
    ids = list(range(100, 123))
    for context in (1, 2, 5, 22, 23, 24, None):
        queries = text_windows(ids, 7, context)
        assert [token for query in queries for token in query.labels[0]] == ids
        seen = [7, *ids]
        done = 0
        for query in queries:
            assert list(query.prompt) == seen[: done + 1][-len(query.prompt) :]
            done += len(query.labels[0])
            assert context is None or len(query.prompt) + len(query.labels[0]) - 1 <= context
    assert [len(query.prompt) for query in text_windows(ids, 7, 10)] == [1, 1, 8]


def test_a_run_reports_bits_and_gains_are_bits_saved(model_folder, make_config, sentiment, task, tmp_path):
    config = make_config(tasks=[task, "heldout_text", "nusax_senti"])
    (tmp_path / "corpus.tsv").write_text(
        "ind\tace\n" + "".join(f"makanan {n} enak sekali\tpeunajoh {n} mangat that\n" for n in range(30)),
        encoding="utf-8",
    )
    from instructalign.config_file import build_config

    settings = config.model_dump(mode="json", exclude_unset=True)
    settings |= {
        "model": {"base": str(model_folder("llama"))},
        "corpora": [
            {"format": "tsv", "path": str(tmp_path / "corpus.tsv"), "columns": {"ind": "ind", "ace": "ace"}}
        ],
        "instructions": {"heldout": 8, "pivots": ["ind"], "objectives": {"mt": 1}},
        "training": {"steps": 8, "batch_size": 4, "max_length": 120, "learning_rate": 0.01, "report_to": []},
    }
    folder = tmp_path / "run"
    report = run(build_config(settings, folder=tmp_path), folder).report
    rows = {(s.run, s.task, s.metric, s.group, s.language): s.value for s in report.rows}
    for name in ("plain", "heldout_text"):
        before, after = (rows[who, name, BITS, "L2", "ace"] for who in ("base", "run"))
        assert rows["run", name, "gain", "L2", "ace"] == pytest.approx(before - after)
        known = rows["base", name, BITS, "L1", ""] - rows["run", name, BITS, "L1", ""]
        assert rows["run", name, "forgetting", "L1", ""] == pytest.approx(-known)
    answers = read_records(folder / "evaluation" / "base" / "texts" / "heldout_text.ace.jsonl", AnswerLikelihood)
    assert len(answers) == 8
    assert {each.answer.split()[0] for each in answers} == {"peunajoh"}
    markdown = (folder / "report.md").read_text(encoding="utf-8")
    assert f"{rows['base', 'plain', BITS, 'L2', 'ace']:.3f}" in markdown
    assert "Bits per byte (plain, Bits per byte of held-out sentences; lower is better)" in markdown
    assert write_report([folder]).rows == report.rows


def test_what_is_missing_is_named(make_config, sentiment, task):
    (sentiment / "ace.txt").unlink()
    assert list(select_tasks(make_config(tasks=[task])).texts[0].texts) == ["ind", "mad"]
    with pytest.raises(
        DataError, match=r"plain in ace, requested by evaluation.languages: .*ace.txt does not exist"
    ):
        select_tasks(make_config(tasks=[task], languages=["ind", "ace"]))
    (sentiment / "mad.txt").write_text(" \n\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"plain in mad: .*mad.txt holds no text"):
        select_tasks(make_config(tasks=[task]))


def test_items_are_limited_and_checked_for_contamination(make_config, task):
    whole, few = (select_tasks(make_config(tasks=[task], items=items)) for items in (None, 4))
    assert {len(some) for some in few.texts[0].texts.values()} == {4}
    assert set(few.texts[0].texts["ind"]) < set(whole.texts[0].texts["ind"])
    assert [(text.task, text.language) for text in few.item_texts()].count(("plain", "ind")) == 4
    assert load_task("flores_text").languages["jav"] == "jav_Latn"
