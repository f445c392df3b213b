from __future__ import annotations

import json
import math
from pathlib import Path

from instructalign.evaluation import evaluate
from instructalign.evaluation.predictions import read_predictions


def read_all(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((out / "predictions").iterdir())}


def test_writes_predictions_and_scores(model_folder, make_config, tmp_path):
    config = make_config()
    scores = evaluate(model_folder("llama"), config, tmp_path / "out", run="base")
    assert sorted(read_all(tmp_path / "out")) == [
        "manifest.json",
        "nusax_senti.ace.jsonl",
        "nusax_senti.ind.jsonl",
        "nusax_senti.mad.jsonl",
    ]
    predictions = read_predictions(tmp_path / "out" / "predictions" / "nusax_senti.ace.jsonl")
    assert len(predictions) == 2 * 12
    right = {
        prompt: sum(p.predicted == p.gold for p in predictions if p.prompt == prompt) / 12
        for prompt in ("en-1", "id-2")
    }
    row = next(s for s in scores if (s.run, s.language, s.metric) == ("base", "ace", "accuracy"))
    assert math.isclose(row.value, sum(right.values()) / 2)
    assert row.group == "L2" and row.n == 12 and row.low <= row.value <= row.high
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["scores"] == [
        {name: getattr(score, name) for name in score.__slots__} for score in scores
    ]
