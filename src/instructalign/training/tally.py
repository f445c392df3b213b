"""What a run was really trained on: rows, tokens and counted tokens by objective, and the loss of each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import torch


class Tally:
    """Counts every micro-batch that is trained on; part of each checkpoint, so that a resumed run counts on.

    Attributes:
        rows, tokens, loss_tokens: by objective (or `replay`), over the whole run and this process: examples,
            their tokens without padding (of encoder and decoder, where there are two), those that count.
        cuts: how many examples had their prompt or answer cut.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.loss_tokens: Counter[str] = Counter()
        self.cuts: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._counted: Counter[str] = Counter()

    def add(self, batch: dict[str, Any], losses: torch.Tensor) -> None:
        """Counts one micro-batch.

        Args:
            batch: as `collate` makes it.
            losses: the loss of each counted position, [positions with a weight above 0].
        """
        counted = batch["weights"] > 0
        by_row = torch.zeros_like(batch["weights"])
        by_row[counted] = losses.float() * batch["weights"][counted]
        weights = batch["weights"].sum(dim=1).tolist()
        counts = counted.sum(dim=1).tolist()
        for kind, length, count, weight, loss in zip(
            batch["kinds"], batch["lengths"], counts, weights, by_row.sum(dim=1).tolist(), strict=True
        ):
            self.rows[kind] += 1
            self.tokens[kind] += length
            self.loss_tokens[kind] += int(count)
            self._losses[kind] += loss
            self._counted[kind] += weight
        self.cuts.update(batch["cuts"])

    def drain(self) -> dict[str, float]:
        """Mean loss by objective since the last call, in nats per weighted token."""
        means = {
            f"loss/{kind}": self._losses[kind] / self._counted[kind]
            for kind in sorted(self._counted)
            if self._counted[kind]
        }
        self._losses.clear()
        self._counted.clear()
        return means

    @property
    def all_tokens(self) -> int:
        """Tokens of all examples so far, padding not counted."""
        return sum(self.tokens.values())

    def realised(self) -> dict[str, dict[str, int]]:
        """The counts as run.json holds them."""
        return {
            "rows": dict(sorted(self.rows.items())),
            "tokens": dict(sorted(self.tokens.items())),
            "loss_tokens": dict(sorted(self.loss_tokens.items())),
        }

    def total(self) -> dict[str, dict[str, int]]:
        """The counts of all processes together; every process must call it."""
        mine = {**self.realised(), "cuts": dict(sorted(self.cuts.items()))}
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return mine
        gathered: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(gathered, mine)
        return {name: dict(sum((Counter(part[name]) for part in gathered), Counter())) for name in mine}

    def restore(self, counts: dict[str, dict[str, int]]) -> None:
        """Takes over the counts of a checkpoint."""
        for name in ("rows", "tokens", "loss_tokens", "cuts"):
            setattr(self, name, Counter(counts.get(name, {})))
