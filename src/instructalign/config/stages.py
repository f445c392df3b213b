"""Languages one after another, and what a model carries from one stage to the next."""

from __future__ import annotations

from instructalign.config.base import Natural, Positive, Strict


class MemoryConfig(Strict):
    """What the folder of the adapted model carries for whoever teaches it more: a replay buffer.

    `per_stage` of the instructions that were trained on join the past examples that were replayed. When there
    are more than `budget`, some of all of them make room, chosen by the seed.
    """

    per_stage: Natural = 500
    budget: Positive = 2000
