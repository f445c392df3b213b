"""Every strategy in whole runs: what it keeps, that a stop changes nothing, that two processes do as one does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from test_processes import assert_close, launch
from test_train import assert_same_weights, log, settings, untimed, weights

from instructalign.config_file import build_config
from instructalign.training.train import train

LORA = {"type": "lora", "r": 4, "alpha": 8, "targets": "all-linear", "dropout": 0.1}
EVERY: dict[str, dict[str, Any]] = {
    "freeze": {"layers": 1},
    "ssu": {"share": 0.5, "examples": 4},
    "l2sp": {"weight": 1.0},
    "ewc": {"weight": 100.0, "examples": 4},
    "distil": {"weight": 1.0, "top_k": 8, "temperature": 2.0},
    "sdft": {"decay": 0.5, "tokens": 8},
    "agem": {"examples": 4},
    "ema": {"decay": 0.5},
    "interpolate": {"alpha": 0.5},
}
TOGETHER = {**EVERY, "distil": {**EVERY["distil"], "on": "replay"}}


def run_settings(folder: Path, strategy: dict[str, Any], adapter: Any = None, **training: Any) -> dict[str, Any]:
    training = {"steps": 3, "checkpoint_every": 1, "keep_checkpoints": 8, "weight_decay": 0.1, **training}
    conflict = [*strategy] == ["agem"]
    if conflict:  # replay data that is not in the stream, and that the new data works against
        training |= {"steps": 8, "learning_rate": 1e-2}
    data = settings(folder, strategy=strategy if conflict else {"replay": None, **strategy}, **training)
    data["model"]["adapter"] = adapter
    if conflict:
        past = (folder / "past.jsonl").read_text(encoding="utf-8")
        (folder / "past.jsonl").write_text(past.replace("yes", "qqzzqqzzqqzzqqzzqqzz"), encoding="utf-8")
    return data


def fit(folder: Path, out: str, strategy: dict[str, Any], adapter: Any = None, **training: Any) -> Path:
    data = run_settings(folder, strategy, adapter, **training)
    return train(build_config(data, folder=folder), folder / out).model


def stop_at(whole: Path, half: Path, step: int) -> None:
    """A copy of a finished run as it was at a checkpoint."""
    shutil.copytree(whole, half)
    shutil.rmtree(half / "model")
    for path in (half / "checkpoints").glob("checkpoint-*"):
        if int(path.name.partition("-")[2]) > step:
            shutil.rmtree(path)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The model of a run with replay alone, without and with an adapter."""
    folder = tmp_path_factory.mktemp("plain")
    return [fit(folder, f"run-{place}", {}, adapter) for place, adapter in enumerate([None, LORA])]


def changed(before: Path, after: Path) -> dict[str, torch.Tensor]:
    """By weight, where its elements differ bit by bit."""
    one, other = weights(before), weights(after)
    return {name: one[name].view(torch.int32) != other[name].view(torch.int32) for name in one}


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("name", EVERY)
def test_a_stop_changes_nothing(name: str, adapter: Any, plain: list[Path], tmp_path: Path) -> None:
    strategy = {name: EVERY[name]}
    whole = fit(tmp_path, "whole", strategy, adapter)
    stop_at(tmp_path / "whole", tmp_path / "half", 6 if name == "agem" else 1)
    half = fit(tmp_path, "half", strategy, adapter)
    assert_same_weights(whole, half)
    assert untimed(log(tmp_path / "half")) == untimed(log(tmp_path / "whole"))
    records = [json.loads((tmp_path / run / "run.json").read_text()) for run in ("whole", "half")]
    costs = [record["strategies"][name] for record in records]
    assert all(cost.pop("seconds") >= 0 for cost in costs)
    assert costs[0] == costs[1]
    if name == "agem":
        assert 1 <= costs[0]["projected"] <= 7
    else:
        model = plain[adapter is not None]
        assert any(bool(where.any()) for where in changed(model, whole).values())


def test_all_at_once_and_in_a_resumed_run_without_a_cache(tmp_path: Path) -> None:
    whole = fit(tmp_path, "whole", TOGETHER)
    stop_at(tmp_path / "whole", tmp_path / "half", 1)
    shutil.rmtree(tmp_path / "half" / "cache")
    assert_same_weights(whole, fit(tmp_path, "half", TOGETHER))
    assert {"strategy/l2sp", "strategy/ewc", "strategy/distil"} <= log(tmp_path / "whole")[-1].keys()


@pytest.mark.parametrize("adapter", [None, LORA], ids=["full", "lora"])
def test_frozen_layers_end_as_they_began(adapter: Any, tmp_path: Path) -> None:
    model = fit(tmp_path, "run", {"freeze": {"layers": 1}}, adapter)
    for name, where in changed(tmp_path / "base", model).items():
        if ".layers.0." in name or "embed_tokens" in name:
            assert not where.any(), name
        elif name.endswith("proj.weight"):
            assert where.any(), name


@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_shielded_columns_end_as_they_began(decay: float, tmp_path: Path) -> None:
    model = fit(tmp_path, "run", {"ssu": {"share": 0.5, "examples": 4}}, weight_decay=decay)
    for name, where in changed(tmp_path / "base", model).items():
        if name.endswith("proj.weight"):
            columns = where.any(dim=0)
            assert int((~columns).sum()) == where.shape[1] // 2, name
            assert where[:, columns].float().mean() > 0.9
        elif decay:
            assert where.any(), name


def test_shielded_columns_under_lora_end_as_they_began(tmp_path: Path) -> None:
    model = fit(tmp_path, "run", {"ssu": {"share": 0.5, "examples": 4}}, LORA)
    for name, where in changed(tmp_path / "base", model).items():
        if name.endswith("proj.weight"):
            assert int((~where.any(dim=0)).sum()) == where.shape[1] // 2, name


def test_a_strong_spring_holds_the_weights_back(plain: list[Path], tmp_path: Path) -> None:
    model = fit(tmp_path, "run", {"l2sp": {"weight": 1e3}})

    def distance(model: Path) -> float:
        base, now = weights(tmp_path / "base"), weights(model)
        return sum(float((base[name] - now[name]).square().sum()) for name in base)

    assert distance(model) < 0.7 * distance(plain[0])


@pytest.mark.parametrize("family", ["bloom", "mt5"])
def test_other_families_take_all_strategies(family: str, tmp_path: Path) -> None:
    data = settings(tmp_path, family, steps=1, strategy={"replay": None, **TOGETHER})
    assert train(build_config(data, folder=tmp_path), tmp_path / "run").finished


def test_no_replay_data_is_needed_with_known_sentences(tmp_path: Path) -> None:
    strategy = {"ewc": {"on": "known", "examples": 4}, "ssu": {"on": "known", "examples": 4}, "distil": None}
    data = settings(tmp_path, steps=1, strategy=strategy)
    del data["replay"]
    assert train(build_config(data, folder=tmp_path), tmp_path / "run").finished


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, {**LORA, "dropout": 0.0}], ids=["full", "lora"])
@pytest.mark.parametrize("name", EVERY)
def test_two_processes_do_as_one_does(name: str, adapter: Any, tmp_path: Path) -> None:
    data = run_settings(tmp_path, {name: EVERY[name]}, adapter)
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    one = train(build_config(data, folder=tmp_path), tmp_path / "one").model
    launch(2, path, tmp_path / "two")
    assert_close(one, tmp_path / "two" / "model")
    for first, second in zip(log(tmp_path / "one"), log(tmp_path / "two"), strict=True):
        assert first["loss"] == pytest.approx(second["loss"], abs=1e-4)
