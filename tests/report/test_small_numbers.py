"""How the report shows numbers below a point, and tasks of different metrics beside each other."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_up_runs import write_run

from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import ScoreTable
from instructalign.report import Report, evidence, main_table, outcome, write_report
from instructalign.report.number_format import decimals
from instructalign.report.plots import LanguageChange, dumbbells
from instructalign.report.run_results import RunResults
from instructalign.report.tables import gains_table, heat_map
from instructalign.report.words import verdicts
from instructalign.types import Score

OPEN = "token_probability"


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


@pytest.mark.parametrize(
    ("points", "expected"),
    [([50.0, 0.01], 1), ([1.0], 1), ([0.99], 2), ([0.212, 0.0031], 2), ([-0.033], 3), ([0.0], 1), ([], 1)],
)
def test_decimals(points: list[float], expected: int) -> None:
    assert decimals(points) == expected


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


def test_sentences_plots_and_other_tables_follow() -> None:
    told = dict(zip(("past", "mood"), (text for _, text in verdicts(ROWS)), strict=True))
    assert "L1\u00a00.21\u00a0→\u00a00.24" in told["past"]
    assert "L1\u00a050.0\u00a0→\u00a050.3" in told["mood"]
    figure = dumbbells("new", [LanguageChange("English", "L1", 0.212, 0.245)], (0, 1))
    assert "English 0.21 to 0.24" in figure.description
    assert ">+0.03<" in figure.svg
    rows = [
        score("base", OPEN, 0.00212, 0.0012, 0.0031, language="eng"),
        score("new", OPEN, 0.00245, 0.0016, 0.0033, language="eng"),
        score("new", "gain", 0.00033, 0.00021, 0.00045, language="eng"),
        score("new", "gain_p", 0.01, 0, 0, language="eng"),
        score("new", "gain_p_holm", 0.02, 0, 0, language="eng"),
    ]
    heat, tests = heat_map(rows, "past", str), evidence.tests_table(rows, "past", ["new"], str)
    assert heat is not None
    assert (heat.rows[0][2].text, heat.rows[0][2].note) == ("0.24", "+0.03*")
    assert tests is not None
    assert tests.rows[0][1].note.startswith("0.021–0.045\n")
    seeds = evidence.seeds_table([score("new, 2 seeds", OPEN, 0.00245, 0.0016, 0.0033)], ROWS[:1], (), 2)
    assert seeds is not None
    assert [row[1].text for row in seeds.rows] == ["0.21", "0.24"]
    prompts = [score(run, OPEN + "_over_prompts", 0.002, 0.0012, 0.0031) for run in ("base", "new")]
    over = evidence.prompts_table([*ROWS[:2], *prompts], "past", ["base", "new"], [])
    assert over is not None
    assert over.rows[0][1].note == "0.12–0.31"


def test_without_scores_the_caption_says_so() -> None:
    assert main_table([]).caption == "Nothing was scored yet."


def test_panels_share_an_axis_by_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(name: str, mood: float, past: float) -> ModelResults:
        both = (("mood", "f1_weighted", mood), ("past", OPEN, past))
        return ModelResults(name, ScoreTable(Score(name, task, "eng", "L1", m, value) for task, m, value in both))

    base = model("base", 0.9, 0.001)
    models = [model("a", 0.4, 0.002), model("b", 0.8, 0.004)]
    runs = [RunResults(each.name, {}, base, each, Path(each.name), {}, "", ()) for each in models]
    rows = [row for each in (base, *models) for row in each.scores]
    found: dict[str, tuple[float, float]] = {}

    def noted(title: str, changes: list[LanguageChange], limits: tuple[float, float]) -> object:
        found[title] = limits
        return dumbbells(title, changes, limits)

    monkeypatch.setattr(outcome, "dumbbells", noted)
    outcome.by_language(outcome.Facts(runs, rows, frozenset(), str, lambda *_: ""))
    assert found["a, mood"] == found["b, mood"]
    assert found["a, past"] == found["b, past"]
    assert found["a, mood"][0] > 30
    assert found["a, past"][1] < 1


def test_items_are_folded_and_both_confusion_matrices_open(tmp_path: Path) -> None:
    page = write_report([write_run(tmp_path, "one")]).html.read_text("utf-8")

    def part(anchor: str) -> str:
        return page[page.index(f'id="{anchor}"') :].split("</section>")[0]

    assert part("confusion").count("<details open") == part("confusion").count("<details") == 2
    assert "<details" in part("items")
    assert "<details open" not in part("items")


def test_more_than_two_confusion_matrices_are_folded(demo_report: Report) -> None:
    page = demo_report.html.read_text("utf-8")
    section = page[page.index('id="confusion"') :].split("</section>")[0]
    assert section.count("<details") == 4
    assert "<details open" not in section
