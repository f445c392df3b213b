"""The past data that is replayed: where it comes from, what is chosen of it, how much of the training it is."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from instructalign.config.base import Entry, Natural, Positive, Strict

ShareOfAll = Annotated[float, Field(ge=0, lt=1)]


class SelectConfig(Strict):
    """Which past examples are chosen, of those that a source holds.

    `by` divides them into strata by the task or the language they name, or by length (characters of prompt and
    answer, by powers of two); `counts` says how many each stratum gives: as many as the others (`equal`; where
    one runs out the others take over), or as it has of the whole (`proportional`). `order` says which come
    first, of a stratum or of all.
    """

    by: Literal["task", "language", "length"] | None = None
    counts: Literal["equal", "proportional"] = "equal"
    order: Literal["random", "longest", "shortest"] = "random"


class ShareStageConfig(Strict):
    """From optimizer step `at` on, replay has this share."""

    at: Positive
    share: ShareOfAll


class ShareScheduleConfig(Strict):
    """A share of replay that changes in the course of training; it begins at `replay.share`.

    `linear` and `cosine` go to the share `to` over the whole training; `staged` holds each stage's share until
    the next one begins.
    """

    shape: Literal["linear", "cosine", "staged"]
    to: ShareOfAll | None = None
    stages: list[ShareStageConfig] | None = None

    @model_validator(mode="after")
    def _fits_its_shape(self) -> ShareScheduleConfig:
        wanted, other = ("stages", "to") if self.shape == "staged" else ("to", "stages")
        if not (self.stages if wanted == "stages" else self.to is not None):
            raise ValueError(f"shape {self.shape} needs {wanted}")
        if getattr(self, other) is not None:
            raise ValueError(f"shape {self.shape} takes {wanted}, not {other}")
        starts = [stage.at for stage in self.stages or ()]
        if starts != sorted(set(starts)):
            raise ValueError(f"each stage must begin later than the one before, found {starts}")
        return self

    @property
    def shares(self) -> list[float]:
        """The shares that it goes to."""
        return [stage.share for stage in self.stages or ()] + ([] if self.to is None else [self.to])


class ReplayConfig(Strict):
    """Past instruction data, mixed in so that the model keeps what it knew.

    `size` samples are chosen once, by the seed, from one source or from several by their weights. They make up
    `share` of the training: of its examples (`rows`), of their `tokens`, or of the tokens that the loss counts
    (`loss_tokens`). The same samples come back as often as that needs, unless `repeat` is false: then a run
    that needs more than there are is refused. `heldout` samples are never replayed, whatever `size` is: the task
    `past_instructions` asks them, to say what was forgotten.
    """

    source: Entry | Annotated[list[Entry], Field(min_length=1)]
    size: Natural = 10_000
    heldout: Natural = 0
    preset: Literal["paper"] | None = None
    select: SelectConfig = SelectConfig()
    share: ShareOfAll = 0.5
    share_of: Literal["rows", "tokens", "loss_tokens"] = "rows"
    schedule: ShareScheduleConfig | None = None
    repeat: bool = True

    @property
    def sources(self) -> list[Entry]:
        """The sources, be it one or several."""
        return self.source if isinstance(self.source, list) else [self.source]

    @model_validator(mode="after")
    def _both_or_none(self) -> ReplayConfig:
        if self.size > 0 and not any([self.share, *(self.schedule.shares if self.schedule else ())]):
            raise ValueError(
                f"share is 0 but size is {self.size}: no sample would ever be drawn. Set share above 0 "
                "(the paper: 0.5), or size to 0 for no replay"
            )
        return self

    @model_validator(mode="after")
    def _has_what_to_hold_out(self) -> ReplayConfig:
        if self.heldout and any(source.name == "self" for source in self.sources):
            raise ValueError(
                f"heldout is {self.heldout}, but a source has format: self, and what a model writes itself says "
                "nothing of what it forgot. Set heldout to 0, or give a source of past data (format: jsonl, hub)"
            )
        return self

    @model_validator(mode="after")
    def _as_the_preset_says(self) -> ReplayConfig:
        """The paper's replay: new and past examples take turns, whatever r is (the published scripts)."""
        if self.preset is None:
            return self
        fixed = {
            "share": 0.5,
            "share_of": "rows",
            "schedule": None,
            "repeat": True,
            "select": SelectConfig(),
        }
        other = [key for key, value in fixed.items() if getattr(self, key) != value]
        if other:
            raise ValueError(
                f"preset paper means that new and past examples take turns, r chosen at random: it sets "
                f"{', '.join(other)} itself. Leave {'it' if len(other) == 1 else 'them'} out, or the preset"
            )
        return self
