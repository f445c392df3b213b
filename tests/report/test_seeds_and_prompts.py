"""The uncertainty of the report's numbers: over seeds, prompts and items, with tests."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from made_up_runs import BASE, GROUPS, LABELS, PLAIN, PROMPTS, REPLAY, predictions, write_run
from sacrebleu.metrics.chrf import CHRF
from sklearn.metrics import f1_score

from instructalign.evaluation.predictions import Translated, read_records
from instructalign.evaluation.run_comparison import group_seeds
from instructalign.report import Report, write_report
from instructalign.report.run_results import read_runs
from instructalign.types import Prediction, Score

SKILLS: Mapping[str, Mapping[str, float]] = {"replay": REPLAY, "no-replay": PLAIN}


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.yaml"
    path.write_text(
        yaml.safe_dump({**yaml.safe_load(path.read_text("utf-8")), **changes}, allow_unicode=True), "utf-8"
    )


@pytest.fixture(scope="module")
def seed_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two configurations with three seeds each; to be read only."""
    place = tmp_path_factory.mktemp("seeds")
    folders = []
    for number, (name, skill) in enumerate(SKILLS.items()):
        for seed in (1, 2, 3):
            own = {group: value + 0.04 * (seed - 2) for group, value in skill.items()}
            folder = write_run(place, f"{name}-s{seed}", own, seed=10 * number + seed, run_seed=seed)
            change_config(folder, replay={"size": 1000 * (1 - number)}, training={"workers": seed})
            folders.append(folder)
    return folders


@pytest.fixture(scope="module")
def seed_report(seed_runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Report:
    return write_report(seed_runs, tmp_path_factory.mktemp("report"))


def one(report: Report, **wanted: str) -> Score:
    found = [row for row in report.rows if all(getattr(row, key) == value for key, value in wanted.items())]
    assert len(found) == 1, wanted
    return found[0]


@cache
def answers(name: str, seed: int) -> list[Prediction]:
    number = list(SKILLS).index(name) if name in SKILLS else 0
    skill = BASE if name == "base" else {g: v + 0.04 * (seed - 2) for g, v in SKILLS[name].items()}
    return predictions("mood", skill, 100 if name == "base" else 10 * number + seed)


def weighted_f1(name: str, seed: int, code: str, prompt: str) -> float:
    some = [p for p in answers(name, seed) if (p.language, p.prompt) == (code, prompt)]
    truth, answer = [p.gold for p in some], [p.predicted for p in some]
    return float(f1_score(truth, answer, average="weighted", labels=LABELS, zero_division=0))


def by_prompt(name: str, seed: int, group: str) -> np.ndarray:
    """Weighted F1 of a group under each prompt, by scikit-learn."""
    scores = [[weighted_f1(name, seed, code, prompt) for code in GROUPS[group]] for prompt in PROMPTS]
    return np.array(scores).mean(1)


# -- seeds -------------------------------------------------------------------------------------------------


def test_runs_that_differ_in_the_seed_alone_are_one_group(seed_runs: list[Path]) -> None:
    groups = group_seeds(read_runs(seed_runs))
    assert [(group.name, group.seeds) for group in groups] == [
        ("replay, 3 seeds", (1, 2, 3)),
        ("no-replay, 3 seeds", (1, 2, 3)),
    ]


def test_other_configurations_and_repeated_seeds_are_no_group(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, name, run_seed=seed, seed=seed) for name, seed in (("a1", 1), ("a2", 2), ("b1", 1))
    ]
    change_config(folders[1], training={"steps": 5})
    assert group_seeds(read_runs(folders)) == []
    assert "over seeds and items" not in write_report(folders).markdown.read_text("utf-8")


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("plus-1", "plus-2"), "plus, 2 seeds"),
        (("r1000-s1", "r1000-s2"), "r1000, 2 seeds"),
        (("mine seed=41", "mine seed=42"), "mine, 2 seeds"),
        (("1", "2"), "1, 2 seeds"),
        (("same", "same"), "same, 2 seeds"),
    ],
)
def test_groups_are_named_by_what_their_runs_have_in_common(
    tmp_path: Path, names: tuple[str, str], expected: str
) -> None:
    folders = [write_run(tmp_path / str(i), name, run_seed=i, seed=i) for i, name in enumerate(names)]
    config = (folders[0] / "config.yaml").read_text("utf-8").replace("seed: 0", "seed: 1")
    (folders[1] / "config.yaml").write_text(config, "utf-8")
    assert [group.name for group in group_seeds(read_runs(folders))] == [expected]


