from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from random_models import TEXTS
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from instructalign.errors import ConfigError, DataError
from instructalign.evaluation import evaluate, load_task, mt_metrics, runner, translation
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.bootstrap import Bootstrap
from instructalign.evaluation.mt_metrics import measure, metrics_for, score_translations
from instructalign.evaluation.predictions import Translated, read_records
from instructalign.evaluation.task_items import read_items
from instructalign.evaluation.task_selection import plan_directions
from instructalign.evaluation.translation import translate_direction, translation_limits
from instructalign.files import write_json, write_jsonl
from instructalign.training.generation import generate_batch

TASK = """\
name: tiny_translation
kind: translation
path: "flores/{name}.txt"
pivot: eng
languages: {eng: english, jav: javanese, mad: madurese}
prompts:
  p: {language: eng, prompt: "{text}\\nIn {target}, from {source}:"}
  q: {language: ind, prompt: "{text}\\nDalam bahasa {target}:"}
tokens: 12
"""


@pytest.fixture(autouse=True)
def _no_subwords(monkeypatch):
    # Whether spBLEU's model lies on this machine must not change the tests.
    monkeypatch.setattr(mt_metrics, "spbleu_is_installed", lambda: False)


@pytest.fixture
def flores(tmp_path):
    folder = tmp_path / "data" / "flores"
    folder.mkdir(parents=True)
    for name, mark in (("english", "e"), ("javanese", "j"), ("madurese", "m")):
        (folder / f"{name}.txt").write_text("".join(f"{mark}{n} {text}\n" for n, text in enumerate(TEXTS)))
    (tmp_path / "task.yaml").write_text(TASK)
    return folder.parent


@pytest.fixture
def config(make_config, flores):
    def make(**changes):
        made = make_config(
            **{"tasks": [str(flores.parent / "task.yaml")], "prompts": None, "data": str(flores), **changes}
        )
        languages = made.languages.model_copy(update={"known": ["eng"], "new": ["jav"], "related": ["mad"]})
        return made.model_copy(update={"languages": languages})

    return make


# -- what is asked ---------------------------------------------------------------------------------------


def test_every_language_is_translated_from_and_into_the_pivot(config):
    directions = plan_directions(config(), load_task(config().evaluation.tasks[0]))
    assert [(each.source, each.target, each.title) for each in directions] == [
        ("eng", "jav", "tiny_translation/from-eng"),
        ("jav", "eng", "tiny_translation/into-eng"),
        ("eng", "mad", "tiny_translation/from-eng"),
        ("mad", "eng", "tiny_translation/into-eng"),
    ]
    first = directions[0]
    assert first.texts[1] == f"e1 {TEXTS[1]}"
    assert first.references[1] == f"j1 {TEXTS[1]}"
    assert first.format_prompt("p", "x {y}") == "x {y}\nIn Javanese, from English:"
    assert directions[1].format_prompt("q", "x") == "x\nDalam bahasa Inggris:"


def test_a_limit_chooses_the_same_sentences_everywhere(config):
    directions = plan_directions(config(items=4), load_task(config().evaluation.tasks[0]))
    assert {tuple(each.items) for each in directions} == {tuple(directions[0].items)}
    assert len(directions[0].items) == 4


def test_missing_files(config, flores):
    (flores / "flores" / "madurese.txt").unlink()
    task = load_task(config().evaluation.tasks[0])
    assert {each.language for each in plan_directions(config(), task)} == {"jav"}
    with pytest.raises(DataError, match=r"tiny_translation in mad, requested by evaluation\.languages: .*exist"):
        plan_directions(config(languages=["mad"]), task)
    (flores / "flores" / "javanese.txt").unlink()
    with pytest.raises(DataError, match="tiny_translation has no data for the languages of this configuration"):
        plan_directions(config(), task)


