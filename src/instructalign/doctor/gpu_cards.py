"""What a run would take on a card that is not here: computed from the card's data sheet, nothing is measured."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import yaml

from instructalign.errors import ConfigError, suggest

ASSUMED_MFU = 0.35
"""The share of the peak that training reaches (model FLOP/s utilisation). Assumed: somewhat less than the 38 to
43 % of Llama 3 on H100s (arXiv 2407.21783, table 4), for smaller models and shorter rows."""
QUANTISED_SLOWDOWN = 1.4
"""Steps over a base in 4 bits take longer, as its weights are unpacked each time (39 %: Raschka 2023, "Finetuning
LLMs with LoRA and QLoRA: Insights from Hundreds of Experiments")."""
_STEP_SECONDS = 0.03
"""Of one pass through a model that has little to compute: launching the kernels of some thirty layers. Assumed."""


@dataclass(frozen=True, slots=True)
class GpuCards:
    """One or several cards of one kind.

    Attributes:
        title: the card's name.
        count: how many.
        memory: bytes of each.
        half, single: peak FLOP/s of each in 16-bit and 32-bit floating point.
        bandwidth: bytes per second from the memory of each.
        bfloat16: whether it computes in bfloat16.
        source: where the figures are from.
    """

    title: str
    count: int
    memory: int
    half: float
    single: float
    bandwidth: float
    bfloat16: bool
    source: str

    def computing_seconds(
        self, operations: float, precision: str, *, passes: int, quantised: bool = False
    ) -> float:
        """Time of floating-point operations, at the assumed share of the peak of all cards together.

        A small model takes the time that launching its kernels takes, at least, in each of the passes.
        """
        peak = self.single if precision == "float32" else self.half
        seconds = operations * (QUANTISED_SLOWDOWN if quantised else 1) / (ASSUMED_MFU * peak * self.count)
        return max(seconds, passes * _STEP_SECONDS)

    def writing_seconds(self, tokens: float, rows: int, weight_bytes: float) -> float:
        """Time to generate tokens, `rows` at once on each card: every step reads all weights."""
        return tokens / (rows * self.count) * max(_STEP_SECONDS, weight_bytes / self.bandwidth)


def gpu_cards(name: str) -> GpuCards:
    """The cards that a name such as `h100` or `8xh100` means.

    Raises:
        ConfigError: there is no such card in the table.
    """
    match = re.fullmatch(r"(?:(\d+)\s*x\s*)?(.+)", name.strip().lower())
    count, card = (int(match[1] or 1), match[2]) if match else (0, name)
    known = _table()
    if card not in known or count < 1:
        raise ConfigError([f"--gpu: {name!r} is no card of the table. {suggest(card, [*known])} Several: 8xh100"])
    row = known[card]
    scaled = {key: row[key] * 1e12 for key in ("half", "single")} | {"bandwidth": row["bandwidth"] * 1e9}
    memory = int(row["memory"] * 1e9)
    return GpuCards(
        row["title"], count, memory, bfloat16=row.get("bfloat16", True), source=row["source"], **scaled
    )


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    text = files("instructalign.doctor").joinpath("gpu_cards.yaml").read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)
    return found
