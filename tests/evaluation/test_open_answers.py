"""Open questions: metrics beside the harness's MLQA and SQuAD by hand, answers beside plain transformers."""

from __future__ import annotations

import json
from collections import Counter

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from random_models import TEXTS

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation import evaluate, load_task
from instructalign.evaluation.model_results import read_results
from instructalign.evaluation.open_answers import exact_match, normalise_answer, sample_of_open_answers, token_f1
from instructalign.evaluation.predictions import OpenAnswer, read_records
from instructalign.evaluation.run_comparison import TrainedRun, compare_runs
from instructalign.evaluation.task_items import read_items
from instructalign.evaluation.task_selection import select_tasks
from instructalign.training.generation import Generated, decode_until, generate_batch

PAIRS = [
    ("The cat!", "a  CAT", 1.0, 1.0),
    ("in 1998", "1998", 0.0, 2 / 3),
    ("¿Qué?", "que", 0.0, 0.0),
    ("", "", 1.0, 1.0),
    ("!", "", 1.0, 1.0),
    ("yes", "", 0.0, 0.0),
    ("New York City", "york new", 0.0, 0.8),
    ("b b c", "b c c", 0.0, 2 / 3),
    ("costs 5€", "5€", 0.0, 2 / 3),
    ("3,000.50", "3000.50", 1.0, 1.0),
    ("« Wol »، nta'i", "wol ntai", 1.0, 1.0),
    ("e\u0301t\u00e9", "\u00e9t\u00e9", 1.0, 1.0),
]


@pytest.mark.parametrize(("answer", "reference", "same", "f1"), PAIRS)
def test_metrics_by_hand(answer, reference, same, f1):
    assert exact_match(answer, reference, "eng") == same
    assert token_f1(answer, reference, "eng") == pytest.approx(f1)


def test_articles_are_words_in_other_languages():
    assert exact_match("a the", "an", "eng") == 1
    assert exact_match("a bunga", "bunga", "min") == 0
    assert token_f1("a bunga", "bunga", "min") == pytest.approx(2 / 3)


def test_tokens_where_no_spaces_are_between_words():
    # Chinese characters, as MLQA's; Javanese and Thai syllables.
    assert token_f1("北京市", "北京", "zho") == pytest.approx(0.8)
    assert token_f1("ꦲꦏ꧀ꦱꦫ", "ꦲꦏ꧀ꦱꦫꦗꦮ", "jav") == pytest.approx(2 * 3 / (3 + 5))
    assert 0 < token_f1("ประเทศไทย", "ไทย", "tha") < 1


SOME = st.text(alphabet="ab thenA.,!?'-€«।é \n1", max_size=12)


@given(SOME, SOME, st.sampled_from([("eng", "en"), ("hin", "hi")]))
def test_metrics_are_those_of_mlqa_in_the_harness(answer, reference, codes):
    mlqa = pytest.importorskip("lm_eval.tasks.mlqa.utils")
    code, theirs = codes
    assert exact_match(answer, reference, code) == mlqa.exact_match_score(answer, reference, theirs)
    # MLQA has 0 for two empty answers, where the official SQuAD 2 has 1.
    tokens = [Counter(normalise_answer(text, code).split()) for text in (answer, reference)]
    if all(tokens):
        # Tokens of symbols and letters together are one to MLQA, and the letters alone to us.
        parted = any("€" in token and len(token) > 1 for some in tokens for token in some)
        if not parted:
            assert token_f1(answer, reference, code) == pytest.approx(mlqa.f1_score(answer, reference, theirs))


def answers(*rows, language="ind"):
    return [
        OpenAnswer("qa", language, prompt, item, "?", references, answer)
        for prompt, item, references, answer in rows
    ]


