"""Reads a configuration file: YAML, `--set` overrides, and every error in it at once with its key path."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from instructalign.config import Config, Entry, SweepConfig
from instructalign.errors import ConfigError, found, nearest, suggest
from instructalign.plugins import ENTRY_MODELS, STRATEGIES

_TOKEN_SHARE = "set share as one of examples and leave share_of out; run.json and the report have the token shares"
REMOVED: dict[str, dict[str, str]] = {
    "evaluation.engine": {"vllm": "leave it out, or set it to continuous (continuous batching, for GPUs)"},
    "replay.share_of": {"tokens": _TOKEN_SHARE, "loss_tokens": _TOKEN_SHARE},
}
"""What earlier versions accepted: key path -> value (`*` for any) -> what to write instead."""

_SAID_ELSEWHERE: dict[str, str] = {
    "model.base": "base_model model_name_or_path model_id",
    "model.revision": "model_revision",
    "model.dtype (weights) or training.precision (passes)": "torch_dtype model_dtype",
    "model.system_prompt": "default_system",
    "model.chat_template (its name, where a model has several) or instructions.templates (prompts)": "template",
    "model.adapter: {type: lora, r: 16, alpha: 32}": "use_peft finetuning_type",
    "model.adapter.quantised: true": "load_in_4bit load_in_8bit quantization_bit",
    "model.adapter.r": "lora_r lora_rank",
    "model.adapter.alpha": "lora_alpha",
    "model.adapter.dropout": "lora_dropout",
    "model.adapter.targets": "lora_target lora_target_modules lora_target_linear target_modules",
    "model.adapter.rslora": "use_rslora peft_use_rslora",
    "model.adapter.type: dora": "use_dora peft_use_dora",
    "model.adapter.train_embeddings": "lora_modules_to_save modules_to_save additional_target",
    "corpora (parallel text)": "dataset datasets dataset_name train_file",
    "instructions.heldout (sentences held out of training)": "val_set_size test_size validation_split eval_size",
    "instructions.sentences": "max_samples max_train_samples",
    "training.learning_rate": "lr",
    "training.steps (optimizer steps; `instructalign doctor` says how many an epoch has)": (
        "epochs num_epochs num_train_epochs n_epochs max_steps num_steps"
    ),
    "training.micro_batch_size (in one forward pass) and training.batch_size (for each step)": (
        "per_device_train_batch_size device_batch_size"
    ),
    "training.batch_size (for each step, over all devices and accumulation steps)": (
        "gradient_accumulation_steps train_batch_size global_batch_size"
    ),
    "training.max_length": "sequence_len max_seq_length max_seq_len cutoff_len seq_length model_max_length",
    "training.scheduler": "lr_scheduler lr_scheduler_type",
    "training.warmup (optimizer steps)": "warmup_steps warmup_ratio num_warmup_steps",
    "training.optimizer": "optim",
    "training.max_grad_norm": "gradient_clipping",
    "training.precision: bfloat16": "bf16 pure_bf16",
    "training.precision: float16": "fp16",
    "training.packing": "sample_packing neat_packing",
    "training.compile": "torch_compile",
    "training.loss_on: all": "train_on_inputs train_on_prompt",
    "training.loss_on: answer (the default)": "completion_only_loss assistant_only_loss",
    "training.checkpoint_every (optimizer steps)": "save_steps saves_per_epoch",
    "training.keep_checkpoints": "save_total_limit",
    "training.evaluate_every (optimizer steps)": "eval_steps evals_per_epoch",
    "training.log_every": "logging_steps",
    "training.workers": "dataloader_num_workers preprocessing_num_workers",
    "training.report_to: [wandb]": "wandb_project use_wandb",
    "training.early_stopping": "early_stopping_patience",
    "the run's folder as --out of the command": "output_dir out_dir",
    "no key, but launch with a file of configs/accelerate": "deepspeed fsdp fsdp_config",
}
"""What to write here -> keys of Axolotl, LLaMA-Factory, TRL and others that say the same."""

_COLUMNS = (
    "src tgt source target src_lang tgt_lang source_lang target_lang source_language target_language lang1 lang2 "
    "src_column tgt_column source_column target_column langs languages fields input output"
)
_FILES = (
    "file filename file_name file_path filepath data_file data_files data_path dataset_path train_file source url"
)
_ENTRY_KEYS: dict[str, str] = {
    "delimiter": "sep separator delim field_delimiter",
    "columns, by language its column: {eng: English, jav: Javanese}": _COLUMNS,
    "tiers, by language its tier": _COLUMNS,
    "markers, by language its marker": _COLUMNS,
    "path": _FILES,
    "files, by language its file: {eng: a.en, jav: a.jv}": f"path paths {_FILES} {_COLUMNS}",
    "name": "dataset dataset_name repo repo_id path",
    "subset": "config config_name name",
    "format": "type kind",
}
"""As `_SAID_ELSEWHERE`, for entries of corpora and the like: the first whose key the entry has."""
_ENCODING = "nothing: UTF-8 is read, and UTF-16 with its mark; convert others, iconv -f WINDOWS-1252 -t UTF-8"

_MEANT_VALUES: dict[str, dict[str, str]] = {
    "type": {"lora with quantised: true": "qlora"},
    "format": {
        "xlsx": "excel xls xlsm spreadsheet",
        "jsonl": "json ndjson jsonlines",
        "xliff": "xlf sdlxliff",
        "hub": "huggingface hf datasets",
        "usfm": "sfm paratext bible",
        "po": "gettext pot",
        "text (one language) or moses (line-aligned files)": "txt plain",
        "moses": "bitext",
        "eaf": "elan",
        "flextext": "flex",
        "toolbox": "shoebox mdf",
    },
    "dtype": {"bfloat16": "bf16", "float16": "fp16 half", "float32": "fp32"},
    "precision": {"bfloat16": "bf16", "float16": "fp16 half", "float32": "fp32 full"},
    "optimizer": {
        "adamw": "adam adamw_torch adamw_torch_fused adamw_hf",
        "adamw_8bit": "adamw_bnb_8bit adam8bit adamw8bit",
        "paged_adamw_8bit": "paged_adamw paged_adamw_32bit",
    },
    "scheduler": {"constant": "constant_with_warmup"},
}
"""Last key of a path -> its value here -> what others call it."""


def _meant(table: Mapping[str, str], name: str) -> str:
    """What a table has for another tool's name; empty if nothing."""
    name = name.lower().replace("-", "_")
    return next((here for here, names in table.items() if name in names.split()), "")