@pytest.mark.parametrize("group", ["L1", "L2", "L3"])
def test_numbers_over_seeds_equal_scikit_learns(seed_report: Report, group: str) -> None:
    scores = np.array([by_prompt("replay", seed, group).mean() for seed in (1, 2, 3)])
    before = by_prompt("base", 0, group).mean()
    run = "replay, 3 seeds"
    row = one(seed_report, run=run, metric="f1_weighted", group=group, language="")
    assert row.value == pytest.approx(scores.mean())
    assert one(
        seed_report, run=run, metric="f1_weighted_seed_sd", group=group, language=""
    ).value == pytest.approx(scores.std(ddof=1))
    gain = one(seed_report, run=run, metric="gain", group=group, language="")
    assert gain.value == pytest.approx(scores.mean() - before)
    assert row.low is not None and row.high is not None  # noqa: PT018
    assert row.low < row.value < row.high
    # Over seeds and items, an interval is wider than over the items of one seed.
    single = one(seed_report, run="replay-s2", metric="f1_weighted", group=group, language="")
    assert single.low is not None and single.high is not None  # noqa: PT018
    assert row.high - row.low > single.high - single.low
    assert (row.signature["seeds"], row.signature["interval"]) == ([1, 2, 3], "seeds and items")


def test_the_result_speaks_of_seeds_together(seed_report: Report) -> None:
    assert seed_report.sentences[0].startswith("replay, 3 seeds learned the new languages")
    text = seed_report.markdown.read_text("utf-8")
    head = text.split("### Each run by itself")[0]
    assert "over seeds and items" in head
    assert "| no-replay, 3 seeds |" in head
    assert "replay-s1" not in head


def test_bold_over_seeds_needs_an_interval_over_seeds(seed_report: Report) -> None:
    head, rest = seed_report.markdown.read_text("utf-8").split("### Each run by itself")
    rows = {line.split(" |")[0][2:]: line for line in head.splitlines() if line.startswith("| ")}
    assert "**" in rows["replay, 3 seeds"].split("|")[-2]  # forgetting: far apart
    assert "**" not in rows["replay, 3 seeds"].split("|")[2]  # L1: level with the base
    # The best of six single seeds is not set in bold beside them.
    assert "**" not in rest.split("##")[0]


def test_seeds_that_were_asked_something_else_are_not_put_together(seed_runs: list[Path], tmp_path: Path) -> None:
    folders = [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in seed_runs[:2]]
    for folder in folders[1:]:
        for part in ("base", "adapted"):
            path = folder / "evaluation" / part / "predictions" / "mood.eng.jsonl"
            lines = path.read_text("utf-8").splitlines()
            path.write_text("\n".join(line for line in lines if '"item": "0"' not in line) + "\n", "utf-8")
    text = write_report(folders).markdown.read_text("utf-8")
    assert "replay, 2 seeds were not averaged: mood in eng: " in text


# -- prompts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["L1", "L2", "L3"])
def test_spread_over_prompts_equals_scikit_learns(seed_report: Report, group: str) -> None:
    scores, before = by_prompt("replay", 2, group), by_prompt("base", 0, group)
    told = {"run": "replay-s2", "group": group, "language": ""}
    assert one(seed_report, metric="f1_weighted_over_prompts", **told).value == pytest.approx(scores.mean())
    assert one(seed_report, metric="f1_weighted_prompt_sd", **told).value == pytest.approx(scores.std(ddof=1))
    assert one(seed_report, metric="gain_over_prompts", **told).value == pytest.approx((scores - before).mean())
    assert one(seed_report, metric="gain_prompt_sd", **told).value == pytest.approx((scores - before).std(ddof=1))


# -- tests -------------------------------------------------------------------------------------------------


def test_gains_have_p_values_by_language_and_group(demo_report: Report) -> None:
    rows = [row for row in demo_report.rows if row.run == "replay" and row.metric.startswith("gain_p_holm")]
    assert {row.language or row.group for row in rows} == {
        "L1",
        "L2",
        "L3",
        *(c for some in GROUPS.values() for c in some),
    }
    known = {row.language or row.group: row.value for row in rows}
    assert known["L2"] < 0.05 < known["L1"]
    assert "8 tests (Holm)" in demo_report.markdown.read_text("utf-8")


# -- translations ------------------------------------------------------------------------------------------


def test_translations_gain_with_an_interval_and_a_test(translated: tuple[Path, Report]) -> None:
    folder, report = translated
    told = {"run": "replay", "task": "lines/from-eng", "language": "jav"}
    gain = one(report, metric="gain", **told)

    def chrf(part: str) -> float:
        records = read_records(folder / "evaluation" / part / "translations" / "lines.eng-jav.jsonl", Translated)
        texts, references = [r.translation for r in records], [r.reference for r in records]
        return float(CHRF(word_order=2).corpus_score(texts, [references]).score)

    assert 100 * gain.value == pytest.approx(chrf("adapted") - chrf("base"))
    assert gain.low is not None
    assert 0 < gain.low < gain.value
    assert one(report, metric="gain_p", **told).value < 0.05
    assert (gain.signature["base"], gain.signature["model"]) == ({"model": "0a1b2c3d"}, "adapted1")


def test_correlations_count_classification_alone(translated: tuple[Path, Report], tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path, f"r{i}", REPLAY if i else PLAIN, seed=i, translate=0.3 + 0.1 * i) for i in range(3)
    ]
    for i, folder in enumerate(folders):
        change_config(folder, training={"steps": i})
    rows = json.loads(write_report(folders).json.read_text("utf-8"))["rows"]
    pearson = [row for row in rows if row["metric"] == "pearson"]
    assert [(row["task"], row["n"]) for row in pearson] == [("mood", 3)]
