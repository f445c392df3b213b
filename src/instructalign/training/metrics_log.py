"""Counters of a training run (rows, tokens, losses by objective), and what run.json says of it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from instructalign.config import Config
from instructalign.mixture.training_data import Data, describe_mixture
from instructalign.run_folder import training_hash, versions
from instructalign.training.models import LoadedModel

TALLY = "tally.json"  # in a checkpoint
COUNTS = ("rows", "tokens", "loss_tokens", "cuts", "passed")


class TrainingCounters:
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


def at_beginning(config: Config, data: Data, loaded: LoadedModel, hash: str) -> dict[str, Any]:
    """What is known before the first step: versions, seed, data and model, with the hash of its files."""
    counts = data.corpus.counts
    return {
        "command": command(),
        "versions": versions(),
        "seed": config.seed,
        "corpus": {
            "read": counts.read,
            "kept": counts.kept,
            "dropped": dict(counts.dropped),
            "train": len(data.corpus),
            "heldout": len(data.heldout),
            "removed": {name: asdict(each) for name, each in data.corpus.removed.items() if each.texts},
        },
        "replay": {
            "read": data.replay.counts.read,
            "chosen": len(data.replay),
            "heldout": len(data.replay.heldout),
            "dropped": dict(data.replay.counts.dropped),
            "sources": {
                name: {"read": counts.read, "chosen": counts.kept, "dropped": dict(counts.dropped)}
                for name, counts in data.replay.sources.items()
            },
        },
        "mixture": {
            "planned": describe_mixture(config, data.mixture),
            "selection": dict(data.replay.strata),
        },
        "contamination": dict(data.contamination),
        "model": {
            "base": config.model.base,
            "hash": hash,
            "parameters": sum(weight.numel() for weight in loaded.model.parameters()),
        },
    }


def command() -> str | None:
    """The command that started this run, if the command line did."""
    if Path(sys.argv[0]).name not in ("instructalign", "__main__.py"):
        return None
    return shlex.join(["instructalign", *sys.argv[1:]])


def at_end(
    config: Config, data: Data, counts: dict[str, Any], seconds: float, strategies: Mapping[str, Any]
) -> dict[str, Any]:
    """What is known after the last step: what the model was really trained on, and how long it took."""
    cuts, passed = counts.pop("cuts"), counts.pop("passed")
    total = {unit: sum(by_kind.values()) for unit, by_kind in counts.items()}
    shares = {
        unit: by_kind.get("replay", 0) / total[unit] if total[unit] else 0.0 for unit, by_kind in counts.items()
    }
    return {
        "training_hash": training_hash(config),
        "mixture": {
            "realised": {**counts, "replay_share": shares, "size": len(data.replay)},
        },
        "encoding": {"examples": total.get("rows", 0), **cuts},
        "padding": round(padding_share(passed), 6),
        "timings": {"training_seconds": round(seconds, 3)},
        "strategies": dict(strategies),
    }
