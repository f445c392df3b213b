"""The strategies `none` and `replay`, which leave loss and gradient as they are."""

from __future__ import annotations

from instructalign.training.strategies.strategy import Strategy


class Plain(Strategy):
    """Does nothing against forgetting; the configuration refuses past data beside it."""


class Replay(Strategy):
    """Past examples stand among the new ones; the mixture has already done all of it (`instructalign.mixture`)."""

    past_data = "used"
