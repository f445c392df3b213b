"""What a run would be refused for comes to light before its base is evaluated, which may take hours."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copy

import pytest

from instructalign import run
from instructalign.config_file import load_config
from instructalign.errors import DataError, InstructAlignError
from instructalign.mixture.training_data import build_instructions, prepare_corpus

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["corpora=[{format: tsv, path: missing.tsv}]"], "missing.tsv"),
        (["corpora=[{format: tsv, path: pairs.tsv, columns: {qka: Miza, qna: Sinup}}]"], "Sinup"),
        (["instructions.heldout=1000"], "held out"),
        (["replay.source={format: jsonl, path: past.jsonl, prompt: question}"], "past.jsonl:1: .*'question'"),
        (["replay.source={format: jsonl, path: past.jsonl, languages: [xx]}"], "holds no usable example"),
        (["training.max_length=257"], "reads at most 256"),
        (["training.max_length=8"], "the template .* alone takes"),
        (["instructions={objectives: {dictionary: {lexicons: [{format: tsv, path: words.tsv}]}}}"], "words.tsv"),
    ],
)
def test_mistakes_show_before_the_base_is_evaluated(tmp_path: Path, settings: list[str], message: str) -> None:
    config = copy(QUICKSTART, tmp_path)
    (tmp_path / "pairs.tsv").write_text("Miza\tsinup\none\ttwo\n", encoding="utf-8")
    past = {"inputs": "is it?", "targets": "yes", "lang": "eng"}
    (tmp_path / "past.jsonl").write_text(json.dumps(past) + "\n", encoding="utf-8")
    told: list[str] = []
    with pytest.raises(InstructAlignError, match=message):
        run(load_config(config, settings), tmp_path / "run", progress=lambda what, *_: told.append(what))
    assert not (tmp_path / "run" / "evaluation").exists()
    assert not [what for what in told if "evaluating" in what]


def test_known_languages_need_no_text_unless_they_are_named_as_pivots(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = copy(QUICKSTART, tmp_path)
    with_eng, without = (
        prepare_corpus(load_config(config, [f"languages.known={some}", "corpora=[{format: toy, rows: 200}]"]))[0]
        for some in ("[eng, qka, qkb]", "[qka, qkb]")
    )
    assert "no corpus has text in eng: nothing is aligned with it" in caplog.text
    assert list(with_eng) == list(without)
    with pytest.raises(DataError, match="no corpus has text in eng"):
        prepare_corpus(load_config(config, ["languages.known=[eng, qka, qkb]", "instructions.pivots=[eng, qka]"]))
    alone = load_config(config, ["languages.known=[eng]"])
    rows = prepare_corpus(alone)[0]
    with pytest.raises(DataError, match="together with a pivot"):
        build_instructions(alone, rows)
