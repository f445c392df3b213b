"""What the doctor reports: one sentence on what was found, one on what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, TypeVar

from instructalign.errors import ConfigError, InstructAlignError

Level = Literal["ok", "warning", "problem"]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check.

    Attributes:
        level: `problem` keeps a run from starting, or makes its result worthless; `warning` makes it worse or
            more expensive than necessary.
        about: the section it belongs to.
        found: what was found.
        advice: what to do, with the configuration key; empty for `ok`.
    """

    level: Level
    about: str
    found: str
    advice: str = ""


class Findings(list[Finding]):
    """The findings of one section.

    Args:
        about: the section's name.
    """

    def __init__(self, about: str) -> None:
        super().__init__()
        self.about = about

    def ok(self, found: str) -> None:
        """Adds that a check passed."""
        self.append(Finding("ok", self.about, found))

    def warn(self, found: str, advice: str, *, severe: bool = False) -> None:
        """Adds a warning; or a problem if it is severe."""
        self.append(Finding("problem" if severe else "warning", self.about, found, advice))

    def problem(self, found: str, advice: str) -> None:
        """Adds what keeps the run from starting, or makes its result worthless."""
        self.append(Finding("problem", self.about, found, advice))

    def attempt(self, advice: str, make: Callable[[], T]) -> T | None:
        """The result of a call; if it raises one of our errors, None, and a problem for each one it lists."""
        try:
            return make()
        except ConfigError as error:
            for problem in error.problems:
                self.problem(f"{error.where}: {problem}" if error.where else problem, advice)
        except InstructAlignError as error:
            self.problem(str(error), advice)
        return None


def percent(share: float) -> str:
    """A share for people: `12 %`, `0.4 %`, `under 0.001 %`."""
    if 0 < share < 1e-5:
        return "under 0.001 %"
    if share == 0 or share >= 0.095:
        return f"{100 * share:.0f} %"
    return f"{Decimal(f'{100 * share:.1g}'):f} %"  # one significant digit; the format `g` alone gives exponents


def first_few(names: list[str], most: int = 6) -> str:
    """The first few of many names, separated by commas."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
