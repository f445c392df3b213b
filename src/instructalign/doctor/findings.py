"""What the examination says to a person: one sentence on what was found, one on what to do."""

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
    """One thing that was looked at.

    Attributes:
        level: `problem` keeps a run from starting, or makes its result worthless; `warning` makes it worse or
            dearer than it need be.
        about: the section it belongs to.
        found: what was found.
        advice: what to do, with the key of the configuration; empty where all is well.
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
        """Notes that something is as it should be."""
        self.append(Finding("ok", self.about, found))

    def warn(self, found: str, advice: str) -> None:
        """Notes what makes the run worse or dearer than it need be."""
        self.append(Finding("warning", self.about, found, advice))

    def problem(self, found: str, advice: str) -> None:
        """Notes what keeps the run from starting, or makes its result worthless."""
        self.append(Finding("problem", self.about, found, advice))

    def attempt(self, advice: str, make: Callable[[], T]) -> T | None:
        """What a call gives; None, and a problem for each one named, where it raises an error of ours."""
        try:
            return make()
        except ConfigError as error:
            for problem in error.problems:
                self.problem(f"{error.where}: {problem}" if error.where else problem, advice)
        except InstructAlignError as error:
            self.problem(str(error), advice)
        return None


def percent(share: float) -> str:
    """A share as people read it: `12 %`, `0.4 %`, `under 0.001 %`."""
    if 0 < share < 1e-5:
        return "under 0.001 %"
    if share == 0 or share >= 0.095:
        return f"{100 * share:.0f} %"
    return f"{Decimal(f'{100 * share:.1g}'):f} %"  # one digit that counts; the format `g` alone turns to exponents


def listed(names: list[str], most: int = 6) -> str:
    """Names in a row, the first few of many."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
