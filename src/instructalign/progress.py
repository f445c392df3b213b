"""How a long step reports its progress."""

from __future__ import annotations

import os
from collections.abc import Callable

Progress = Callable[[str, int, int, str], None]
"""Called with the name of the step, how much of it is done, how much there is (0 if unknown), and a remark."""


def silent(what: str, done: int, total: int, remark: str) -> None:
    """Reports nothing."""


def is_main_process() -> bool:
    """Whether this process writes and prints for all, where several were launched together."""
    return int(os.environ.get("RANK", "0")) == 0
