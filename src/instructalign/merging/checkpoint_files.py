"""The weights of saved models, read one at a time, and whether those of several fit together."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from instructalign.errors import ModelError
from instructalign.training.models import load_tokenizer, resolve_model

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"


@dataclass(frozen=True, slots=True)
class Stored:
    """A saved model.

    Attributes:
        name: what the user calls it.
        folder: where it lies.
        files: by weight, the file that holds it.
        shapes: by weight, its shape.
        types: by weight, its type as safetensors calls it.
    """

    name: str
    folder: Path
    files: Mapping[str, Path]
    shapes: Mapping[str, tuple[int, ...]]
    types: Mapping[str, str]

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


def open_stored(name: str) -> Stored:
    """Looks at a saved model without reading its weights.

    Args:
        name: a folder, a Hub name or `toy`.

    Raises:
        ModelError: it is not there, is an adapter alone, or its weights are not safetensors.
    """
    folder = _folder(name)
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        files = {key: folder / file for key, file in index.items()}
    elif (folder / SINGLE).is_file():
        files = {}
    else:
        raise ModelError(_no_weights(name, folder))
    shapes: dict[str, tuple[int, ...]] = {}
    types: dict[str, str] = {}
    for path in sorted({*files.values()} or {folder / SINGLE}):
        try:
            with safe_open(path, framework="pt") as file:
                for key in file.keys():  # noqa: SIM118  # not a dictionary
                    files.setdefault(key, path)
                    shapes[key] = tuple(file.get_slice(key).get_shape())
                    types[key] = str(file.get_slice(key).get_dtype())
        except (OSError, SafetensorError) as error:
            raise ModelError(
                f"{name}: {path.name} cannot be read: {error}. Get or save the model again."
            ) from None
    lacking = sorted(set(files) - set(shapes))
    if lacking:
        raise ModelError(f"{name}: {INDEX} names {_some(lacking)}, which its files do not hold; save it again.")
    return Stored(name, folder, files, shapes, types)


def _folder(name: str) -> Path:
    place = model_place_of_folder(name)
    if Path(place).is_dir():
        return Path(place)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(place, allow_patterns=["*.safetensors", "*.json", "*.model", "*.txt"]))
    except (OSError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(f"the model {name!r} is neither a folder nor on the Hub: {first}") from None


def model_place_of_folder(name: str) -> str:
    """`resolve_model`, with a word of its own for an adapter that was saved apart from its base.

    Raises:
        ModelError: there is no such model.
    """
    if (Path(name).expanduser() / "adapter_config.json").is_file():
        raise ModelError(
            f"{name} holds an adapter without its base (adapter_config.json). Train with model.adapter.merge: "
            "true, or merge it first with peft's merge_and_unload."
        )
    return resolve_model(name)


def _no_weights(name: str, folder: Path) -> str:
    listed = ", ".join(sorted(path.name for path in folder.iterdir())[:12]) or "nothing"
    return (
        f"{name} has no {SINGLE} (found: {listed}). Load it with transformers and save it again with "
        "save_pretrained, which writes safetensors."
    )


def fitting(base: Stored, adapted: Sequence[Stored], trust_remote_code: bool = False) -> list[dict[str, str]]:
    """By model, base first, the name there of each weight of the first adapted model.

    Names may differ by the prefix of the inner model, and by weights that are tied and saved once or twice; both
    are looked up in the model's class.

    Raises:
        ModelError: the models are of different kinds, shapes, types or vocabularies, or one lacks weights.
    """
    leader = adapted[0]
    for other in (base, *adapted[1:]):
        _check_kind(leader, other, trust_remote_code)
    named = [_by_name(leader, other, trust_remote_code) for other in (base, *adapted)]
    for other, names in zip((base, *adapted), named, strict=True):
        _check_weights(leader, other, names)
    return named


def _check_kind(leader: Stored, other: Stored, trust_remote_code: bool) -> None:
    from transformers import AutoConfig

    first, second = (
        AutoConfig.from_pretrained(each.folder, trust_remote_code=trust_remote_code) for each in (leader, other)
    )
    if first.model_type != second.model_type:
        raise ModelError(
            f"{leader.name} is of the kind {first.model_type}, {other.name} of {second.model_type}; only models "
            "that came from the same base can be merged."
        )
    ties = [bool(getattr(config, "tie_word_embeddings", False)) for config in (first, second)]
    if ties[0] != ties[1]:
        tied, untied = (leader, other) if ties[0] else (other, leader)
        raise ModelError(
            f"{tied.name} ties its output layer to its input embedding, {untied.name} does not "
            "(tie_word_embeddings); save both alike first."
        )
    words = [
        load_tokenizer(str(each.folder), trust_remote_code=trust_remote_code).get_vocab()
        for each in (leader, other)
    ]
    apart = sorted(word for word in {*words[0], *words[1]} if words[0].get(word) != words[1].get(word))
    if apart:
        raise ModelError(
            f"the tokenizers of {leader.name} and {other.name} differ in {len(apart)} tokens, such as "
            f"{apart[0]!r}; rows of their embeddings do not mean the same. Merge models of one vocabulary."
        )


def _by_name(leader: Stored, other: Stored, trust_remote_code: bool) -> dict[str, str]:
    """By weight of the leader, its name in the other model."""
    if leader.files.keys() == other.files.keys():
        return {name: name for name in leader.files}
    same, prefix = _layout(leader.folder, trust_remote_code)

    def canonical(name: str) -> str:
        spellings = (name, f"{prefix}.{name}", name.removeprefix(f"{prefix}."))
        return next((same[spelling] for spelling in spellings if spelling in same), name)

    there = {canonical(name): name for name in sorted(other.files, reverse=True)}
    lacking = sorted(name for name in leader.files if canonical(name) not in there)
    if lacking:
        raise ModelError(
            f"{other.name} lacks {_some(lacking)}, which {leader.name} has; if they are of one kind, load each "
            "with transformers and save it with save_pretrained of the same version."
        )
    here = {canonical(name) for name in leader.files}
    more = sorted(name for key, name in there.items() if key not in here and key in same.values())
    if more:
        raise ModelError(f"{other.name} has {_some(more)}, which {leader.name} lacks; they are not of one kind.")
    return {name: there[canonical(name)] for name in leader.files}


def _layout(folder: Path, trust_remote_code: bool) -> tuple[dict[str, str], str]:
    """By name of a weight in the model, the first name of the same weight; and the inner model's prefix."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    factory: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with torch.device("meta"):
        model = factory.from_config(config, trust_remote_code=trust_remote_code)
    model.tie_weights()
    firsts: dict[int, str] = {}
    same = {name: firsts.setdefault(id(weight), name) for name, weight in model.state_dict(keep_vars=True).items()}
    return same, str(model.base_model_prefix)


def _check_weights(leader: Stored, other: Stored, names: Mapping[str, str]) -> None:
    for name, theirs in names.items():
        ours, them = leader.shapes[name], other.shapes[theirs]
        if ours != them:
            grown = " A vocabulary that has grown has rows that the other lacks." if ours[1:] == them[1:] else ""
            raise ModelError(
                f"{name} has the shape {list(ours)} in {leader.name} and {list(them)} in {other.name}; only "
                f"weights of one shape can be merged.{grown}"
            )
        if not is_float(other.types[theirs]) or not is_float(leader.types[name]):
            raise ModelError(
                f"{name} is saved as {leader.types[name]} in {leader.name} and as {other.types[theirs]} in "
                f"{other.name}; only plain floating-point weights can be merged. Save both without quantisation."
            )


def is_float(kind: str) -> bool:
    """Whether a safetensors type is a plain floating-point one."""
    return kind in ("F64", "F32", "F16", "BF16")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{', '.join(names[:3])}{more}"