class MultipleProblems(ValueError):
    """Several problems that the validator of a whole block found."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = tuple(problems)


def explain_all(errors: Sequence[ErrorDetails], prefix: str = "", model: type[BaseModel] = BaseModel) -> list[str]:
    """Pydantic errors as sentences, each with the key's path, what was found and what is allowed.

    A required key that is missing because it is misspelt is reported once, as misspelt.

    Args:
        errors: as pydantic has them.
        prefix: a path before theirs.
        model: what was validated; its fields are suggested for unknown keys.
    """
    meant = set()
    for error in errors:
        if error["type"] == "extra_forbidden":
            *place, key = error["loc"]
            block = _model_at(model, place)
            said = _meant_in_entry(block, str(key)) or _meant(_SAID_ELSEWHERE, str(key)).rpartition(".")[2]
            meant.add((*place, re.split(r"\W", said)[0] or nearest(str(key), _keys_of(block))))
    sentences = []
    for error in errors:
        if error["type"] == "missing" and error["loc"] in meant:
            continue
        cause = error.get("ctx", {}).get("error")
        parts = cause.problems if isinstance(cause, MultipleProblems) else [None]
        sentences += [_explain(error, prefix, model, part) for part in parts]
    return sentences


def _explain(error: ErrorDetails, prefix: str, model: type[BaseModel], problem: str | None) -> str:
    location, kind, value = error["loc"], error["type"], error.get("input")
    # The tags say which entry of an open list it is, by which its model is found; users do not write them.
    path = ".".join(
        [*([prefix] if prefix else []), *(str(key) for key in location if key not in (*ENTRY_MODELS, "[key]"))]
    )
    if kind == "extra_forbidden":
        block, key = _model_at(model, location[:-1]), str(location[-1])
        siblings = _keys_of(block)
        meant = _meant_in_entry(block, key) or _meant(_SAID_ELSEWHERE, key)
        is_entry = block in ENTRY_MODELS.values()
        if not meant and model is Config and not is_entry and not nearest(key, siblings):
            meant = _key_elsewhere(key)
        if meant:
            return f"{path}: unknown key, found {found(value)}. Write {meant}."
        return f"{path}: unknown key. {suggest(key, siblings)}"
    if kind == "missing":
        return f"{path}: missing"
    called = _MEANT_VALUES.get(str(location[-1]) if location else "", {})
    if isinstance(value, str) and (meant := _meant(called, value)):
        return f"{path}: {found(value)} is called {meant} here"
    if kind == "path_type" and isinstance(value, list):
        return f"{path}: expected one path, found {found(value)}; give each file an entry of its own"
    if kind in ("dict_type", "mapping_type"):
        return f"{path}: expected keys and values, such as {{eng: …, jav: …}}, found {found(value)}"
    if kind == "value_error":
        problem = problem or str(error["ctx"]["error"])
        return f"{path}: {problem}" if path else problem
    if kind == "model_type":
        return f"{path}: {_expected_block(_model_at(model, location), value)}, found {found(value)}"
    return f"{path}: {error['msg'][0].lower()}{error['msg'][1:]}, found {found(value)}"


def _meant_in_entry(block: type[BaseModel], key: str) -> str:
    """What to write in an entry of an open list for another tool's key; empty if nothing, or if it is no entry."""
    if block not in ENTRY_MODELS.values():
        return ""
    if key.lower() in ("encoding", "charset"):
        return _ENCODING
    there = {here: names for here, names in _ENTRY_KEYS.items() if here.partition(",")[0] in block.model_fields}
    return _meant(there, key)


