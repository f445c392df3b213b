"""Takes paths of this machine and e-mail addresses out of texts that others will read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

from instructalign.report.rendering import escape_markdown

# A card and a report in Markdown have a backslash before some characters, as `escape_markdown` puts it.
_PART = r"(?:\\[`*_\[\]<>|#~&$]|[^\s/\\\"'<>|:;,()\[\]{}`*?])+"
# Behind no word, but behind a line end as JSON writes it.
_PATH = re.compile(
    rf"(?:(?<![\w.:/~\\<&-])|(?<=\\[nrt]))(?:file://)?(?:\\?~)?(?:/{_PART}){{2,}}/?"
    rf"|\b[A-Za-z]:\\(?:{_PART}\\?)+"
)
_EMAIL = re.compile(r"(?<![\w.+-])(?:\\_|[\w.+-])+@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,}\b")


def scrubbed(text: str, config: Mapping[str, Any]) -> str:
    """A text in which the paths of a machine are file names, and e-mail addresses are left out.

    Args:
        text: what others will read.
        config: the run's configuration: the paths in it may have spaces, which a pattern does not find.
    """
    for path in sorted(set(_absolute_paths(config)), key=len, reverse=True):
        text = text.replace(path, _name(path)).replace(escape_markdown(path), escape_markdown(_name(path)))
    return _EMAIL.sub("[e-mail address]", _PATH.sub(lambda found: _name(found[0]), text))


def _absolute_paths(value: Any) -> Iterator[str]:
    if isinstance(value, str) and (PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute()):
        if len(PurePosixPath(value).parts) > 2 or "\\" in value:
            yield value
    elif isinstance(value, (Mapping, list)):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _absolute_paths(inner)


def _name(path: str) -> str:
    on_windows = re.match(r"[A-Za-z]:|\\\\", path)
    return re.split(r"[/\\]" if on_windows else "/", path.rstrip("/\\"))[-1]
