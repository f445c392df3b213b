"""The progress of a long step: in a terminal, and without one."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from instructalign import console

REMARK = "loss 1.234, 5,678 tokens/s, 910 MB"


def shown(terminal: bool, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is written while ten of forty steps are done, two seconds each, after six that an earlier run did."""
    now, text = [100.0], io.StringIO()
    status = Console(file=text, force_terminal=terminal, width=140, get_time=lambda: now[0])
    monkeypatch.setattr(console, "status", status)
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(console, "_LINE_SECONDS", 0.0)
    with console.progress() as report:
        for done in range(6, 17):
            report("training", done, 40, REMARK if done == 16 else "")
            now[0] += 2.0 * (done < 16)
    return re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", text.getvalue())


def test_a_terminal_shows_how_far_how_fast_and_with_how_much_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    last = [line for line in shown(True, monkeypatch).splitlines() if "16/40" in line][-1]
    assert re.search(r"training .* 16/40 +2\.0 s/it +0:00:48 +loss 1\.234, 5,678 tokens/s, 910 MB", last)


def test_the_end_is_printed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr(console, "status", Console(file=text, width=140))
    report = console.Reporter(None)
    for cells in (1, 1, 1, 2):
        report("sweeping", 60, 60, f"{cells} of 2 cells done")
    ends = [line.rpartition(", ")[2] for line in text.getvalue().splitlines()[1:]]
    assert ends == ["1 of 2 cells done", "2 of 2 cells done"]


def test_each_part_of_a_step_has_a_rate_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    text, clock = io.StringIO(), iter([0.0, 0.0, 400.0, 410.0, 420.0])
    monkeypatch.setattr(console, "status", Console(file=text, width=140))
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    report = console.Reporter(None)
    for done, task in ((0, "sib200"), (400, "sib200"), (8, "nusax"), (18, "nusax")):
        report("evaluating", done, 400, task)
    assert text.getvalue().splitlines()[-1] == "evaluating: 18 of 400, 1.0/s, 6 min 22 s left, nusax"


def test_without_a_terminal_there_are_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    first, *_, last = shown(False, monkeypatch).splitlines()
    assert first == "training …"
    assert last == f"training: 16 of 40, 2.0 s/it, 48 s left, {REMARK}"


def test_no_rate_is_shown_where_none_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    console.Reporter(None)("writing", 20, 20)
    assert capsys.readouterr().err.splitlines() == ["writing …", "writing: 20 of 20"]
