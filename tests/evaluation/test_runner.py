from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from random_models import TEXTS, random_model

from instructalign.config import VocabularyConfig
from instructalign.errors import ConfigError, DataError, RunFolderError, UnknownNameError
from instructalign.evaluation import classification, evaluate, runner, score_predictions, task_selection
from instructalign.evaluation.batch_runner import BatchRunner
from instructalign.evaluation.likelihood import score_batch
from instructalign.evaluation.predictions import read_evaluation_manifest, read_predictions
from instructalign.evaluation.prompting import make_queries
from instructalign.evaluation.tasks import build_task, load_task
from instructalign.training.chat import ChatTemplate
from instructalign.types import Item
from tiny import tiny_tokenizer


def read_all(out):
    return {path.name: path.read_bytes() for path in sorted((out / "predictions").iterdir())}


def make_query(codec, task, prompt, item, context=None):
    return make_queries(codec, task, [(prompt, item, ())], context)[0]


def predictions_of(out, language):
    return read_predictions(out / "predictions" / f"nusax_senti.{language}.jsonl")


@pytest.fixture
def count_batches(monkeypatch):
    """Counts the batches that go through the model; raises at the one whose number is in `stop`."""
    state = {"done": 0, "stop": None}

    def counted(loaded, queries, *, prompts=False):
        if state["done"] == state["stop"]:
            raise KeyboardInterrupt
        state["done"] += 1
        return score_batch(loaded, queries, prompts=prompts)

    monkeypatch.setattr(classification, "score_batch", counted)
    return state


# -- what is written -------------------------------------------------------------------------------------


def test_writes_predictions_and_scores(model_folder, make_config, tmp_path):
    scores = evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    assert sorted(read_all(tmp_path)) == [
        "manifest.json",
        "nusax_senti.ace.jsonl",
        "nusax_senti.ind.jsonl",
        "nusax_senti.mad.jsonl",
    ]
    predictions = predictions_of(tmp_path, "ace")
    assert [(p.prompt, p.item) for p in predictions] == [
        (prompt, f"s{number}") for prompt in ("en-1", "id-2") for number in range(12)
    ]
    right = [sum(p.predicted == p.gold for p in predictions if p.prompt == prompt) for prompt in ("en-1", "id-2")]
    row = next(s for s in scores if (s.run, s.language, s.metric) == ("base", "ace", "accuracy"))
    assert row.value == pytest.approx(sum(right) / 24)
    assert (row.group, row.n) == ("L2", 12)
    assert row.low <= row.value <= row.high
    assert json.loads((tmp_path / "scores.json").read_text())["scores"] == [
        {name: getattr(score, name) for name in score.__slots__} for score in scores
    ]


def test_every_score_says_what_it_measures(model_folder, make_config, tmp_path):
    scores = evaluate(model_folder("llama"), make_config(scoring="mean"), tmp_path, run="base")
    parts = next(s for s in scores if s.group == "L2").signature
    model = read_evaluation_manifest(tmp_path / "predictions")["model"]["hash"]
    assert parts.pop("version")
    assert len(parts.pop("questions")) == 8
    assert parts == {
        "task": "nusax_senti",
        "split": "test",
        "languages": ["ace"],
        "n": [12],
        "prompts": ["en-1", "id-2"],
        "scoring": "mean",
        "dtype": "float32",
        "bootstrap": 50,
        "model": model,
    }


@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_predictions_equal_a_plain_loop(model_folder, loaded_model, make_config, tmp_path, family):
    evaluate(model_folder(family), make_config(prompts=["id-2"]), tmp_path, run="base")
    loaded, task = loaded_model(family), load_task("nusax_senti")
    for prediction, text in zip(predictions_of(tmp_path, "ind"), TEXTS, strict=False):
        number = int(prediction.item[1:])
        prompt = task.prompts["id-2"].prompt.replace("{text}", f"{text} {number}")
        for label, word in (("positive", "positif"), ("neutral", "netral"), ("negative", "negatif")):
            with torch.no_grad():
                if loaded.encoder_decoder:
                    ids = loaded.tokenizer.encode(word, add_special_tokens=False)
                    chances = loaded.model(
                        input_ids=loaded.tokenizer(prompt, return_tensors="pt").input_ids,
                        decoder_input_ids=torch.tensor([[0, *ids[:-1]]]),
                    ).logits[0]
                else:
                    head = loaded.tokenizer.encode(prompt)
                    ids = loaded.tokenizer.encode(f"{prompt} {word}")[len(head) :]
                    chances = loaded.model(torch.tensor([[*head, *ids]])).logits[0, len(head) - 1 :]
            logs = chances.log_softmax(-1)
            expected = sum(logs[place, token].item() for place, token in enumerate(ids))
            assert prediction.scores[label] == pytest.approx(expected, abs=1e-5)
            assert prediction.tokens[label] == len(ids)
        assert prediction.predicted == max(prediction.scores, key=prediction.scores.get)


