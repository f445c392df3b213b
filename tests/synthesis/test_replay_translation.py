"""Replay data translated into a new language: what is written, what is dropped, and who is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from instructalign.cli import app
from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.data import ContaminationCheck, ItemIndex, ItemText
from instructalign.errors import ConfigError, DataError
from instructalign.files import collected_notices
from instructalign.mixture.training_data import load_taught
from instructalign.synthesis import translate_replay
from instructalign.synthesis.back_translation import MachineTranslation, Translator
from instructalign.toy.family import language, meaning, say
from instructalign.training.models import model_hash


def settings(folder: Path, examples: Sequence[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    (folder / "past.jsonl").write_text("".join(json.dumps(each) + "\n" for each in examples), encoding="utf-8")
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["qka"], "new": ["qkb"], "names": {"qka": "Miza", "qkb": "Biduf"}},
        "corpora": [{"format": "toy", "rows": 40}],
        "instructions": {"objectives": {"mt": 1}, "templates": ["toy"], "heldout": 0},
        "replay": {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": len(examples)},
        "training": {"steps": 2, "batch_size": 4, "report_to": []},
        **changes,
    }


def english(folder: Path, examples: Sequence[dict[str, Any]], **changes: Any) -> Config:
    languages = {"known": ["eng", "ind"], "new": ["jav"]}
    given = {"languages": languages, "corpora": [{"format": "jsonl", "path": "x.jsonl"}], **changes}
    given["instructions"] = {"objectives": {"mt": 1}, "templates": ["eng"]}
    return build_config(settings(folder, examples, **given), folder=folder)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_a_model_translates_and_its_text_is_marked(tmp_path: Path) -> None:
    sides = [[say(language(code), meaning(900_000 + i)) for i in range(24)] for code in ("qka", "qkb")]
    truth = dict(zip(*sides, strict=True))
    examples = [{"inputs": sides[0][n], "targets": sides[0][n + 12], "task": "t"} for n in range(12)]
    config, out = build_config(settings(tmp_path, examples), folder=tmp_path), tmp_path / "made.jsonl"
    counts = translate_replay(config, out, round_trip=0, cache=tmp_path / "cache")
    made = records(out)
    assert (counts.read, counts.kept) == (12, len(made))
    assert counts.kept + sum(counts.dropped.values()) == 12
    assert len(made) >= 6
    right = 0
    for record in made:
        assert record["original"]["inputs"] in sides[0][:12]
        assert record["lang"], record["synthetic"] == ("qkb", ["qkb"])
        assert -2 <= record["score"] <= 0 <= record["round_trip"]
        assert record["origin"] == {"model": "toy", "model_hash": model_hash("toy"), "template": "toy/toy-mt-1"}
        assert record["id"] == f"past.jsonl:{sides[0].index(record['original']['inputs']) + 1}"
        for field in ("inputs", "targets"):
            words = truth[record["original"][field]].split()
            right += len({*words} & {*record[field].split()}) / len(words)
    assert right / (2 * len(made)) > 0.1  # the toy base has a word of five right, chance none
    again = tmp_path / "again.jsonl"
    translate_replay(config, again, round_trip=0, cache=tmp_path / "cache")
    assert again.read_bytes() == out.read_bytes()

    source = {"format": "jsonl", "path": "made.jsonl"}
    block = {"sources": {"qkb": source}, "size": len(made), "share": 0.5}
    given = settings(tmp_path, examples, instruction_data=block)
    with collected_notices() as notices:
        taught = load_taught(build_config(given, folder=tmp_path))
    assert {(each.prompt, each.answer) for each in taught.examples} == {(r["inputs"], r["targets"]) for r in made}
    assert [found for found, _ in notices if "made.jsonl:1: a model wrote its text in qkb" in found]
    # The question in one language, the answer in the other, from this one file.
    original = {**source, "prompt": "original.inputs", "answer": "original.targets", "id": "id"}
    block |= {"sources": {"qkb": {**source, "id": "id"}, "qka": original}, "crosslingual": 1, "size": 100}
    taught = load_taught(build_config(settings(tmp_path, examples, instruction_data=block), folder=tmp_path))
    pairs = {(each.source, each.target) for each in taught.examples if each.source}
    assert pairs == {("qka", "qkb"), ("qkb", "qka")}


def fake(made: dict[str, Any]) -> Any:
    """A translator that writes what it is told; other text letter by letter into another alphabet's names."""

    def translate(self: Translator, texts: Sequence[str], source: str, target: str, *_: Any) -> Any:
        return [
            made[text] if text in made else MachineTranslation(f"{target}: {text[::-1].swapcase()}", -0.5)
            for text in texts
        ]

    return translate


