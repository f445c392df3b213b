"""Plain fine-tuning on the alignment instructions alone: the way that forgets."""

from __future__ import annotations

from instructalign.training.strategies.base import Strategy


class Plain(Strategy):
    """Does nothing against forgetting; the configuration refuses past data beside it."""
