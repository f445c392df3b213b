"""The configuration: strict, all problems at once, each with its path; and the same after a round trip."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from instructalign.config import Config
from instructalign.config_file import (
    _MEANT_VALUES,
    _SAID_ELSEWHERE,
    _models_in,
    build_config,
    load_config,
    starter,
)
from instructalign.errors import ConfigError
from instructalign.plugins import FORMATS
from instructalign.sweeps import plan_sweep

ROOT = Path(__file__).parents[1]


def minimal() -> dict[str, Any]:
    return {
        "model": {"base": "toy"},
        "languages": {"known": ["eng"], "new": ["jav"]},
        "corpora": [{"format": "tsv", "path": "corpus.tsv", "columns": {"eng": "English", "jav": "Javanese"}}],
        "training": {"steps": 10},
    }


def problems_of(data: Any, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        build_config(data, overrides=overrides)
    return list(caught.value.problems)


def test_minimal_configuration_has_the_defaults_of_the_paper_and_of_the_guide(tmp_path: Path) -> None:
    config = build_config(minimal(), folder=tmp_path)
    assert (config.seed, config.training.learning_rate, config.training.max_length) == (42, 1e-5, 128)
    assert list(config.instructions.objectives) == ["tlm", "mt"]
    assert config.corpora[0].options["path"] == tmp_path / "corpus.tsv"
    assert sum(config.instructions.noise.mixture.values()) == pytest.approx(1)


def test_all_problems_are_reported_at_once() -> None:
    data = minimal()
    data["training"] = {"step": 10, "learning_rate": -1}
    data["languages"]["new"] = ["javanese-of-the-east"]
    data["corpora"][0] |= {"pth": "x"}
    data["instructions"] = {"objectives": {"tml": 1}}
    found = problems_of(data)
    for expected in (
        "training.step: unknown key. Did you mean 'steps'?",
        "training.learning_rate: input should be greater than 0, found -1",
        "'javanese-of-the-east' is not a language code",
        "corpora.0.pth: unknown key. Did you mean 'path'?",
        "instructions.objectives.tml: unknown objective 'tml'. Did you mean 'tlm'?",
    ):
        assert any(expected in problem for problem in found), (expected, found)
    assert not any("missing" in problem for problem in found)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"languages": {"known": ["eng"], "new": ["en"]}}, "languages: 'eng' is listed under both"),
        ({"languages": {"known": [False], "new": ["jav"]}}, "languages.known.0: input should be a valid string"),
        ({"languages": {"known": ["eng"], "new": ["qaa"]}}, "add qaa to languages.names"),
        ({"corpora": [{"path": "x"}]}, "corpora.0: needs a format. Available: "),
        ({"corpora": [{"format": "tvs"}]}, "corpora.0.format: unknown corpus format 'tvs'. Did you mean 'tsv'?"),
        ({"corpora": [{"format": "toy", "weight": 2}]}, "corpora.0.weight: unknown key. "),
        ({"corpora": [{"format": "toy", "label": ""}]}, "corpora.0.label: "),
        ({"corpora": []}, "corpora: list should have at least 1 item"),
        ({"instructions": {"pivots": ["jav"]}}, "instructions.pivots: jav is not among languages.known"),
        ({"instructions": {"objectives": {"mt": 0}}}, "instructions.objectives: at least one weight"),
        ({"instructions": {"objectives": {"mt": True}}}, "objectives.mt.weight: input should be a valid number"),
        ({"instructions": {"objectives": {}}}, "instructions.objectives: expected at least one of align, "),
        ({"instructions": {"objectives": {"xss": {"negatives": "soft"}}}}, "objectives.xss.negatives: "),
        (
            {"instructions": {"objectives": {"tlm": {"noise": {"mask": ""}}}}},
            "instructions.objectives.tlm.noise.mask: ",
        ),
        ({"instructions": {"noise": {"mixture": {"infil": 1}}}}, "noise.mixture: unknown noise 'infil'"),
        (
            {"replay": {"source": {"format": "jsonl", "path": "x"}, "size": 5, "share": 0}},
            "replay: share is 0 but size is 5",
        ),
        ({"replay": {"source": []}}, "replay.source: list should have at least 1 item"),
        (
            {"replay": {"source": [{"format": "toy"}, {"format": "jsonk", "path": "x"}]}},
            "replay.source.1.format: unknown replay source 'jsonk'. Did you mean 'jsonl'?",
        ),
        ({"replay": {"source": {"format": "toy", "weight": 0}}}, "replay.source: at least one weight"),
        (
            {"replay": {"source": {"format": "toy"}, "select": {"bye": "task"}}},
            "replay.select.bye: unknown key. Did you mean 'by'?",
        ),
        (
            {"replay": {"source": {"format": "toy"}, "select": {"by": "topic"}}},
            "replay.select.by: input should be 'task', 'language' or 'length', found 'topic'",
        ),
        ({"replay": {"source": {"format": "toy"}, "share_of": "examples"}}, "replay.share_of: "),
        ({"replay": {"source": {"format": "toy"}, "share_of": "tokens"}}, "replay.share_of: 'tokens' was removed"),
        (
            {"replay": {"source": {"format": "toy"}, "preset": "paper", "share": 0.3, "repeat": False}},
            "which fixes share, repeat. Leave them out",
        ),
        (
            {
                "replay": {
                    "source": {"format": "toy"},
                    "schedule": {"shape": "staged", "stages": [{"at": 7, "share": 0.1}]},
                },
                "training": {"steps": 7},
            },
            "replay.schedule: the stage at: 7 never begins, since training.steps is 7",
        ),
        (
            {"training": {"steps": 5, "strategy": "repaly"}},
            "training.strategy.repaly: unknown strategy 'repaly'. Did you mean 'replay'?",
        ),
        (
            {"training": {"steps": 5, "strategy": {"ewc": {"wieght": 1}}}},
            "training.strategy.ewc.wieght: unknown key.",
        ),
        ({"training": {"steps": 5, "prompt_weight": 0.5}}, "training: prompt_weight has an effect with"),
        ({"training": {"steps": 5, "warmup": 9}}, "warmup (9) is longer than the training itself (5 steps)"),
        (
            {"replay": {"source": {"format": "jsonl", "path": "x"}}, "training": {"steps": 5, "strategy": "none"}},
            "training.strategy is none but replay.size is 10000",
        ),
    ],
)
def test_each_problem_says_what_is_wrong_and_where(change: dict[str, Any], message: str) -> None:
    [problem] = problems_of(minimal() | change)
    assert message in problem


def test_file_that_is_not_there_or_no_yaml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"`instructalign init --out .*my\.yaml` writes one"):
        load_config(tmp_path / "my.yaml")
    path = tmp_path / "twice.yaml"
    path.write_text("seed: 1\nseed: 2\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="line 2, column 1: duplicate key 'seed'"):
        load_config(path)
    path.write_text("just words", encoding="utf-8")
    with pytest.raises(ConfigError, match="expected keys such as model: and languages:, found 'just words'"):
        load_config(path)


def test_overrides_reach_every_depth(tmp_path: Path) -> None:
    config = build_config(
        minimal(),
        folder=tmp_path,
        overrides=["training.steps=7", "corpora.0.path=other.tsv", "languages.new=[jav, sun]", "seed=3"],
    )
    assert config.training.steps == 7
    assert config.corpora[0].options["path"] == tmp_path / "other.tsv"
    assert config.languages.new == ["jav", "sun"]
    assert config.seed == 3


def test_an_override_reaches_into_a_block_that_is_null(tmp_path: Path) -> None:
    data = minimal() | {"replay": None}
    config = build_config(data, folder=tmp_path, overrides=["replay.source={format: toy}", "replay.size=10"])
    assert config.replay is not None
    assert config.replay.size == 10


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.steps", "expected key.path=value"),
        ("training.stepz=3", "training.stepz: unknown key. Did you mean 'steps'?"),
        ("seed.deep.er=3", "seed is 1, which has no 'deep'"),
        ("corpora.1.path=x", "which has no '1'"),
        ("training.steps=[1", "is not YAML"),
    ],
)
def test_wrong_overrides(override: str, message: str) -> None:
    data = minimal() | {"seed": 1}
    [problem] = problems_of(data, override)
    assert message in problem


def test_resolved_copy_reads_back_as_the_same(tmp_path: Path) -> None:
    data = minimal()
    data["instructions"] = {"objectives": {"xss": {"weight": 2, "negatives": "hard"}, "mt": 1}}
    data["replay"] = {"source": {"format": "jsonl", "path": "past.jsonl"}, "size": 10}
    path = tmp_path / "elsewhere" / "config.yaml"
    path.parent.mkdir()
    plain = build_config(minimal(), folder=tmp_path)
    path.write_text(plain.to_yaml(), encoding="utf-8")
    assert load_config(path) == plain
    config = build_config(data, folder=tmp_path)
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config
    data["replay"] |= {
        "source": [
            {"format": "jsonl", "path": "past.jsonl", "label": "own", "weight": 2},
            {"format": "toy", "weight": 0},
            {"format": "toy"},
        ],
        "select": {"by": "length", "order": "longest"},
        "share_of": "rows",
        "schedule": {"shape": "staged", "stages": [{"at": 1, "share": 0.0}]},
    }
    config = build_config(data, folder=tmp_path)
    assert config.replay is not None
    assert [(source.label, source.weight) for source in config.replay.sources] == [("own", 2.0), (None, 1.0)]
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config
    assert yaml.safe_load(config.to_yaml()) == config.to_dict()


def test_the_toy_base_is_the_shipped_one_beside_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    assert build_config(minimal() | {"model": {"base": "toy"}}, folder=tmp_path).model.base == "toy"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "filter.length",
            200,
            "filter.length: expected a mapping with max and/or min, such as {max: 200}, found 200",
        ),
        (
            "filter.language",
            "m.bin",
            "expected a mapping with model, optionally min, such as {model: m.bin}, found 'm.bin'",
        ),
        ("training.probe", "x", "training.probe: expected a mapping with every and/or items, found 'x'"),
        ("evaluation", 3, "evaluation: expected a mapping with any of batch_tokens, bootstrap, "),
    ],
)
def test_a_value_in_place_of_a_block_is_reported_with_the_keys_of_the_block(
    key: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        build_config(yaml.safe_load(starter()), overrides=[(key, value)])
    assert message in str(caught.value)
    assert "instance of" not in str(caught.value)


def test_a_misspelt_key_is_reported_once() -> None:
    data = yaml.safe_load(starter())
    data["model"] = {"bas": "toy"}
    with pytest.raises(ConfigError) as caught:
        build_config(data)
    assert len(caught.value.problems) == 1
    assert "model.bas: unknown key. Did you mean 'base'?" in str(caught.value)


def test_a_removed_key_is_reported_once_with_what_to_write_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    advice = {"seed": {"*": "write sede"}, "model.dtype": {"float8": "write bfloat16"}}
    monkeypatch.setattr("instructalign.config_file.REMOVED", advice)
    data = minimal() | {"seed": "many", "model": {"base": "toy", "dtype": "float8"}}
    found = problems_of(data)
    assert [problem.partition(":")[0] for problem in found] == ["seed", "model.dtype"]
    assert "write sede" in found[0]
    assert "write bfloat16" in found[1]
    assert build_config(minimal() | {"model": {"base": "toy", "dtype": "float16"}}).model.dtype == "float16"


def test_starter_is_a_valid_configuration(tmp_path: Path) -> None:
    path = tmp_path / "instructalign.yaml"
    path.write_text(starter(), encoding="utf-8")
    assert load_config(path).training.steps == 5000


def test_what_the_starter_offers_in_comments_is_valid_too(tmp_path: Path) -> None:
    offered = re.findall(r"^ +# (- |adapter: |source: |length: )(\{.*?\})(?: +#.*)?$", starter(), re.MULTILINE)
    assert len(offered) >= 6
    for key, text in offered:
        data = yaml.safe_load(starter())
        value = yaml.safe_load(text)
        if key == "- ":
            data["corpora"] = [value]
        else:
            block = {"adapter": "model", "source": "replay", "length": "filter"}[key.removesuffix(": ")]
            data[block][key.removesuffix(": ")] = value
        build_config(data, folder=tmp_path)


SHIPPED = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("accelerate", "dial", "tasks")
)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    assert load_config(path).training.steps > 0


@pytest.mark.parametrize(
    "path", [p for p in SHIPPED if "\nsweep:" in p.read_text(encoding="utf-8")], ids=lambda p: p.stem
)
def test_shipped_sweeps_are_valid_in_every_cell(path: Path) -> None:
    plan = plan_sweep(path)
    command = re.search(r"instructalign sweep (\S+)", path.read_text(encoding="utf-8"))
    assert command is not None
    assert ROOT / command[1] == path
    assert len(plan.cells) > 3
    if path.parent.name == "toy":
        assert len({cell.seed for cell in plan.cells}) >= 3
        assert all(cell.config.training.steps <= 800 for cell in plan.cells)


def test_the_papers_recipe_has_the_papers_hyperparameters() -> None:
    config = load_config(ROOT / "configs" / "paper" / "bloomz-560m.yaml")
    assert config.model.base == "bigscience/bloomz-560m"
    training = config.training
    assert (training.learning_rate, training.steps, training.batch_size, training.max_length) == (
        1e-5,
        50_000,
        32,
        128,
    )
    assert (training.loss_on, training.precision, training.gradient_checkpointing) == ("all", "float16", True)
    assert config.seed == 42
    assert config.replay is not None
    assert (config.replay.size, config.replay.share) == (1000, 0.5)
    assert config.instructions.objectives["xss"].options["negatives"] == "paper"
    assert config.instructions.noise.probability == 0.2
    assert config.targets == ["ind", *config.languages.new]
    assert len(config.languages.new) == 7
    plain = yaml.safe_load((ROOT / "configs" / "paper" / "bloomz-560m.yaml").read_text(encoding="utf-8"))
    assert plain["instructions"]["noise"]["mixture"] == config.instructions.noise.mixture


def test_only_true_and_false_are_truth_values(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(
        "model: {base: toy}\n"
        "languages: {known: [eng, no], new: [jav]}\n"
        "corpora: [{format: toy}]\n"
        "replay: {source: {format: toy}}\n"
        "training: {steps: 5, gradient_checkpointing: true, strategy: {replay: , distil: {on: replay}}}\n",
        encoding="utf-8",
    )
    config = load_config(path)
    assert config.languages.known == ["eng", "nor"]
    assert config.training.gradient_checkpointing is True
    assert config.training.strategy["distil"].options["on"] == "replay"
    path.write_text(config.to_yaml(), encoding="utf-8")
    assert load_config(path) == config


def _paths(text: str) -> list[list[str]]:
    return [path.split(".") for path in re.findall(r"(?:model|instructions|training)\.[a-z_.]+[a-z]", text)]


def test_what_is_written_for_the_keys_of_other_tools_exists_here() -> None:
    for here in _SAID_ELSEWHERE:
        for path in _paths(here):
            block: Any = Config
            for part in path:
                assert part in block.model_fields, here
                block = next(_models_in(block.model_fields[part].annotation), None)
    names = [name for names in _SAID_ELSEWHERE.values() for name in names.split()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("override", "path", "written"),
    [
        ("lr=0.1", "lr", "training.learning_rate"),
        ("base_model=x", "base_model", "model.base"),
        ("epochs=3", "epochs", "training.steps"),
        ("training.num_train_epochs=3", "training.num_train_epochs", "training.steps"),
        ("training.per_device_train_batch_size=3", "training.per_device_train_batch_size", "training.batch_size"),
        ("model.adapter.lora_r=8", "model.adapter.lora_r", "model.adapter.r"),
        ("lora-alpha=8", "lora-alpha", "model.adapter.alpha"),
        ("model.adapter.type=qlora", "model.adapter.type", "quantised: true"),
        ("corpora=[{format: excel, path: a.xlsx}]", "corpora.0.format", "xlsx"),
        ("training.precision=bf16", "training.precision", "bfloat16"),
        ("batch_size=8", "batch_size", "training.batch_size"),
        ("training.pivots=[eng]", "training.pivots", "instructions.pivots"),
    ],
)
def test_near_misses_are_answered_with_the_key_of_this_package(override: str, path: str, written: str) -> None:
    (problem,) = problems_of(minimal(), override)
    assert problem.startswith(f"{path}: ")
    assert written in problem


def test_values_of_other_tools_are_answered_with_one_that_is_valid_here() -> None:
    keys = {"type": "model.adapter", "dtype": "model", "format": "", "scheduler": "training"}
    for key, table in _MEANT_VALUES.items():
        for here, others in table.items():
            here = here.split()[0]
            if key == "format":
                assert here in FORMATS.names()
            else:
                set_here = f"{keys.get(key, 'training')}.{key}"
                build_config(minimal(), overrides=[(set_here, here)])
                for other in others.split():
                    (problem,) = problems_of(minimal(), f"{set_here}={other}")
                    assert f"called {here}" in problem


@pytest.mark.parametrize(
    ("entry", "path", "written"),
    [
        ({"format": "csv", "path": "a", "sep": ";"}, "corpora.0.sep", "delimiter"),
        ({"format": "csv", "file": "a"}, "corpora.0.file", "path"),
        ({"format": "csv", "data_files": "a"}, "corpora.0.data_files", "path"),
        ({"format": "moses", "path": "a"}, "corpora.0.path", "files, by language"),
        ({"format": "hub", "dataset": "a"}, "corpora.0.dataset", "name"),
        ({"format": "csv", "path": "a", "src": "en"}, "corpora.0.src", "columns, by language"),
        ({"format": "csv", "path": "a", "target": "jv"}, "corpora.0.target", "columns, by language"),
        (
            {"format": "csv", "path": "a", "columns": {"src": "A", "tgt": "B"}},
            "corpora.0.columns",
            "{eng: A, jav: B}",
        ),
        ({"format": "eaf", "path": "a", "tiers": {"eng": "ft"}, "target": "x"}, "corpora.0.target", "tiers"),
        ({"format": "csv", "path": "a", "encoding": "latin-1"}, "corpora.0.encoding", "UTF-8"),
        ({"type": "csv", "path": "a"}, "corpora.0", "format: csv"),
        ({"format": "csv", "path": ["a", "b"]}, "corpora.0.path", "an entry of its own"),
        ({"format": "moses", "files": ["a", "b"]}, "corpora.0.files", "{eng: "),
        (
            {"format": "csv", "path": "https://example.org/a.csv"},
            "corpora.0",
            "https://example.org/a.csv is an address",
        ),
        (
            {"format": "tatoeba", "sentences": ["a.csv", "https://example.org/b.csv"], "links": "links.csv"},
            "corpora.0",
            "https://example.org/b.csv is an address",
        ),
        ({"format": "csv", "path": "a", "licence": "CC0-1.0", "license": "MIT"}, "corpora.0.license", "licence"),
        ("a.csv", "corpora.0", "{format: "),
        ({"format": "tsv", "path": "a", "escape": "\\"}, "corpora.0", "quoting: true"),
        ({"format": "csv", "path": "a", "language_column": "lang"}, "corpora.0", "text_column and id"),
        ({"format": "xlsx", "path": "a", "text_column": "text"}, "corpora.0", "text_column and id"),
    ],
)
def test_near_misses_in_an_entry_are_one_problem_each(entry: Any, path: str, written: str) -> None:
    (problem,) = problems_of({**minimal(), "corpora": [entry]})
    assert problem.startswith(f"{path}: ")
    assert written in problem


def test_a_template_is_one_of_two_things_here() -> None:
    for override, path in (("template=chatml", "template"), ("model.template=chatml", "model.template")):
        (problem,) = problems_of(minimal(), override)
        assert problem.startswith(f"{path}: unknown key")
        assert "model.chat_template" in problem
        assert "instructions.templates" in problem
