"""What a sweep consists of, and what is refused before anything is done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from instructalign.config_file import load_config
from instructalign.errors import ConfigError
from instructalign.sweeps import plan_sweep
from instructalign.sweeps.grid import split_values, value_label


def with_sweep(recipe: Path, block: dict[str, Any]) -> Path:
    data = yaml.safe_load(recipe.read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump({**data, "sweep": block}, sort_keys=False), encoding="utf-8")
    return recipe


def problems(recipe: Path, *settings: str) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        plan_sweep(recipe, settings)
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0,100,1000", ["0", "100", "1000"]),
        ("{tlm: 1, mt: 1},{mlm: 1}", ["{tlm: 1, mt: 1}", "{mlm: 1}"]),
        ("[a, b], [c]", ["[a, b]", "[c]"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("only", ["only"]),
    ],
)
def test_values_are_split_outside_of_brackets(text: str, values: list[str]) -> None:
    assert split_values(text) == values


def test_names_of_values_are_value_label() -> None:
    assert value_label({"tlm": 1, "mt": 2, "xss": {"negatives": "paper"}}) == "tlm+mt:2+xss:negatives:paper"
    assert (value_label(None), value_label(True), value_label(0.5), value_label(["a", "b"])) == (
        "all",
        "yes",
        "0.5",
        "a+b",
    )


def test_a_sweep_of_blocks_or_of_a_configuration_is_that_of_the_file(
    recipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(recipe.parent)  # paths of blocks are relative to it
    with_sweep(recipe, {"grid": {"replay.size": [0, 10]}, "seeds": [1, 2]})
    plan = plan_sweep(recipe)
    assert len(plan.cells) == 4
    assert plan_sweep(yaml.safe_load(recipe.read_text(encoding="utf-8"))) == plan
    # A configuration is that of one run: its grid and seeds are given beside it.
    assert plan_sweep(load_config(recipe), ["replay.size=0,10"], [1, 2]) == plan
    with pytest.raises(ConfigError, match="stps"):
        plan_sweep({**yaml.safe_load(recipe.read_text(encoding="utf-8")), "stps": 1})


def test_grid_from_the_command_line(recipe: Path) -> None:
    plan = plan_sweep(
        recipe,
        ["replay.size=0,10", "instructions.objectives={tlm: 1, mt: 1},{mlm: 1}", "training.steps=3"],
        seeds=[1, 2],
    )
    assert [axis.numbers for axis in plan.axes] == [(0.0, 10.0), None]
    assert [(cell.name, cell.seed) for cell in plan.cells[:3]] == [
        ("replay.size=0, tlm+mt", 1),
        ("replay.size=0, tlm+mt", 2),
        ("replay.size=0, mlm", 1),
    ]
    assert len(plan.cells) == 8
    last = plan.cells[-1]
    assert last.config.replay is not None
    assert (last.config.replay.size, list(last.config.instructions.objectives)) == (10, ["mlm"])
    assert (last.config.training.steps, last.config.seed) == (3, 2)
    assert last.folder == "replay.size=10_mlm_seed=2"
    assert len({cell.folder for cell in plan.cells}) == 8


def test_block_with_named_values_named_cells_and_seeds(recipe: Path) -> None:
    block = {
        "seeds": [3, 4],
        "grid": {
            "amount": {"small": {"training.steps": 2, "training.batch_size": 2}, "more": {"training.steps": 4}},
            "replay.size": [0, 10],
        },
        "cells": [{"name": "tlm+mt", "set": {"instructions.objectives": {"tlm": 1, "mt": 3}}}],
    }
    plan = plan_sweep(with_sweep(recipe, block))
    assert list(dict.fromkeys(cell.name for cell in plan.cells)) == [
        "small, replay.size=0",
        "small, replay.size=10",
        "more, replay.size=0",
        "more, replay.size=10",
        "tlm+mt",
    ]
    assert [cell.seed for cell in plan.cells[:2]] == [3, 4]
    assert (plan.cells[0].config.training.steps, plan.cells[0].config.training.batch_size) == (2, 2)
    assert plan.cells[-1].config.instructions.objectives["mt"].weight == 3
    assert plan.cells[-1].at == {}


def test_numbers_as_names_make_a_curve(recipe: Path) -> None:
    block = {"grid": {"relatedness": {0.0: {"training.steps": 3}, 0.5: {"training.steps": 4}}}}
    [axis] = plan_sweep(with_sweep(recipe, block)).axes
    assert (axis.labels, axis.numbers) == (("0.0", "0.5"), (0.0, 0.5))


def test_the_command_line_overrides_the_file(recipe: Path) -> None:
    with_sweep(recipe, {"grid": {"replay.size": [0, 5, 10], "training.steps": [2, 4]}, "seeds": [1, 2]})
    plan = plan_sweep(recipe, ["replay.size=0,1", "training.steps=7"], seeds=[9])
    assert [(cell.name, cell.seed, cell.config.training.steps) for cell in plan.cells] == [
        ("replay.size=0", 9, 7),
        ("replay.size=1", 9, 7),
    ]


def test_a_configuration_without_a_sweep_is_one_cell(recipe: Path) -> None:
    [cell] = plan_sweep(recipe).cells
    assert (cell.name, cell.seed, cell.folder) == ("plain", 1, "plain_seed=1")


def test_long_names_make_short_folders_that_differ(recipe: Path) -> None:
    plan = plan_sweep(recipe, [f"model.base=/{'x' * 200}/a,/{'x' * 200}/b"])
    folders = [cell.folder for cell in plan.cells]
    assert len(set(folders)) == 2
    assert max(map(len, folders)) < 130
    assert "/" not in "".join(folders)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["training.stpes=1,2"], "training.stpes: unknown key. Did you mean 'steps'?"),
        (["trainin.steps=1,2"], "trainin: unknown key. Did you mean 'training'?"),
        (["replay.size=0,-5"], "replay.size: input should be greater than or equal to 0, found -5"),
        (["training.strategy=replay,repaly"], "unknown strategy 'repaly'. Did you mean 'replay'?"),
        (["evaluation.tasks=[toy_sentiment],[toy_sentimen]"], "Did you mean 'toy_sentiment'?"),
        (["seed=1,2"], "give them with --seeds 1,2,3"),
        (["replay.size={1,2"], "not YAML"),
        (["nothing"], "expected key.path=value"),
        (["replay.size=5,5"], "the cells 'replay.size=5' and 'replay.size=5' have the same configuration"),
    ],
)
def test_what_is_wrong_is_refused_with_its_cell(recipe: Path, settings: list[str], message: str) -> None:
    found = problems(recipe, *settings)
    assert any(message in problem for problem in found), found


def test_one_name_for_two_things_is_refused(recipe: Path) -> None:
    block = {"grid": {"size": {"a": {"replay.size": 1}}}, "cells": [{"name": "a", "set": {"replay.size": 2}}]}
    [problem] = problems(with_sweep(recipe, block))
    assert problem.startswith("two cells are called 'a'")


def test_problems_of_many_cells_are_reported_once(recipe: Path) -> None:
    [problem] = problems(recipe, "training.stpes=1,2,3,4,5")
    assert problem.endswith("(in cells training.stpes=1; training.stpes=2; training.stpes=3 and 2 more)")


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"gird": {}}, "sweep.gird: unknown key. Did you mean 'grid'?"),
        ({"grid": {"replay.size": 5}}, "sweep.grid: replay.size: expected a list of values, or names"),
        ({"grid": {"replay.size": []}}, "sweep.grid: replay.size: expected a list of values"),
        ({"grid": {"seed": [1, 2]}}, "list the seeds under sweep.seeds"),
        ({"cells": [{"name": "a"}, {"name": "a"}]}, "sweep: cells: duplicate name a"),
        ({"cells": [{"set": {}}]}, "sweep.cells.0.name: missing"),
        ({"seeds": [-1]}, "sweep.seeds.0: input should be greater than or equal to 0, found -1"),
    ],
)
def test_a_wrong_block_is_refused(recipe: Path, block: dict[str, Any], message: str) -> None:
    found = problems(with_sweep(recipe, block))
    assert any(message in problem for problem in found), found


def test_the_sum_over_cells_counts_what_they_share_once(recipe: Path) -> None:
    settings = ["replay.size=0,10", "evaluation.bootstrap=0,100"]
    plan = plan_sweep(recipe, settings, [1, 2])
    assert len(plan_sweep(recipe, ["model.vocabulary={add: 20},{add: 20, init: omp}"]).bases) == 1
    config = plan.cells[0].config
    one = config.training.steps * config.training.batch_size
    assert (len(plan.cells), len(plan.trained), len(plan.bases)) == (8, 4, 1)
    assert f"at most {4 * one * config.training.max_length:,} tokens" in plan.describe()
    assert "8 runs: 4 to train" in plan.describe()
    assert plan.seconds(config, 10.0, 1.0) == 4 * 10 + 9
    longer = plan_sweep(recipe, [f"training.steps={3 * config.training.steps}"])
    assert longer.seconds(config, 10.0, 0.0) == 30
