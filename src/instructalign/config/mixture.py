"""The past data that is replayed."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from instructalign.config.base import Entry, Natural, Strict


class ReplayConfig(Strict):
    """Past instruction data, mixed in so that the model keeps what it knew.

    `size` samples are chosen once, by the seed; `share` of all training examples are drawn from them, so the
    same samples come back as often as that needs.
    """

    source: Entry
    size: Natural = 1000
    share: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _both_or_none(self) -> ReplayConfig:
        if self.size > 0 and self.share == 0:
            raise ValueError(
                f"share is 0 but size is {self.size}: no sample would ever be drawn. Set share above 0 "
                "(the paper: 0.5), or size to 0 for no replay"
            )
        return self
