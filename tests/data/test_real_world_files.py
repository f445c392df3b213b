"""The files of `benchmarks/files/cases.py`, rebuilt from public reports, through the command line."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from instructalign.cli import main

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks" / "files"))

from cases import CASES, Case
from run import run_case, verdict_of

FAST = [case for case in CASES if not case.model]


@pytest.mark.parametrize("case", FAST, ids=[case.name for case in FAST])
def test_files_from_public_reports(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def call(arguments: list[str], folder: Path) -> tuple[int, str]:
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, "argv", ["instructalign", *arguments])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, "".join(capfd.readouterr())

    assert verdict_of(case, run_case(case, tmp_path, call)) == ("PASS", "")
