from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from instructalign.config_file import load_config
from instructalign.plugins import toy_base
from instructalign.toy import demo
from instructalign.toy.datasets import read_replay, read_task
from instructalign.toy.family import DESCENT, KNOWN, NEW, RELATED, language


@pytest.fixture(scope="module")
def base():
    """The shipped model, loaded by transformers alone."""
    return AutoModelForCausalLM.from_pretrained(toy_base()), AutoTokenizer.from_pretrained(toy_base())


def test_the_folder_is_small_and_says_how_it_was_made() -> None:
    assert sum(file.stat().st_size for file in toy_base().iterdir()) <= 3_000_000
    assert not [file.name for file in toy_base().iterdir() if file.suffix in (".bin", ".pt", ".pkl")]
    assert "python benchmarks/toy_base.py" in (toy_base() / "README.md").read_text(encoding="utf-8")


def test_the_script_makes_the_shipped_tokenizer_and_shape(base) -> None:
    model, tokenizer = base
    script = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "toy_base.py"))
    again = script["make_tokenizer"](len(tokenizer))
    assert again.get_vocab() == tokenizer.get_vocab()
    fresh = script["make_model"](again).state_dict()
    assert {name: each.shape for name, each in fresh.items()} == {
        name: each.shape for name, each in model.state_dict().items()
    }


@pytest.mark.parametrize("code", [*KNOWN, "qna"])
def test_the_base_knows_sentiment_in_its_languages_and_not_in_a_new_one(base, code: str) -> None:
    # Plain transformers, one item at a time: fails too when the generator drifts away from the shipped weights.
    model, tokenizer = base
    words = {"positive": " yes", "negative": " no", "neutral": " maybe"}
    first = torch.tensor([tokenizer.encode(word)[0] for word in words.values()])
    assert len(set(first.tolist())) == 3
    right = 0
    rows = list(read_task(Path(), code, code, items=60))
    for row in rows:
        with torch.no_grad():
            logits = model(**tokenizer(f"Good: {row['text']} ?", return_tensors="pt")).logits[0, -1]
        right += list(words)[int(logits[first].argmax())] == row["label"]
    if code in KNOWN:
        assert right >= 0.95 * len(rows)
    else:
        assert right <= 0.65 * len(rows)


def test_the_base_translates_between_its_languages(base) -> None:
    model, tokenizer = base
    asked = [each for each in read_replay(rows=60) if each.target]
    right = total = 0
    for each in asked:
        prompt = tokenizer(each.prompt, return_tensors="pt")
        written = model.generate(**prompt, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        words = tokenizer.decode(written, skip_special_tokens=True).split()
        right += sum(word == wanted for word, wanted in zip(words, each.answer.split(), strict=False))
        total += len(each.answer.split())
    assert right / total > 0.3  # chance is below 0.05: there are eight words to choose from even with the topic


def test_the_demo_names_the_languages_of_the_family() -> None:
    config = load_config(demo.CONFIG)
    assert config.languages.groups == {"L1": list(KNOWN), "L2": list(NEW), "L3": list(RELATED)}
    assert config.languages.names == {code: language(code).name for code in [*KNOWN, *DESCENT]}


@pytest.mark.parametrize("name", demo.RUNS)
def test_each_run_of_the_demo_is_a_valid_configuration(name: str) -> None:
    config = demo.demo_config(name, seed=3)
    assert config.seed == 3
    assert config.replay is not None
    assert config.replay.size == (0 if name == "no replay" else 1000)
    assert list(config.instructions.objectives) == (["mlm"] if name == "monolingual" else ["tlm", "mt", "xss"])