def test_budget_of_a_batch_does_not_change_predictions(model_folder, make_config, tmp_path):
    for budget in (1, 150, 8192):
        evaluate(model_folder("llama"), make_config(batch_tokens=budget), tmp_path / str(budget), run="base")
    for language in ("ind", "ace", "mad"):
        expected = predictions_of(tmp_path / "8192", language)
        for budget in ("1", "150"):
            for got, want in zip(predictions_of(tmp_path / budget, language), expected, strict=True):
                assert got.scores == pytest.approx(want.scores, abs=1e-5)
                assert (got.item, got.prompt, got.predicted) == (want.item, want.prompt, want.predicted)


def test_the_rule_of_the_paper_counts_the_prompt(model_folder, make_config, tmp_path):
    evaluate(model_folder("llama"), make_config(scoring="paper"), tmp_path / "paper", run="base")
    evaluate(model_folder("llama"), make_config(scoring="sum"), tmp_path / "sum", run="base")
    paper, plain = (predictions_of(tmp_path / rule, "ind") for rule in ("paper", "sum"))
    for mine, other in zip(paper, plain, strict=True):
        assert mine.scores == pytest.approx(other.scores, abs=1e-5)
        means = {
            label: (mine.prompt_score + mine.scores[label]) / (mine.prompt_tokens + mine.tokens[label])
            for label in mine.scores
        }
        assert mine.predicted == max(means, key=means.get)
    assert other.prompt_score is None


@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_half_precision_is_near_and_said(model_folder, make_config, tmp_path, family, count_batches):
    evaluate(model_folder(family), make_config(), tmp_path / "float32", run="base")
    scores = evaluate(model_folder(family), make_config(dtype="bfloat16"), tmp_path / "half", run="base")
    assert scores[0].signature["dtype"] == "bfloat16"
    assert read_evaluation_manifest(tmp_path / "half" / "predictions")["model"]["dtype"] == "bfloat16"
    pairs = zip(predictions_of(tmp_path / "half", "ind"), predictions_of(tmp_path / "float32", "ind"), strict=True)
    apart = [abs(one.scores[label] - two.scores[label]) for one, two in pairs for label in one.scores]
    assert 0 < sum(apart) / len(apart) < 0.5
    asked = count_batches["done"]
    evaluate(model_folder(family), make_config(), tmp_path / "half", run="base")  # other answers are wanted
    assert count_batches["done"] > asked


# -- going on and starting anew --------------------------------------------------------------------------


@pytest.mark.parametrize("after", [0, 1, 3])
def test_an_interrupted_evaluation_goes_on_with_the_same_files(
    model_folder, make_config, tmp_path, count_batches, after
):
    config = make_config(batch_tokens=500)
    evaluate(model_folder("llama"), config, tmp_path / "whole", run="base")
    whole, count_batches["done"] = count_batches["done"], 0
    assert whole > 4
    count_batches["stop"] = after
    with pytest.raises(KeyboardInterrupt):
        evaluate(model_folder("llama"), config, tmp_path / "cut", run="base")
    journal = tmp_path / "cut" / "predictions" / ".nusax_senti.unfinished"
    with journal.open("ab") as file:
        file.write(b'{"batch": 77, "sco')  # power lost while a line was written
    count_batches.update(done=0, stop=None)
    evaluate(model_folder("llama"), config, tmp_path / "cut", run="base")
    assert count_batches["done"] == whole - after
    assert read_all(tmp_path / "cut") == read_all(tmp_path / "whole")
    assert (tmp_path / "cut" / "scores.json").read_bytes() == (tmp_path / "whole" / "scores.json").read_bytes()


