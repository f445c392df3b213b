"""When training ends early or has diverged, which checkpoints stay, and that a stop changes none of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import assert_same_weights, configure, log, settings, untimed

from instructalign.config import DivergenceConfig, EarlyStoppingConfig
from instructalign.config_file import build_config
from instructalign.errors import ConfigError, TrainingError
from instructalign.training import train as module
from instructalign.training.early_stopping import Divergence, EarlyStopping, StoppingRules
from instructalign.training.monitors import Monitor
from instructalign.training.train import train


def seen(settings: dict[str, Any], values: list[float]) -> EarlyStopping:
    """The rule after some measurements, one a step, until it ends training."""
    stopping = EarlyStopping(EarlyStoppingConfig(**settings))
    name = {"heldout": "heldout_loss", "kl": "kl_to_base", "probe": "probe"}[settings["on"]]
    for step, value in enumerate(values, start=1):
        stopping.update(step, {name: value})
        if stopping.reason:
            break
    return stopping


@pytest.mark.parametrize(
    ("settings", "values", "best", "reason"),
    [
        ({"on": "heldout", "patience": 2}, [3, 2, 2.5, 2.5, 1], 2, "not improved on 2 (step 2) in 2"),
        ({"on": "heldout", "patience": 2}, [3, 2, 2.5, 1.9, 2.5], 4, ""),
        ({"on": "heldout", "patience": 2, "min_change": 0.5}, [3, 2.6, 2.5, 1], 1, "on 3 (step 1) in 2"),
        (
            {"on": "heldout", "threshold": 4},
            [3, 3.5, 5, 1],
            2,
            "heldout_loss is 5 after step 3, past the threshold 4",
        ),
        (
            {"on": "kl", "threshold": 0.1},
            [0.01, 0.05, 0.1, 0.11],
            3,
            "kl_to_base is 0.11 after step 4, past the threshold 0.1",
        ),
        ({"on": "kl", "threshold": 0.1}, [0.2], None, "past the threshold 0.1"),
        ({"on": "probe", "patience": 1}, [0.5, 0.6, 0.6], 2, "not improved on 0.6 (step 2)"),
        (
            {"on": "probe", "threshold": 0.5},
            [0.5, 0.7, 0.4],
            2,
            "probe is 0.4 after step 3, past the threshold 0.5",
        ),
        ({"on": "heldout", "patience": 3, "threshold": 4}, [3, 2, 2.5, 5], 2, "past the threshold 4"),
    ],
)
def test_when_training_ends(settings: dict[str, Any], values: list[float], best: Any, reason: str) -> None:
    stopping = seen(settings, values)
    assert stopping.best_step == best
    assert reason in stopping.reason
    assert bool(reason) == bool(stopping.reason)
    assert stopping.step_to_keep == best
    assert seen({**settings, "keep": "last"}, values).step_to_keep is None


def test_state_goes_through_json() -> None:
    whole = seen({"on": "heldout", "patience": 3}, [3, 2, 2.5, 2.6])
    half = seen({"on": "heldout", "patience": 3}, [3, 2, 2.5])
    again = EarlyStopping(EarlyStoppingConfig(on="heldout", patience=3))
    again.restore(json.loads(json.dumps(half.state())))
    again.update(4, {"heldout_loss": 2.6})
    assert again.state() == whole.state()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"early_stopping": {"on": "heldout", "patience": 1}},
            "on heldout, which is not measured: set training.ev",
        ),
        ({"early_stopping": {"on": "kl", "threshold": 1}}, "set training.kl"),
        ({"early_stopping": {"on": "heldout"}, "evaluate_every": 1}, "needs patience, threshold or both"),
        ({"early_stopping": {"on": "kl", "patience": 2}, "kl": {}}, "begins at 0 and grows; give a threshold"),
    ],
)
def test_rules_that_make_no_sense(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        configure(tmp_path, **change)


def test_a_loss_far_above_its_level_is_a_divergence() -> None:
    rule = Divergence(DivergenceConfig(factor=5, patience=3))
    for step, loss in enumerate([2.0, 1.5, 1.0, 15.0, 1.0, 15.0, 16.0], start=1):
        rule.update(step, loss, None)
    assert rule.suspicious == 2
    again = Divergence(DivergenceConfig(factor=5, patience=3))
    again.restore(json.loads(json.dumps(rule.state())))
    with pytest.raises(
        TrainingError, match=r"loss is 17 at step 8 .* 3 lines .*checkpoint-5.*training\.learning_rate"
    ):
        again.update(8, 17.0, 5)


def test_a_small_loss_may_multiply() -> None:
    rule = Divergence(DivergenceConfig(factor=5, patience=1))
    for step, loss in enumerate([0.01, 0.1, 1.0, 1.9], start=1):
        rule.update(step, loss, None)
    assert rule.suspicious == 0


def test_the_checkpoint_from_before_the_loss_rose_stays() -> None:
    rules = StoppingRules(None, DivergenceConfig(patience=3))
    rules.on_loss(1, 1.0)
    assert rules.on_checkpoint(1) == {1}
    rules.on_loss(2, 20.0)
    assert rules.on_checkpoint(2) == {1}
    rules.on_loss(3, 20.0)
    with pytest.raises(TrainingError, match="checkpoint-1, from before"):
        rules.on_loss(4, 20.0)


def scripted(monkeypatch: pytest.MonkeyPatch, values: Mapping[int, float]) -> None:
    """Has the held-out loss come out as written, by step."""
    real = module.make_monitors

    def scripted_monitors(run: Any, trainer: Any, probe: Any) -> list[Monitor]:
        real(run, trainer, probe)
        return [Monitor(lambda model: {"heldout_loss": values[trainer.state.global_step]}, 1)]

    monkeypatch.setattr(module, "make_monitors", scripted_monitors)


VALUES = {1: 5.0, 2: 4.0, 3: 3.0, 4: 3.5, 5: 3.6, 6: 1.0, 7: 1.0, 8: 1.0}


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("adapter", [None, {"r": 4}], ids=["full", "lora"])
def test_early_stopping_keeps_the_best_or_the_last(
    keep: str, adapter: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, VALUES)
    rule = {"on": "heldout", "patience": 2, "keep": keep}

    def config(**training: Any) -> Any:
        data = settings(tmp_path, scheduler="constant", **training)
        data["model"]["adapter"] = adapter
        return build_config(data, folder=tmp_path)

    result = train(config(steps=8, evaluate_every=1, early_stopping=rule, checkpoint_every=100), tmp_path / "run")
    assert (result.finished, result.step) == (True, 5)
    assert "heldout_loss has not improved on 3 (step 3)" in result.ended_early
    record = json.loads((tmp_path / "run" / "run.json").read_text(encoding="utf-8"))["early_stopping"]
    assert (record["stopped_at"], record["best_step"], record["kept_step"]) == (5, 3, 3 if keep == "best" else 5)
    # The schedule is constant, so that a run of as many steps learns the same.
    steps = 3 if keep == "best" else 5
    plain = train(config(steps=steps, divergence=None), tmp_path / "plain")
    assert_same_weights(plain.model, result.model)
    again = train(config(steps=8, evaluate_every=1, early_stopping=rule, checkpoint_every=100), tmp_path / "run")
    assert (again.finished, again.step, again.ended_early) == (True, 5, result.ended_early)


@pytest.mark.parametrize("left", [2, 3, 5])
def test_early_stopping_is_the_same_through_a_stop(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(monkeypatch, VALUES)
    rule = {"on": "heldout", "patience": 2}
    config = configure(
        tmp_path, steps=8, evaluate_every=1, early_stopping=rule, checkpoint_every=1, keep_checkpoints=9
    )
    whole = train(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    shutil.rmtree(tmp_path / "half" / "model")
    record = json.loads((tmp_path / "half" / "run.json").read_text(encoding="utf-8"))
    del record["training_hash"]
    (tmp_path / "half" / "run.json").write_text(json.dumps(record), encoding="utf-8")
    for step in range(left + 1, 6):
        shutil.rmtree(tmp_path / "half" / "checkpoints" / f"checkpoint-{step}")
    again = train(config, tmp_path / "half")
    assert again.ended_early == whole.ended_early
    assert_same_weights(whole.model, again.model)
    assert untimed(log(tmp_path / "half")) == untimed(log(tmp_path / "whole"))


def test_the_best_checkpoint_outlives_newer_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripted(monkeypatch, VALUES)
    rule = {"on": "heldout", "patience": 2}
    config = configure(tmp_path, steps=8, evaluate_every=1, early_stopping=rule, checkpoint_every=1)
    train(config, tmp_path / "run")
    left = {path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")}
    assert left == {"checkpoint-3", "checkpoint-5"}


def test_a_run_that_diverges_says_so_and_keeps_what_was_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from instructalign.training.loss import ChunkedLoss

    real = ChunkedLoss.__call__

    def rising(
        self: ChunkedLoss, model: Any, batch: dict[str, Any], shares: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        loss, losses = real(self, model, batch, shares)
        scale = 1 if batch["numbers"][0] < 3 * 8 else 10  # from the fourth step of 8 examples on
        return scale * loss, scale * losses

    monkeypatch.setattr(ChunkedLoss, "__call__", rising)
    config = configure(tmp_path, steps=12, checkpoint_every=1, divergence={"patience": 3})
    with pytest.raises(TrainingError, match=r"diverged.*checkpoint-3, from before"):
        train(config, tmp_path / "run")
    left = {path.name for path in (tmp_path / "run" / "checkpoints").glob("checkpoint-*")}
    assert left == {"checkpoint-3", "checkpoint-5"}
