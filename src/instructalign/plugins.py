"""The open lists: corpus formats, objectives, replay sources, strategies and task sources.

An entry is a function or class. The keyword-only arguments of its signature are its options in the configuration,
checked with the types they are annotated with and described by the `Args:` of its docstring; so a new entry is one
file and one line below. What is wrong with options together, a function `check_options` of the same module says.
Another package adds entries through the entry-point group named with each list.

In the configuration's pydantic models a list is a field of type `CorpusEntry`, `ReplayEntries`, … (at the end of
this file). Only the modules of the names that a configuration uses are imported to check it; the JSON schema
covers every registered name, with plug-ins.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    TypeAdapter,
    ValidationError,
    create_model,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, SchemaValidator, core_schema

from instructalign.errors import UnknownNameError, found
from instructalign.languages import LanguageCode

_ADDRESS = re.compile(r"[a-z0-9]{2,}:/", re.IGNORECASE)  # C:/ is none
ENTRY_MODELS: dict[str, type[BaseModel]] = {}
"""The model that checks an entry, by the tag which it has in the location of a pydantic error."""


class Entry(BaseModel):
    """One entry of an open list, with its options checked.

    Attributes:
        name: what it is registered as.
        label: what the user calls it: a prefix of the ids of a corpus's rows, for example.
        licence, provenance: under what terms the data may be used, and where it comes from, in the user's words.
        languages: the languages to read of a corpus; None for all that are configured.
        synthetic: those of its languages that a machine wrote, which are sources and never targets; None for none.
        options: the arguments of the registered function or class.
        weight: relative to the other entries of the list.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: str | None = None
    licence: str | None = None
    provenance: str | None = None
    languages: list[str] | None = None
    synthetic: list[str] | None = None
    options: dict[str, Any] = {}
    weight: float = 1.0

    def is_for(self, languages: Collection[str]) -> bool:
        """Whether a run of these languages reads the corpus, or another stage does, whose languages it names."""
        own = self.languages
        return own is None or len(set(own).intersection(languages)) >= min(2, len(own))


Label = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    Field(description="A name for it, before the ids of its rows; corpora with the same label share their ids."),
]
Licence = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    Field(description="Its licence (an SPDX name such as CC-BY-4.0), for the report and the model card."),
]
Provenance = Annotated[
    Annotated[str, Field(min_length=1)] | None,
    Field(description="Who made it and with whose consent it is used, in your words, for the model card."),
]
_OF_DATA: dict[str, tuple[Any, Any]] = {
    "label": (Label, None),
    "licence": (Licence, None),
    "provenance": (Provenance, None),
}
Languages = Annotated[
    Annotated[list[LanguageCode], Field(min_length=1)] | None,
    Field(description="The languages to read from it. One makes it monolingual text. Default: all configured."),
]
Synthetic = Annotated[
    Annotated[list[LanguageCode], BeforeValidator(lambda one: [one] if isinstance(one, str) else one)] | None,
    Field(
        description="Languages whose text a machine wrote: the model is given it, and never taught to write it."
    ),
]
Weight = Annotated[
    float,
    Field(ge=0, strict=True, allow_inf_nan=False, description="Relative to the other entries; 0 leaves it out."),
]


@dataclass(frozen=True, slots=True)
class EntryDescription:
    """What users are told of an entry.

    Attributes:
        summary: in one sentence.
        text: the documentation without its sections.
        options: name, type, default and meaning of each.
        example: as YAML, one item of a list; empty where the documentation has none.
        package: the Python package that it comes from.
    """

    summary: str
    text: str
    options: list[list[str]]
    example: str
    package: str


