from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from made_up_runs import LABELS, REPLAY, predictions
from sklearn.metrics import confusion_matrix

from instructalign.evaluation.run_comparison import Baselines
from instructalign.evaluation.score_table import ScoreTable
from instructalign.report.number_format import p_text
from instructalign.report.report_tables import (
    confusion_table,
    continual_table,
    gains_table,
    heat_map,
    main_table,
    prompts_table,
    seeds_table,
    significance_table,
)
from instructalign.types import Score

OPEN = "token_probability"


def group_score(
    run: str, group: str, metric: str, number: float, low: float | None = None, high: float | None = None
) -> Score:
    return Score(run, "mood", "", group, metric, number, low, high, 100)


def test_main_table_as_data() -> None:
    rows = [
        group_score("base", "L1", "f1_weighted", 0.9, 0.85, 0.95),
        group_score("base", "L1", "accuracy", 0.5),
        group_score("new", "L1", "f1_weighted", 0.8, 0.7, 0.9),
        group_score("new", "L1", "forgetting", 0.1, -0.02, 0.22),
        replace(group_score("new", "L1", "f1_weighted", 0.1), language="eng"),
    ]
    table = main_table(rows, {("new", "mood", "forgetting")})
    assert [(c.title, c.note) for c in table.columns] == [("Run", ""), ("L1", "known"), ("Forgetting", "L1 lost")]
    assert [[(c.text, c.note) for c in row] for row in table.rows] == [
        [("base", ""), ("90.0", "85.0–95.0"), ("–", "")],
        [("new", ""), ("80.0", "70.0–90.0"), ("10.0", "−2.0 to 22.0")],
    ]
    assert table.rows[1][2].best
    assert not table.rows[0][1].best


def test_the_headline_is_accuracy_where_there_is_no_f1() -> None:
    table = main_table([group_score("base", "L2", "accuracy", 0.5)])
    assert table.rows[0][1].text == "50.0"
    assert table.caption.startswith("Accuracy × 100")


def score(
    run: str, metric: str, value: float, low: float, high: float, task: str = "past", language: str = ""
) -> Score:
    return Score(run, task, language, "L1", metric, value, low, high, 50)


ROWS = [
    score("base", OPEN, 0.00212, 0.0012, 0.0031),
    score("new", OPEN, 0.00245, 0.0016, 0.0033),
    score("new", "gain", 0.00033, 0.00021, 0.00045),
    score("base", "f1_weighted", 0.5, 0.4, 0.6, "mood"),
    score("new", "f1_weighted", 0.503, 0.4, 0.6, "mood"),
    score("new", "gain", 0.003, -0.02, 0.03, "mood"),
]
"""Of two tasks: one of probabilities below a point, one of F1."""


def test_columns_of_small_numbers_have_two_digits_and_others_one_decimal() -> None:
    cells = [[(cell.text, cell.note) for cell in row] for row in main_table(ROWS).rows]
    assert cells == [
        [("base", ""), ("past", ""), ("0.21", "0.12–0.31")],
        [("new", ""), ("past", ""), ("0.24", "0.16–0.33")],
        [("base", ""), ("mood", ""), ("50.0", "40.0–60.0")],
        [("new", ""), ("mood", ""), ("50.3", "40.0–60.0")],
    ]
    gains = gains_table(ROWS)
    assert gains is not None
    assert [(row[2].text, row[2].note) for row in gains.rows] == [
        ("+0.033", "0.021–0.045"),
        ("+0.3", "−2.0 to 3.0"),  # the change is small, what is known of it is not
    ]


def test_a_column_with_one_large_number_has_one_decimal() -> None:
    rows = [*ROWS[:2], score("other", OPEN, 0.4, 0.3, 0.5)]
    assert [row[1].text for row in main_table(rows).rows] == ["0.2", "0.2", "40.0"]


def test_the_caption_says_which_task_has_which_metric() -> None:
    start = "Probability of the answers' tokens (past) / Weighted F1 (mood) × 100, mean over"
    assert main_table(ROWS).caption.startswith(start)
    assert main_table(ROWS[3:]).caption.startswith("Weighted F1 × 100")


