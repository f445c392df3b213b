"""The wheel in an empty environment, outside the repository: its files, its commands, its configurations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from instructalign.config_file import shipped_configurations
from test_cli import call

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("src", "configs"):
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in"):
        shutil.copy(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    subprocess.run([*pip, str(source)], check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    there = [path.relative_to(ROOT / "src") for path in (ROOT / "src").rglob("*") if path.is_file()]
    wanted = {path.as_posix() for path in there if "__pycache__" not in path.parts and "egg-info" not in str(path)}
    wanted |= {f"instructalign/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    assert wanted <= packed
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    lent = next(path for path in sys.path if path.endswith("site-packages"))  # its dependencies
    (packages / "lent.pth").write_text(f"{lent}\n")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*arguments: str) -> str:
        command = [str(tmp_path / "venv" / "bin" / "python"), "-m", "instructalign", *arguments]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "paper/bloomz-560m" in run("configs", "ls")
    run("configs", "copy", "quickstart")
    assert "is valid" in run("validate", "quickstart.yaml")
    assert "#0" in run("preview", "quickstart.yaml", "-n", "1")


def test_configurations_are_listed_and_copied(tmp_path: Path) -> None:
    names = {
        path.relative_to(ROOT / "configs").with_suffix("").as_posix()
        for path in (ROOT / "configs").rglob("*.yaml")
    }
    assert set(shipped_configurations()) == names
    assert "quickstart" in call("configs", "ls").stdout
    assert call("configs", "copy", "quickstart", folder=tmp_path).returncode == 0
    assert (tmp_path / "quickstart.yaml").read_bytes() == (ROOT / "configs" / "quickstart.yaml").read_bytes()
    again = call("configs", "copy", "quickstart", folder=tmp_path)
    assert (again.returncode, "--out" in again.stderr) == (1, True)
    wrong = call("configs", "copy", "quikstart", folder=tmp_path)
    assert (wrong.returncode, "Did you mean 'quickstart'" in wrong.stderr) == (2, True)
