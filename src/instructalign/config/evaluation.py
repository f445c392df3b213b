"""Zero-shot evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from instructalign.config.base import Natural, Positive, Strict
from instructalign.config.model import DType, LanguagesConfig
from instructalign.records import Rule


class CometConfig(Strict):
    """COMET scores of translations, by `comet-score` from an environment of its own.

    `command` is where it lies; without, it is looked for as other commands are. `languages` are those that the
    model's encoder was trained on, where that is not XLM-R.
    """

    model: str = "Unbabel/wmt22-comet-da"
    command: Path | None = None
    languages: list[str] | None = None
    batch_size: Positive = 16
    gpus: Natural = 0

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)


class EvaluationConfig(Strict):
    """Zero-shot evaluation by label likelihood, and of translations.

    `dtype` is what the model is loaded in, where that is not `model.dtype`. `engine` writes the translations.
    `language_id` is a fastText model of the user's that finds translations in the wrong language.
    """

    tasks: list[str] = []
    data: Path = Path()
    prompts: list[str] | None = None
    languages: list[str] | None = None
    items: Positive | None = None
    scoring: Rule = "sum"
    dtype: DType | None = None
    batch_tokens: Positive = 8192
    bootstrap: Annotated[int, Field(ge=0)] = 1000
    engine: Literal["transformers", "vllm"] = "transformers"
    language_id: Path | None = None
    comet: CometConfig | None = None

    @field_validator("languages", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        return LanguagesConfig._codes(value)
