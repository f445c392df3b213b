"""Language modelling: continuing a passage of monolingual text."""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import override

from instructalign.instructions.objectives import Context, Objective, SlotsAndAnswer
from instructalign.instructions.segmentation import segment
from instructalign.randomness import Draws
from instructalign.types import ParallelRow


class LM(Objective):
    """Continuing a passage of monolingual text.

    Args:
        form: `chat`: the passage is cut at random, its beginning stands in a prompt and in the chat template, and
            the rest is the answer (after InstructionCP, Chen and Lee 2024, arXiv 2405.20175). `plain`: the whole
            passage without prompt and chat template, as in pretraining; for decoder-only models. `prefix`: cut as
            in `chat`, without a prompt of ours (prefix language modelling, Raffel et al. 2020, arXiv 1910.10683;
            for encoder-decoder models too).
        characters: length of a passage, at most. By default twice training.max_length, which is in tokens.
    """

    slots = ("passage",)
    monolingual = True
    passages = True

    def __init__(
        self,
        *,
        form: Literal["chat", "plain", "prefix"] = "chat",
        characters: Annotated[int, Field(ge=1)] | None = None,
    ) -> None:
        self.form = form
        self.characters = characters

    @override
    @classmethod
    def asks(cls, **options: Any) -> bool:
        return bool(options.get("form", "chat") == "chat")

    @override
    def make(
        self, row: ParallelRow, source: str, target: str, draws: Draws, context: Context
    ) -> SlotsAndAnswer | None:
        text = row.texts[target]
        if self.form == "plain":
            return {"passage": ""}, text
        places = [match.start() for match in re.finditer(r"\s+", text)]
        if not places:  # a script without spaces between words
            places = [*accumulate(map(len, segment(text)))][1:-2:2]
        if not places:
            return None
        place = draws.choice(places)
        return {"passage": text[:place].rstrip()}, text[place:].lstrip()