class Registry:
    """Names and the functions or classes registered under them, which are imported on first use.

    Args:
        kind: what an entry is, for error messages ("corpus format").
        group: the entry-point group through which other packages add entries.
        builtin: name → "module:attribute".
        shared: keys that every entry has besides its own options, with type and default.
        by_name: whether the configuration has entries under their names, and not with the name under `format`.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        builtin: Mapping[str, str],
        *,
        shared: Mapping[str, tuple[Any, Any]] | None = None,
        by_name: bool = False,
    ) -> None:
        self.kind = kind
        self.group = group
        self._builtin = dict(builtin)
        self._shared = dict(shared or {})
        self.by_name = by_name
        self._options: dict[str, list[str]] = {}

    @cached_property
    def _places(self) -> dict[str, str]:
        return {**{entry.name: entry.value for entry in entry_points(group=self.group)}, **self._builtin}

    def names(self) -> list[str]:
        """Every name, sorted."""
        return sorted(self._places)

    def in_order(self, chosen: Iterable[str]) -> list[str]:
        """Some of the names in the order of the list; those of other packages come last."""
        order = {name: place for place, name in enumerate(self._builtin)}
        return sorted(chosen, key=lambda name: order.get(name, len(order)))

    def __contains__(self, name: object) -> bool:
        return name in self._places

    def get(self, name: str) -> Callable[..., Any]:
        """The function or class registered under a name.

        Raises:
            UnknownNameError: there is no such name; the message lists those there are.
        """
        if name not in self._places:
            raise UnknownNameError(self.kind, name, self._places)
        module, _, attribute = self._places[name].partition(":")
        entry: Callable[..., Any] = getattr(import_module(module), attribute)
        return entry

    def describe(self, name: str) -> EntryDescription:
        """What an entry is for and its options, from its documentation and types.

        Raises:
            UnknownNameError: there is no such name.
        """
        entry = self.get(name)
        text = inspect.cleandoc(entry.__doc__ or "")
        model = self.entry_model(name)
        fields = {key: field for key, field in model.model_fields.items() if key != "format"}
        schema = model.model_json_schema()
        options = [
            [
                option,
                _type_in_words(schema["properties"][option], schema.get("$defs", {})),
                "required"
                if field.is_required()
                else _default_in_words(field.get_default(call_default_factory=True)),
                field.description or "",
            ]
            for option, field in fields.items()
        ]
        example = text.partition("\nExample:\n")[2].partition("\n\n")[0].strip()
        if example:
            given = {**yaml.safe_load(example), "format": name}
            block = yaml.safe_dump([given], sort_keys=False, allow_unicode=True)
            example = "".join(f"  {line}\n" for line in block.splitlines())
        prose = re.split(r"\n(?:Args|Raises|Example|Returns):\n", text)[0].strip()
        summary = prose.partition("\n\n")[0].replace("\n", " ")
        return EntryDescription(summary, prose, options, example, entry.__module__.partition(".")[0])

    def entry_model(self, name: str) -> type[BaseModel]:
        """A strict model of an entry as the configuration has it: its options and the keys that all entries share.

        Raises:
            UnknownNameError: there is no such name.
        """
        tag = f"{self.kind}={name}"
        if tag not in ENTRY_MODELS:
            entry = self.get(name)
            target = entry.__init__ if inspect.isclass(entry) else entry
            hints, docs = get_type_hints(target, include_extras=True), _argument_docs(entry)
            fields: dict[str, Any] = {
                parameter.name: (
                    hints.get(parameter.name, Any),
                    Field(
                        ... if parameter.default is inspect.Parameter.empty else parameter.default,
                        description=docs.get(parameter.name),
                    ),
                )
                for parameter in inspect.signature(target).parameters.values()
                if parameter.kind is inspect.Parameter.KEYWORD_ONLY
            }
            self._options[name] = [*fields]
            fields |= self._shared
            if not self.by_name:
                fields["format"] = (Literal[name], Field(description=f"The {self.kind}."))
            ENTRY_MODELS[tag] = create_model(
                f"{self.kind} {name}",
                __config__=ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True),
                __doc__=inspect.cleandoc(entry.__doc__ or "").partition("\n\n")[0],
                **fields,
            )
        return ENTRY_MODELS[tag]

    def check(self, name: str, given: Mapping[str, Any]) -> Entry:
        """The entry that a part of the configuration describes.

        Raises:
            UnknownNameError: there is no such name.
            ValidationError: options are wrong; each location begins with the tag of the entry's model.
        """
        model, tag = self.entry_model(name), f"{self.kind}={name}"
        if "license" in given and "licence" in self._shared and "licence" not in given:  # American spelling
            given = {"licence" if key == "license" else key: value for key, value in given.items()}
        adapter = TypeAdapter[dict[str, Any]](dict[str, model])  # type: ignore[valid-type]
        made = adapter.validate_python({tag: dict(given) if self.by_name else {**given, "format": name}})[tag]
        shared = {key: getattr(made, key) for key in self._shared}
        return Entry(name=name, options={key: getattr(made, key) for key in self._options[name]}, **shared)


class OneEntry:
    """Annotates a field that holds one entry, with its name under `format`: `{format: tsv, path: corpus.tsv}`.

    Args:
        registry: the list.
        default: the format where none is given.
    """

    def __init__(self, registry: Registry, default: str | None = None) -> None:
        self.registry = registry
        self.default = default

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        models = [self.registry.entry_model(name) for name in self.registry.names()]
        choices = [handler(model.__pydantic_core_schema__) for model in models]
        return {"oneOf": choices, "type": "object", "discriminator": {"propertyName": "format"}}

    def read(self, value: Any) -> Any:
        """The entry; one that was checked before stays as it is."""
        if isinstance(value, Entry):
            return value
        names = self.registry.names()
        if not isinstance(value, Mapping):
            raise ValueError(f"expected keys, such as {{format: jsonl, path: past.jsonl}}, found {found(value)}")
        name = value.get("format", self.default)
        if name is None:
            meant = value.get("type") if value.get("type") in names else ""
            advice = f" Write format: {meant}, not type." if meant else f" Available: {', '.join(names)}."
            raise ValueError(f"needs a format.{advice}")
        try:
            entry = self.registry.check(str(name), value)
            if problem := _problem_of(entry, self.registry.get(str(name))):
                raise ValueError(problem)
            return entry
        except UnknownNameError as error:
            cause = {"error": ValueError(str(error))}
            details = InitErrorDetails(type="value_error", loc=("format",), input=name, ctx=cause)
            raise ValidationError.from_exception_data(self.registry.kind, [details]) from None


def _problem_of(entry: Entry, read: Any) -> str:
    """What a run would refuse in an entry whose options are right one by one; empty if nothing."""
    check = getattr(import_module(read.__module__), "check_options", None)
    if address := next((path for path in map(str, paths_in(entry.options)) if _ADDRESS.match(path)), ""):
        address = address.replace(":/", "://", 1)  # Path has made one slash of two
        return f"{address} is an address, not a path; download the file and give its path"
    return check(entry.options) if check else ""


def paths_in(value: Any) -> Iterator[Path]:
    """The files and folders that options name."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, (dict, list, tuple)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from paths_in(inner)


