"""vLLM and COMET, which cannot be installed beside this: stand-ins that check the calls and answer likewise."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from random_models import TEXTS

from instructalign.config import CometConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError, ModelError
from instructalign.evaluation import evaluate, mt_metrics
from instructalign.evaluation.comet import comet_scores
from instructalign.evaluation.generation import generate
from instructalign.evaluation.predictions import Translated
from instructalign.training.models import load_model

TASK = """\
name: tiny_translation
kind: translation
path: "flores/{name}.txt"
pivot: eng
languages: {eng: english, jav: javanese, mad: madurese}
prompts:
  p: {language: eng, prompt: "{text}\\nIn {target}, from {source}:"}
tokens: 8
"""


@pytest.fixture(autouse=True)
def _no_subwords(monkeypatch):
    monkeypatch.setattr(mt_metrics, "subwords_at_hand", lambda: False)


@pytest.fixture
def config(tmp_path, make_config):
    folder = tmp_path / "data" / "flores"
    folder.mkdir(parents=True)
    for name, mark in (("english", "e"), ("javanese", "j"), ("madurese", "m")):
        (folder / f"{name}.txt").write_text("".join(f"{mark}{n} {text}\n" for n, text in enumerate(TEXTS[:4])))
    (tmp_path / "task.yaml").write_text(TASK)

    def make(**changes):
        tasks = [str(tmp_path / "task.yaml")]
        made = make_config(**{"tasks": tasks, "prompts": None, "data": str(folder.parent), **changes})
        languages = made.languages.model_copy(update={"known": ["eng"], "new": ["jav"], "related": ["mad"]})
        return made.model_copy(update={"languages": languages})

    return make


# -- vLLM --------------------------------------------------------------------------------------------------


class SamplingParams:
    """Takes the keywords that vLLM 0.33 has, of those that are used."""

    def __init__(self, *, temperature, max_tokens, stop_token_ids, repetition_penalty, detokenize):
        assert temperature == 0.0
        assert repetition_penalty == 1.0
        assert detokenize is False
        self.max_tokens, self.stop_token_ids = max_tokens, stop_token_ids


class LLM:
    """Writes greedily as vLLM would, one prompt after another, with plain transformers."""

    calls: list[dict] = []  # noqa: RUF012

    def __init__(self, **options):
        self.calls.append(options)
        self.model = load_model(options["model"]).model
        self.model_config = SimpleNamespace(max_model_len=512)

    def generate(self, prompts, sampling_params, *, use_tqdm):
        assert use_tqdm is False
        assert len(prompts) == len(sampling_params)
        outputs = []
        for prompt, settings in zip(prompts, sampling_params, strict=True):
            ids = torch.tensor([prompt["prompt_token_ids"]])
            written = self.model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=settings.max_tokens,
                do_sample=False,
                eos_token_id=settings.stop_token_ids,
                pad_token_id=0,
            )[0, ids.shape[1] :].tolist()
            reason = "stop" if written[-1] in settings.stop_token_ids else "length"
            outputs.append(
                SimpleNamespace(outputs=[SimpleNamespace(token_ids=tuple(written), finish_reason=reason)])
            )
        return outputs


@pytest.fixture
def vllm(monkeypatch):
    LLM.calls = []
    monkeypatch.setitem(sys.modules, "vllm", SimpleNamespace(LLM=LLM, SamplingParams=SamplingParams))
    return LLM


def test_vllm_writes_the_same_files(vllm, model_folder, config, tmp_path):
    plain = evaluate(model_folder("llama"), config(), tmp_path / "plain", run="base")
    by_vllm = evaluate(model_folder("llama"), config(engine="vllm"), tmp_path / "vllm", run="base")
    for file in sorted((tmp_path / "plain" / "translations").glob("*.jsonl")):
        assert (tmp_path / "vllm" / "translations" / file.name).read_bytes() == file.read_bytes()
    assert [(s.metric, s.value) for s in by_vllm] == [(s.metric, s.value) for s in plain]
    # The engine is loaded once, and signatures say that it wrote.
    assert vllm.calls == [
        {"model": str(model_folder("llama")), "dtype": "float32", "revision": None, "trust_remote_code": False}
    ]
    assert all(score.signature["engine"].startswith("vllm") for score in by_vllm)
    assert not any("engine" in score.signature for score in plain)


def test_the_model_that_scored_is_let_go_before_vllm_is_loaded(vllm, model_folder, config, tmp_path, monkeypatch):
    """Labels are scored by transformers, which must not keep the GPU's memory when vLLM takes its share."""
    import gc
    import weakref

    from instructalign.evaluation import runner

    held = []
    load = runner._load

    def keep_track(*given):
        loaded = load(*given)
        held.append(weakref.ref(loaded.model))
        return loaded

    monkeypatch.setattr(runner, "_load", keep_track)
    start = vllm.__init__

    def begin(self, **options):
        gc.collect()
        assert [model() for model in held] == [None]
        start(self, **options)

    monkeypatch.setattr(vllm, "__init__", begin)
    made = config(engine="vllm")
    sentiment = {"tasks": ["nusax_senti", *made.evaluation.tasks]}
    both = made.model_copy(
        update={
            "evaluation": made.evaluation.model_copy(update=sentiment),
            "languages": made.languages.model_copy(update={"known": ["ind", "eng"]}),
        }
    )
    evaluate(model_folder("llama"), both, tmp_path / "out", run="base")
    assert len(vllm.calls) == len(held) == 1