def _key_elsewhere(key: str) -> str:
    """The only path of a run's configuration at which there is a key of this name; empty if none or several."""
    paths = [
        f"{block}.{key}"
        for block, field in Config.model_fields.items()
        for model in _models_in(field.annotation)
        if key in model.model_fields and model is not Entry
    ]
    return paths[0] if len(paths) == 1 else ""


def _keys_of(model: type[BaseModel]) -> list[str]:
    """The keys of a block as a file has them: `from`, which is no name in Python, is another field's alias."""
    return sorted(field.alias or name for name, field in model.model_fields.items())


def _expected_block(model: type[BaseModel], value: Any) -> str:
    """What a block of keys holds; with an example that puts the value that was found under the key it fits."""
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    optional = [name for name in _keys_of(model) if name not in required]
    listed = " and/or ".join(optional) if len(optional) < 3 else f"any of {', '.join(optional)}"
    keys = " and ".join(required) + (f", optionally {listed}" if required and optional else "")
    for name in required[:1] or optional[: 2 if len(optional) < 3 else 0]:
        try:
            model.model_validate({name: value})
        except ValidationError:
            continue
        return f"expected a mapping with {keys or listed}, such as {{{name}: {value}}}"
    return f"expected a mapping with {keys or listed}"


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel]:
    """The model of the block at a location."""
    for part in location:
        if part in ENTRY_MODELS:
            model = ENTRY_MODELS[str(part)]
        elif part in model.model_fields:
            model = next(_models_in(model.model_fields[str(part)].annotation), model)
    return model


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) is not None:
        for argument in get_args(annotation):
            yield from _models_in(argument)


class UniqueKeys(yaml.SafeLoader):
    """A safe loader that refuses duplicate keys, which YAML forbids and PyYAML lets pass.

    As in YAML 1.2, only `true` and `false` are truth values. `on`, `off`, `yes` and `no` are words: one is an
    option's name, another a language's code.
    """

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        """A mapping's content, after its keys were checked."""
        seen: set[str] = set()
        for key_node, _ in node.value:
            key = str(self.construct_object(key_node, deep=True))
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"duplicate key {key!r}", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


UniqueKeys.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
UniqueKeys.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)


def not_yaml(error: yaml.YAMLError) -> str:
    """Where a file stops being YAML, and why."""
    place, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if place is None or problem is None:
        return f"not YAML: {' '.join(str(error).split())}"
    context, began = getattr(error, "context", None), getattr(error, "context_mark", None)
    since = f" ({context} that begins in line {began.line + 1})" if context and began else ""
    return f"not YAML: line {place.line + 1}, column {place.column + 1}: {problem}{since}"


