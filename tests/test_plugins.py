"""A format, an objective, a task source and a strategy from outside the package, one file each."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from instructalign import plugins, run
from instructalign.config_file import build_config
from instructalign.errors import ConfigError
from instructalign.plugins import toy_base

PLUGIN = Path(__file__).parent / "plugin"
ENTRY_POINTS = """
[instructalign.formats]
dashes = dashes_format:read_dashes
[instructalign.objectives]
reverse = reverse_objective:Reverse
[instructalign.task_sources]
parity = parity_task:read_parity
[instructalign.strategies]
damp_norms = norms_strategy:DampNorms
"""
REGISTRIES = (plugins.FORMATS, plugins.OBJECTIVES, plugins.TASK_SOURCES, plugins.STRATEGIES)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files of a run, for which the plug-in is installed as pip would."""
    metadata = tmp_path / "site" / "plugin-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin\nVersion: 1.0\n", encoding="utf-8")
    (metadata / "entry_points.txt").write_text(ENTRY_POINTS, encoding="utf-8")
    monkeypatch.syspath_prepend(PLUGIN)
    monkeypatch.syspath_prepend(tmp_path / "site")
    for registry in REGISTRIES:
        monkeypatch.delitem(vars(registry), "_places", raising=False)  # as in a process that starts now
    words = ["stone", "river", "bird", "tree", "house", "road", "song", "field", "boat", "door", "hill", "lamp"]
    lines = [f"the old {word} -- {word[::-1]} ovaf posut" for word in words]
    (tmp_path / "corpus.txt").write_text("\n".join(["eng -- jav", *lines]), encoding="utf-8")
    (tmp_path / "own.yaml").write_text(
        "{language: eng, source: test, licence: CC0-1.0, "
        "templates: {reverse: [{id: r, prompt: 'Backwards: {text}'}]}}",
        encoding="utf-8",
    )
    task = {
        "name": "parity",
        "title": "Even or odd",
        "source": "test",
        "licence": "CC0-1.0",
        "data": {"format": "parity", "items": 6},
        "fields": {"id": "id", "text": "text", "label": "label"},
        "languages": ["eng", "jav"],
        "labels": {"even": {"eng": "yes"}, "odd": {"eng": "no"}},
        "prompts": {"even": {"language": "eng", "prompt": "Even: {text} ?"}},
    }
    (tmp_path / "parity.yaml").write_text(yaml.safe_dump(task), encoding="utf-8")
    yield tmp_path
    for registry in REGISTRIES:
        vars(registry).pop("_places", None)
    for path in PLUGIN.glob("*.py"):
        sys.modules.pop(path.stem, None)


def settings(**objective: object) -> dict[str, object]:
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "dashes", "path": "corpus.txt", "mark": " -- "}],
        "instructions": {"objectives": {"reverse": objective}, "templates": ["own.yaml"], "heldout": 2},
        "training": {"steps": 2, "batch_size": 4, "strategy": {"damp_norms": None}, "report_to": []},
        "evaluation": {"tasks": ["parity.yaml"], "bootstrap": 0},
    }


def test_a_run_with_a_plug_in_for_each_list(installed: Path) -> None:
    config = build_config(settings(mark="/"), folder=installed)
    run(config, installed / "run")
    record = json.loads((installed / "run" / "run.json").read_text(encoding="utf-8"))
    assert record["strategies"]["damp_norms"]["steps"] == 2
    folders = (toy_base(), installed / "run" / "model")
    before, after = (load_file(folder / "model.safetensors") for folder in folders)
    changed = {name for name in after if not after[name].equal(before[name])}
    assert changed
    assert not [name for name in changed if "norm" in name]
    rows = json.loads((installed / "run" / "report.json").read_text(encoding="utf-8"))["rows"]
    assert {row["n"] for row in rows if row["task"] == "parity" and row["language"] == "jav"} == {6}
    from instructalign import generate

    [first] = generate(config, 1)
    assert first.objective == "reverse"
    text = first.prompt.removeprefix("Backwards: ")
    assert first.answer == "/".join(text.split()[::-1])


def test_options_of_plug_ins_are_checked(installed: Path) -> None:
    with pytest.raises(ConfigError, match=r"instructions\.objectives\.reverse\.marks: .*'mark'"):
        build_config(settings(marks="/"), folder=installed)
    wrong = settings() | {"training": {"steps": 1, "strategy": {"damp_norms": {"factor": "much"}}}}
    with pytest.raises(ConfigError, match=r"training\.strategy\.damp_norms\.factor: "):
        build_config(wrong, folder=installed)
