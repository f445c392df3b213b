"""One way through a run: everything is read once, and what can be refused is refused first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from shutil import copy
from typing import Any

import pytest

from instructalign import run
from instructalign.config_file import load_config
from instructalign.data import corpus
from instructalign.errors import DataError, InstructAlignError
from instructalign.evaluation import task_selection
from instructalign.mixture import replay_buffer, training_data
from instructalign.mixture.training_data import build_instructions, prepare_corpus

QUICKSTART = Path(__file__).parents[1] / "configs" / "quickstart.yaml"


def test_a_run_reads_corpora_replay_data_and_test_items_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()

    def count(module: Any, function: str, name: Callable[..., str]) -> None:
        usual = getattr(module, function)

        def counted(*args: Any, **options: Any) -> Any:
            calls[name(*args, **options)] += 1
            return usual(*args, **options)

        monkeypatch.setattr(module, function, counted)

    count(corpus, "read_entry", lambda entry, *_: f"corpus {entry.name}")
    count(replay_buffer, "open_source", lambda source, _: f"replay {source.name}")
    count(task_selection, "read_items", lambda task, language, *_, **__: f"{task.name} {language}")
    count(training_data, "InstructionStream", lambda *_: "stream")
    tasks = "[toy_sentiment, heldout_instructions, past_instructions]"
    settings = ["training.steps=2", "training.batch_size=4", "replay.heldout=4", "evaluation.items=4"]
    settings += [
        f"evaluation.tasks={tasks}",
        "evaluation.bootstrap=20",
        "memory={}",
        "evaluation.languages=[qka, qna]",
    ]
    config = load_config(copy(QUICKSTART, tmp_path), settings)
    assert run(config, tmp_path / "run").finished
    # Of the rows to train on; of the held-out ones for the validation loss and the questions of two objectives.
    assert calls.pop("stream") == 4
    assert calls == {"corpus toy": 1, "replay toy": 1, "toy_sentiment qka": 1, "toy_sentiment qna": 1}
    assert (tmp_path / "run" / "model" / "replay.jsonl").exists()

    calls.clear()
    assert run(config, tmp_path / "run").finished  # nothing to do: only what evaluation asks is read
    assert calls["toy_sentiment qka"] == calls["corpus toy"] == calls["replay toy"] == 1


def test_the_order_of_a_run(tmp_path: Path) -> None:
    reported: list[str] = []
    settings = ["training.steps=2", "training.batch_size=4", "evaluation.items=4", "evaluation.bootstrap=20"]
    config = load_config(copy(QUICKSTART, tmp_path), settings)
    run(config, tmp_path / "run", progress=lambda what, *_: reported.append(what))
    order = list(dict.fromkeys(what for what in reported))
    steps = ["checking model and machine", "preparing the data", "evaluating base", "training", "evaluating run"]
    assert [what for what in order if what in steps] == steps


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