def test_what_is_there_is_not_asked_again(model_folder, make_config, tmp_path, count_batches, monkeypatch):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    before = read_all(tmp_path)
    count_batches["stop"] = count_batches["done"]
    monkeypatch.setattr(runner, "load_model", None)  # not even the model is loaded
    evaluate(model_folder("llama"), make_config(bootstrap=0), tmp_path, run="base")
    assert read_all(tmp_path) == before
    config = make_config()  # training would add pieces; the model that is asked has its own
    more = config.model.model_copy(update={"vocabulary": VocabularyConfig(add=20)})
    evaluate(model_folder("llama"), config.model_copy(update={"model": more}), tmp_path, run="base")
    assert read_all(tmp_path) == before


@pytest.mark.parametrize(
    "change", [{"items": 5}, {"prompts": ["en-1"]}, {"scoring": "mean"}, {"languages": ["ind"]}]
)
def test_other_questions_are_asked_anew(model_folder, make_config, tmp_path, count_batches, change):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    first = count_batches["done"]
    evaluate(model_folder("llama"), make_config(**change), tmp_path, run="base")
    assert count_batches["done"] > first


@pytest.mark.parametrize("change", [{"chat_date": "2026-05-01"}, {"chat_options": {"date_string": "1 May"}}])
def test_scores_of_another_date_are_not_taken(make_config, tmp_path, count_batches, change):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = (
        "{{ date_string or strftime_now('%d %b %Y') }}{% for m in messages %}<{{ m.content }}>{% endfor %}: "
    )
    random_model("llama").save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = make_config()
    dated = config.model_copy(update={"model": config.model.model_copy(update=change)})
    for asked, each in enumerate((config, config, dated, dated)):
        before = count_batches["done"]
        evaluate(tmp_path / "model", each, tmp_path / "scores", run="base")
        assert (count_batches["done"] > before) == (asked in (0, 2))


def test_a_stop_among_new_files_does_not_pass_them_off_as_the_old_ones(
    model_folder, make_config, tmp_path, monkeypatch
):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    before = read_all(tmp_path)
    monkeypatch.setattr(BatchRunner, "close", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):  # all files are new, the manifest is not
        evaluate(model_folder("llama"), make_config(scoring="mean"), tmp_path, run="base")
    monkeypatch.undo()
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    assert read_all(tmp_path) == before


def test_changed_data_are_asked_anew(model_folder, make_config, tmp_path, count_batches, sentiment):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    first = count_batches["done"]
    path = sentiment / "nusax" / "sentiment" / "acehnese" / "test.csv"
    path.write_text(path.read_text().replace("Iya", "Ya"))
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    assert count_batches["done"] > first


def test_predictions_of_another_model_are_not_touched(model_folder, make_config, tmp_path):
    evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    before = read_all(tmp_path)
    with pytest.raises(RunFolderError, match=r"holds predictions of .*, not of .*another --out"):
        evaluate(model_folder("qwen2"), make_config(), tmp_path, run="base")
    assert read_all(tmp_path) == before


def test_the_same_model_in_another_folder_is_the_same(model_folder, make_config, tmp_path, count_batches):
    evaluate(model_folder("llama"), make_config(), tmp_path / "out", run="base")
    first = count_batches["done"]
    shutil.copytree(model_folder("llama"), tmp_path / "copy")
    evaluate(tmp_path / "copy", make_config(), tmp_path / "out", run="base")
    assert count_batches["done"] == first


# -- languages, prompts, items ---------------------------------------------------------------------------


def test_a_language_without_files_is_left_out_and_said(model_folder, make_config, tmp_path, sentiment, caplog):
    shutil.rmtree(sentiment / "nusax" / "sentiment" / "madurese")
    scores = evaluate(model_folder("llama"), make_config(), tmp_path, run="base")
    assert "nusax_senti leaves out mad" in caplog.text
    left_out = read_evaluation_manifest(tmp_path / "predictions")["tasks"]["nusax_senti"]["left_out"]
    assert left_out["mad"].endswith("madurese/test.csv does not exist")
    assert {score.language for score in scores} == {"ind", "ace", ""}


