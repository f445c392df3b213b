"""What a model's own instructions begin with, and how it is asked for them."""

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


class Seed(Strict):
    """How an instruction begins, and the text that ends it; without one, the end of the line or of the text."""

    begin: Annotated[str, Field(min_length=1)]
    end: str | None = None


class Seeds(Strict):
    """A set of beginnings.

    Attributes:
        language: of the instructions.
        source, licence: where the set comes from.
        complete: how a model that only answers is asked to go on from a beginning ({seed}).
        imitate: how it is asked for another instruction like some ({examples}).
        seeds: the beginnings.
    """

    language: str
    source: str
    licence: str
    complete: str
    imitate: str
    seeds: Annotated[list[Seed], Field(min_length=1)]


def shipped() -> list[str]:
    """The names of the sets that come with the package."""
    folder = files("instructalign.synthesis").joinpath("seeds")
    return sorted(each.name.removesuffix(".yaml") for each in folder.iterdir() if each.name.endswith(".yaml"))


def load_seeds(name: str, path: Path | None = None) -> Seeds:
    """A shipped set, or one of the user's.

    Raises:
        UnknownNameError: no set of that name ships.
        DataError: the file cannot be read as a set; all problems are listed.
    """
    if path is None:
        if name not in shipped():
            raise UnknownNameError("set of seeds", name, shipped())
        text = files("instructalign.synthesis").joinpath(f"seeds/{name}.yaml").read_text("utf-8")
        return Seeds.model_validate(yaml.safe_load(text))
    try:
        data = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=UniqueKeys)
        return Seeds.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(explain_all(error.errors(), model=Seeds))
        raise DataError(f"{path} is no set of seeds: {problems}.") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise DataError(f"{path} is no set of seeds: {' '.join(str(error).split())}") from None


def load_prompts(path: Path, field: str) -> list[str]:
    """The instructions of a JSON-lines file.

    Raises:
        DataError: the file cannot be read, a line has no such field, or there is none.
    """
    prompts = []
    for number, record in read_jsonl(path):
        value = record.get(field)
        if not isinstance(value, str):
            raise DataError(
                f"{path}:{number}: no text under {field!r}, found {found(value)}. Name the field of the "
                "instructions with replay.source.prompt."
            )
        if value.strip():
            prompts.append(value.strip())
    if not prompts:
        raise DataError(f"{path} holds no instruction for the model to go by.")
    return prompts
