from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_up_runs import UNSAFE, write_run

from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.score_table import ScoreTable
from instructalign.files import write_json, write_text
from instructalign.report import Report, sections_results, write_report
from instructalign.report.plots import LanguageChange, dumbbells
from instructalign.report.report_facts import ReportFacts
from instructalign.report.run_results import RunResults, read_runs
from instructalign.report.sections_training import costs
from instructalign.types import Score


def test_panels_share_an_axis_by_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    def model(name: str, mood: float, past: float) -> ModelResults:
        both = (("mood", "f1_weighted", mood), ("past", "token_probability", past))
        return ModelResults(name, ScoreTable(Score(name, task, "eng", "L1", m, value) for task, m, value in both))

    base = model("base", 0.9, 0.001)
    models = [model("a", 0.4, 0.002), model("b", 0.8, 0.004)]
    runs = [RunResults(each.name, {}, base, each, Path(each.name), {}, "", ()) for each in models]
    rows = [row for each in (base, *models) for row in each.scores]
    found: dict[str, tuple[float, float]] = {}

    def noted(
        title: str, changes: list[LanguageChange], limits: tuple[float, float], digits: int | None
    ) -> object:
        found[title] = limits
        return dumbbells(title, changes, limits, digits)

    monkeypatch.setattr(sections_results, "dumbbells", noted)
    sections_results.by_language(ReportFacts(runs, ScoreTable(rows)))
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


def test_prompts_have_a_section_where_there_are_several(demo_report: Report, tmp_path: Path) -> None:
    assert 'id="prompts"' in demo_report.html.read_text("utf-8")
    folder = write_run(tmp_path, "single")
    for path in folder.rglob("predictions/*.jsonl"):
        lines = [line for line in path.read_text("utf-8").splitlines() if '"en-2"' not in line]
        path.write_text("\n".join(lines) + "\n", "utf-8")
    assert 'id="prompts"' not in write_report([folder]).html.read_text("utf-8")


def test_what_is_gained_is_drawn_against_what_is_forgotten(demo_report: Report, tmp_path: Path) -> None:
    page = demo_report.html.read_text("utf-8")
    assert 'id="trade-off"' in page
    assert "Pareto front: " in page
    alone = write_report([write_run(tmp_path, "alone")]).html.read_text("utf-8")
    assert 'id="trade-off"' not in alone


def test_translations_have_their_faults_counted_and_their_samples_from_every_direction(
    translated: tuple[Path, Report],
) -> None:
    text = translated[1].markdown.read_text("utf-8")
    section = text.split("## Translations")[1].split("\n## ")[0]
    assert "lines from English: percent of the translations" in section
    assert "| Language | Wrong script | Copied | Empty | Unfinished |" in section
    # One sentence in ten is copied, but from another script.
    row = next(line for line in section.split("from English: percent")[1].splitlines() if "بهسا" in line)
    assert row.split("|")[3].startswith(" 10.0 ")
    directions = [line for line in section.splitlines() if " → " in line]
    assert len({line.split("(")[-1].split(")")[0] for line in directions}) == 6
    page = translated[1].html.read_text("utf-8")
    assert UNSAFE not in page
    assert "&lt;script&gt;document.title" in page


def test_silent_metrics_are_named_with_the_reason(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "replay", translate=0.3)
    for part in ("base", "adapted"):
        old = folder / "evaluation" / part
        for path in (
            *old.glob("translations/*eng-jav*"),
            old / "translations" / "manifest.json",
            old / "scores.json",
        ):
            path.write_text(path.read_text("utf-8").replace('"target": "jav"', '"target": "tha"'), "utf-8")
    text = write_report([folder]).markdown.read_text("utf-8")
    assert "BLEU is left out for Thai: " in text


def test_translations_without_a_manifest_are_shown(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "replay", translate=0.3)
    (folder / "evaluation" / "adapted" / "translations" / "manifest.json").unlink()
    assert "## Translations" in write_report([folder]).markdown.read_text("utf-8")


