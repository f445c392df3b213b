"""Back-translation: what is written, each filter, the cache, and rounds."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from sacrebleu import corpus_chrf, sentence_chrf
from typer.testing import CliRunner

from instructalign.cli import app
from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, DataError
from instructalign.mixture.training_data import prepare_corpus
from instructalign.pipeline import back_translation_rounds
from instructalign.synthesis import back_translate, back_translation
from instructalign.synthesis.back_translation import MachineTranslation, Translator
from instructalign.toy.family import language, meaning, say
from instructalign.training.models import model_hash
from tiny import save_tiny

NAMES = {"qka": "Miza", "qkb": "Biduf"}


def settings(folder: Path, **changes: Any) -> dict[str, Any]:
    """The toy base, which knows both languages, with one of them taken as new."""
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["qka"], "new": ["qkb"], "names": NAMES},
        "corpora": [{"format": "toy", "rows": 40}],
        "instructions": {"objectives": {"mt": 1}, "templates": ["toy"], "heldout": 0},
        "training": {"steps": 2, "batch_size": 4, "report_to": [], "strategy": "none"},
        **changes,
    }


def configure(folder: Path, **changes: Any) -> Config:
    return build_config(settings(folder, **changes), folder=folder)


def write_text(folder: Path, count: int, code: str = "qkb") -> tuple[Path, list[str], list[str]]:
    """A text file of toy sentences, and these in both languages."""
    sentences = [meaning(900_000 + i) for i in range(count)]
    real, known = ([say(language(each), sentence) for sentence in sentences] for each in (code, "qka"))
    path = folder / "news.txt"
    path.write_text("".join(f"{line}\n" for line in real), encoding="utf-8")
    return path, real, known


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_pairs_have_the_real_sentence_and_what_the_model_made_of_it(tmp_path: Path) -> None:
    text, real, known = write_text(tmp_path, 12)
    config, out = configure(tmp_path), tmp_path / "pairs.jsonl"
    counts = back_translate(config, out, text=text, round_trip=30, cache=tmp_path / "cache")
    made = records(out)
    assert (counts.read, counts.kept) == (12, len(made))
    assert counts.kept + sum(counts.dropped.values()) == 12
    assert counts.kept >= 8
    truth = [known[real.index(record["qkb"])] for record in made]
    own, others = (
        corpus_chrf([record["qka"] for record in made], [references]).score
        for references in (truth, [*truth[1:], truth[0]])
    )
    assert own > others + 10
    for record in made:
        assert record["synthetic"] == ["qka"]
        assert -2 <= record["score"] <= 0
        assert record["round_trip"] >= 30
        assert record["origin"] == {"model": "toy", "model_hash": model_hash("toy"), "template": "toy/toy-mt-1"}
    # What is written is read as a corpus whose synthetic side is a source alone.
    entry = {"format": "jsonl", "path": "pairs.jsonl", "synthetic": "qka"}
    corpus, _, _ = prepare_corpus(configure(tmp_path, corpora=[entry]))
    assert [row.texts["qkb"] for row in corpus] == [record["qkb"] for record in made]


def test_configured_monolingual_text_is_translated(tmp_path: Path) -> None:
    write_text(tmp_path, 6)
    mono = {"format": "text", "path": "news.txt", "languages": ["qkb"]}
    config = configure(
        tmp_path, corpora=[{"format": "toy", "rows": 40}, mono], instructions={"objectives": {"mlm": 1}}
    )
    config = config.model_copy(update={"instructions": configure(tmp_path).instructions})
    out = tmp_path / "pairs.jsonl"
    assert back_translate(config, out, count=4, cache=tmp_path / "cache").read == 4
    again = tmp_path / "again.jsonl"
    back_translate(config, again, count=6, cache=tmp_path / "cache")
    assert {record["qkb"] for record in records(out)} <= {record["qkb"] for record in records(again)}
    with pytest.raises(ConfigError, match=r"corpora: .*--text"):
        back_translate(configure(tmp_path), out)


def test_an_interrupted_call_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, _, _ = write_text(tmp_path, 10)
    monkeypatch.setattr(back_translation, "_CHUNK", 4)
    config, out, cache = configure(tmp_path), tmp_path / "pairs.jsonl", tmp_path / "cache"
    translate, seen = Translator._translate, list[int]()

    def interrupted(self: Translator, part: Sequence[tuple[str, str]]) -> list[MachineTranslation]:
        seen.append(len(part))
        if len(seen) == 2:
            raise KeyboardInterrupt
        return translate(self, part)

    monkeypatch.setattr(Translator, "_translate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        back_translate(config, out, text=text, cache=cache)
    assert not out.exists()
    back_translate(config, out, text=text, cache=cache)
    assert seen == [4, 4, 4, 2]
    whole = out.read_bytes()
    monkeypatch.setattr(Translator, "_translate", None)  # all is cached: no model is loaded
    out.unlink()
    back_translate(config, out, text=text, cache=cache)
    assert out.read_bytes() == whole


def test_each_filter_counts_and_keeps_what_it_drops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [f"kata{i} ukara{i} buku{i} griya{i}" for i in range(20)]
    (tmp_path / "news.txt").write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    good = [MachineTranslation(f"good{i} word{i} fine{i} text{i}", -0.5) for i in range(20)]
    made = {
        "unfinished": MachineTranslation("half of", -0.5, "unfinished"),
        "empty translation": MachineTranslation("", -0.5, "empty translation"),
        "repeats itself": MachineTranslation("so and so and so and so and so and so and so and so", -0.5),
        "copies the source": MachineTranslation(texts[3].upper() + "!", -0.5),
        "unlikely": MachineTranslation("rare words here today", -2.5),
        "length_ratio": MachineTranslation("so many words " + " ".join(f"more{i}" for i in range(40)), -0.5),
        "script": MachineTranslation("совсем другое письмо здесь", -0.5),
        "round trip": good[7],
    }
    stock = MachineTranslation("I cannot translate this", -0.1)
    first = [*made.values(), *[stock] * 6, *good[14:]]

    def translate(self: Translator, texts_: Sequence[str], source: str, target: str, _: Any) -> Any:
        if source == "jav":
            return first
        back = {each.text: text for each, text in zip(first, texts, strict=True)}
        wrong = made["round trip"].text
        return [MachineTranslation("nothing alike" if text == wrong else back[text]) for text in texts_]

    monkeypatch.setattr(Translator, "__call__", translate)
    config = configure(
        tmp_path,
        languages={"known": ["eng"], "new": ["jav"]},
        corpora=[{"format": "jsonl", "path": "x.jsonl"}],
        instructions={"templates": ["eng"]},
    )
    out, rejects = tmp_path / "pairs.jsonl", tmp_path / "rejects.jsonl"
    counts = back_translate(config, out, text=tmp_path / "news.txt", round_trip=40, rejects=rejects)
    assert counts.dropped == {**dict.fromkeys(made, 1), "one translation of many sentences": 6}
    assert [record["eng"] for record in records(out)] == [each.text for each in good[14:]]
    assert [record["round_trip"] for record in records(out)] == [
        round(sentence_chrf(text, [text], word_order=2).score, 1) for text in texts[14:]
    ]
    dropped = records(rejects)
    assert len(dropped) == 14
    assert {record["filter"] for record in dropped} == {*made, "one translation of many sentences"}
    monkeypatch.setattr(Translator, "__call__", lambda self, texts_, *_: [stock] * len(texts_))
    with pytest.raises(DataError, match=r"20 read, 0 kept, dropped: 20 one translation"):
        back_translate(config, out, text=tmp_path / "news.txt")


def test_what_does_not_fit_the_context_is_counted(tmp_path: Path) -> None:
    save_tiny(tmp_path / "base")
    (tmp_path / "news.txt").write_text("kata " * 400 + "\nkata\n", encoding="utf-8")
    config = configure(
        tmp_path,
        model={"base": "base"},
        languages={"known": ["eng"], "new": ["jav"]},
        corpora=[{"format": "jsonl", "path": "x.jsonl"}],
        instructions={"templates": ["eng"]},
    )
    made = Translator(config, config.model, tmp_path / "cache")(["kata " * 400, "kata"], "jav", "eng")
    assert made[0].defect == "too long for the model's context"
    assert made[1].defect != made[0].defect


def test_rounds_translate_with_the_model_of_the_round_before(tmp_path: Path) -> None:
    text, _, _ = write_text(tmp_path, 8)
    config, out = configure(tmp_path), tmp_path / "rounds"
    run = back_translation_rounds(config, out, 2, text=text, rejects=Path("no.jsonl"), cache=tmp_path / "cache")
    assert run == out / "round-2" / "run"
    assert (out / "round-1" / "no.jsonl").exists()
    first, second = (records(out / f"round-{number}" / "pairs.jsonl") for number in (1, 2))
    assert {record["origin"]["model"] for record in first} == {"toy"}
    assert {record["origin"]["model"] for record in second} == {str(out / "round-1" / "run" / "model")}
    corpus = json.loads((run / "run.json").read_text())["corpus"]
    assert corpus["read"] == 40 + len(second)
    before = (run / "model" / "model.safetensors").stat().st_mtime_ns
    back_translation_rounds(config, out, 2, text=text, cache=tmp_path / "cache")
    assert (run / "model" / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--text", "news.txt"], 2, "--text"),
        (["--rounds", "2", "--rejects", "x"], 2, "--rounds, --rejects"),
        (["--back-translate"], 2, "--text"),
        (["--back-translate", "--text", "none.txt"], 1, "none.txt"),
        (["--back-translate", "--text", "news.txt", "--pivot", "qkb"], 2, "--pivot qkb"),
        (["--back-translate", "--text", "news.txt", "--language", "qka"], 2, "--language qka"),
        (["--back-translate", "--text", "news.txt", "--model", "nowhere"], 1, "nowhere"),
    ],
)
def test_wrong_use_is_refused(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import yaml

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    write_text(tmp_path, 3)
    Path("mine.yaml").write_text(yaml.safe_dump(settings(tmp_path)), encoding="utf-8")
    done = CliRunner().invoke(app, ["synthesize", "mine.yaml", "--out", "pairs.jsonl", *arguments])
    assert done.exit_code != 0
    said = " ".join((done.output + str(done.exception or "")).split())
    assert message in said
    if isinstance(done.exception, ConfigError):
        assert code == 2
    assert not Path("pairs.jsonl").exists()
