"""Takes paths of this machine and e-mail addresses out of texts that others will read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_PART = r"[^\s/\\\"'<>|:;,()\[\]{}`*?]+"
_PATH = re.compile(rf"(?<![\w.:/~\\<&-])(?:file://)?~?(?:/{_PART}){{2,}}/?|\b[A-Za-z]:\\(?:{_PART}\\?)+")
_EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")


def scrubbed(text: str, config: Mapping[str, Any]) -> str:
    """A text in which the paths of a machine are file names, and e-mail addresses are left out.

    Args:
        text: what others will read.
        config: the run's configuration: the paths in it may have spaces, which a pattern does not find.
    """
    for path in sorted(set(_absolute_paths(config)), key=len, reverse=True):
        text = text.replace(path, _name(path))
    return _EMAIL.sub("[e-mail address]", _PATH.sub(lambda found: _name(found[0]), text))


def _absolute_paths(value: Any) -> Iterator[str]:
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        if len(PurePosixPath(value).parts) > 2 or "\\" in value:
            yield value
    elif isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _absolute_paths(inner)


def _name(path: str) -> str:
    return re.split(r"[/\\]", path.rstrip("/\\"))[-1]
