"""The model to adapt, and the languages it knows and learns."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from instructalign.config.base import Positive, Probability, Strict
from instructalign.errors import DataError
from instructalign.languages import canonical, is_private

DType = Literal["auto", "float32", "bfloat16", "float16"]


class AdapterConfig(Strict):
    """Low-rank adaptation through peft (Hu et al. 2021; DoRA: Liu et al. 2024).

    `rslora` scales by the root of the rank (Kalajdzievski 2023). `init`: `pissa` begins with the base's largest
    singular values (Meng et al. 2024), `olora` with its QR decomposition (Büyükakyüz 2024). `layers`: their
    numbers, from the end where negative, or `last n`. `quantised` keeps the base in 4 bits (QLoRA, Dettmers et al.
    2023). `train_embeddings`: all of them, or with `new` those of tokens that only the new languages use.
    """

    type: Literal["lora", "dora"] = "lora"
    r: Positive = 16
    alpha: Annotated[float, Field(gt=0)] = 32
    dropout: Probability = 0.0
    rslora: bool = False
    init: Literal["default", "gaussian", "orthogonal", "pissa", "olora"] = "default"
    targets: list[str] | Literal["all-linear"] = "all-linear"
    layers: list[int] | str | None = None
    quantised: bool = False
    train_embeddings: bool | Literal["new"] = False
    merge: bool = True

    @model_validator(mode="after")
    def _possible(self) -> AdapterConfig:
        if self.quantised and self.init in ("pissa", "olora"):
            raise ValueError(f"init: {self.init} changes the base's weights, which quantised keeps in 4 bits")
        few = isinstance(self.layers, str) and re.fullmatch(r"last [1-9]\d*", self.layers)
        if self.layers is not None and not few and (isinstance(self.layers, str) or not self.layers):
            raise ValueError(
                f"layers: expected numbers, such as [0, 1] or [-1], or the last few, such as last 4; "
                f"found {self.layers!r}"
            )
        return self


class ModelConfig(Strict):
    """The model to adapt."""

    base: str
    revision: str | None = None
    dtype: DType = "float32"
    adapter: AdapterConfig | None = None
    trust_remote_code: bool = False
    system_prompt: str | None = None
    chat: Literal["auto", "never"] = "auto"


class LanguagesConfig(Strict):
    """Which languages the model knows (L1), which it is taught (L2), which it never sees (L3)."""

    known: Annotated[list[str], Field(min_length=1)]
    new: Annotated[list[str], Field(min_length=1)]
    related: list[str] = []
    names: dict[str, str] = {}

    @field_validator("known", "new", "related", mode="before")
    @classmethod
    def _codes(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        try:
            return [canonical(entry) if isinstance(entry, str) else entry for entry in value]
        except DataError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="after")
    def _disjoint(self) -> LanguagesConfig:
        seen: dict[str, str] = {}
        for group, codes in (("known", self.known), ("new", self.new), ("related", self.related)):
            for code in codes:
                if code in seen:
                    raise ValueError(f"{code!r} stands in both {seen[code]!r} and {group!r}; keep it in one")
                seen[code] = group
        unnamed = [code for code in seen if is_private(code) and code not in self.names]
        if unnamed:
            raise ValueError(f"private codes need a name: add {', '.join(unnamed)} to languages.names")
        return self

    @property
    def groups(self) -> dict[str, list[str]]:
        """The languages by the paper's group names."""
        return {"L1": self.known, "L2": self.new, "L3": self.related}

    def group_of(self, code: str) -> str:
        """`L1`, `L2`, `L3`, or an empty string for a language of none."""
        return next((group for group, codes in self.groups.items() if code in codes), "")
