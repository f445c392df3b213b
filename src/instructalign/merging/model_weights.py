"""The weights of saved models, read one at a time, and whether those of several models match."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from instructalign.errors import ModelError, first_line
from instructalign.hub_access import hub_problem
from instructalign.training.models import load_tokenizer, resolve_model

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")


@dataclass(frozen=True, slots=True)
class SavedWeights:
    """The weights of a saved model, on disk.

    Attributes:
        name: what the user calls the model.
        folder: its folder.
        files: by weight, the file that holds it.
        shapes: by weight, its shape.
        dtypes: by weight, its type in the notation of safetensors.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, str]

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """A function from a weight's name to the weight."""
        with ExitStack() as stack:
            opened: dict[Path, Any] = {}

            def read(name: str) -> torch.Tensor:
                path = self.files[name]
                if path not in opened:
                    file: Any = safe_open(path, framework="pt")
                    opened[path] = stack.enter_context(file)
                tensor: torch.Tensor = opened[path].get_tensor(name)
                return tensor

            yield read


def open_weights(name: str) -> SavedWeights:
    """Reads the names, shapes and types of a saved model's weights.

    Args:
        name: a folder, a Hub name or `toy`.

    Raises:
        ModelError: it does not exist, is an adapter without its base, or its weights are not safetensors.
    """
    if (Path(name).expanduser() / "adapter_config.json").is_file():
        raise ModelError(
            f"{name} is an adapter without its base (adapter_config.json). Train with model.adapter.merge: true, "
            "or merge it first with peft's merge_and_unload."
        )
    folder = Path(resolve_model(name))
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        patterns = ["*.safetensors", "*.json", "*.model", "*.txt"]
        try:
            folder = Path(snapshot_download(str(folder), allow_patterns=patterns))
        except (OSError, ValueError) as error:
            reason = hub_problem(error) or first_line(error)
            raise ModelError(
                f"the model {name!r} is no folder and cannot be loaded from the Hub: {reason}"
            ) from None
    files: dict[str, Path] = {}
    if (folder / _INDEX).is_file():
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))["weight_map"]
        files = {key: folder / file for key, file in index.items()}
    elif not (folder / _SINGLE).is_file():
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
        raise ModelError(
            f"{name} has no {_SINGLE} (found: {found}). Load it with transformers and save it again with "
            "save_pretrained, which writes safetensors."
        )
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    for path in sorted({*files.values()} or {folder / _SINGLE}):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # not a dictionary
                    files.setdefault(key, path)
                    shapes[key] = tuple(file.get_slice(key).get_shape())
                    dtypes[key] = str(file.get_slice(key).get_dtype())
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{name}: {path.name} cannot be read: {error}. Download or save the model again."
            ) from None
    missing = sorted(set(files) - set(shapes))
    if missing:
        raise ModelError(f"{name}: {_INDEX} lists {_some(missing)}, which its files lack; save it again.")
    return SavedWeights(name, folder, files, shapes, dtypes)


def match_names(models: Sequence[SavedWeights], trust_remote_code: bool = False) -> list[dict[str, str]]:
    """By model, the name there of each weight of the first adapted model.

    Names may differ by the prefix of the inner model, and by tied weights that are saved once or twice; both are
    looked up in the model's class.

    Args:
        models: the base, then the adapted models.
        trust_remote_code: whether the models' own code may run.

    Raises:
        ModelError: the models differ in architecture, shapes, types or vocabularies, or one lacks weights.
    """
    leader = models[1]
    for other in (models[0], *models[2:]):
        _check_architecture(leader, other, trust_remote_code)
    matched = []
    for other in models:
        names = _names_in(leader, other, trust_remote_code)
        for name, theirs in names.items():
            ours, them = leader.shapes[name], other.shapes[theirs]
            if ours != them:
                grown = " One vocabulary has rows that the other lacks." if ours[1:] == them[1:] else ""
                raise ModelError(
                    f"{name} has the shape {list(ours)} in {leader.name} and {list(them)} in {other.name}; only "
                    f"weights of the same shape can be merged.{grown}"
                )
            if other.dtypes[theirs] not in _FLOATS or leader.dtypes[name] not in _FLOATS:
                raise ModelError(
                    f"{name} is saved as {leader.dtypes[name]} in {leader.name} and as {other.dtypes[theirs]} in "
                    f"{other.name}; only floating-point weights can be merged. Save both without quantisation."
                )
        matched.append(names)
    return matched


def _check_architecture(leader: SavedWeights, other: SavedWeights, trust_remote_code: bool) -> None:
    from transformers import AutoConfig

    first, second = (
        AutoConfig.from_pretrained(each.folder, trust_remote_code=trust_remote_code) for each in (leader, other)
    )
    if first.model_type != second.model_type:
        raise ModelError(
            f"{leader.name} is a {first.model_type} model, {other.name} a {second.model_type} model; only models "
            "adapted from the same base can be merged."
        )
    ties = [bool(getattr(config, "tie_word_embeddings", False)) for config in (first, second)]
    if ties[0] != ties[1]:
        tied, untied = (leader, other) if ties[0] else (other, leader)
        raise ModelError(
            f"{tied.name} ties its output layer to its input embedding, {untied.name} does not "
            "(tie_word_embeddings); save both alike first."
        )
    vocabularies = [
        load_tokenizer(str(each.folder), trust_remote_code=trust_remote_code).get_vocab()
        for each in (leader, other)
    ]
    tokens = {*vocabularies[0], *vocabularies[1]}
    differing = sorted(token for token in tokens if vocabularies[0].get(token) != vocabularies[1].get(token))
    if differing:
        raise ModelError(
            f"the tokenizers of {leader.name} and {other.name} differ in {len(differing)} tokens, such as "
            f"{differing[0]!r}, so that rows of their embeddings mean different tokens. Merge models with "
            "the same vocabulary."
        )


def _names_in(leader: SavedWeights, other: SavedWeights, trust_remote_code: bool) -> dict[str, str]:
    """By weight of the leader, its name in the other model."""
    if leader.files.keys() == other.files.keys():
        return {name: name for name in leader.files}
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(leader.folder, trust_remote_code=trust_remote_code)
    factory: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):  # names only, no memory
        model = factory.from_config(config, trust_remote_code=trust_remote_code)
    model.tie_weights()
    first_names: dict[int, str] = {}  # tied weights are one object; its first name stands for all
    same = {
        name: first_names.setdefault(id(weight), name) for name, weight in model.state_dict(keep_vars=True).items()
    }
    prefix = str(model.base_model_prefix)

    def canonical(name: str) -> str:
        spellings = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        return next((same[spelling] for spelling in spellings if spelling in same), name)

    theirs = {canonical(name): name for name in sorted(other.files, reverse=True)}
    ours = {name: canonical(name) for name in leader.files}
    missing = sorted(name for name, key in ours.items() if key not in theirs)
    if missing:
        raise ModelError(
            f"{other.name} lacks {_some(missing)}, which {leader.name} has; if they have the same architecture, "
            "load each with transformers and save it with save_pretrained of the same version."
        )
    extra = sorted(name for key, name in theirs.items() if key not in ours.values() and key in same.values())
    if extra:
        raise ModelError(
            f"{other.name} has {_some(extra)}, which {leader.name} lacks; their architectures differ."
        )
    return {name: theirs[key] for name, key in ours.items()}


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