def test_the_nearest_of_several_references_counts():
    from sacrebleu.metrics.chrf import CHRF

    found = answers(
        ("p", "1", ["merah tua", "biru"], "biru"),
        ("p", "2", ["satu dua tiga"], "satu dua"),
        ("q", "1", ["merah tua", "biru"], "merah"),
        ("q", "2", ["satu dua tiga"], ""),
    )
    expected = {"exact_match": [1 / 2, 0], "token_f1": [(1 + 0.8) / 2, (2 / 3 + 0) / 2]}
    for metric, values in expected.items():
        sample, _ = sample_of_open_answers(found, metric)
        assert [float(sample.score(each.sum(0))) for each in sample.statistics] == pytest.approx(values)
    sample, how = sample_of_open_answers(found, "chrf")
    streams = [["merah tua", "satu dua tiga"], ["biru", None]]
    for place, texts in enumerate((["biru", "satu dua"], ["merah", ""])):
        value = float(sample.score(sample.statistics[place].sum(0)))
        assert value == pytest.approx(CHRF(word_order=2).corpus_score(texts, streams).score / 100)
    assert "nw:2" in how["sacrebleu"]


# -- a task -------------------------------------------------------------------------------------------------


TASK = {
    "name": "qa",
    "kind": "generation",
    "data": {"format": "jsonl", "path": "{name}.jsonl"},
    "examples": {"format": "jsonl", "path": "{name}-dev.jsonl"},
    "fields": {"id": "id", "passage": ["title", "context"], "question": "question"},
    "references": "answers.text",
    "languages": {"ind": "ind", "jav": "jav"},
    "tokens": 8,
    "prompts": {
        "p": {"language": "eng", "prompt": "{passage}\nQ: {question}\nA:"},
        "q": {"language": "eng", "prompt": "{question}"},
    },
}