def read_yaml(path: Path) -> Any:
    """The content of a configuration file, before it is checked.

    Raises:
        ConfigError: there is no such file, or it is not YAML.
    """
    try:
        return yaml.load(path.read_text(encoding="utf-8-sig"), Loader=UniqueKeys)
    except FileNotFoundError:
        problem = f"the file does not exist; `instructalign init --out {path}` writes one"
    except (OSError, UnicodeDecodeError) as error:
        problem = f"the file cannot be read: {error}"
    except yaml.YAMLError as error:
        problem = not_yaml(error)
    raise ConfigError([problem], str(path))


Override = str | tuple[str, Any]
"""`key.path=value`, as `--set` takes it, the value in YAML; or the key and the value."""


def parse_setting(text: str) -> tuple[str, Any]:
    """The key and the value of `key.path=value`, the value in YAML.

    Raises:
        ConfigError: it has another form.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise ConfigError([f"--set {text}: expected key.path=value, for example training.steps=100"])
    try:
        return key.strip(), yaml.load(value, Loader=UniqueKeys)
    except yaml.YAMLError:
        raise ConfigError([f"--set {text}: {value!r} is not YAML"]) from None


def _overridden(data: Mapping[str, Any], overrides: Sequence[Override], problems: list[str]) -> dict[str, Any]:
    """A copy of the data with the overrides set; missing blocks on their paths are added."""
    changed = deepcopy(dict(data))
    for override in overrides:
        try:
            key, value = parse_setting(override) if isinstance(override, str) else override
        except ConfigError as error:
            problems.extend(error.problems)
            continue
        *blocks, last = key.split(".")
        place: Any = changed
        for number, block in enumerate([*blocks, last]):
            inside = isinstance(place, list) and block.isdigit() and int(block) < len(place)
            if not inside and not isinstance(place, dict):
                where = ".".join(blocks[:number])
                problems.append(f"--set {key}={found(value)}: {where} is {found(place)}, which has no {block!r}")
                break
            step = int(block) if inside else block
            if number == len(blocks):
                place[step] = deepcopy(value)
            elif not inside and place.get(step) is None:
                place[step] = {}
            place = place[step]
    return changed


def _removed(data: dict[str, Any]) -> Iterator[str]:
    """Takes out what this version no longer has, so that it is reported once, with what to write instead."""
    for path, values in REMOVED.items():
        *blocks, key = path.split(".")
        place: Any = data
        for block in blocks:
            place = place.get(block) if isinstance(place, dict) else None
        if not isinstance(place, dict) or key not in place:
            continue
        advice = values.get(str(place[key])) or values.get("*")
        if advice is not None:
            yield f"{path}: {found(place.pop(key))} was removed: {advice}"


ConfigSource = str | Path | Mapping[str, Any] | Config
"""A configuration: its file, its blocks and keys as dictionaries, or as `load_config` made it."""


def load_config(source: ConfigSource, overrides: Sequence[Override] = ()) -> Config:
    """Reads a configuration.

    Args:
        source: a YAML file, in which paths are relative to its folder; or what such a file holds, with paths
            relative to the working folder; or a configuration to change.
        overrides: set after it is read.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    if isinstance(source, Config):
        return build_config(source.to_dict(), overrides=overrides) if overrides else source
    if isinstance(source, Mapping):
        return build_config(source, overrides=overrides)
    path = Path(source)
    return build_config(read_yaml(path), folder=path.parent, overrides=overrides, where=str(path))


def build_config(
    data: Any, *, folder: Path = Path(), overrides: Sequence[Override] = (), where: str | None = None
) -> Config:
    """Checks a configuration given as nested dictionaries.

    A `sweep` block is checked and left out: a configuration is that of one run.

    Args:
        data: the blocks and keys.
        folder: what paths in it are relative to.
        overrides: as for `load_config`.
        where: what error messages call it.

    Raises:
        ConfigError: anything is wrong with it; all problems are listed.
    """
    if not isinstance(data, Mapping):
        raise ConfigError([f"expected keys such as model: and languages:, found {found(data)}"], where)
    problems: list[str] = []
    data = _overridden(data, overrides, problems)
    problems.extend(_removed(data))
    _check_sweep(data.pop("sweep", None), problems)
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        problems.extend(explain_all(error.errors(), model=Config))
    if not problems:
        problems.extend(_strategy_problems(config))
    if problems:
        raise ConfigError(problems, where)
    return _anchor(config, folder.resolve())


