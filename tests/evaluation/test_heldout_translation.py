"""The task on held-out sentences: what it asks, its scores against sacrebleu, and a whole run with it alone."""

from __future__ import annotations

import pytest
from sacrebleu.metrics.chrf import CHRF

from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError, UnknownNameError
from instructalign.evaluation import evaluate, load_task, mt_metrics
from instructalign.evaluation.predictions import Translated, read_records
from instructalign.evaluation.task_selection import plan_heldout
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import check_config, run
from tiny import save_tiny

TASK = "heldout_translation"


@pytest.fixture(autouse=True)
def _no_subwords(monkeypatch):
    monkeypatch.setattr(mt_metrics, "spbleu_is_installed", lambda: False)


@pytest.fixture
def config(tmp_path):
    lines = [f"the food {n}\tmakanan {n}\tpangan {n}\n" for n in range(12)]
    (tmp_path / "corpus.tsv").write_text("eng\tind\tjav\n" + "".join(lines), encoding="utf-8")

    def make(base="x", heldout=4, new=("jav",), **evaluation):
        return build_config(
            {
                "model": {"base": str(base)},
                "languages": {"known": ["eng", "ind"], "new": [*new]},
                "corpora": [{"format": "tsv", "path": "corpus.tsv"}],
                "instructions": {"objectives": {"mt": 1}, "heldout": heldout},
                "training": {"steps": 2, "batch_size": 4, "max_length": 200, "report_to": []},
                "evaluation": {"tasks": [TASK], "prompts": ["en-1"], "bootstrap": 20, **evaluation},
            },
            folder=tmp_path,
        )

    return make


def test_held_out_sentences_are_translated_between_every_pivot_and_the_new_language(config):
    made = config()
    directions = plan_heldout(made, load_task(TASK))
    assert [(each.source, each.target, each.title) for each in directions] == [
        ("eng", "jav", f"{TASK}/from-eng"),
        ("jav", "eng", f"{TASK}/into-eng"),
        ("ind", "jav", f"{TASK}/from-ind"),
        ("jav", "ind", f"{TASK}/into-ind"),
    ]
    train, heldout, _ = prepare_corpus(made)
    assert directions[0].items == [row.id for row in heldout]
    assert directions[0].texts == [row.texts["eng"] for row in heldout]
    assert directions[0].references == directions[1].texts == [row.texts["jav"] for row in heldout]
    assert not {row.id for row in train} & {*directions[0].items}
    assert directions[0].prompts == ["en-1"]
    assert "Translate this English sentence into Javanese:" in directions[0].format_prompt("en-1", "the food")


def test_items_may_be_limited_and_languages_chosen(config):
    directions = plan_heldout(config(items=3), load_task(TASK))
    assert {len(each.items) for each in directions} == {3}
    assert len({tuple(each.items) for each in directions}) == 1
    with pytest.raises(DataError, match=r"instructions\.heldout"):
        plan_heldout(config(heldout=1), load_task(TASK))
    with pytest.raises(DataError, match=r"evaluation\.languages"):
        plan_heldout(config(languages=["eng"]), load_task(TASK))


def test_prompts_are_checked(config, tmp_path):
    with pytest.raises(UnknownNameError, match="en-9"):
        check_config(config(prompts=["en-9"]))
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nkind: translations\n")
    with pytest.raises(ConfigError, match="prompts: missing"):
        load_task(str(path))
    path.write_text("name: mine\nkind: instructions\nprompts: {p: {language: eng, prompt: '{text} {target}'}}\n")
    with pytest.raises(ConfigError, match="prompts: only a task of translations"):
        load_task(str(path))
    path.write_text("name: mine\nkind: translations\nprompts: {p: {language: eng, prompt: 'a {text}'}}\n")
    with pytest.raises(ConfigError, match=r"prompts\.p\.prompt: no slot \{target\}"):
        load_task(str(path))


def test_scores_equal_sacrebleu(model_folder, config, tmp_path):
    base = model_folder("llama")
    scores = evaluate(base, config(base), tmp_path / "out", run="base")
    for source, target, title in (("eng", "jav", "from-eng"), ("jav", "eng", "into-eng")):
        records = read_records(tmp_path / "out" / "translations" / f"{TASK}.{source}-{target}.jsonl", Translated)
        expected = CHRF(word_order=2).corpus_score(
            [each.translation for each in records], [[each.reference for each in records]]
        )
        (value,) = [
            each.value
            for each in scores
            if each.task == f"{TASK}/{title}" and (each.run, each.metric, each.language) == ("base", "chrf", "jav")
        ]
        assert 100 * value == pytest.approx(expected.score, abs=1e-6)


def test_a_run_has_chrf_of_base_and_adapted_model(config, tmp_path):
    save_tiny(tmp_path / "base")
    report = run(config(tmp_path / "base"), tmp_path / "run").report
    assert report is not None
    rows = {(row.run, row.task, row.metric) for row in report.rows}
    for title in (f"{TASK}/from-eng", f"{TASK}/into-eng"):
        assert ("base", title, "chrf") in rows
        assert ("run", title, "chrf") in rows