def test_tables_of_small_numbers_by_language_seed_and_prompt() -> None:
    rows = ScoreTable(
        [
            score("base", OPEN, 0.00212, 0.0012, 0.0031, language="eng"),
            score("new", OPEN, 0.00245, 0.0016, 0.0033, language="eng"),
            score("new", "gain", 0.00033, 0.00021, 0.00045, language="eng"),
            score("new", "gain_p", 0.01, 0, 0, language="eng"),
            score("new", "gain_p_holm", 0.02, 0, 0, language="eng"),
        ]
    )
    heat, tests = heat_map(rows, "past", str), significance_table(rows, "past", ["new"], str)
    assert heat is not None
    assert (heat.rows[0][2].text, heat.rows[0][2].note) == ("0.24", "+0.03*")
    assert tests is not None
    assert tests.rows[0][1].note == "0.021–0.045\np 0.010\nHolm 0.020"
    seeds = seeds_table([score("new, 2 seeds", OPEN, 0.00245, 0.0016, 0.0033)], ROWS[:1], (), 2)
    assert seeds is not None
    assert [row[1].text for row in seeds.rows] == ["0.21", "0.24"]
    prompts = [score(run, OPEN + "_over_prompts", 0.002, 0.0012, 0.0031) for run in ("base", "new")]
    over = prompts_table(ScoreTable([*ROWS[:2], *prompts]), "past", ["base", "new"], [])
    assert over is not None
    assert over.rows[0][1].note == "0.12–0.31"


def test_without_scores_the_caption_says_so() -> None:
    assert main_table([]).rows == ()
    assert main_table([]).caption


def row_of(metric: str, value: float, language: str = "", run: str = "new", **more: Any) -> Score:
    return Score(run, "mood", language, "L2", metric, value, n=9, **more)


def test_p_values_and_stars_are_shown() -> None:
    assert [p_text(row_of("gain_p", value)) for value in (0.001, 0.0494, 0.5)] == ["p 0.001", "p 0.049", "p 0.50"]
    rows = [
        row_of("f1_weighted", 0.5, "jav", "base"),
        row_of("f1_weighted", 0.7, "jav"),
        row_of("f1_weighted", 0.5, "sun", "base"),
        row_of("f1_weighted", 0.6, "sun"),
        row_of("gain_p_holm", 0.03, "jav"),
        row_of("gain_p_holm", 0.06, "sun"),
        row_of("gain", 0.15, low=0.1, high=0.2),
        row_of("gain_p_holm", 0.04),
    ]
    heat = heat_map(ScoreTable(rows), "mood", str)
    assert heat is not None
    assert [row[2].note for row in heat.rows] == ["+20.0*", "+10.0"]
    assert "p < 0.05" in heat.caption
    gains = gains_table(rows)
    assert gains is not None
    assert gains.rows[0][1].note == "10.0–20.0\np 0.040"


def test_continual_terms_by_hand() -> None:
    def scored(run: str, group: str, metric: str, value: float) -> Score:
        return Score(run, "mood", "", group, metric, value)

    rows = [
        scored("base", "L1", "f1_weighted", 0.9),
        scored("base", "L2", "f1_weighted", 0.4),
        scored("new", "L1", "f1_weighted", 0.8),
        scored("new", "L2", "f1_weighted", 0.7),
        scored("new", "L2", "gain", 0.3),
    ]
    random = [scored("random", group, "f1_weighted", 0.33) for group in ("L1", "L2")]
    table = continual_table(ScoreTable(rows), Baselines(random), [("new", "base")])
    assert table is not None
    # ACC (0.8 + 0.7) / 2; BWT 0.8 − 0.9; FWT 0.4 − 0.33; forgetting 0.9 − 0.8.
    assert [cell.text for cell in table.rows[0]] == ["new", "75.0", "−10.0", "+7.0", "10.0"]
    assert continual_table(ScoreTable(rows), Baselines(), [("new", "base")]) is None


def test_confusion_equals_scikit_learn() -> None:
    mood = predictions("mood", REPLAY, 1)
    table = confusion_table("all", mood)
    assert table is not None
    expected = confusion_matrix(
        [p.gold for p in mood], [p.predicted for p in mood], labels=LABELS, normalize="true"
    )
    shown = [[int(cell.text) for cell in row[1:]] for row in table.rows]
    assert np.abs(np.array(shown) - 100 * expected).max() <= 0.5
    assert [row[0].text for row in table.rows] == list(LABELS)
    assert confusion_table("none", []) is None