def test_a_language_asked_for_must_have_files(make_config, sentiment):
    shutil.rmtree(sentiment / "nusax" / "sentiment" / "madurese")
    with pytest.raises(DataError, match=r"nusax_senti in mad, requested by evaluation\.languages: .*not exist"):
        task_selection.select_tasks(make_config(languages=["ind", "mad"]))
    with pytest.raises(DataError, match=r"evaluation\.languages: deu is in none of the tasks: nusax_senti"):
        task_selection.select_tasks(make_config(languages=["deu"]))


def test_no_data_at_all(make_config, tmp_path):
    (tmp_path / "nusax" / "sentiment" / "english").mkdir(parents=True)
    (tmp_path / "nusax" / "sentiment" / "english" / "test.csv").write_text("id,text,label\n1,x,positive\n")
    with pytest.raises(
        DataError,
        match=r"has no data for the languages.*not exist\. The data set .* at .*nusax\.",
    ):
        task_selection.select_tasks(make_config(data=str(tmp_path)))


def test_no_task(make_config):
    with pytest.raises(ConfigError, match=r"evaluation\.tasks: names no task"):
        task_selection.select_tasks(make_config(tasks=[]))


def test_unknown_prompt(make_config):
    with pytest.raises(UnknownNameError, match=r"prompt of task nusax_senti 'en-4'\. Did you mean 'en-"):
        task_selection.select_tasks(make_config(prompts=["en-4"]))


# -- prompts too long, labels without tokens -------------------------------------------------------------


NLI = {
    "name": "nli",
    "data": {"format": "csv", "path": "x.csv"},
    "fields": {"premise": "p", "hypothesis": "h", "label": "l"},
    "languages": ["eng"],
    "labels": {"yes": "yes", "no": "of course not"},
    "prompts": {"q": {"language": "eng", "prompt": "Given: {premise}\nThen: {hypothesis}\nYes or no?"}},
}


def test_long_texts_are_cut_on_their_left_and_the_question_is_whole(loaded_model):
    loaded, task = loaded_model("llama"), build_task(NLI, "nli.yaml")
    item = Item("1", {"premise": "ab " * 200 + "the end.", "hypothesis": "It is short."}, "yes")
    whole = make_query(loaded.codec, task, "q", item)
    cut = make_query(loaded.codec, task, "q", item, context=100)
    longest = max(map(len, cut.labels))
    assert 90 < len(cut.prompt) + longest <= 100
    assert cut.truncated == len(whole.prompt) - len(cut.prompt)
    assert cut.labels == whole.labels
    text = loaded.tokenizer.decode(cut.prompt)
    assert text.startswith("Given: ")
    assert text.endswith("ab the end.\nThen: It is short.\nYes or no?")
    assert make_query(loaded.codec, task, "q", item, context=len(whole.prompt) + longest) == whole


def test_a_second_text_is_cut_when_the_first_is_gone(loaded_model):
    loaded, task = loaded_model("llama"), build_task(NLI, "nli.yaml")
    item = Item("1", {"premise": "ab " * 40, "hypothesis": "cd " * 30 + "end"}, "yes")
    cut = make_query(loaded.codec, task, "q", item, context=60)
    text = loaded.tokenizer.decode(cut.prompt)
    assert text.startswith("Given: \nThen: ")
    assert text.endswith("cd end\nYes or no?")


def test_a_question_longer_than_the_context_is_refused(loaded_model):
    loaded, task = loaded_model("llama"), build_task(NLI, "nli.yaml")
    item = Item("7", {"premise": "x", "hypothesis": "y"}, "yes")
    with pytest.raises(DataError, match=r"nli: the prompt 'q' has \d+ tokens for item '7' .* of 20"):
        make_query(loaded.codec, task, "q", item, context=20)


def test_cut_prompts_are_counted(make_config, tmp_path):
    config = random_model("llama").config
    config.max_position_embeddings = 60
    type(random_model("llama"))(config).save_pretrained(tmp_path / "short")
    tiny_tokenizer().save_pretrained(tmp_path / "short")
    evaluate(tmp_path / "short", make_config(prompts=["en-3"]), tmp_path / "out", run="base")
    cut = [p.cut for code in ("ind", "ace", "mad") for p in predictions_of(tmp_path / "out", code)]
    assert 0 < sum(count > 0 for count in cut) < len(cut)
    entry = read_evaluation_manifest(tmp_path / "out" / "predictions")["tasks"]["nusax_senti"]
    assert entry["cut"] == sum(count > 0 for count in cut)


