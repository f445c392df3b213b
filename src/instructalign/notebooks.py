"""What a notebook shows: tables instead of object names, and progress without widgets."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from instructalign.progress import Progress, silent

_SECONDS = 0.3  # between two updates of the line of progress


def html_table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A small table in HTML, all text escaped; a line break in a cell begins a smaller line."""

    def cell(text: str, tag: str) -> str:
        first, *rest = escape(text).split("\n")
        return f"<{tag}>{first}{''.join(f'<br><small>{line}</small>' for line in rest)}</{tag}>"

    head = "".join(cell(column, "th") for column in columns)
    body = "".join(f"<tr>{''.join(cell(text, 'td') for text in row)}</tr>" for row in rows)
    return f"<table><caption>{escape(caption)}</caption><tr>{head}</tr>{body}</table>"


def default_progress() -> Progress:
    """Shows steps in a cell of a notebook; elsewhere a call from Python is silent."""
    display = getattr(sys.modules.get("IPython"), "display", None)
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return _Line(display) if display is not None and hasattr(shell, "kernel") else silent


class _Line:
    """One line of a cell that says what is under way."""

    def __init__(self, display: Any) -> None:
        self._display, self._handle = display, None
        self._shown, self._what = 0.0, ""

    def __call__(self, what: str, done: int, total: int, remark: str = "") -> None:
        now = time.monotonic()
        if what == self._what and now - self._shown < _SECONDS and done != total:
            return
        self._shown, self._what = now, what
        bar = f'<progress value="{done}" max="{total}"></progress> {done:,} of {total:,} ' if total else ""
        line = self._display.HTML(f"{escape(what)} {bar}{escape(remark)}")
        if self._handle is None:
            self._handle = self._display.display(line, display_id=True)
        else:
            self._handle.update(line)
