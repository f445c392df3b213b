from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict

import pytest

from instructalign.errors import DataError
from instructalign.evaluation.score_table import SCORE_COLUMNS, ScoreTable, signature_key, signature_text
from instructalign.types import Score

ROWS = (
    Score("base", "senti", "", "L2", "f1", 0.5, 0.4, 0.6, 40, {"model": "a", "languages": ["ace", "sun"]}),
    Score("base", "senti", "ace", "L2", "f1", 0.25),
    Score("new", "senti", "", "L2", "f1", 0.1 + 0.2, 0.25, None),
    Score("new", "topic", "", "L1", "gain", -0.125),
    Score("base", "senti", "", "L2", "f1", 0.75),  # the same place as the first
)


def test_look_up_is_exact_and_the_first_of_equal_keys_counts():
    table = ScoreTable(ROWS)
    assert table.get("base", "senti", "f1", "L2") is ROWS[0]
    assert table.get("base", "senti", "f1", "L2", "ace") is ROWS[1]
    assert table.get("base", "senti", "f1") is table.get("base", "senti", "f1", "L1") is None
    assert ScoreTable().get("base", "senti", "f1") is None


def test_selection_keeps_order_and_the_numbers_bit_for_bit():
    table = ScoreTable(ROWS)
    assert tuple(table.select(run="base", language="")) == (ROWS[0], ROWS[4])
    assert tuple(table.select(task=["senti", "topic"], group=("L1",))) == (ROWS[3],)
    assert tuple(table.select()) == ROWS
    assert table.select(run="new")[0] is ROWS[2]
    assert list(ScoreTable().select(run="new")) == []
    assert table.unique("run") == ["base", "new"]
    assert len(table + ROWS[:1]) == 6
    with pytest.raises(KeyError):
        table.select(colour="red")


def test_the_frame_has_a_row_a_score():
    frame = ScoreTable(ROWS).frame
    assert tuple(frame.columns) == SCORE_COLUMNS == tuple(ScoreTable().frame.columns)
    assert frame.groupby("run")["value"].sum()["base"] == 1.5
    assert frame["high"].isna().tolist() == [False, True, True, True, True]


def test_json_rows_are_read_as_they_were_written():
    rows = json.loads(json.dumps([asdict(score) for score in ScoreTable(ROWS)]))
    assert rows[0]["signature"] == {"model": "a", "languages": ["ace", "sun"]}
    assert tuple(ScoreTable.from_rows([{**row, "comment": "more"} for row in rows])) == ROWS


def test_an_old_signature_is_kept_as_text_and_what_is_no_score_is_named():
    old = {"run": "r", "task": "t", "language": "", "group": "", "metric": "m", "value": 1, "signature": "a:b|c:d"}
    assert ScoreTable.from_rows([old])[0].signature == {"text": "a:b|c:d"}
    for wrong in ({"run": "r"}, "r"):
        with pytest.raises(DataError, match=r"^scores\.json: score 1: .*value missing"):
            ScoreTable.from_rows([old, wrong], "scores.json: score")


def test_signatures_as_text_and_as_keys():
    signature = {"task": "t", "n": [3, 4], "base": {"model": "a"}}
    assert signature_text(signature) == "task:t|n:3+4|base:model:a"
    assert signature_key({"b": (1, 2), "a": 1}) == signature_key({"a": 1, "b": [1, 2]})


def test_pandas_is_not_imported_before_it_is_needed():
    code = "import sys, instructalign.evaluation.score_table as t; t.ScoreTable(); print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
