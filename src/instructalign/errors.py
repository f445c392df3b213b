"""The exceptions that instructalign raises on purpose.

::

    InstructAlignError
    ├── ConfigError           the configuration is wrong (all problems at once)
    ├── UnknownNameError      a name that no registry holds
    ├── DataError             a file or record of the user is wrong
    ├── ModelError            a model folder, tokenizer or checkpoint cannot be used
    ├── TrainingError         training cannot start or cannot continue
    └── RunFolderError        an output folder belongs to something else

Each message says what was found, where, what is allowed and what to do. The command line prints the
message alone and exits with 2 for `ConfigError` and `UnknownNameError`, with 1 for the others.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InstructAlignError(Exception):
    """Base of every error that instructalign raises on purpose.

    Attributes:
        problems: what was found wrong, a sentence each: the message, unless it lists several.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(message)
        self.problems: tuple[str, ...] = (message,)


class ConfigError(InstructAlignError):
    """The configuration is wrong.

    Args:
        problems: one sentence for each problem, beginning with the key's path.
        where: the file the configuration came from, if any.
    """

    def __init__(self, problems: Sequence[str], where: str | None = None) -> None:
        self.where = where
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        head = f"{count} in {where}" if where else f"{count} in the configuration"
        super().__init__("\n".join([f"{head}:", *(f"  - {problem}" for problem in problems)]))
        self.problems = tuple(problems)


class UnknownNameError(InstructAlignError):
    """A name is not among those available."""

    def __init__(self, kind: str, name: str, available: Iterable[str]) -> None:
        self.kind, self.name, self.available = kind, name, tuple(sorted(available))
        super().__init__(f"unknown {kind} {name!r}. {suggest(name, self.available)}")


class DataError(InstructAlignError):
    """A file or record of the user cannot be read in its format."""


class ModelError(InstructAlignError):
    """A model folder, a tokenizer or a checkpoint cannot be used."""


class TrainingError(InstructAlignError):
    """Training cannot start, or cannot continue."""


class RunFolderError(InstructAlignError):
    """An output folder holds something other than what is to be written there."""


def suggest(name: str, available: Sequence[str]) -> str:
    """The end of an error message for a wrong name: "Did you mean …? Available: …"."""
    near = nearest(name, available)
    hint = f"Did you mean {near!r}? " if near else ""
    return f"{hint}Available: {', '.join(available) or 'none'}."


def nearest(name: str, available: Sequence[str]) -> str:
    """The most similar of the available names; empty if none is similar."""
    return next(iter(difflib.get_close_matches(name, available, n=1)), "")


def first_line(error: BaseException) -> str:
    """The first line of another library's error, or the name of its class where it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def found(value: object) -> str:
    """A value as error messages show it: as Python writes it, at most 80 characters."""
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
