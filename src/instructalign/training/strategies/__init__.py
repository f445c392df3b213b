"""Ways to keep what the model knew, one file each; see `registry.STRATEGIES`."""

from instructalign.training.strategies.base import Strategy

__all__ = ["Strategy"]
