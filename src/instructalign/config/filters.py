"""Which rows of the corpora are kept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from instructalign.config.base import Probability, Strict


class Bounds(Strict):
    """The scores that a filter accepts."""

    min: Annotated[float, Field(ge=0)] = 0
    max: Annotated[float, Field(ge=0)] = float("inf")

    @model_validator(mode="after")
    def _ordered(self) -> Bounds:
        if self.min > self.max:
            raise ValueError(f"min ({self.min:g}) is above max ({self.max:g}): nothing would be kept")
        return self


class LanguageBounds(Strict):
    """Identification of the language by a fastText model of the user's."""

    model: Path
    min: Probability = 0.5


class FilterConfig(Strict):
    """Which rows of the corpora are kept.

    The presets are in corpora/presets.yaml. A filter given here takes the place of the preset's; those named
    under `without` are left out. What is taken out is written to the file `rejects`, if one is named.
    """

    preset: Literal["none", "basic", "standard", "strict"] = "basic"
    without: list[
        Literal[
            "normalise", "control", "length", "alphabetic", "script", "identical", "length_ratio", "duplicates"
        ]
    ] = []
    normalise: Literal["nfc"] | None = None
    control: Bounds | None = None
    length: Bounds | None = None
    alphabetic: Bounds | None = None
    script: Bounds | None = None
    language: LanguageBounds | None = None
    identical: Bounds | None = None
    length_ratio: Bounds | None = None
    duplicates: Literal["exact", "near"] | None = None
    rejects: Path | None = None