def build_sweep(data: Any, where: str | None = None) -> SweepConfig:
    """The `sweep` block of a configuration given as nested dictionaries; an empty one where it has none.

    Raises:
        ConfigError: anything is wrong with it.
    """
    problems: list[str] = []
    sweep = _check_sweep(data.get("sweep") if isinstance(data, Mapping) else None, problems)
    if problems:
        raise ConfigError(problems, where)
    return sweep


def _check_sweep(data: Any, problems: list[str]) -> SweepConfig:
    try:
        return SweepConfig.model_validate({} if data is None else data)
    except ValidationError as error:
        problems.extend(explain_all(error.errors(), "sweep", SweepConfig))
        return SweepConfig()


def _strategy_problems(config: Config) -> Iterator[str]:
    """What is inconsistent between the strategies and the rest of the configuration."""
    chosen = {name: STRATEGIES.get(name)(**entry.options) for name, entry in config.training.strategy.items()}
    size = config.replay.size if config.replay else 0
    for name, strategy in chosen.items():
        if name == "none" and len(chosen) > 1:
            others = ", ".join(other for other in chosen if other != "none")
            yield f"training.strategy: none cannot be combined with {others}; leave none out"
        if strategy.replay_data == "needed" and not size:
            yield (
                f"training.strategy.{name} needs replay data, and the configuration has none: add a replay block "
                f"with a source and a size above 0{strategy.without_replay and f', {strategy.without_replay}'}"
            )
        yield from (f"training.strategy.{name}: {problem}" for problem in strategy.problems(config))
    if size and {strategy.replay_data for strategy in chosen.values()} == {"unused"}:
        yield (
            f"training.strategy is {', '.join(chosen)} but replay.size is {size}, and nothing would use the "
            "replay data: set replay.size to 0, or add replay to training.strategy"
        )


def _anchor(config: Config, folder: Path) -> Config:
    """Makes every path absolute; also those of a base, template set or task where it is a file, not a name."""

    def place(value: Any) -> Any:
        if isinstance(value, Path):
            return (folder / value.expanduser()).resolve()
        if isinstance(value, BaseModel):
            placed = {key: place(getattr(value, key)) for key in type(value).model_fields}
            return value.model_construct(value.model_fields_set, **placed)  # keeps which keys were given
        if isinstance(value, dict):
            return {key: place(inner) for key, inner in value.items()}
        return [place(inner) for inner in value] if isinstance(value, (list, tuple)) else value

    def file_or_name(value: str) -> str:
        return str(place(Path(value))) if value.endswith((".yaml", ".yml")) else value

    base = config.model.base
    # `toy` is the shipped base, also beside a folder of that name.
    if base != "toy" and ((folder / Path(base).expanduser()).is_dir() or base.startswith((".", "/", "~"))):
        base = str(place(Path(base)))
    anchored: Config = place(config)
    named = {
        "model": {"base": base},
        "instructions": {"templates": [file_or_name(name) for name in config.instructions.templates]},
        "evaluation": {"tasks": [file_or_name(name) for name in config.evaluation.tasks]},
    }
    blocks = {block: getattr(anchored, block).model_copy(update=keys) for block, keys in named.items()}
    return anchored.model_copy(update=blocks)


def shipped_configurations() -> dict[str, Path]:
    """The recipes that come with the package, in the order of names (`quickstart`, `paper/bloomz-560m`)."""
    package = Path(__file__).parent
    folder = (
        package / "configs" if (package / "configs").is_dir() else package.parents[1] / "configs"
    )  # a checkout
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def starter() -> str:
    """A commented configuration to start from, as text."""
    return (Path(__file__).parent / "starter.yaml").read_text(encoding="utf-8")