def watched(folder: Path, *, reason: str = "") -> None:
    """Adds to a run's log what `training.kl` and `training.probe` measure."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        if line["step"] % 200 == 0:
            drop = line["step"] / 2000
            line |= {"kl_to_base": drop, "probe": 0.6, "probe/L1": 0.9 - drop, "probe/L2": 0.4 + drop}
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    record["early_stopping"] = {"reason": reason, "stopped_at": 600 if reason else None}
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")


def test_gauges_are_plotted_with_their_numbers_in_words(run_folder: Path) -> None:
    watched(run_folder, reason="kl_to_base is 0.3 after step 600, past 0.25")
    page = write_report([run_folder]).html.read_text(encoding="utf-8")
    assert "KL divergence of the base" in page
    assert "KL to the base, replay" in page
    assert "KL from 0.10 to 0.30 at step 600" in page
    assert "L1 from 80.00 to 60.00 at step 600; L2 from 50.00 to 70.00 at step 600" in page
    assert "training was stopped early: kl_to_base is 0.3 after step 600, past 0.25." in page


def test_a_run_that_was_not_watched_has_no_gauges(run_folder: Path) -> None:
    page = write_report([run_folder]).html.read_text(encoding="utf-8")
    assert "KL divergence of the base" not in page
    assert "Zero-shot accuracy" not in page
    assert "stopped early" not in page


def facts_of(folder: Path, taken: Any) -> Any:
    write_json(folder / "run.json", {"run": "r", "timings": {"training_seconds": 50.0}, "strategies": taken})
    write_text(folder / "config.yaml", "seed: 1\n")
    return ReportFacts(read_runs([folder]), ScoreTable())


def test_time_memory_and_what_was_done(tmp_path: Path) -> None:
    taken = {
        "replay": {"seconds": 0.0},
        "ewc": {"seconds": 5.0, "memory": 2_500_000, "disk": 1_200},
        "agem": {"seconds": 1.26, "projected": 1234},
    }
    section = costs(facts_of(tmp_path, taken))
    assert section is not None
    [table] = section.blocks
    assert [[cell.text for cell in row] for row in table.rows] == [  # type: ignore[union-attr]
        ["r", "ewc", "5.0 s", "2.5 MB", "1.2 kB", ""],
        ["r", "agem", "1.3 s", "–", "–", "1,234 gradients projected"],
    ]
    assert table.rows[0][2].note == "10 %"  # type: ignore[union-attr]


@pytest.mark.parametrize("taken", [None, {}, {"replay": {"seconds": 0.0}}, {"none": {}}, "nonsense"])
def test_nothing_is_said_where_nothing_was_taken(taken: Any, tmp_path: Path) -> None:
    assert costs(facts_of(tmp_path, taken)) is None


def test_what_was_dropped_is_told(demo_report: Report) -> None:
    text = demo_report.markdown.read_text(encoding="utf-8")
    assert "| corpus · dropped · duplicate | 6 | 6 | 6 |" in text
    page = demo_report.html.read_text(encoding="utf-8")
    assert "ꦲꦏ꧀ꦱꦫ &lt;b&gt;" in page
    assert "| encoding · truncated prompts | 12 | 12 | 12 |" in text
    assert "mood was not evaluated in Banjar: nusax/sentiment/banjarese/test.csv does not exist." in text
    assert "| evaluation · prompts truncated to the model's context (adapted) | 16 | 16 | 16 |" in text


def test_planned_and_realised_shares(demo_report: Report) -> None:
    text = demo_report.markdown.read_text(encoding="utf-8")
    # Of 6 400 rows 3 200 are replay with 70 tokens each; 1 066 each of three objectives have 40, 60, 35.
    tokens = 100 * 3200 * 70 / (3200 * 70 + 1066 * (40 + 60 + 35))
    counted = f"{tokens:.1f} (30.0)"
    assert f"| replay | 50.0 % of rows | 50.0 (50.0) | {counted} | {counted} | 3.2 |" in text
    assert "| no-replay | 0.0 % of rows | 0.0 (0.0) | 0.0 (0.0) | 0.0 (0.0) | 0.0 |" in text
    assert "Planned for replay: 50.0 % of the rows, 30.0 % of the tokens, 30.0 % of the loss tokens." in text


def test_the_confidence_of_translations_is_reported(tmp_path: Path) -> None:
    folder = write_run(tmp_path, "one")
    assert "calibration error" not in write_report([folder]).markdown.read_text("utf-8").lower()
    record = json.loads((folder / "run.json").read_text("utf-8"))
    found = {"pairs": 40, "good": 0.25, "error": 0.0625, "likelihoods": [0.5], "shares": [0.25], "model": "x"}
    write_json(folder / "run.json", {**record, "translation_confidence": {"eng-jav": found}})
    text = write_report([folder]).markdown.read_text("utf-8")
    [row] = [line for line in text.splitlines() if "English → Javanese" in line]
    assert [cell.strip() for cell in row.strip("|").split("|")][2:] == ["40", "25.0", "6.2"]