class SilentCodec:
    """Gives the word `yes` no tokens."""

    encoder_decoder = True

    def pairs(self, prompts, answers):
        return [([5, 6], [] if answer == "yes" else [7]) for answer in answers]


def test_a_label_without_tokens_is_refused():
    item = Item("7", {"premise": "x", "hypothesis": "y"}, "yes")
    with pytest.raises(DataError, match=r"nli: labels\.yes: the word 'yes' has no tokens of its own"):
        make_query(SilentCodec(), build_task(NLI, "nli.yaml"), "q", item)


class BlindCodec:
    """Knows neither word."""

    encoder_decoder = True

    def pairs(self, prompts, answers):
        return [([5, 6], [3]) for _ in answers]


def test_labels_that_a_tokenizer_cannot_tell_apart_are_refused():
    item = Item("7", {"premise": "x", "hypothesis": "y"}, "yes")
    with pytest.raises(
        DataError, match=r"labels\.no: the word 'of course not' has the same tokens as that of 'yes'"
    ):
        make_query(BlindCodec(), build_task(NLI, "nli.yaml"), "q", item)


@pytest.mark.parametrize("family", ["llama", "mt5"])
def test_pairs_at_once_equal_pairs_one_by_one(loaded_model, family):
    codec = loaded_model(family).codec
    prompts = [text for text in [*TEXTS, "ends with spaces  ", ""] for _ in range(2)]
    answers = ["positive", "tidak"] * (len(prompts) // 2)
    chat = ChatTemplate(codec.tokenizer, "{% for m in messages %}<{{ m.content }}>{% endfor %}: ")
    for chosen in (codec, replace(codec, chat=chat)):
        expected = [chosen.pair(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
        assert chosen.pairs(prompts, answers) == expected


# -- scores from files -----------------------------------------------------------------------------------


def test_scores_are_computed_from_files_alone(model_folder, make_config, tmp_path):
    config = make_config()
    scores = evaluate(model_folder("llama"), config, tmp_path, run="base")
    files = sorted((tmp_path / "predictions").glob("*.jsonl"))
    again = score_predictions(files, groups=config.languages.groups, resamples=50, seed=config.seed, run="base")
    assert {values(score) for score in again} == {values(score) for score in scores}


def test_another_rule_decides_anew(model_folder, make_config, tmp_path):
    evaluate(model_folder("llama"), make_config(scoring="paper"), tmp_path / "paper", run="base")
    files = sorted((tmp_path / "paper" / "predictions").glob("*.jsonl"))
    for rule in ("sum", "mean", "bytes", "calibrated"):
        scores = evaluate(model_folder("llama"), make_config(scoring=rule), tmp_path / rule, run="base")
        again = score_predictions(files, rule=rule, resamples=50, run="base")
        assert {values(score)[:4] for score in again} == {values(score)[:4] for score in scores if score.language}
        with pytest.raises(DataError, match="lack the likelihood of the prompts"):
            score_predictions(sorted((tmp_path / rule / "predictions").glob("*.jsonl")), rule="paper")


def values(score):
    return score.run, score.language, score.metric, score.value, score.group, score.low, score.high, score.n


def test_a_line_that_is_no_prediction_is_named(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"task": "a"}\n')
    with pytest.raises(DataError, match=r"x\.jsonl:1: not a prediction .* found task\. Give files that evaluate"):
        score_predictions([path])
    path.write_text('{"inputs": "a", "targets": "b"}\n')
    keys = "task, language, prompt, item, gold, predicted, scores, tokens, and may have cut, prompt_score"
    with pytest.raises(DataError, match=rf"those have the keys {keys}.*; found inputs, targets\."):
        score_predictions([path])


def test_a_folder_in_the_place_of_predictions_is_looked_into(tmp_path):
    with pytest.raises(DataError, match=r"holds none; a run has them in evaluation/\*/predictions/\*\.jsonl"):
        score_predictions([tmp_path])
    for name in ("adapted", "base"):
        folder = tmp_path / "evaluation" / name / "predictions"
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text("{}")
    with pytest.raises(DataError) as caught:
        score_predictions([tmp_path])
    inside = [f"{tmp_path}/evaluation/{name}/predictions/*.jsonl" for name in ("adapted", "base")]
    assert f"is a folder; files of predictions were expected. Give {', or '.join(inside)}." in str(caught.value)
