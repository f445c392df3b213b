"""Strategies against catastrophic forgetting, one file each; `plugins.STRATEGIES` lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from instructalign.plugins import STRATEGIES
from instructalign.training.strategies.strategy import Strategy, StrategyContext

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.training.strategies.strategy_group import StrategyGroup

__all__ = ["Strategy", "StrategyContext", "StrategyGroup", "make_strategies"]


def make_strategies(config: Config) -> dict[str, Strategy]:
    """The configured strategies by name, in the order in which their hooks are called (that of the registry)."""
    chosen = config.training.strategy
    return {name: STRATEGIES.get(name)(**chosen[name].options) for name in STRATEGIES.in_order(chosen)}


def __getattr__(name: str) -> Any:
    # The group is a trainer callback: importing transformers takes seconds, and validation does without it.
    if name != "StrategyGroup":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from instructalign.training.strategies.strategy_group import StrategyGroup

    return StrategyGroup