class OneOrMoreEntries(OneEntry):
    """Annotates a field that holds one entry with its `format`, or a list of them with weights."""

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        one = super().__get_pydantic_json_schema__(schema, handler)
        return {"anyOf": [one, {"type": "array", "items": one, "minItems": 1}]}

    def read(self, value: Any) -> Any:
        """The entry, or those of the list whose weight is above 0."""
        if not isinstance(value, list):
            entry = super().read(value)
            _require_weight([entry])
            return entry
        one = core_schema.no_info_plain_validator_function(super().read)
        entries = SchemaValidator(core_schema.list_schema(one, min_length=1)).validate_python(value)
        _require_weight(entries)
        return [entry for entry in entries if entry.weight > 0]


class EntriesByName:
    """Annotates a field that holds entries by name: `{tlm: 1, xss: {weight: 2, negatives: hard}}`.

    One name, or a list of names, will do where no options are set.
    """

    def __init__(self, registry: Registry) -> None:
        self.registry = registry

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self.read)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        names, properties = self.registry.names(), dict[str, Any]()
        for name in names:
            model = self.registry.entry_model(name)
            short = [{"type": "number", "minimum": 0}] if "weight" in model.model_fields else []
            properties[name] = {"anyOf": [handler(model.__pydantic_core_schema__), *short, {"type": "null"}]}
        by_name = {"type": "object", "properties": properties, "additionalProperties": False, "minProperties": 1}
        alone = {"type": "string", "enum": names}
        return {"anyOf": [by_name, alone, {"type": "array", "items": alone, "minItems": 1}]}

    def read(self, value: Any) -> dict[str, Entry]:
        """The entries whose weight is above 0."""
        if isinstance(value, str):
            value = {value: None}
        elif isinstance(value, list) and all(isinstance(name, str) for name in value):
            value = dict.fromkeys(value)
        if not isinstance(value, Mapping) or not value:
            raise ValueError(f"expected at least one of {', '.join(self.registry.names())}, found {found(value)}")
        # A typed dictionary of these names, so that pydantic collects the errors of all of them.
        fields = {
            str(name): core_schema.typed_dict_field(
                core_schema.no_info_plain_validator_function(partial(self._read_one, str(name)))
            )
            for name in value
        }
        validator = SchemaValidator(core_schema.typed_dict_schema(fields))
        entries: dict[str, Entry] = validator.validate_python({str(name): each for name, each in value.items()})
        _require_weight(entries.values())
        return {name: entry for name, entry in entries.items() if entry.weight > 0}

    def _read_one(self, name: str, given: Any) -> Entry:
        if isinstance(given, Entry):
            return given
        # `tlm: 2` is short for `tlm: {weight: 2}`.
        options = given if isinstance(given, Mapping) else {} if given is None else {"weight": given}
        try:
            return self.registry.check(name, options)
        except UnknownNameError as error:
            raise ValueError(str(error)) from None


