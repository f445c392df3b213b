"""The guides keep their word: what they show as code and as files works as printed."""

from __future__ import annotations

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import pytest
import yaml
from safetensors.torch import load_file

from instructalign import generate, load_config, train
from instructalign.config import FilterConfig, ModelConfig
from instructalign.data.filters import resolve
from instructalign.plugins import FORMATS, OBJECTIVES, STRATEGIES, toy_base

ROOT = Path(__file__).parents[1]
QUICK = [
    "corpora.0.rows=40",
    "instructions.heldout=5",
    "replay.size=10",
    "training.steps=2",
    "training.batch_size=4",
    "evaluation.tasks=[]",
]


def blocks(guide: str, language: str) -> list[str]:
    text = (ROOT / "docs" / "guides" / guide).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def test_templates_of_your_own(tmp_path: Path) -> None:
    mine, settings = blocks("your-own-templates.md", "yaml")
    (tmp_path / "mine.yaml").write_text(mine, encoding="utf-8")
    wanted = yaml.safe_load(settings)["instructions"]
    assert wanted["templates"] == ["eng", "mine.yaml"]
    config = load_config(
        ROOT / "configs" / "quickstart.yaml",
        [*QUICK, "instructions.objectives={mt: 1, xss: 1}", f"instructions.templates=[eng, {tmp_path}/mine.yaml]"],
    )
    prompts = [instruction.prompt for instruction in generate(config, 60)]
    assert any(prompt.startswith("Traduce del ") for prompt in prompts)
    assert any(prompt.startswith("¿Dicen lo mismo?") for prompt in prompts)


def test_slots_of_each_objective() -> None:
    guide = (ROOT / "docs" / "guides" / "your-own-templates.md").read_text(encoding="utf-8")
    said = {
        name: [slot for _, slot, _, _ in Formatter().parse(slots) if slot]
        for name, slots in re.findall(r"^\| `(\w+)` \| (.*) \|$", guide, flags=re.MULTILINE)
    }
    assert said.keys() == set(OBJECTIVES.names())
    for name, slots in said.items():
        assert set(slots) == set(OBJECTIVES.get(name).slots), name  # type: ignore[attr-defined]


def test_presets_of_cleaning() -> None:
    guide = (ROOT / "docs" / "guides" / "cleaning.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in guide.splitlines()
        if line.startswith(("| filter |", "| `"))
    ]
    head, *filters = rows
    presets = [name.removesuffix(" (default)") for name in head[2:]]
    assert presets == list(get_args(FilterConfig.model_fields["preset"].annotation))
    assert f"{FilterConfig().preset} (default)" in head
    keys = set(FilterConfig.model_fields) - {"preset", "without", "rejects"}
    assert {name.strip("`") for name, *_ in filters} == keys
    for place, preset in enumerate(presets, start=2):
        settings = resolve(FilterConfig.model_validate({"preset": preset}))
        for row in filters:
            assert row[place] == bounds_in_words(settings.get(row[0].strip("`"))), (preset, row[0])
    [example] = blocks("cleaning.md", "yaml")
    FilterConfig.model_validate(yaml.safe_load(example)["filter"])


def bounds_in_words(setting: object) -> str:
    if not isinstance(setting, dict):
        return str(setting or "–")
    if len(setting) == 2:
        return f"{setting['min']} to {setting['max']}"
    return " ".join(f"{name} {value}" for name, value in setting.items())


def test_formats() -> None:
    guide = (ROOT / "docs" / "guides" / "formats.md").read_text(encoding="utf-8")
    table = [line.split("|")[1] for line in guide.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(table))) == FORMATS.names()
    for corpus in yaml.safe_load(blocks("formats.md", "yaml")[0])["corpora"]:
        FORMATS.check(corpus.pop("format"), corpus)


@pytest.mark.parametrize("name", FORMATS.names())
def test_every_format_is_described_with_an_example_that_is_valid(name: str) -> None:
    about = FORMATS.describe(name)
    assert about.summary.endswith(".")
    assert all(meaning for *_, meaning in about.options)
    [example] = yaml.safe_load(about.example)
    FORMATS.check(example.pop("format"), example)


def test_strategy_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [code], [entry] = blocks("strategies.md", "python"), blocks("strategies.md", "toml")
    settings = yaml.safe_load(blocks("strategies.md", "yaml")[-1])["training"]["strategy"]
    (tmp_path / "my_package.py").write_text(code, encoding="utf-8")
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n", encoding="utf-8")
    group, name, target = re.fullmatch(r'\[project\.entry-points\."(.+)"\]\n(\w+) = "(.+)"\n', entry).groups()  # type: ignore[union-attr]
    (installed / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(vars(STRATEGIES), "_places", raising=False)  # as in a process that starts now
    try:
        strategy = yaml.safe_dump(settings, default_flow_style=True, width=1000).strip()
        config = load_config(ROOT / "configs" / "quickstart.yaml", [*QUICK, f"training.strategy={strategy}"])
        done = train(config, tmp_path / "run")
    finally:
        vars(STRATEGIES).pop("_places", None)
    before, after = (load_file(Path(at) / "model.safetensors") for at in (toy_base(), done.model))
    same = {key for key, weight in after.items() if weight.equal(before[key])}
    assert {key for key in after if "norm" in key} <= same
    assert same < after.keys()


def test_keys_of_chat_models() -> None:
    [block] = blocks("chat-models.md", "yaml")
    model = ModelConfig.model_validate(yaml.safe_load(block)["model"])
    assert (model.chat_options, model.chat_date) == ({"enable_thinking": False}, "2026-05-01")
    guide = (ROOT / "docs" / "guides" / "chat-models.md").read_text(encoding="utf-8")
    for key in re.findall(r"`(?:model\.)?((?:chat|decoder|system)_\w+)", guide):
        assert key in ModelConfig.model_fields, key
