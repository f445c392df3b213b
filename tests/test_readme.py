"""The README keeps its word: its example runs, its tree is the disk's, its commands exist."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml

from instructalign import __all__ as public
from instructalign.cli import app
from instructalign.config_file import build_config

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, flags=re.DOTALL | re.MULTILINE)
    return [text for name, text in found if name == language]


def test_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    [example] = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] in ("tlm", "mt", "xss") for line in printed[:3]] == [True] * 3
    assert re.fullmatch(r"\[\('L1', [01]\.\d+\), \('L2', [01]\.\d+\), \('L3', [01]\.\d+\)\]", printed[3])
    assert Path(printed[4]).is_file()


def test_configuration_example_is_valid(tmp_path: Path) -> None:
    [example] = blocks("yaml")
    config = build_config(yaml.safe_load(example), folder=tmp_path)
    assert config.replay is not None
    assert config.replay.size == 10_000


def test_tree_is_that_of_the_disk() -> None:
    tree = next(block for block in blocks("") if block.startswith("src/instructalign/"))
    listed = [line.split()[0] for line in tree.splitlines()]
    inside = {line.split()[0] for line in tree.splitlines() if line.startswith("  ")}
    for name in listed:
        folder = ROOT / "src" / "instructalign" if name in inside else ROOT
        assert (folder / name).exists(), name
    stages = {f"{path.parent.name}/" for path in (ROOT / "src" / "instructalign").glob("*/__init__.py")}
    assert stages == {name for name in inside if name.endswith("/")}


def test_every_command_is_in_the_table() -> None:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    groups = {group.name for group in app.registered_groups}
    assert commands | groups == set(re.findall(r"`instructalign ([a-z-]+)[ `]", TEXT.split("## Commands")[1]))


def test_public_names_can_be_imported() -> None:
    import instructalign

    for name in public:
        assert getattr(instructalign, name) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = instructalign.nothing
