"""The hooks of strategies: when each is called, with what, and that their state survives a stop."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import assert_close, configure, log, settings

from instructalign.config import Config
from instructalign.config_file import build_config
from instructalign.errors import ConfigError
from instructalign.plugins import STRATEGIES
from instructalign.training.strategies import Strategy, StrategyContext
from instructalign.training.train import train

CALLS: list[Any] = []


class Spy(Strategy):
    """Writes down every call, adds to the loss, and counts steps in its state."""

    def __init__(self, *, weight: float = 0.0) -> None:
        self.weight = weight
        self.steps = torch.zeros(1)

    def problems(self, config: Config) -> Iterable[str]:
        return ["it dislikes seed 13; give another"] if config.seed == 13 else []

    def prepare(self, context: StrategyContext) -> None:
        trained = {name: weight.clone() for name, weight in context.model.named_parameters()}
        CALLS.append(("prepare", trained, len(context.data.replay)))

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        counted = int((batch["weights"] > 0).sum())
        assert logits.shape[0] == counted == len(batch["examples"])
        CALLS.append(("token_loss", sorted(batch["numbers"])))
        return torch.full((counted,), self.weight)

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        CALLS.append(("penalty", None))
        return torch.tensor(2 * self.weight)

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        assert all(weight.grad is not None for weight in model.parameters())
        CALLS.append(("before_update", step))

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        self.steps += 1
        CALLS.append(("after_update", step))

    def finish(self, model: torch.nn.Module) -> None:
        CALLS.append(("finish", int(self.steps)))

    def state(self) -> dict[str, torch.Tensor]:
        return {"steps": self.steps}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        CALLS.append(("restore", int(state["steps"])))
        self.steps = state["steps"]

    def costs(self) -> dict[str, float]:
        return {"memory": self.steps.nbytes}


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> None:
    CALLS.clear()
    monkeypatch.setitem(STRATEGIES._places, "spy", "test_strategy_hooks:Spy")


def test_hooks_are_called_in_order_with_the_examples_of_each_step(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=2, micro_batch_size=4, strategy={"replay": None, "spy": None})
    train(config, tmp_path / "run")
    once_a_step = ["token_loss", "penalty", "before_update", "after_update"]
    assert [name for name, _ in groupby(CALLS, lambda call: call[0])] == ["prepare", *(2 * once_a_step), "finish"]
    assert CALLS[0][2] == 4
    micro = [call[1] for call in CALLS if call[0] == "token_loss"]
    assert len(micro) >= 4
    assert max(map(len, micro)) <= 4
    seen = [number for numbers in micro for number in numbers]
    assert sorted(seen[:8]) == list(range(8))
    assert sorted(seen[8:]) == list(range(8, 16))
    assert [call[1] for call in CALLS if call[0] == "after_update"] == [0, 1]
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["strategies"]["spy"]["memory"] == 4
    assert record["strategies"]["spy"]["seconds"] >= 0


def test_what_is_added_counts_once_a_step_whatever_the_micro_batches(tmp_path: Path) -> None:
    plain = train(configure(tmp_path, steps=2, strategy="replay"), tmp_path / "plain")
    added = {"replay": None, "spy": {"weight": 0.25}}
    for name, size in (("one", 8), ("four", 2)):
        config = configure(tmp_path, steps=2, micro_batch_size=size, strategy=added)
        result = train(config, tmp_path / name)
        for with_, without in zip(log(tmp_path / name), log(tmp_path / "plain"), strict=True):
            # At every token 0.25, and twice as much once a step.
            assert with_["strategy/spy"] == pytest.approx(0.75, abs=1e-6)
            assert with_["loss"] == pytest.approx(without["loss"] + 0.75, abs=1e-4)
        # Constants have no gradient. Without strategies that read logits, other routines compute the loss.
        assert_close(plain.model, result.model)


def test_state_goes_into_checkpoints_and_comes_back(tmp_path: Path) -> None:
    config = configure(tmp_path, steps=4, keep_checkpoints=5, strategy={"replay": None, "spy": None})
    train(config, tmp_path / "run")
    base = CALLS[0][1]
    shutil.rmtree(tmp_path / "run" / "model")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "checkpoint-4")
    CALLS.clear()
    train(config, tmp_path / "run")
    assert ("restore", 2) in CALLS
    assert CALLS[-1] == ("finish", 4)
    # Preparing comes before the checkpoint is loaded: it sees the base.
    assert CALLS[0][0] == "prepare"
    assert all(torch.equal(weight, base[name]) for name, weight in CALLS[0][1].items())


def test_what_does_not_go_together_is_refused_with_what_to_do(tmp_path: Path) -> None:
    data = settings(tmp_path, strategy={"spy": None, "none": None})
    with pytest.raises(ConfigError) as caught:
        build_config({**data, "seed": 13}, folder=tmp_path)
    own, none, unused = caught.value.problems
    assert own == "training.strategy.spy: it dislikes seed 13; give another"
    assert none.startswith("training.strategy: none")
    assert unused.startswith("training.strategy is spy, none but replay.size is 4")


def test_needed_replay_data_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spy, "replay_data", "needed")
    data = settings(tmp_path, strategy="spy")
    build_config(data, folder=tmp_path)
    del data["replay"]
    with pytest.raises(ConfigError, match=r"training\.strategy\.spy .*replay block"):
        build_config(data, folder=tmp_path)


def test_replay_data_is_mixed_in_by_replay_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from instructalign.mixture.training_data import prepare_data

    monkeypatch.setattr(Spy, "replay_data", "used")
    for strategy, expected in (("replay", 2), ("spy", 0), (["spy", "replay"], 2)):
        data = prepare_data(configure(tmp_path, strategy=strategy))
        assert len(data.replay) == 4
        assert [data.mixture[i].objective for i in range(8)].count("replay") == expected


def test_options_have_the_default_weight_of_their_own(tmp_path: Path) -> None:
    config = configure(tmp_path, strategy={"replay": None, "spy": 0.5})
    assert config.training.strategy["spy"].options == {"weight": 0.5}
    with pytest.raises(ConfigError, match=r"strategy\.replay\.weight: unknown key"):
        configure(tmp_path, strategy={"replay": {"weight": 2}})