def write_task(folder, **keys):
    task = {**TASK, **keys}
    task["prompts"] = {"p": TASK["prompts"]["p"]}
    (folder / "qa.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    for code in ("ind", "jav"):
        for part in ("", "-dev"):
            rows = [
                {
                    "id": f"{part}{number}",
                    "title": "T",
                    "context": text,
                    "question": f"{code} {part} {number}?",
                    "answers": {"text": [text.split()[0], f"{number}"], "answer_start": [0, 1]},
                }
                for number, text in enumerate(TEXTS[:5])
            ]
            lines = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{code}{part}.jsonl").write_text(lines, encoding="utf-8")
    return str(folder / "qa.yaml")


def make(folder, task, **evaluation):
    return build_config(
        {
            "model": {"base": "base"},
            "languages": {"known": ["ind"], "new": ["jav"]},
            "corpora": [{"format": "toy"}],
            "training": {"steps": 1},
            "evaluation": {"tasks": [task], "data": str(folder), "bootstrap": 50, **evaluation},
        }
    )


@pytest.mark.parametrize("family", ["llama", "bloom", "t5"])
@pytest.mark.parametrize("shots", [0, 2])
def test_answers_are_those_of_plain_generate(model_folder, loaded_model, tmp_path, family, shots):
    config = make(tmp_path, write_task(tmp_path), shots=shots)
    scores = evaluate(model_folder(family), config, tmp_path / "out", run="base")
    loaded = loaded_model(family)
    plan = select_tasks(config).generation[0]
    for code in ("ind", "jav"):
        found = read_records(tmp_path / "out" / "answers" / f"qa.{code}.jsonl", OpenAnswer)
        for record, item in zip(found, plan.items[code], strict=True):
            text = plan.task.fill("p", item, plan.examples.get(code, ()))
            assert text.count("Q:") == shots + 1
            ids = loaded.tokenizer(text, return_tensors="pt")
            ids.pop("token_type_ids", None)
            new = loaded.model.generate(**ids, max_new_tokens=8, do_sample=False, eos_token_id=None)
            new = new[0, 1:] if loaded.encoder_decoder else new[0, ids["input_ids"].shape[1] :]
            ended = [place for place, token in enumerate(new.tolist()) if token == loaded.tokenizer.eos_token_id]
            written = loaded.tokenizer.decode(new[: min(ended, default=None)], skip_special_tokens=True)
            assert record.answer == written.lstrip().partition("\n")[0].strip()
            assert record.references == [item.fields["passage"].split()[1], item.id]
    assert {(s.metric, s.group, s.language) for s in scores} >= {
        (metric, "L2", code) for metric in ("exact_match", "token_f1", "chrf") for code in ("jav", "")
    }
    assert all(s.n == 5 and s.low is not None and s.signature["headline"] == "token_f1" for s in scores)
    assert all(s.signature.get("shots", 0) == shots for s in scores)


def test_examples_show_the_first_right_answer(tmp_path):
    config = make(tmp_path, write_task(tmp_path), shots=2)
    plan = select_tasks(config).generation[0]
    shown = plan.task.fill("p", plan.items["jav"][0], plan.examples["jav"]).split("\n\n")
    for text, item in zip(shown[:2], plan.examples["jav"], strict=True):
        assert text.endswith(f"A: {item.references[0]}")
        assert item.id.startswith("-dev")


def test_runs_are_compared_by_the_tasks_metric(model_folder, tmp_path):
    config = make(tmp_path, write_task(tmp_path, metric="chrf"))
    results = {}
    for run, family in (("base", "llama"), ("adapted", "qwen2")):
        evaluate(model_folder(family), config, tmp_path / run, run=run)
        results[run] = read_results(tmp_path / run, run)
    compared = compare_runs([TrainedRun("adapted", {}, results["base"], results["adapted"])], 50)
    values = {(s.run, s.language): s.value for r in results.values() for s in r.scores if s.metric == "chrf"}
    for code in ("ind", "jav"):
        gain = next(row for row in compared.rows if row.metric == "gain" and row.language == code)
        assert gain.value == pytest.approx(values["adapted", code] - values["base", code])
        assert gain.low is not None


@pytest.mark.parametrize("family", ["llama", "t5"])
@pytest.mark.parametrize("stop", [["e"], ["an", "Q:"], ["\n\n", " "]])
def test_stop_strings_end_what_plain_generation_would_continue(loaded_model, family, stop):
    loaded = loaded_model(family)
    prompts = [loaded.codec.pair(text, "")[0] for text in TEXTS]
    whole = generate_batch(loaded, prompts, 24)
    short = generate_batch(loaded, prompts, 24, stops=stop)
    assert [decode_until(loaded.tokenizer, each, stop) for each in short] == [
        decode_until(loaded.tokenizer, each, stop) for each in whole
    ]
    # Rows whose text has a stop string before its last tokens were not written to their end.
    early = [not decode_until(loaded.tokenizer, Generated(each.tokens[:16], False), stop)[1] for each in whole]
    for one, other, ended in zip(short, whole, early, strict=True):
        assert len(one.tokens) < len(other.tokens) or not ended
    assert any(early) or family == "t5"


def test_an_answer_ends_at_the_first_of_its_stop_strings(loaded_model):
    tokenizer = loaded_model("llama").tokenizer
    for text, stops, expected in (
        ("\n dua. tiga\nQ", ["Q", "\n"], ("dua. tiga", False)),
        ("dua. tiga", [". "], ("dua", False)),
        ("dua", ["."], ("dua", True)),
    ):
        assert decode_until(tokenizer, Generated(tokenizer.encode(text), False), stops) == expected


def test_a_long_prompt_loses_examples_and_then_text(model_folder, tmp_path):
    task = write_task(tmp_path, tokens=100)
    rows = (tmp_path / "ind.jsonl").read_text().splitlines()
    long = {**json.loads(rows[0]), "context": "kata " * 400}
    (tmp_path / "ind.jsonl").write_text(json.dumps(long) + "\n")
    config = make(tmp_path, task, shots=2, languages=["ind"])
    evaluate(model_folder("llama"), config, tmp_path / "out", run="base")
    assert read_records(tmp_path / "out" / "answers" / "qa.ind.jsonl", OpenAnswer)[0].cut > 0
    tight = write_task(tmp_path, tokens=505)
    with pytest.raises(DataError, match="does not fit the model's context"):
        evaluate(model_folder("llama"), make(tmp_path, tight), tmp_path / "other", run="base")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("biru", ("biru",)),
        (["biru", "", None, "biru", "merah "], ("biru", "merah")),
        ('["satu", "dua"]', ("satu", "dua")),
        ("[sic] biru", ("[sic] biru",)),
        (42, ("42",)),
        ([3.5, 7], ("3.5", "7")),
    ],
)
def test_answers_may_be_a_text_a_number_or_a_list(tmp_path, value, expected):
    write_task(tmp_path, references="gold")
    row = {"id": "1", "title": "T", "context": "c", "question": "q", "gold": value}
    (tmp_path / "ind.jsonl").write_text(json.dumps(row) + "\n")
    assert read_items(load_task(str(tmp_path / "qa.yaml")), "ind", tmp_path)[0].references == expected


