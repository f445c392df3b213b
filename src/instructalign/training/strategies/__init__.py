"""Ways to keep what the model knew, one file each; see `registry.STRATEGIES`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instructalign.plugins import STRATEGIES
from instructalign.training.strategies.strategy import Setting, Strategy

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.training.strategies.strategy_group import StrategyGroup

__all__ = ["Setting", "Strategy", "StrategyGroup", "make_strategies"]


def make_strategies(config: Config) -> dict[str, Strategy]:
    """The configured strategies by name, in the order of the registry, which is that of their hooks."""
    chosen = config.training.strategy
    return {name: STRATEGIES.get(name)(**chosen[name].options) for name in STRATEGIES.in_order(chosen)}


def __getattr__(name: str) -> Any:
    # The group is a callback of the trainer, which takes seconds to import; checking a configuration needs it not.
    if name != "StrategyGroup":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from instructalign.training.strategies.strategy_group import StrategyGroup

    return StrategyGroup
