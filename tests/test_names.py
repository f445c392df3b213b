"""One name, one meaning: no two files, classes, aliases or constants share a name; old names are nowhere."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "instructalign"
SOURCES = sorted(PACKAGE.rglob("*.py"))
SAME_FUNCTIONS = {
    "generate": "the pipeline's stage and the texts that a model generates",
    "preview": "the pipeline's stage and the examples that it shows",
    "train": "the pipeline's stage and the training itself",
}
"""Public functions that two modules may have, with the reason; a command may also be called like what it calls."""

OLD = r"""
    \b(configfile|runfolder|selfmade|keep_corpora|replay_share_of)\b | \b(gauge|tally)\b
    | instructalign[./](corpora|cluster|selfmade|registry|strict)\b | sweeps[./](run|plan|cluster|cell)\b
    | \b[Pp]ast\ (data|examples)\b | \bgone?\ on\ (from|with)\b
"""
TEXT = (".py", ".md", ".yaml", ".j2")
HISTORY = ("LOG.md", "results")  # of docs/: they name things as they were called at the time


def definitions(path: Path) -> Iterator[tuple[str, str]]:
    """The public names that a file defines at its top level, each with what it is."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        match node:
            case ast.FunctionDef(name=name):
                yield name, "function"
            case ast.ClassDef(name=name):
                yield name, "class"
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name, "constant"
            case ast.Assign(targets=targets):
                yield from ((target.id, "constant") for target in targets if isinstance(target, ast.Name))


def shared(names: Mapping[str, set[str]]) -> list[str]:
    return [f"{name}: {', '.join(sorted(places))}" for name, places in sorted(names.items()) if len(places) > 1]


def test_no_two_files_share_a_name() -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        if path.name not in ("__init__.py", "__main__.py"):
            names[path.stem].add(str(path.relative_to(PACKAGE)))
    assert not shared(names), "\n".join(shared(names))


@pytest.mark.parametrize("kind", ["function", "other"])
def test_no_two_modules_define_the_same_public_name(kind: str) -> None:
    names: dict[str, set[str]] = defaultdict(set)
    for path in SOURCES:
        if path.parent.name == "cli":
            continue
        for name, what in definitions(path):
            if (
                not name.startswith("_")
                and name not in ("log", "logger", "T")
                and (what == "function") == (kind == "function")
            ):
                names[name].add(str(path.relative_to(PACKAGE)))
    if kind == "function":
        assert {name for name in SAME_FUNCTIONS if len(names[name]) < 2} == set(), "no longer shared"
        names = {name: places for name, places in names.items() if name not in SAME_FUNCTIONS}
    assert not shared(names), "\n".join(shared(names))


def test_old_names_are_nowhere() -> None:
    docs = [
        path for path in (ROOT / "docs").rglob("*.md") if path.relative_to(ROOT / "docs").parts[0] not in HISTORY
    ]
    texts = [path for path in [*PACKAGE.rglob("*"), *docs] if path.suffix in TEXT]
    found = []
    for path in [*texts, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if old := re.search(OLD, line, re.VERBOSE):
                found.append(f"{path.relative_to(ROOT)}:{number}: {old[0]}")
    assert not found, "\n".join(found)
