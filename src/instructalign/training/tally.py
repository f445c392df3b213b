"""What a run was really trained on: rows, tokens and counted tokens by objective, and the loss of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch

TALLY = "tally.json"  # in a checkpoint
COUNTS = ("rows", "tokens", "loss_tokens", "cuts", "passed")


class Tally:
    """Counts every micro-batch that is trained on; part of each checkpoint, so that a resumed run counts on.

    Losses stay on the device that computed them until they are asked for, so that counting makes no GPU wait.

    Attributes:
        rows, tokens, loss_tokens: by objective (or `replay`), over the whole run and this process: examples,
            their tokens without padding (of encoder and decoder, where there are two), those that count.
        cuts: how many examples had their prompt or answer cut.
        passed: how many tokens went through the model: `real` ones, and `padding`.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.loss_tokens: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        self._pending: list[tuple[dict[str, Any], torch.Tensor]] = []
        self._masses: Counter[str] = Counter()
        self._passed_before: Counter[str] = Counter()

    def add(self, batch: dict[str, Any], losses: torch.Tensor) -> None:
        """Counts one micro-batch.

        Args:
            batch: as `collate` makes it.
            losses: the loss of each counted position, [counted], without gradient.
        """
        weights = batch["weights"].flatten().index_select(0, batch["positions"])
        by_example = torch.zeros(len(batch["kinds"]), dtype=torch.float32, device=losses.device)
        by_example.index_add_(0, batch["examples"], losses.float() * weights)
        self._pending.append(({name: batch[name] for name in ("kinds", "languages")}, by_example))
        for kind, language, length, count, mass in zip(
            *(batch[name] for name in ("kinds", "languages", "lengths", "counted", "masses")), strict=True
        ):
            self.rows[kind] += 1
            self.tokens[kind] += length
            self.loss_tokens[kind] += count
            for name in _names(kind, language):
                self._masses[name] += mass
        self.cuts.update(batch["cuts"])
        real = sum(batch["lengths"])
        self.passed.update({"real": real, "padding": batch["padded"] - real})

    def drain(self) -> dict[str, float]:
        """What was learned since the last call, in all processes together; every process must call it.

        Returns:
            The mean loss in nats per weighted token, by objective (`loss/NAME`) and by language asked for
            (`language_loss/CODE`); `padding`, its share of all tokens that went through the model; and `tokens`,
            how many others did.
        """
        losses: Counter[str] = Counter()
        if self._pending:
            values = iter(torch.cat([by_example for _, by_example in self._pending]).tolist())
            for about, _ in self._pending:
                for kind, language in zip(about["kinds"], about["languages"], strict=True):
                    value = next(values)
                    for name in _names(kind, language):
                        losses[name] += value
        passed = Counter(self.passed)
        passed.subtract(self._passed_before)
        parts = _gathered({"losses": losses, "masses": self._masses, "passed": passed})
        self._pending, self._masses, self._passed_before = [], Counter(), Counter(self.passed)
        total: dict[str, Counter[str]] = {
            name: sum((part[name] for part in parts), Counter()) for name in parts[0]
        }
        means = {name: total["losses"][name] / mass for name, mass in sorted(total["masses"].items()) if mass > 0}
        return {**means, "padding": padding_share(total["passed"]), "tokens": total["passed"]["real"]}

    def realised(self) -> dict[str, dict[str, int]]:
        """The counts as run.json holds them."""
        return {name: dict(sorted(getattr(self, name).items())) for name in ("rows", "tokens", "loss_tokens")}

    def total(self) -> dict[str, dict[str, int]]:
        """The counts of all processes together; every process must call it."""
        parts = _gathered({name: dict(sorted(getattr(self, name).items())) for name in COUNTS})
        return {name: dict(sum((Counter(part[name]) for part in parts), Counter())) for name in COUNTS}

    def restore(self, counts: dict[str, dict[str, int]]) -> None:
        """Takes over the counts of a checkpoint."""
        for name in COUNTS:
            setattr(self, name, Counter(counts.get(name, {})))
        self._passed_before = Counter(self.passed)


def _names(kind: str, language: str) -> list[str]:
    return [f"loss/{kind}", *([f"language_loss/{language}"] if language else [])]


def padding_share(passed: Mapping[str, int]) -> float:
    """The part of the tokens that went through the model that was padding."""
    padding = passed.get("padding", 0)
    return padding / max(1, padding + passed.get("real", 0))


def _gathered(mine: Any) -> list[Any]:
    """What each process has."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts
