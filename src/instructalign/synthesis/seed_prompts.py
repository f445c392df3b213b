"""Seed prompts: how the instructions that a model writes begin, and how it is asked for them."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import Field, ValidationError

from instructalign.config import Strict
from instructalign.config_file import UniqueKeys, explain_all
from instructalign.errors import DataError, UnknownNameError, found
from instructalign.files import read_jsonl


class SeedPrompt(Strict):
    """How an instruction begins, and the text that ends it; by default the end of the line or of the text."""

    begin: Annotated[str, Field(min_length=1)]
    end: str | None = None


class SeedPrompts(Strict):
    """A set of seed prompts.

    Attributes:
        language: of the instructions.
        source, licence: provenance.
        complete: how an encoder-decoder model is asked to continue a seed prompt ({seed}).
        imitate: how a model is asked for another instruction like some examples ({examples}).
        seeds: the seed prompts.
    """

    language: str
    source: str
    licence: str
    complete: str
    imitate: str
    seeds: Annotated[list[SeedPrompt], Field(min_length=1)]


def shipped_seed_prompts() -> list[str]:
    """The names of the sets that come with the package."""
    folder = files("instructalign.synthesis").joinpath("seeds")
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def load_seed_prompts(name: str, path: Path | None = None) -> SeedPrompts:
    """A shipped set, or a user's own file.

    Raises:
        UnknownNameError: no set of that name ships.
        DataError: the file is not a valid set; all problems are listed.
    """
    if path is None:
        if name not in shipped_seed_prompts():
            raise UnknownNameError("set of seed prompts", name, shipped_seed_prompts())
        text = files("instructalign.synthesis").joinpath(f"seeds/{name}.yaml").read_text("utf-8")
        return SeedPrompts.model_validate(yaml.safe_load(text))
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=UniqueKeys)
        return SeedPrompts.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(explain_all(error.errors(), model=SeedPrompts))
        raise DataError(f"{path} is not a valid set of seed prompts: {problems}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} cannot be read as a set of seed prompts: {reason}") from None


def load_instructions(path: Path, field: str) -> list[str]:
    """The instructions of a JSON-lines file.

    Raises:
        DataError: the file cannot be read, a line has no such field, or there are none.
    """
    prompts = []
    for number, record in read_jsonl(path):
        value = record.get(field)
        if not isinstance(value, str):
            raise DataError(
                f"{path}:{number}: no text in the field {field!r}, found {found(value)}. Set replay.source.prompt "
                "to the field of the instructions."
            )
        if value.strip():
            prompts.append(value.strip())
    if not prompts:
        raise DataError(f"{path} contains no instruction.")
    return prompts
