"""The JSON schema of a configuration: every key is described, every registered name has its options."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from instructalign import config, plugins
from instructalign.config import Config
from instructalign.config_file import UniqueKeys, build_config, starter

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(
    path for path in (ROOT / "configs").rglob("*.yaml") if path.parent.name not in ("accelerate", "dial", "tasks")
)
PLUGIN = '''
def read(languages, counts, *, path: str, sheets: list[int] = [1]):
    """Reads a spreadsheet.

    Args:
        path: the file,
            in any version.
        sheets: numbers of the sheets, from 1.
    """
    raise NotImplementedError
'''


def mismatches(value: Any, schema: dict[str, Any], root: dict[str, Any], path: str = "") -> Iterator[str]:
    """What in a value contradicts a JSON schema, for the keywords that occur in ours (any other is an error)."""
    schema = {key: rule for key, rule in schema.items() if key not in NOTES}
    if "$ref" in schema:
        yield from mismatches(value, root["$defs"][schema.pop("$ref").removeprefix("#/$defs/")], root, path)
    for keyword, rule in schema.items():
        if keyword in ("anyOf", "oneOf"):
            fits = sum(not list(mismatches(value, choice, root, path)) for choice in rule)
            if fits == 0 or (keyword == "oneOf" and fits > 1):
                yield f"{path}: {value!r} fits {fits} of the choices"
        elif keyword == "properties" and isinstance(value, dict):
            for key in {*value} & {*rule}:
                yield from mismatches(value[key], rule[key], root, f"{path}.{key}")
        elif keyword == "additionalProperties" and isinstance(value, dict):
            for key in {*value} - {*schema.get("properties", {})}:
                if rule is False:
                    yield f"{path}.{key}: not allowed"
                elif isinstance(rule, dict):
                    yield from mismatches(value[key], rule, root, f"{path}.{key}")
        elif keyword == "items" and isinstance(value, list):
            for number, item in enumerate(value):
                yield from mismatches(item, rule, root, f"{path}.{number}")
        elif not CHECKS[keyword](value, rule):
            yield f"{path}: {value!r} breaks {keyword}: {rule!r}"


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": is_number,
    "null": lambda value: value is None,
}
CHECKS = {
    "type": lambda value, rule: TYPES[rule](value),
    "enum": lambda value, rule: value in rule,
    "const": lambda value, rule: value == rule,
    "required": lambda value, rule: not isinstance(value, dict) or {*rule} <= {*value},
    "minimum": lambda value, rule: not is_number(value) or value >= rule,
    "maximum": lambda value, rule: not is_number(value) or value <= rule,
    "exclusiveMinimum": lambda value, rule: not is_number(value) or value > rule,
    "exclusiveMaximum": lambda value, rule: not is_number(value) or value < rule,
    "minItems": lambda value, rule: not isinstance(value, list) or len(value) >= rule,
    "minLength": lambda value, rule: not isinstance(value, str) or len(value) >= rule,
    "minProperties": lambda value, rule: not isinstance(value, dict) or len(value) >= rule,
    "additionalProperties": lambda value, rule: True,
    "properties": lambda value, rule: True,
    "items": lambda value, rule: True,
}
NOTES = ("title", "description", "default", "format", "discriminator", "$defs", "propertyNames")


@pytest.fixture(scope="module")
def schema() -> dict[str, Any]:
    return Config.model_json_schema()


def test_every_key_is_described() -> None:
    for model in vars(config).values():
        if isinstance(model, type) and issubclass(model, BaseModel) and model.__module__ == config.__name__:
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name}"


def corpus_formats(schema: dict[str, Any]) -> dict[str, Any]:
    choices = schema["properties"]["corpora"]["items"]["oneOf"]
    return {choice["properties"]["format"]["const"]: choice for choice in choices}


def test_every_registered_name_is_listed_with_its_options(schema: dict[str, Any]) -> None:
    definitions = schema["$defs"]
    formats = corpus_formats(schema)
    assert sorted(formats) == plugins.FORMATS.names()
    assert {"path", "columns", "label"} <= {*formats["tsv"]["properties"]}
    assert {"path"} <= {*formats["tsv"]["required"]}
    assert formats["flores"]["properties"]["splits"]["description"]
    for block, key, registry in (
        ("InstructionsConfig", "objectives", plugins.OBJECTIVES),
        ("TrainingConfig", "strategy", plugins.STRATEGIES),
    ):
        by_name = definitions[block]["properties"][key]["anyOf"][0]
        assert sorted(by_name["properties"]) == registry.names()
    source, several = definitions["ReplayConfig"]["properties"]["source"]["anyOf"]
    assert source == several["items"]
    assert len(source["oneOf"]) == len(plugins.REPLAY_SOURCES.names())


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_shipped_configurations_fit(path: Path, schema: dict[str, Any]) -> None:
    data = yaml.load(path.read_text(encoding="utf-8"), Loader=UniqueKeys)
    assert list(mismatches(data, schema, schema)) == []


def test_the_starter_and_a_resolved_copy_fit_and_a_wrong_one_does_not(schema: dict[str, Any]) -> None:
    data = yaml.load(starter(), Loader=UniqueKeys)
    assert list(mismatches(data, schema, schema)) == []
    resolved = yaml.load(build_config(data).to_yaml(), Loader=UniqueKeys)
    assert list(mismatches(resolved, schema, schema)) == []
    data["corpora"][0]["pth"] = data["corpora"][0].pop("path")
    data["training"]["steps"] = 0
    data["sweep"] = {"seeds": [-1]}
    wrong = {mismatch.partition(":")[0] for mismatch in mismatches(data, schema, schema)}
    assert wrong == {".corpora.0", ".training.steps", ".sweep.seeds"}


def test_a_plugin_is_in_the_schema_with_its_documentation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "spreadsheets.py").write_text(PLUGIN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    entry = EntryPoint("gnumeric", "spreadsheets:read", plugins.FORMATS.group)
    monkeypatch.setattr(plugins, "entry_points", lambda group: [entry] if group == entry.group else [])
    monkeypatch.delitem(vars(plugins.FORMATS), "_places", raising=False)
    try:
        made = corpus_formats(Config.model_json_schema())["gnumeric"]
        data = yaml.load(starter(), Loader=UniqueKeys) | {
            "corpora": [{"format": "gnumeric", "path": "words.xlsx"}]
        }
        [corpus] = build_config(data).corpora
    finally:
        vars(plugins.FORMATS).pop("_places", None)
    assert made["description"] == "Reads a spreadsheet."
    assert made["properties"]["path"]["description"] == "the file, in any version."
    assert made["properties"]["sheets"]["items"] == {"type": "integer"}
    assert made["required"] == ["path", "format"]
    assert corpus.options == {"path": "words.xlsx", "sheets": [1]}
