"""Zero-shot evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from instructalign.config.base import Positive, Strict
from instructalign.config.model import LanguagesConfig
from instructalign.records import Rule


class EvaluationConfig(Strict):
    """Zero-shot evaluation by label likelihood."""

    tasks: list[str] = []
    data: Path = Path()
    prompts: list[str] | None = None
    languages: list[str] | None = None
    items: Positive | None = None
    scoring: Rule = "sum"
    batch_tokens: Positive = 8192
    bootstrap: Annotated[int, Field(ge=0)] = 1000

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)