def test_what_transformers_wrote_is_not_taken_for_vllms(vllm, model_folder, config, tmp_path):
    evaluate(model_folder("llama"), config(), tmp_path / "out", run="base")
    assert vllm.calls == []
    evaluate(model_folder("llama"), config(engine="vllm"), tmp_path / "out", run="base")
    evaluate(model_folder("llama"), config(engine="vllm"), tmp_path / "out", run="base")
    assert len(vllm.calls) == 1  # the third time, all is there


def test_vllm_that_is_not_installed(monkeypatch, model_folder, config, tmp_path):
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(ModelError, match=r"vLLM is not installed: pip install 'instructalign\[vllm\]', or set"):
        evaluate(model_folder("llama"), config(engine="vllm"), tmp_path / "out", run="base")


def test_vllm_does_not_run_encoder_decoder_models(vllm, model_folder, config, tmp_path):
    with pytest.raises(ModelError, match=r"vLLM does not run .* encoder-decoder model; set evaluation\.engine"):
        evaluate(model_folder("t5"), config(engine="vllm"), tmp_path / "out", run="base")
    assert vllm.calls == []


def test_a_prompt_that_fills_vllms_context(vllm, model_folder, config, tmp_path):
    data = tmp_path / "data" / "flores" / "english.txt"
    data.write_text("ab " * 600 + "\n" + data.read_text().split("\n", 1)[1])
    with pytest.raises(DataError, match=r"a prompt of \d+ tokens leaves no room in the model's context of 512"):
        evaluate(model_folder("llama"), config(engine="vllm"), tmp_path / "out", run="base")


# -- the end of the line -----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_writing_stops_with_the_line(loaded_model, family, monkeypatch):
    """The answers are those of writing on, and the model takes no step behind the last line's end."""
    loaded = loaded_model(family)
    prompts = [f"{text}\nJavanese:" for text in TEXTS]
    on = _without_stopping(loaded, prompts, monkeypatch)
    assert generate(loaded, prompts, 40, 100_000) == on


def test_no_step_behind_the_line(loaded_model, monkeypatch):
    loaded = loaded_model("llama")
    end = loaded.tokenizer.encode("\n", add_special_tokens=False)[-1]
    steps = []
    forward = loaded.model.forward

    def always_line_ends(*args, **given):
        output = forward(*args, **given)
        steps.append(1)
        wanted = loaded.tokenizer.encode("a", add_special_tokens=False)[-1] if len(steps) == 2 else end
        output.logits[:, -1] = -1e9
        output.logits[:, -1, wanted] = 0
        return output

    monkeypatch.setattr(loaded.model, "forward", always_line_ends)
    ((text, unfinished),) = generate(loaded, ["good"], 30, 1000)
    assert (text, unfinished) == ("a", False)
    assert len(steps) == 3  # a line end in front, a letter, and the end of the line


def _without_stopping(loaded, prompts, monkeypatch):
    from instructalign.evaluation import generation

    with monkeypatch.context() as patch:
        patch.setattr(generation, "LineEnds", lambda tokenizer, rows: lambda ids, scores: torch.zeros(rows) > 0)
        return generate(loaded, prompts, 40, 100_000)


# -- COMET -------------------------------------------------------------------------------------------------

