"""The order of the package: a stage imports earlier stages and the shared files only; `import` is light.

The rule holds for the built-in entries of the open lists too, which are loaded by name, with one exception that is
listed below. Plug-ins from outside may import anything. What a stage needs of a later one is passed to it by
`pipeline`, which may import everything: the test items to look for, the accuracy monitor.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from instructalign.plugins import FORMATS, OBJECTIVES, REPLAY_SOURCES, STRATEGIES, TASK_SOURCES, Registry

PACKAGE = Path(__file__).parents[1] / "src" / "instructalign"
SHARED = [
    "errors",
    "languages",
    "types",
    "randomness",
    "files",
    "file_kinds",
    "hub_access",
    "plugins",
    "licences",
    "notebooks",
]
SHARED += ["config", "config_file", "run_folder", "progress"]
STAGES = ["data", "instructions", "mixture", "training", "evaluation", "report"]
ABOVE = [
    "pipeline",
    "config_draft",
    "sentence_selection",
    "merging",
    "sweeps",
    "doctor",
    "toy",
    "ray_data",
    "synthesis",
    "interact",
    "sharing",
]  # may import any stage
ABOVE += ["config_draft", "console", "cli", "__main__", "__init__"]
HEAVY = ["torch", "transformers", "transformers.trainer", "peft", "bitsandbytes", "datasets", "pandas"]
"""What takes seconds to import."""


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


LISTS = {FORMATS: "data", OBJECTIVES: "instructions", REPLAY_SOURCES: "mixture", STRATEGIES: "training"}
LISTS |= {TASK_SOURCES: "evaluation"}
LATER = {"self"}
"""Built-in entries that run code of a later stage: with `format: self` the model writes the replay data."""


@pytest.mark.parametrize("registry", LISTS, ids=lambda registry: registry.kind)
def test_a_registered_name_loads_no_later_stage(registry: Registry) -> None:
    allowed = {
        *SHARED,
        *STAGES[: STAGES.index(LISTS[registry]) + 1],
        "toy",
    }
    for name, place in registry._builtin.items():
        module = place.partition(":")[0].removeprefix("instructalign.")
        found = {module.partition(".")[0]} | imported(PACKAGE / f"{module.replace('.', '/')}.py")
        assert (found <= allowed) == (name not in LATER), (name, found - allowed)


@pytest.mark.parametrize("name", SHARED)
def test_shared_files_import_no_stage(name: str) -> None:
    folder = PACKAGE / name
    for path in folder.glob("*.py") if folder.is_dir() else [PACKAGE / f"{name}.py"]:
        assert imported(path) <= set(SHARED), path


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, instructalign.cli; print('torch' in sys.modules, 'datasets' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_a_configuration_is_checked_without_torch(tmp_path: Path) -> None:
    from instructalign.plugins import STRATEGIES

    starter = (PACKAGE / "starter.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(starter, encoding="utf-8")
    needed = {"freeze": {"layers": 1}, "distil": {"on": "replay"}}
    every = {name: needed.get(name, {}) for name in STRATEGIES.names() if name != "none"}
    arguments = ["instructalign", "validate", "mine.yaml", "--set", f"training.strategy={json.dumps(every)}"]
    arguments += ["--set", "replay.source={format: self}"]
    code = f"import sys; from instructalign.cli import main\nsys.argv = {arguments!r}\nmain()\n"
    look = f"import atexit, sys; atexit.register(lambda: print({HEAVY!r}, *({{*{HEAVY!r}}} & {{*sys.modules}})))\n"
    done = subprocess.run([sys.executable, "-c", look + code], capture_output=True, text=True, cwd=tmp_path)
    assert "is valid" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == repr(HEAVY)
