"""Text that a machine wrote is given to the model, and never what it is taught to write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.instructions import generate_instructions
from instructalign.languages import is_synthetic, plain_code, synthetic_code
from instructalign.mixture.training_data import build_instructions, prepare_corpus
from instructalign.plugins import OBJECTIVES

MADE = "mmm"  # after every word that the machine wrote


def write(folder: Path, made: str, count: int = 40) -> None:
    """A real corpus, and one whose `made` side is marked in the records and in its words."""
    with (folder / "real.jsonl").open("w") as real, (folder / "made.jsonl").open("w") as synthetic:
        for i in range(count):
            eng, jav = (f"{a}{i} {a}{i % 7} {a}x {a}z" for a in ("red", "abang"))
            real.write(json.dumps({"eng": eng, "jav": jav}) + "\n")
            texts = {"eng": f"new {eng}", "jav": f"anyar {jav}"}
            texts[made] = " ".join(f"{word} {MADE}" for word in texts[made].split())
            synthetic.write(json.dumps({**texts, "synthetic": [made], "score": -0.5}) + "\n")
    words = [{"eng": "redx", "jav": "abangx"}, {"eng": "redz", "jav": "abangz"}]
    (folder / "words.jsonl").write_text("".join(json.dumps(word) + "\n" for word in words))


def configure(folder: Path, objectives: Any, corpora: Any, **changes: Any) -> Config:
    settings: dict[str, Any] = {
        "model": {"base": "none"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": corpora,
        "instructions": {"objectives": objectives, "heldout": 0},
        "training": {"steps": 1},
        **changes,
    }
    return build_config(settings, folder=folder)


REAL = {"format": "jsonl", "path": "real.jsonl"}
OPTIONS = {name: {"lexicons": [{"format": "jsonl", "path": "words.jsonl"}]} for name in ("dictionary", "hints")}
CROSSLINGUAL = [name for name in OBJECTIVES.names() if name != "lm"]


def answers_and_prompts(config: Config, count: int = 300) -> tuple[str, str, list[Any]]:
    corpus, _, _ = prepare_corpus(config)
    made = list(generate_instructions(build_instructions(config, corpus), count))
    return "\n".join(each.answer for each in made), "\n".join(each.prompt for each in made), made


@pytest.mark.parametrize("made", ["eng", "jav"])
@pytest.mark.parametrize("name", CROSSLINGUAL)
def test_no_objective_teaches_synthetic_text(name: str, made: str, tmp_path: Path) -> None:
    write(tmp_path, made)
    entry = {"format": "jsonl", "path": "made.jsonl"}
    objectives = {name: {"weight": 1, **OPTIONS.get(name, {})}}
    config = configure(tmp_path, objectives, [REAL, {**entry, "synthetic": made}])
    answers, prompts, examples = answers_and_prompts(config)
    assert MADE not in answers
    assert (MADE in prompts) == (name not in ("mlm", "dictionary"))
    assert {code for each in examples for code in (each.source, each.target)} <= {"eng", "jav"}
    synthetic = [each for each in examples if each.row.startswith("made/")]
    if name == "mlm":  # of the new language alone: where that is synthetic, no row of the corpus serves
        assert bool(synthetic) == (made == "eng")
    else:
        assert {each.source for each in synthetic} == {made}
        assert {(each.source, each.target) for each in examples} == {("eng", "jav"), ("jav", "eng")}
    # Asked for, it is text like any other.
    asked = configure(tmp_path, objectives, [REAL, {**entry, "synthetic": []}])
    answers, _, _ = answers_and_prompts(asked)
    assert (MADE in answers) == (name not in ("xss", "align", "dictionary") and (name, made) != ("mlm", "eng"))


def test_a_record_that_says_so_is_not_read_as_real(tmp_path: Path) -> None:
    write(tmp_path, "eng")
    config = configure(tmp_path, {"mt": 1}, [REAL, {"format": "jsonl", "path": "made.jsonl"}])
    with pytest.raises(DataError, match=r"'made', row 1: .* eng .*synthetic: \[eng\]"):
        prepare_corpus(config)


@pytest.mark.parametrize(
    ("synthetic", "message"),
    [
        ("sun", r"corpora\.0\.synthetic: sun is not read"),
        (["eng", "jav"], r"corpora\.0\.synthetic: all languages"),
    ],
)
def test_what_cannot_be_synthetic_is_refused(synthetic: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(tmp_path, {"mt": 1}, [{**REAL, "synthetic": synthetic}])


def test_every_format_can_be_marked_and_alone_it_will_do(tmp_path: Path) -> None:
    (tmp_path / "pairs.tsv").write_text("eng\tjav\n" + "".join(f"red {i}\tabang {i}\n" for i in range(9)))
    config = configure(
        tmp_path, {"mt": 1, "align": 1}, [{"format": "tsv", "path": "pairs.tsv", "synthetic": "en"}]
    )
    corpus, _, _ = prepare_corpus(config)
    assert {code for row in corpus for code in row.texts} == {synthetic_code("eng"), "jav"}
    assert {(each.source, each.target) for each in answers_and_prompts(config)[2]} == {("eng", "jav")}
    assert config.to_yaml() == build_config_again(config, tmp_path).to_yaml()


def build_config_again(config: Config, folder: Path) -> Config:
    import yaml

    return build_config(yaml.safe_load(config.to_yaml()), folder=folder)


@pytest.mark.parametrize("preset", ["basic", "standard"])
def test_real_pairs_alone_are_held_out_and_limited(preset: str, tmp_path: Path) -> None:
    write(tmp_path, "eng")
    entries = [REAL, {"format": "jsonl", "path": "made.jsonl", "synthetic": ["eng"]}]
    settings = {"objectives": {"mt": 1}, "heldout": 5, "sentences": 20}
    plain = configure(tmp_path, {"mt": 1}, [REAL], instructions=settings)
    both = configure(tmp_path, {"mt": 1}, entries, instructions=settings, filter={"preset": preset})
    train, heldout, _ = prepare_corpus(both)
    real = [row.id for row in heldout if len(set(map(plain_code, row.texts)) & set(row.texts)) == 2]
    assert real == [row.id for row in prepare_corpus(plain)[1]]
    assert sum(row.id.startswith("real/") for row in train) == 20
    assert 40 - 5 <= sum(row.id.startswith("made/") for row in train) < 40  # at most as many, a tenth here


def test_codes() -> None:
    assert plain_code(synthetic_code("jav_Java")) == "jav_Java"
    assert synthetic_code(synthetic_code("eng")) == synthetic_code("eng")
    assert is_synthetic(synthetic_code("eng"))
    assert not is_synthetic("eng")