# Answers in the form of comet-score 2.2.7: by file of translations, a list of segments. The score is the length.
COMMAND = """#!{python}
import json, sys
given = dict(zip(sys.argv[1:-4:2], sys.argv[2:-4:2]))
assert sys.argv[-4:-1] == ["--quiet", "--only_system", "--to_json"], sys.argv
assert given["--model"] == "{model}", given
assert (given["--batch_size"], given["--gpus"]) == ("16", "0"), given
read = lambda key: [line.strip() for line in open(given[key], encoding="utf-8").readlines()]
columns = zip(read("-s"), read("-t"), read("-r"), strict=True)
rows = [dict(src=s, mt=t, ref=r, COMET=len(t) / 100) for s, t, r in columns]
{broken}
json.dump({{given["-t"]: rows}}, open(sys.argv[-1], "w", encoding="utf-8"))
open({log!r}, "a").write("called\\n")
"""


@pytest.fixture
def comet(tmp_path):
    """Writes a stand-in for comet-score and gives the settings that name it, and how often it was called."""
    log = tmp_path / "calls.log"

    def make(broken=""):
        path = tmp_path / "comet-score"
        model = CometConfig().model
        path.write_text(COMMAND.format(python=sys.executable, model=model, log=str(log), broken=broken))
        path.chmod(0o755)
        return CometConfig(command=path)

    make.calls = lambda: len(log.read_text().splitlines()) if log.exists() else 0
    return make


def records(*texts):
    return [Translated("t", "p", str(n), "eng", "jav", "x\u2028y", "r", text) for n, text in enumerate(texts)]


def test_comet_is_asked_once(comet, tmp_path):
    settings, cache = comet(), tmp_path / "kept" / "scores.json"
    some = records("loro", "", "a\rb")  # a line end within a text must not become two lines
    assert comet_scores(some, settings, cache) == [0.04, 0.0, 0.03]
    assert comet_scores(some, settings, cache) == [0.04, 0.0, 0.03]
    assert comet.calls() == 1
    assert comet_scores(records("loro", "siji"), settings, cache) == [0.04, 0.04]
    assert comet.calls() == 2
    assert json.loads(cache.read_text())["model"] == settings.model


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("sys.exit('no such model')", r"comet-score failed with exit status 1 and said: no such model"),
        ("rows.pop()", r"comet-score gave 1 scores for 2 translations"),
        ("sys.exit(0)", r"failed with exit status 0 and said: nothing"),
    ],
)
def test_comet_that_fails(comet, tmp_path, broken, message):
    with pytest.raises(DataError, match=message):
        comet_scores(records("a", "b"), comet(broken), tmp_path / "scores.json")
    assert not (tmp_path / "scores.json").exists()


def test_comet_scores_the_languages_it_covers_and_says_which_not(comet, model_folder, config, tmp_path, caplog):
    made = config(comet=comet().model_dump(mode="json"))
    scores = evaluate(model_folder("llama"), made, tmp_path / "out", run="base")
    by_comet = {(s.task, s.language): s for s in scores if s.metric == "comet" and s.language}
    assert set(by_comet) == {("tiny_translation/from-eng", "jav"), ("tiny_translation/into-eng", "jav")}
    assert comet.calls() == 2
    assert "COMET is left out from eng into mad: mad: the encoder of COMET was not trained on it" in caplog.text
    assert "COMET is left out from mad into eng: mad: " in caplog.text
    score = by_comet["tiny_translation/from-eng", "jav"]
    assert score.signature["comet"] == "Unbabel/wmt22-comet-da"
    assert score.low < score.value < score.high


def test_a_missing_command_is_told_before_anything_is_translated(model_folder, config, tmp_path):
    made = config(comet={"command": "no/comet-score"})
    with pytest.raises(
        ConfigError, match=r"evaluation\.comet\.command: there is no command '/.*/no/comet-score'\."
    ):
        evaluate(model_folder("llama"), made, tmp_path / "out", run="base")
    assert not (tmp_path / "out" / "translations").exists()


def test_the_keys_read_back_as_the_same(config, tmp_path):
    made = config(engine="vllm", comet={"languages": ["en", "yo"]}, language_id="lid.bin")
    assert made.evaluation.comet.languages == ["eng", "yor"]
    import yaml

    assert build_config(yaml.safe_load(made.to_yaml())) == made
    with pytest.raises(ConfigError, match=r"evaluation\.engine: .*'transformers' or 'vllm'"):
        config(engine="vlm")
