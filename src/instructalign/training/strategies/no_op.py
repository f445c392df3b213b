"""The strategies `none` and `replay`, which leave loss and gradient unchanged."""

from __future__ import annotations

from instructalign.training.strategies.strategy import Strategy


class NoStrategy(Strategy):
    """Nothing against forgetting: plain fine-tuning. The configuration must then not ask for replay data."""


class Replay(Strategy):
    """Experience replay: replay examples among the new ones. `instructalign.mixture` does all of the work."""

    replay_data = "used"
