from __future__ import annotations

from collections.abc import Mapping

import pytest
from scipy.stats import binomtest

from instructalign.config import InstructionsConfig
from instructalign.instructions.stream import Weights
from instructalign.randomness import Draws, digest_key

STAGES = [{"at": 0, "weights": {"mlm": 2}}, {"at": 100, "weights": {"tlm": 1, "mt": 3}}]


def config(**schedule: object) -> InstructionsConfig:
    objectives = ["mlm", "tlm", "mt"]
    return InstructionsConfig.model_validate({"objectives": objectives, "schedule": schedule or None})


def shares(weights: Weights, k: int) -> Mapping[str, float]:
    sums = [0.0, *weights.cumulative(k)]
    return {name: (b - a) / sums[-1] for name, a, b in zip(("mlm", "tlm", "mt"), sums, sums[1:], strict=False)}


def test_without_a_schedule_weights_stay() -> None:
    weights = Weights(config())
    assert shares(weights, 0) == shares(weights, 10**9) == pytest.approx({"mlm": 1 / 3, "tlm": 1 / 3, "mt": 1 / 3})


def test_staged() -> None:
    weights = Weights(config(shape="staged", stages=STAGES))
    for k in (0, 99):
        assert shares(weights, k) == {"mlm": 1, "tlm": 0, "mt": 0}
    for k in (100, 10**9):
        assert shares(weights, k) == {"mlm": 0, "tlm": 0.25, "mt": 0.75}


def test_linear() -> None:
    weights = Weights(config(shape="linear", stages=STAGES))
    assert shares(weights, 0) == {"mlm": 1, "tlm": 0, "mt": 0}
    assert shares(weights, 40) == pytest.approx({"mlm": 0.6, "tlm": 0.1, "mt": 0.3})
    assert shares(weights, 100) == shares(weights, 101) == {"mlm": 0, "tlm": 0.25, "mt": 0.75}


def test_draws_follow_the_schedule() -> None:
    weights = Weights(config(shape="linear", stages=STAGES))
    key = digest_key(1)
    drawn = sum(Draws(key, i).weighted(weights.cumulative(40)) == 2 for i in range(4000))
    assert binomtest(drawn, 4000, 0.3).pvalue > 1e-4
    assert all(Draws(key, i).weighted(weights.cumulative(5000)) != 0 for i in range(2000))


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ([], "at least 1 item"),
        ([{"at": 5, "weights": {"mt": 1}}], "the first stage must be at: 0, found 5"),
        ([STAGES[0], STAGES[0]], "each stage must begin later"),
        ([{"at": 0, "weights": {"mt": 0}}], "at least one weight must be above 0"),
        ([{"at": 0, "weights": {"mmt": 1}}], "'mmt', which is not among objectives. Did you mean 'mt'?"),
    ],
)
def test_wrong_schedules_are_refused(stages: object, message: str) -> None:
    with pytest.raises(ValueError, match="validation error") as error:
        config(stages=stages)
    assert message in str(error.value)