def test_unequal_sides(config, flores):
    (flores / "flores" / "javanese.txt").write_text("one\n")
    with pytest.raises(DataError, match=r"english\.txt has 9 lines and .*javanese\.txt has 1"):
        plan_directions(config(), load_task(config().evaluation.tasks[0]))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("In {target}, from {source}:", "Translate:", "prompts.p.prompt: no slot {target}"),
        ("from {source}", "from {sauce}", "prompts.p.prompt: unknown slot {sauce}. Did you mean 'source'?"),
        ("pivot: eng", "pivot: deu", "pivot: 'deu' is not among the languages"),
        ("pivot: eng", "pivott: eng", "pivott: unknown key. Did you mean 'pivot'?"),
        (
            "{eng: english, jav: javanese, mad: madurese}",
            "flores201",
            "unknown set of languages 'flores201'. Did you",
        ),
    ],
)
def test_mistakes_name_their_key(tmp_path, old, new, message):
    path = tmp_path / "task.yaml"
    path.write_text(TASK.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load_task(str(path))
    assert message in str(caught.value)


def test_the_shipped_task_has_all_of_flores():
    task = load_task("flores_translation")
    assert len(task.languages) > 195
    assert task.languages["ace_Arab"] == "ace_Arab"
    assert task.languages["sun"] == "sun_Latn"


# -- scores ----------------------------------------------------------------------------------------------


def values_of(records, bootstrap):
    """By metric, the mean over prompts on the sentences and on every draw, and how it was measured."""
    return {name: (bootstrap.by_prompt(sample).mean(0), how) for name, (sample, how) in measure(records).items()}


def translated(number, translation, reference, prompt="p", text="sumber", **more):
    return Translated("t", prompt, str(number), "eng", "jav", text, reference, translation, **more)


PAIRS = [
    ("aku lunga menyang pasar", "aku lunga menyang pasar"),
    ("dheweke mangan sega goreng", "dheweke lagi mangan sega"),
    ("", "esuk iki udan deres banget"),
    ("omah gedhe iku", "omah iku gedhe banget lan resik"),
    ("salah kabeh", "ora ana sing bener ing kene"),
]


@pytest.mark.parametrize("pairs", [PAIRS, PAIRS[:1], [("x", "y z")] * 3, [("", "a b")] * 2])
def test_equals_sacrebleus_corpus_scores(pairs):
    records = [translated(n, *pair) for n, pair in enumerate(pairs)]
    measured = values_of(records, Bootstrap(20, 0))
    texts, references = zip(*pairs, strict=True)
    for name, metric in (("chrf", CHRF(word_order=2)), ("bleu", BLEU())):
        expected = metric.corpus_score(list(texts), [list(references)]).score
        values, signature = measured[name]
        assert values[0] * 100 == pytest.approx(expected, abs=1e-9)
        assert signature == {"sacrebleu": str(metric.get_signature())}


def test_draws_are_scores_of_resampled_sentences():
    records = [translated(n, *pair) for n, pair in enumerate(PAIRS)]
    bootstrap = Bootstrap(5, 0)
    values, _ = values_of(records, bootstrap)["chrf"]
    for draw, value in zip(bootstrap.weights(tuple("01234")), values, strict=True):
        chosen = [record for record, count in zip(records, draw, strict=True) for _ in range(int(count))]
        metric = CHRF(word_order=2)
        expected = metric.corpus_score([r.translation for r in chosen], [[r.reference for r in chosen]]).score
        assert value * 100 == pytest.approx(expected, abs=1e-9)


def test_prompts_are_averaged_and_shares_counted():
    records = [
        translated(0, "sumber", "a"),
        translated(1, "", "a"),
        translated(0, "a", "a", "q", unfinished=True),
        translated(1, "a", "a", "q"),
    ]
    measured = {name: values[0] for name, (values, _) in values_of(records, Bootstrap(0, 0)).items()}
    assert measured["copied"] == 0.25
    assert measured["empty"] == 0.25
    assert measured["unfinished"] == 0.25
    single = [CHRF(word_order=2).corpus_score(texts, [["a", "a"]]).score for texts in (["sumber", ""], ["a", "a"])]
    assert measured["chrf"] * 100 == pytest.approx(np.mean(single))


def test_bleu_needs_spaces_and_spbleu_its_model(monkeypatch):
    assert list(metrics_for("jav")) == ["chrf", "bleu"]
    assert list(metrics_for("tha")) == ["chrf"]
    assert list(metrics_for("zho_Hant")) == ["chrf"]


def test_evaluates_and_goes_on(model_folder, config, tmp_path, monkeypatch):
    out = tmp_path / "out"
    scores = evaluate(model_folder("llama"), config(), out, run="base")
    files = sorted(path.name for path in (out / "translations").glob("*.jsonl"))
    assert files == [f"tiny_translation.{way}.jsonl" for way in ("eng-jav", "eng-mad", "jav-eng", "mad-eng")]
    records = read_records(out / "translations" / files[0], Translated)
    assert [(r.prompt, r.item) for r in records] == [(p, str(n)) for p in "pq" for n in range(1, 10)]
    row = next(s for s in scores if (s.task, s.language, s.metric) == ("tiny_translation/from-eng", "jav", "chrf"))
    assert (row.run, row.group, row.n) == ("base", "L2", 9)
    assert "nrefs:1|case:mixed" in row.signature["sacrebleu"]
    group = next(s for s in scores if (s.task, s.group, s.language, s.metric) == (row.task, "L2", "", "chrf"))
    assert (group.value, group.low) == (row.value, row.low)
    assert json.loads((out / "scores.json").read_text())["scores"][0]["task"].startswith("tiny_translation")

    whole = {path.name: path.read_bytes() for path in (out / "translations").glob("*.jsonl")}
    made = []
    monkeypatch.setattr(
        runner, "translate_direction", lambda *given: made.append(given[1].name) or translate_direction(*given)
    )
    (out / "translations" / files[2]).unlink()
    evaluate(model_folder("llama"), config(), out, run="base")
    assert made == [files[2]]
    assert {path.name: path.read_bytes() for path in (out / "translations").glob("*.jsonl")} == whole


def test_limits_follow_the_source_and_leave_room_for_every_reference(config, loaded_model):
    tokenizer = loaded_model("llama").tokenizer
    task = load_task(config().evaluation.tasks[0]).model_copy(update={"tokens": 1000})
    for direction in plan_directions(config(), task):
        limits = translation_limits(tokenizer, direction)
        sources = [len(tokenizer.encode(text)) for text in direction.texts]
        assert [limit for _, limit in sorted(zip(sources, limits, strict=True))] == sorted(limits)
        assert len(set(limits)) > 3
        references = [len(tokenizer.encode(text)) for text in direction.references]
        assert all(limit >= reference + 8 for limit, reference in zip(limits, references, strict=True))
        few = task.model_copy(update={"tokens": 5})
        assert set(translation_limits(tokenizer, replace(direction, task=few))) == {5}


@pytest.mark.parametrize("family", ["llama", "bloom", "t5"])
def test_translations_are_those_of_plain_transformers_up_to_their_end(config, loaded_model, tmp_path, family):
    loaded = loaded_model(family)
    task = load_task(config().evaluation.tasks[0]).model_copy(update={"tokens": 60})
    [direction, *_] = plan_directions(config(prompts=["p"]), task)
    runner_ = BatchRunner(tmp_path, "t", "key", "translating", lambda *_: None)
    [records], _ = translate_direction(loaded, direction, config(), runner_)
    limits = translation_limits(loaded.tokenizer, direction)
    assert len(set(limits)) > 3
    for record, text, limit in zip(records, direction.texts, limits, strict=True):
        prompt = loaded.codec.pair(direction.format_prompt("p", text), "")[0]
        plain = loaded.model.generate(
            torch.tensor([prompt]), max_new_tokens=60, do_sample=False, pad_token_id=0, eos_token_id=1
        )
        new = plain[0, 1 if loaded.encoder_decoder else len(prompt) :].tolist()
        whole = loaded.tokenizer.decode(new[:limit], skip_special_tokens=True).lstrip()
        assert record["translation"] == whole.partition("\n")[0].strip()
        assert record["unfinished"] is not ("\n" in whole or 1 in new[:limit])


def test_an_interrupted_direction_resumes_after_its_last_batch(model_folder, config, tmp_path, monkeypatch):
    settings = config(batch_tokens=150)
    evaluate(model_folder("llama"), settings, tmp_path / "whole", run="base")
    left = [5]

    def counted(*given, **how):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return generate_batch(*given, **how)

    monkeypatch.setattr(translation, "generate_batch", counted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_folder("llama"), settings, tmp_path / "cut", run="base")
    before = left[0] = 10_000
    evaluate(model_folder("llama"), settings, tmp_path / "cut", run="base")
    resumed, left[0] = before - left[0], 10_000
    evaluate(model_folder("llama"), settings, tmp_path / "again", run="base")
    assert resumed == 10_000 - left[0] - 4
    for path in (tmp_path / "whole" / "translations").iterdir():
        assert (tmp_path / "cut" / "translations" / path.name).read_bytes() == path.read_bytes()


def test_continuous_batching_writes_the_same_files(model_folder, config, tmp_path):
    few = {"items": 3, "languages": ["jav"]}
    plain = evaluate(model_folder("llama"), config(**few), tmp_path, run="base")
    files = sorted((tmp_path / "translations").glob("*.jsonl"))
    before = [file.read_bytes() for file in files]
    other = evaluate(model_folder("llama"), config(engine="continuous", **few), tmp_path, run="base")
    assert [file.read_bytes() for file in files] == before
    assert [(score.metric, score.value) for score in other] == [(score.metric, score.value) for score in plain]
    assert all(score.signature["engine"] == "continuous batching" for score in other)
    assert not any("engine" in score.signature for score in plain)


def test_vllm_was_removed(config):
    with pytest.raises(ConfigError, match=r"evaluation\.engine: .*vllm.*continuous"):
        config(engine="vllm")


def test_a_folder_without_translations_has_no_scores(tmp_path):
    assert score_translations(tmp_path, {}, "base", Bootstrap(0, 0)) == []


# -- crosslingual similarity -----------------------------------------------------------------------------


def test_pairs_are_half_true_and_the_same_in_every_language(shared_data):
    task = load_task("flores_xss")
    javanese, sundanese = (read_items(task, code, shared_data) for code in ("jav", "sun"))
    assert [(item.id, item.label) for item in javanese] == [(item.id, item.label) for item in sundanese]
    same = sum(item.label == "same" for item in javanese)
    assert len(javanese) == 1012
    assert abs(same - 506) < 60
    lines = (shared_data / "flores200" / "devtest" / "jav_Latn.devtest").read_text().splitlines()
    for item in javanese:
        is_own = item.fields["second"] == lines[int(item.id) - 1]
        assert is_own is (item.label == "same")


def test_all_languages_of_the_shared_folder_are_at_hand(shared_data):
    names = {path.stem for path in (shared_data / "flores200" / "devtest").iterdir()}
    assert names <= set(load_task("flores_xss").languages.values())


def test_copying_is_the_baseline_of_translations(tmp_path):
    texts = [("the house is old", "rumah itu tua"), ("the radio is old", "radio itu tua")]
    records = [
        Translated("t", "p", str(i), "eng", "ind", text, reference, "nothing like it", False)
        for i, (text, reference) in enumerate(texts)
    ]
    entry = {"title": "t/from-eng", "language": "ind", "split": "test", "prompts": ["p"], "items": 2}
    manifest = {
        "model": {"name": "m", "hash": "m"},
        "tasks": {"t.jsonl": entry | {"questions": "q", "version": "0"}},
    }
    write_jsonl(tmp_path / "translations" / "t.jsonl", map(asdict, records))
    write_json(tmp_path / "translations" / "manifest.json", manifest)
    scores = score_translations(tmp_path, {"L2": ["ind"]}, "base", Bootstrap(10, 0))
    expected = CHRF(word_order=2).corpus_score(
        [text for text, _ in texts], [[reference for _, reference in texts]]
    )
    [copying] = [s for s in scores if (s.run, s.language, s.metric) == ("copying", "ind", "chrf")]
    assert (copying.low, 100 * copying.value) == (None, pytest.approx(expected.score, abs=1e-6))
    [copied] = [s for s in scores if (s.run, s.group, s.language, s.metric) == ("copying", "L2", "", "chrf")]
    assert copied.value == copying.value
