"""How a long step says how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called with what is under way, how much of it is done, how much there is (0 if unknown), and a remark."""


def silent(what: str, done: int, total: int, remark: str) -> None:
    """A progress that says nothing."""


def is_main_process() -> bool:
    """Whether this process writes and speaks for all, where several were launched together."""
    return int(os.environ.get("RANK", "0")) == 0