def test_items_without_an_answer_are_counted(tmp_path):
    from instructalign.types import Counts

    write_task(tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "ind.jsonl").read_text().splitlines()]
    rows[1]["answers"] = {"text": [], "answer_start": []}
    (tmp_path / "ind.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    counts = Counts()
    items = read_items(load_task(str(tmp_path / "qa.yaml")), "ind", tmp_path, counts=counts)
    assert [item.id for item in items] == ["0", "2", "3", "4"]
    assert counts.dropped == {"no answer": 1}


def test_wrong_answers_name_the_item_and_what_was_meant(tmp_path):
    write_task(tmp_path, references="answers")
    with pytest.raises(DataError, match=r"item '0' \(record 1\): 'answers' holds .* answers\.text"):
        read_items(load_task(str(tmp_path / "qa.yaml")), "ind", tmp_path)
    write_task(tmp_path, references=["answers.txt"])
    with pytest.raises(DataError, match=r"no column 'answers\.txt' for references\."):
        read_items(load_task(str(tmp_path / "qa.yaml")), "ind", tmp_path)


@pytest.mark.parametrize(
    ("keys", "key"),
    [
        ({"references": None}, "references"),
        ({"stop": []}, "stop"),
        ({"stop": [""]}, r"stop\[0\]|stop\.0"),
        ({"tokens": 0}, "tokens"),
        ({"metric": "bleu"}, "metric"),
        ({"labels": {"a": "b", "c": "d"}}, "labels"),
        ({"fields": {"id": "id", "label": "x", "passage": "c", "question": "q"}}, "fields.label"),
        ({"fields": {"id": "id"}}, "fields: needs at least one text"),
        ({"edits": {"answer": "drop_last"}}, "edits.answer"),
        ({"kind": "generations"}, "kind: unknown kind 'generations'.*generation"),
        ({"kind": "classification"}, "kind: .*has no kind"),
    ],
)
def test_mistakes_in_a_task_file_are_named(tmp_path, keys, key):
    path = write_task(tmp_path, **keys)
    with pytest.raises(ConfigError, match=key):
        load_task(path)


def test_a_prompt_must_show_the_question(tmp_path):
    write_task(tmp_path)
    task = yaml.safe_load((tmp_path / "qa.yaml").read_text())
    task["prompts"]["p"]["prompt"] = "{passage} {frage} "
    (tmp_path / "qa.yaml").write_text(yaml.safe_dump(task))
    with pytest.raises(ConfigError) as caught:
        load_task(str(tmp_path / "qa.yaml"))
    assert {problem.partition(":")[0] for problem in caught.value.problems} == {"prompts.p.prompt"}
    assert len(caught.value.problems) == 3
