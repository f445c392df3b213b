"""The house's order: a stage imports earlier stages and the shared files only; nothing heavy at the door."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "instructalign"
SHARED = ["errors", "languages", "records", "randomness", "files", "registry"]
SHARED += ["strict", "config", "configfile", "runfolder", "progress"]
STAGES = ["corpora", "instructions", "mixture", "training", "evaluation", "report"]
ABOVE = ["pipeline", "stages", "merging", "sweeps", "doctor", "toy", "cluster"]  # may import any stage
ABOVE += ["console", "cli", "__main__", "__init__"]


def imported(path: Path) -> set[str]:
    """The parts of the package that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("instructalign.")}


def test_every_file_has_its_place() -> None:
    found = {path.stem for path in PACKAGE.glob("*.py")} | {path.parent.name for path in PACKAGE.glob("*/*.py")}
    assert found <= {*SHARED, *STAGES, *ABOVE}


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_earlier_ones(stage: str) -> None:
    allowed = {*SHARED, *STAGES[: STAGES.index(stage) + 1]}
    for path in (PACKAGE / stage).rglob("*.py"):
        assert imported(path) <= allowed, path


@pytest.mark.parametrize("name", SHARED)
def test_shared_files_import_no_stage(name: str) -> None:
    folder = PACKAGE / name
    for path in folder.glob("*.py") if folder.is_dir() else [PACKAGE / f"{name}.py"]:
        assert imported(path) <= set(SHARED), path


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, instructalign.cli; print('torch' in sys.modules, 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