def _require_weight(entries: Iterable[Entry]) -> None:
    if not any(entry.weight > 0 for entry in entries):
        raise ValueError("at least one weight must be above 0")


def _type_in_words(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """A JSON schema as users read it: "path", "list of text", "text or whole number"."""
    if "$ref" in schema:
        return _type_in_words(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema or "enum" in schema:
        return ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if "anyOf" in schema:
        kinds = [_type_in_words(each, definitions) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    kind = schema.get("type", "anything")
    if kind == "array":
        return f"list of {_type_in_words(schema.get('items', {}), definitions)}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return (
            f"by language: {_type_in_words(values, definitions)}"
            if isinstance(values, dict)
            else "keys and values"
        )
    if schema.get("format") in ("path", "file-path", "directory-path"):
        return "path"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
    return words.get(str(kind), str(kind))


def _default_in_words(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _argument_docs(entry: Callable[..., Any]) -> dict[str, str]:
    """What the `Args:` of a docstring say about each argument."""
    _, _, section = inspect.cleandoc(entry.__doc__ or "").partition("\nArgs:\n")
    docs: dict[str, str] = {}
    for names, text in re.findall(
        r"^    (\w[\w, ]*): (.*(?:\n {6,}.*)*)", section.partition("\n\n")[0], re.MULTILINE
    ):
        docs |= dict.fromkeys(names.split(", "), " ".join(text.split()))
    return docs


FORMATS = Registry(
    "corpus format",
    "instructalign.formats",
    {
        "flores": "instructalign.data.formats.flores:read_flores",
        "text": "instructalign.data.formats.plain_text:read_text",
        "tsv": "instructalign.data.formats.tabular:read_tsv_rows",
        "csv": "instructalign.data.formats.tabular:read_csv_rows",
        "jsonl": "instructalign.data.formats.tabular:read_jsonl_rows",
        "moses": "instructalign.data.formats.moses:read_moses",
        "opus": "instructalign.data.formats.opus:read_opus",
        "parquet": "instructalign.data.formats.tabular:read_parquet_rows",
        "tmx": "instructalign.data.formats.tmx:read_tmx",
        "xliff": "instructalign.data.formats.xliff:read_xliff",
        "xlsx": "instructalign.data.formats.spreadsheets:read_spreadsheet",
        "ods": "instructalign.data.formats.spreadsheets:read_spreadsheet",
        "usfm": "instructalign.data.formats.scripture:read_scripture",
        "usx": "instructalign.data.formats.scripture:read_scripture",
        "vref": "instructalign.data.formats.scripture:read_vref",
        "flextext": "instructalign.data.formats.fieldworks:read_flextext",
        "lift": "instructalign.data.formats.fieldworks:read_lift",
        "toolbox": "instructalign.data.formats.toolbox:read_toolbox",
        "eaf": "instructalign.data.formats.elan:read_eaf",
        "po": "instructalign.data.formats.gettext_po:read_po",
        "srt": "instructalign.data.formats.subtitles:read_subtitles",
        "vtt": "instructalign.data.formats.subtitles:read_subtitles",
        "ass": "instructalign.data.formats.subtitles:read_subtitles",
        "tatoeba": "instructalign.data.formats.tatoeba:read_tatoeba",
        "hub": "instructalign.data.formats.tabular:read_hub_rows",
        "flores_plus": "instructalign.data.formats.flores:read_flores_plus",
        "toy": "instructalign.toy.datasets:read_corpus",
    },
    shared={**_OF_DATA, "languages": (Languages, None), "synthetic": (Synthetic, None)},
)

OBJECTIVES = Registry(
    "objective",
    "instructalign.objectives",
    {
        "lm": "instructalign.instructions.objectives.lm:LM",
        "mlm": "instructalign.instructions.objectives.denoising:MLM",
        "tlm": "instructalign.instructions.objectives.denoising:TLM",
        "mt": "instructalign.instructions.objectives.mt:MT",
        "xss": "instructalign.instructions.objectives.xss:XSS",
        "align": "instructalign.instructions.objectives.align:Align",
        "dictionary": "instructalign.instructions.objectives.dictionary:Dictionary",
        "hints": "instructalign.instructions.objectives.hints:Hints",
        "codeswitch": "instructalign.instructions.objectives.codeswitch:CodeSwitch",
        "cloze": "instructalign.instructions.objectives.cloze:Cloze",
    },
    shared={"weight": (Weight, 1.0)},
    by_name=True,
)

REPLAY_SOURCES = Registry(
    "replay source",
    "instructalign.replay_sources",
    {
        "jsonl": "instructalign.mixture.replay_sources:read_jsonl_examples",
        "hub": "instructalign.mixture.replay_sources:read_hub_examples",
        "self": "instructalign.synthesis.self_replay:read_self",
        "toy": "instructalign.toy.datasets:read_replay",
        "carried": "instructalign.mixture.carried_replay:read_carried",
    },
    shared=_OF_DATA | {"weight": (Weight, 1.0)},
)

STRATEGIES = Registry(
    "strategy",
    "instructalign.strategies",
    {
        "none": "instructalign.training.strategies.no_op:NoStrategy",
        "replay": "instructalign.training.strategies.no_op:Replay",
        "freeze": "instructalign.training.strategies.freeze:Freeze",
        "ssu": "instructalign.training.strategies.ssu:SourceShielded",
        "l2sp": "instructalign.training.strategies.l2sp:L2SP",
        "ewc": "instructalign.training.strategies.ewc:EWC",
        "distil": "instructalign.training.strategies.distil:Distil",
        "sdft": "instructalign.training.strategies.sdft:SDFT",
        "agem": "instructalign.training.strategies.agem:AGEM",
        "ema": "instructalign.training.strategies.ema:EMA",
        "interpolate": "instructalign.training.strategies.interpolate:Interpolate",
    },
    by_name=True,
)

TASK_SOURCES = Registry(
    "task source",
    "instructalign.task_sources",
    {
        "csv": "instructalign.evaluation.task_sources:read_csv_items",
        "tsv": "instructalign.evaluation.task_sources:read_tsv_items",
        "jsonl": "instructalign.evaluation.task_sources:read_jsonl_items",
        "hub": "instructalign.evaluation.task_sources:read_hub_items",
        "hub_pairs": "instructalign.evaluation.task_sources:read_hub_pairs",
        "pairs": "instructalign.evaluation.task_sources:read_sentence_pairs",
        "toy": "instructalign.toy.datasets:read_task",
    },
)

CorpusEntry = Annotated[Entry, OneEntry(FORMATS)]
TaskSourceEntry = Annotated[Entry, OneEntry(TASK_SOURCES)]
HubSourceEntry = Annotated[Entry, OneEntry(TASK_SOURCES, default="hub")]
ReplayEntries = Annotated[Entry | list[Entry], OneOrMoreEntries(REPLAY_SOURCES)]
ObjectiveEntries = Annotated[dict[str, Entry], EntriesByName(OBJECTIVES)]
StrategyEntries = Annotated[dict[str, Entry], EntriesByName(STRATEGIES)]


def toy_base() -> Path:
    """The folder of the toy family's shipped base model."""
    return Path(__file__).parent / "toy" / "base"
