"""Several runs of one recipe: what varies between them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from instructalign.config.base import Strict

Settings = dict[str, Any]
"""Keys of the configuration, as paths with dots, and their values."""


class CellConfig(Strict):
    """One named cell of a sweep, which may set several keys at once."""

    name: Annotated[str, Field(min_length=1)]
    set: Settings = {}


class SweepConfig(Strict):
    """Several runs of one recipe: every point of the grid and every cell of the list, with every seed.

    An entry of the grid is a key with the values that it takes, or a name of one's own with the values' names
    and what each of them sets (several keys, where they belong together).
    """

    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**32)]], Field(min_length=1)] | None = None
    grid: dict[str, list[Any] | dict[str, Settings]] = {}
    cells: list[CellConfig] = []

    @field_validator("grid", mode="before")
    @classmethod
    def _axes(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        checked: dict[str, Any] = {}
        for key, axis in value.items():
            named = isinstance(axis, dict) and all(isinstance(settings, dict) for settings in axis.values())
            if not axis or not (isinstance(axis, list) or named):
                raise ValueError(
                    f"{key}: expected a list of values, or names with what each of them sets "
                    f"(small: {{training.steps: 100}}), found {axis!r}"
                )
            # Names are text, also where YAML reads them as numbers.
            checked[str(key)] = {str(name): axis[name] for name in axis} if named else axis
        return checked

    @model_validator(mode="after")
    def _no_seed(self) -> SweepConfig:
        keys = {*self.grid, *(key for cell in self.cells for key in cell.set)}
        keys |= {
            key for axis in self.grid.values() if isinstance(axis, dict) for set in axis.values() for key in set
        }
        if "seed" in keys:
            raise ValueError("seed is no key to vary: list the seeds under sweep.seeds, or give --seeds 1,2,3")
        names = [cell.name for cell in self.cells]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"cells: {', '.join(twice)} stands there twice; give each cell a name of its own")
        return self
