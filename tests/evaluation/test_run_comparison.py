"""Which run is better, over seeds and alone; grouping by seed; baselines: by hand and by SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from samples import right_or_wrong
from scipy import stats

from instructalign.errors import DataError
from instructalign.evaluation.bootstrap import Bootstrap, percentile_interval
from instructalign.evaluation.model_results import ModelResults
from instructalign.evaluation.run_comparison import (
    Baselines,
    TrainedRun,
    compare_runs,
    difference,
    group_seeds,
    mean_over_seeds,
    over_seeds,
)
from instructalign.evaluation.score_table import ScoreTable
from instructalign.types import Prediction, Score

GROUPS = {"L1": ["ind"], "L2": ["ace", "sun"]}


def answers(seed, size=120, **skill):
    """Predictions that are right with a skill by language; items have a difficulty that all models share."""
    found = []
    for code, share in skill.items():
        hard = np.random.default_rng([1, *code.encode()]).random(size)
        noise = np.random.default_rng([seed, *code.encode()]).normal(0, 0.05, size)
        for item, right in enumerate(hard + noise < share):
            predicted = "ab"[int(not right)]
            prediction = Prediction("mood", code, "p", str(item), "a", predicted, {"a": -1.0, "b": -1.0}, {})
            found.append(prediction)
    return tuple(found)


def model(name, seed, **skill):
    predictions = answers(seed, **skill)
    rows = [
        Score(
            name,
            "mood",
            code,
            group,
            "accuracy",
            np.mean([p.predicted == "a" for p in predictions if p.language == code]),
        )
        for group, codes in GROUPS.items()
        for code in codes
        if code in skill
    ]
    return ModelResults(name, ScoreTable(rows), predictions={"mood": predictions})


def by_language(results):
    return results.samples()["mood"]


def run(name, results, base=None, **config):
    return TrainedRun(name, config, base, results)


def test_a_difference_is_paired_and_over_the_languages_that_both_have():
    one, other = model("one", 1, ind=0.9, ace=0.8, sun=0.7), model("other", 2, ind=0.9, ace=0.5)
    bootstrap = Bootstrap(500, 0)
    found = difference([by_language(one)], [by_language(other)], ["ace", "sun"], bootstrap)
    both = [bootstrap.scores([by_language(each)["ace"]]) for each in (one, other)]
    assert found.value == pytest.approx(both[0][0] - both[1][0])
    assert (found.low, found.high) == percentile_interval(both[0] - both[1])
    assert difference([by_language(one)], [by_language(other)], ["sun"], bootstrap) is None
    shorter = {"ace": right_or_wrong("ace", [1, 0])}
    with pytest.raises(DataError):
        difference([by_language(one)], [shorter], ["ace"], bootstrap)


def test_the_best_is_better_than_every_other_by_its_interval():
    base = model("base", 0, ind=0.9, ace=0.3, sun=0.3)
    runs = [
        run("good", model("good", 1, ind=0.9, ace=0.9, sun=0.9), base),
        run("bad", model("bad", 2, ind=0.4, ace=0.5, sun=0.5), base),
    ]
    found = compare_runs(runs, 300)
    # On L1 the good run is level with the base, so that it is only the best of the two runs: in forgetting.
    assert found.best == {("good", "mood", "L2"), ("good", "mood", "forgetting")}
    twin = run("twin", model("twin", 1, ind=0.9, ace=0.9, sun=0.9), base)
    assert compare_runs([*runs, twin], 300).best == set()


def test_forgetting_has_a_best_only_from_one_base():
    runs = [
        run(name, model(name, seed, ind=skill), model(f"base of {name}", 0, ind=0.9))
        for seed, (name, skill) in enumerate((("keeps", 0.9), ("forgets", 0.3)))
    ]
    assert not [cell for cell in compare_runs(runs, 300).best if cell[2] == "forgetting"]
    shared = [replace(each, base=runs[0].base) for each in runs]
    assert ("keeps", "mood", "forgetting") in compare_runs(shared, 300).best


def test_runs_on_other_items_have_no_best_and_are_refused():
    base = model("base", 0, ind=0.5)
    other = model("other", 1, ind=0.9)
    fewer = tuple(p for p in other.predictions["mood"] if p.item != "0")
    found = compare_runs([run("other", replace(other, predictions={"mood": fewer}), base)], 50)
    assert (found.best, found.rows) == (set(), [])
    assert len(found.refused) == 1
    assert "items" in found.refused[0]


def test_over_seeds_by_hand():
    models = [model(f"s{seed}", seed, ind=0.7, ace=0.6 + 0.05 * seed, sun=0.5) for seed in (1, 2, 3)]
    base = model("base", 0, ind=0.9, ace=0.4)
    samples = [each.samples() for each in models]
    rows = ScoreTable(over_seeds("all", (1, 2, 3), "mood", models, samples, [base.samples()], Bootstrap(200, 0)))
    scores = np.array([each.scores.get(each.name, "mood", "accuracy", "L2", "ace").value for each in models])
    start = base.scores.get("base", "mood", "accuracy", "L2", "ace").value
    row = rows.get("all", "mood", "accuracy", "L2", "ace")
    assert row.value == pytest.approx(scores.mean())
    assert rows.get("all", "mood", "accuracy_seed_sd", "L2", "ace").value == pytest.approx(scores.std(ddof=1))
    gain = rows.get("all", "mood", "gain", "L2", "ace")
    assert gain.value == pytest.approx(scores.mean() - start)
    assert (row.signature["seeds"], row.signature["interval"]) == ([1, 2, 3], "seeds and items")
    # The base was not evaluated on Sundanese, so that neither it nor the group has a gain.
    assert rows.get("all", "mood", "accuracy", "L2")
    assert rows.get("all", "mood", "accuracy", "L2", "sun")
    assert rows.get("all", "mood", "gain", "L2") is rows.get("all", "mood", "gain", "L2", "sun") is None
    lost, kept = (rows.get("all", "mood", metric, "L1") for metric in ("forgetting", "gain"))
    assert (lost.value, lost.low, lost.high) == pytest.approx((-kept.value, -kept.high, -kept.low))


def test_means_of_reports_have_students_interval_and_leave_out_what_is_of_one_run():
    def rows(name, value):
        return [
            Score(name, "mood", "", "L2", "accuracy", value, 0.1, 0.9, 9, {"model": name, "split": "test"}),
            Score(name, "mood", "", "L2", "gain_p", 0.01),
            Score("base", "mood", "", "L2", "accuracy", 0.2),
            Score("random", "mood", "", "L2", "accuracy", 0.5),
        ]

    values = (0.5, 0.7, 0.65)
    [mean] = mean_over_seeds("cell", {seed: rows(f"r{seed}", value) for seed, value in enumerate(values)})
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert (mean.run, mean.value, mean.signature) == (
        "cell",
        np.mean(values),
        {"split": "test", "seeds": [0, 1, 2]},
    )
    assert (mean.low, mean.high) == pytest.approx(expected)
    alone = mean_over_seeds("cell", {4: rows("r", 0.5)})
    assert [(row.metric, row.low) for row in alone] == [("accuracy", 0.1), ("gain_p", None)]


def test_seeds_are_grouped_by_the_rest_of_the_configuration():
    results = model("m", 1, ind=0.5)
    runs = [
        run("a-s1", results, results, seed=1, training={"steps": 5, "workers": 1}),
        run("a-s2", results, results, seed=2, training={"steps": 5, "workers": 9}),
        run("b-s1", results, results, seed=1, training={"steps": 6}),
        run("c-s3", results, None, seed=3, training={"steps": 5}),
    ]
    assert [(group.name, group.seeds) for group in group_seeds(runs)] == [("a, 2 seeds", (1, 2))]


def test_baselines_are_those_of_the_run_and_compared_with_the_lower_bound():
    rows = [
        Score(f"{kind} of {name}", "mood", "", "L2", "f1", value)
        for name, values in (("a", (0.2, 0.3)), ("b", (0.6, 0.5)))
        for kind, value in zip(("random", "majority"), values, strict=True)
    ]
    baselines = Baselines(rows, {("a", "mood"): "a", ("b", "mood"): "b"})
    for name, low, expected, above in (("a", None, 0.3, True), ("a", 0.25, 0.3, False), ("b", None, 0.6, False)):
        score = Score(name, "mood", "", "L2", "f1", 0.5, low)
        assert baselines.value_for(score) == expected
        assert baselines.are_below(score) is above
    assert baselines.are_below(Score("a", "mood", "", "L1", "f1", 0.0))  # there are none in its place
