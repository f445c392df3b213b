"""What the command line shows: progress, messages, and the colours of a preview."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as ProgressBar
from rich.table import Table
from rich.text import Text

from instructalign.progress import is_main_process

if TYPE_CHECKING:
    from instructalign.doctor import Diagnosis
    from instructalign.report.rendering import ReportTable
    from instructalign.training.preview import PreviewExample

_LINE_SECONDS = 10.0  # between two plain progress lines

# Of several processes, only the main one prints; errors are printed by each.
out = Console(highlight=False, soft_wrap=True, quiet=not is_main_process())
status = Console(stderr=True, highlight=False, soft_wrap=True, quiet=not is_main_process())
err = Console(stderr=True, highlight=False, soft_wrap=True)


class Reporter:
    """Shows the progress of a long step: a bar in a terminal, elsewhere a plain line every ten seconds.

    It is called as `instructalign.progress.Progress`; a remark stays until the next one.
    """

    def __init__(self, bar: ProgressBar | None) -> None:
        self._bar = bar
        self._task: Any = None
        self._what = ""
        self._began = self._printed = time.monotonic()
        self._from = self._done = 0
        self._remark = ""
        self._ended: str | None = None  # the remark with which its end was printed

    def __call__(self, what: str, done: int, total: int, remark: str = "") -> None:
        """Shows how much of the step `what` is done; `total` is 0 where it is unknown."""
        now = time.monotonic()
        if what != self._what:
            self._what, self._from, self._remark, self._ended = what, done, "", None
            self._began = self._printed = now
            if self._bar is None:
                status.print(f"{what} …")
            else:
                if self._task is not None:
                    self._bar.remove_task(self._task)
                self._task = self._bar.add_task(what, total=total or None, completed=done, rate="", remark="")
        elif done < self._done:  # the next part of the step, such as another task, which has a rate of its own
            self._from, self._began = done, now
        self._done = done
        self._remark = remark or self._remark
        per_second = (done - self._from) / (now - self._began) if now > self._began else 0.0
        rate = (
            (f"{per_second:.1f}/s" if per_second >= 1 else f"{1 / per_second:.1f} s/it") if per_second > 0 else ""
        )
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None, rate=rate, remark=self._remark)
        elif now - self._printed >= _LINE_SECONDS or (total and done == total and self._remark != self._ended):
            left = f"{_duration((total - done) / per_second)} left" if per_second > 0 and total > done else ""
            count = f"{what}: {done}" + (f" of {total}" if total else "")
            status.print(", ".join(part for part in (count, rate, left, self._remark) if part))
            self._printed = now
            self._ended = self._remark if done == total else None


@contextmanager
def progress() -> Iterator[Reporter]:
    """A reporter for the duration of a command."""
    if not status.is_terminal or status.quiet:
        yield Reporter(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}"),
    )
    with ProgressBar(*columns, console=status, transient=True) as bar:
        yield Reporter(bar)


def show_previews(previews: Sequence[PreviewExample]) -> None:
    """Prints examples; tokens that carry the loss are green in a terminal, in ⟦ ⟧ elsewhere."""
    for example in previews:
        about = example.instruction
        way = f" {about.source}→{about.target}" if about.source else ""
        where = " · ".join(part for part in (about.template, about.row) if part)
        title = f"#{example.index}  {about.objective}{way}  {where}"
        counts = f"{example.prompt_tokens} prompt + {example.answer_tokens} answer tokens"
        lost = f"; {', '.join(example.truncated)}" if example.truncated else ""
        out.print(Text(f"{title}  ({counts}{lost})", style="bold"))
        text = Text()
        text.append(_marked(example.prompt, example.loss_on_prompt), "green" if example.loss_on_prompt else "dim")
        text.append(" " if not example.loss_on_prompt else "")
        text.append(_marked(example.answer, True), "bold green")
        out.print(text, "\n")


def show_diagnosis(diagnosis: Diagnosis) -> None:
    """Prints a diagnosis: tables, findings with advice, and the verdict."""
    from instructalign.doctor.display import diagnosis_lines, diagnosis_tables

    for table in diagnosis_tables(diagnosis):
        print_table(table.title, table.columns, table.rows, numbers=True)
        out.print()
    for line in diagnosis_lines(diagnosis):
        out.print(line, markup=False)
    out.print()
    colours = {"ok": "green", "warning": "yellow", "problem": "red"}
    for finding in diagnosis.findings:
        text = Text(f"{finding.level:8}", style=f"bold {colours[finding.level]}")
        text.append(f" {finding.about}: {finding.found}", style="default")
        out.print(text)
        if finding.advice:
            out.print(Text(f"{'':8}   {finding.advice}", style="dim"))
    out.print(Text(f"\n{diagnosis.verdict}", style="bold"))


def print_json(value: Any) -> None:
    """Prints a value as JSON, on standard output alone and without colours."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False
) -> None:
    """Prints a small table; with `numbers`, all columns but the first are right-aligned."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for place, column in enumerate(columns):
        table.add_column(column, justify="right" if numbers and place else "left")
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    out.print(table)


def show_table(table: ReportTable) -> None:
    """Prints a table of the report, with the notes below its numbers."""
    shown = Table(box=None, pad_edge=False, header_style="bold")
    for column in table.columns:
        title = f"{column.title}\n{column.note}" if column.note else column.title
        shown.add_column(title, justify="right" if column.numeric else "left")
    for row in table.rows:
        cells = []
        for cell in row:
            text = Text(cell.text, style="bold" if cell.best else "")
            if cell.note:
                text.append(f"\n{cell.note}", style="dim")
            cells.append(text)
        shown.add_row(*cells)
    out.print(shown)
    out.print(Text(table.caption, style="dim"))


def _marked(text: str, carries_loss: bool) -> str:
    return f"⟦{text}⟧" if carries_loss and not sys.stdout.isatty() else text


def _duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
