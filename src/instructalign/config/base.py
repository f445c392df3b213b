"""What the blocks of a configuration are made of."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(ge=1)]
Natural = Annotated[int, Field(ge=0)]
ContaminationAction = Literal["report", "drop", "refuse", "ignore"]
"""What is done about training data that gives test items away."""


class Strict(BaseModel):
    """A block of keys; a key that is not listed is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Entry(Strict):
    """One entry of an open list: its name, and the options its own signature declares.

    A corpus can also have a label: it stands before the ids of its rows. Corpora of one label
    share their ids: a sentence of one that has the id of a sentence of another is the same sentence.
    """

    name: str
    label: str | None = None
    options: dict[str, Any] = {}
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
