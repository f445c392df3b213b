"""How likely each objective is at each example."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from instructalign.config import InstructionsConfig


class Weights:
    """The weights of the objectives, constant or scheduled, as running sums in the configuration's order."""

    def __init__(self, config: InstructionsConfig) -> None:
        schedule = config.schedule
        if schedule is None:
            self._starts, self._linear = [0], False
            self._weights = [[entry.weight for entry in config.objectives.values()]]
        else:
            self._starts, self._linear = [stage.at for stage in schedule.stages], schedule.shape == "linear"
            # A stage's weights sum to 1, so that a transition is even whatever scale its ends are written in.
            self._weights = [
                [stage.weights.get(name, 0.0) / sum(stage.weights.values()) for name in config.objectives]
                for stage in schedule.stages
            ]
        self._sums = [list(accumulate(weights)) for weights in self._weights]

    def cumulative(self, k: int) -> Sequence[float]:
        """The running sums of the weights at example k."""
        if len(self._starts) == 1:
            return self._sums[0]
        stage = bisect_right(self._starts, k) - 1
        if not self._linear or stage + 1 == len(self._starts):
            return self._sums[stage]
        start, end = self._starts[stage], self._starts[stage + 1]
        done = (k - start) / (end - start)
        here, there = self._weights[stage], self._weights[stage + 1]
        return list(accumulate(a + (b - a) * done for a, b in zip(here, there, strict=True)))