def test_each_reason_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stock = MachineTranslation("Aku ora bisa nerjemahake iki", -0.1)
    made: dict[str, MachineTranslation] = {
        "Half done here.": MachineTranslation("setengah", -0.5, "unfinished"),
        "Rare words today.": MachineTranslation("langka tembung dina iki", -2.5),
        "Copy this one please.": MachineTranslation("Copy this one please", -0.5),
        "Fill in {name} here.": MachineTranslation("isinen ing kene", -0.5),
        "Another script here.": MachineTranslation("совсем другое письмо", -0.5),
        "Come back to me soon.": MachineTranslation("bali menyang aku", -0.5),
        "bali menyang aku": MachineTranslation("unlike", -0.5),
        **{f"Say number {'x' * n} now.": stock for n in range(1, 8)},
    }
    made["совсем другое письмо"] = MachineTranslation("Another script here.")
    back = {f"jav: {text[::-1].swapcase()}": MachineTranslation(text) for text in ("What is it?", "It is fine.")}
    monkeypatch.setattr(Translator, "__call__", fake(made | back))
    good = {"inputs": "What is it?", "targets": "It is fine."}
    examples = [
        good,
        {"inputs": "12 + 30 =", "targets": "42"},
        {"inputs": "Quoi ?", "targets": "Rien.", "lang": "fra"},
        *({"inputs": text, "targets": "It is fine."} for text in made if text[0].isupper()),
    ]
    config, rejects = english(tmp_path, examples), tmp_path / "rejects.jsonl"
    counts = translate_replay(config, tmp_path / "out.jsonl", round_trip=30, rejects=rejects)
    assert counts.dropped == {
        "nothing to translate": 1,
        "in no known language": 1,
        "unfinished": 1,
        "unlikely": 1,
        "copies the source": 1,
        "placeholders differ": 1,
        "script": 1,
        "round trip": 1,
        "one translation of many sentences": 7,
    }
    assert counts.read == len(examples) == counts.kept + sum(counts.dropped.values())
    assert [record["original"]["inputs"] for record in records(tmp_path / "out.jsonl")] == ["What is it?"]
    assert len(records(rejects)) == len(examples) - 1
    monkeypatch.setattr(Translator, "__call__", lambda self, texts, *_: [stock] * len(texts))
    with pytest.raises(DataError, match=r"no translation can be used: 16 read"):
        translate_replay(config, tmp_path / "out2.jsonl")


def test_texts_are_translated_sentence_by_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[list[str], str, str]] = []

    def translate(self: Translator, texts: Sequence[str], source: str, target: str, *_: Any) -> Any:
        seen.append(([*texts], source, target))
        return [MachineTranslation(f"[{text.lower()}]", -0.5) for text in texts]

    monkeypatch.setattr(Translator, "__call__", translate)
    monkeypatch.setattr("instructalign.synthesis.replay_translation.translation_defect", lambda *_: "")
    examples = [
        {"inputs": "Read this. Answer it.\n\nText: Good day.", "targets": "1. Yes\n2. No\n---"},
        {"inputs": "Apa ini?", "targets": "Itu buku.", "lang": "id"},
    ]
    config = english(tmp_path, examples, filter={"length_ratio": {"max": 9}})
    translate_replay(config, tmp_path / "out.jsonl", pivot="eng")
    made = {record["original"]["lang"]: record for record in records(tmp_path / "out.jsonl")}
    assert made["eng"]["inputs"] == "[read this.] [answer it.]\n\n[text: good day.]"
    assert made["eng"]["targets"] == "[1. yes]\n[2. no]\n---"
    assert made["ind"]["inputs"] == "[apa ini?]"
    assert {(source, target) for _, source, target in seen} == {("eng", "jav"), ("ind", "jav")}
    texts = next(texts for texts, source, _ in seen if source == "eng")
    assert texts == ["Read this.", "Answer it.", "Text: Good day.", "1. Yes", "2. No"]


def test_what_is_tested_or_held_out_is_not_translated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Translator, "__call__", fake({}))
    long = "a question of the test set that is long enough to be found by its words"
    examples = [{"inputs": f"What is the number {n}?", "targets": f"It is number {n}."} for n in range(9)]
    replay = {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 10, "heldout": 3}
    config = english(tmp_path, [*examples, {"inputs": long, "targets": "Yes, it is."}], replay=replay)
    check = ContaminationCheck("drop", ItemIndex([ItemText("task", "item-1", "eng", long)]), "")
    translate_replay(config, tmp_path / "out.jsonl", check=check)
    asked = {record["original"]["inputs"] for record in records(tmp_path / "out.jsonl")}
    assert len(asked) >= 6
    assert long not in asked
    from instructalign.mixture import load_replay

    held = {each.prompt for each in load_replay(config.replay, config.seed).heldout}
    assert asked.isdisjoint(held)


def test_wrong_use_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = [{"inputs": "What is it?", "targets": "It is fine."}]
    config = english(tmp_path, good)
    with pytest.raises(ConfigError, match=r"replay: .*replay\.source"):
        translate_replay(config.model_copy(update={"replay": None}), tmp_path / "out.jsonl")
    with pytest.raises(ConfigError, match=r"--language ind: .*jav"):
        translate_replay(config, tmp_path / "out.jsonl", language="ind")
    with pytest.raises(ConfigError, match=r"--pivot jav"):
        translate_replay(config, tmp_path / "out.jsonl", pivot="jav")
    two = english(tmp_path, good, languages={"known": ["eng"], "new": ["jav", "sun"]})
    with pytest.raises(ConfigError, match=r"--language: one of jav, sun"):
        translate_replay(two, tmp_path / "out.jsonl")
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(yaml.safe_dump(settings(tmp_path, good)), encoding="utf-8")
    for more, said in (
        (["--translate-replay", "--text", "x"], "--text"),
        (["--translate-replay", "--back-translate"], "choose one"),
        (["--model", "toy"], "--model"),
    ):
        done = CliRunner().invoke(app, ["synthesize", "mine.yaml", "--out", "made.jsonl", *more])
        assert done.exit_code == 2
        assert said in " ".join(done.output.split())
    assert not Path("made.jsonl").exists()
