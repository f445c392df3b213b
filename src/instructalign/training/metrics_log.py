"""Counters of a training run (rows, tokens, losses by objective), and what run.json says of it."""

from __future__ import annotations

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from instructalign.config import Config, Entry
from instructalign.files import file_hash, text_hash
from instructalign.licences import base_licence
from instructalign.mixture.replay_buffer import INSTRUCTION_DATA, ReplayBuffer
from instructalign.mixture.training_data import TrainingData, describe_mixture
from instructalign.progress import is_main_process
from instructalign.run_folder import training_hash, versions
from instructalign.training.hardware import commits, describe_machine
from instructalign.training.models import LoadedModel

COUNTERS = "counters.json"  # in a checkpoint
_MAX_HASHED = 20_000_000_000  # bytes of a file or folder
_SAVED = ("rows", "tokens", "loss_tokens", "truncated", "passed")


class TrainingCounters:
    """Counts every micro-batch that is trained on; saved in each checkpoint, so that a resumed run continues.

    Losses stay on the device that computed them until they are asked for, so that counting makes no GPU wait.

    Attributes:
        rows, tokens, loss_tokens: by objective (or `replay`), over the whole run and this process: examples,
            their tokens without padding (of encoder and decoder, where there are two), those that carry loss.
        truncated: how many examples had their prompt or answer truncated.
        passed: how many tokens went through the model: `real` ones, and `padding`.
    """

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.tokens: Counter[str] = Counter()
        self.loss_tokens: Counter[str] = Counter()
        self.truncated: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()
        # Since the last line of the log: losses by example, not yet fetched from the device, with what they are
        # logged under; the weights they are divided by; and `passed` as it was then.
        self._pending: list[tuple[list[tuple[str, ...]], torch.Tensor]] = []
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
        names = []
        for kind, language, length, count, mass in zip(
            *(batch[name] for name in ("kinds", "languages", "lengths", "counted", "masses")), strict=True
        ):
            self.rows[kind] += 1
            self.tokens[kind] += length
            self.loss_tokens[kind] += count
            names.append((f"loss/{kind}", *([f"language_loss/{language}"] if language else [])))
            for name in names[-1]:
                self._masses[name] += mass
        self._pending.append((names, by_example))
        self.truncated.update(batch["truncated"])
        real = sum(batch["lengths"])
        self.passed.update({"real": real, "padding": batch["padded"] - real})

    def drain(self) -> dict[str, float]:
        """The mean losses since the last call, over all processes; every process must call it.

        Returns:
            The mean loss in nats per weighted token, by objective (`loss/NAME`) and by target language
            (`language_loss/CODE`); `padding`, its share of all tokens that went through the model; and `tokens`,
            how many others did.
        """
        losses: Counter[str] = Counter()
        if self._pending:
            logged_under = [names for examples, _ in self._pending for names in examples]
            values = torch.cat([by_example for _, by_example in self._pending]).tolist()
            for names, value in zip(logged_under, values, strict=True):
                for name in names:
                    losses[name] += value
        passed = Counter(self.passed)
        passed.subtract(self._passed_before)
        parts = _from_all_processes({"losses": losses, "masses": self._masses, "passed": passed})
        self._pending, self._masses, self._passed_before = [], Counter(), Counter(self.passed)
        total: dict[str, Counter[str]] = {
            name: sum((part[name] for part in parts), Counter()) for name in parts[0]
        }
        means = {name: total["losses"][name] / mass for name, mass in sorted(total["masses"].items()) if mass > 0}
        return {**means, "padding": _padding_share(total["passed"]), "tokens": total["passed"]["real"]}

    def total(self) -> dict[str, dict[str, int]]:
        """The counts of all processes together; every process must call it."""
        parts = _from_all_processes({name: dict(sorted(getattr(self, name).items())) for name in _SAVED})
        return {name: dict(sum((Counter(part[name]) for part in parts), Counter())) for name in _SAVED}

    def restore(self, counts: dict[str, dict[str, int]]) -> None:
        """Continues from the counts of a checkpoint."""
        for name in _SAVED:
            setattr(self, name, Counter(counts.get(name, {})))
        self._passed_before = Counter(self.passed)


def _padding_share(passed: Mapping[str, int]) -> float:
    """The share of padding in the tokens that went through the model."""
    padding = passed.get("padding", 0)
    return padding / max(1, padding + passed.get("real", 0))


def _from_all_processes(mine: Any) -> list[Any]:
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return [mine]
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, mine)
    return parts


def start_metadata(config: Config, data: TrainingData, loaded: LoadedModel, hash: str) -> dict[str, Any]:
    """What run.json says before the first step: versions, seed, data and model, with the hash of its files."""
    counts = data.corpus.counts
    return {
        "command": command(),
        "versions": versions(),
        "machine": describe_machine(),
        "commits": commits(),
        "data": data_hashes(config) if is_main_process() else {},
        "seed": config.seed,
        "corpus": {
            "read": counts.read,
            "kept": counts.kept,
            "dropped": dict(counts.dropped),
            "train": len(data.corpus),
            "heldout": len(data.heldout),
            "removed": {name: asdict(each) for name, each in data.corpus.removed.items() if each.texts},
        },
        "replay": _buffer_counts(data.replay),
        **({INSTRUCTION_DATA: _buffer_counts(data.taught)} if len(data.taught) else {}),
        "mixture": {
            "planned": describe_mixture(config, data.mixture),
            "selection": dict(data.replay.strata),
        },
        "contamination": dict(data.contamination),
        "model": {
            "base": config.model.base,
            **({"licence": licence} if (licence := base_licence(config.model.base)) else {}),
            "hash": hash,
            "parameters": sum(weight.numel() for weight in loaded.model.parameters()),
            **({"chat": loaded.codec.chat.to_dict()} if loaded.codec.chat else {}),
        },
    }


def _buffer_counts(buffer: ReplayBuffer) -> dict[str, Any]:
    return {
        "read": buffer.counts.read,
        "chosen": len(buffer),
        "heldout": len(buffer.heldout),
        "dropped": dict(buffer.counts.dropped),
        "sources": {
            name: {"read": counts.read, "chosen": counts.kept, "dropped": dict(counts.dropped)}
            for name, counts in buffer.sources.items()
        },
    }


def command() -> str | None:
    """The command that started this run, if the command line did."""
    if Path(sys.argv[0]).name not in ("instructalign", "__main__.py"):
        return None
    return shlex.join(["instructalign", *sys.argv[1:]])


def data_hashes(config: Config) -> dict[str, dict[str, Any]]:
    """By key path, the files that corpora, lexicons, replay and instruction data are read from: size and SHA-256.

    Of a folder the hash is over the names and hashes of its files. What has more than 20 GB has its size alone.
    """
    found = {}
    for key in ("corpora", "instructions", "replay", INSTRUCTION_DATA):
        for place, path in _paths(getattr(config, key), key):
            files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
            files = [file for file in files if file.is_file()]
            about: dict[str, Any] = {"name": path.name, "bytes": sum(file.stat().st_size for file in files)}
            if files and about["bytes"] <= _MAX_HASHED:
                hashes = [(file.relative_to(path).as_posix(), file_hash(file)) for file in files]
                about["sha256"] = text_hash(hashes) if path.is_dir() else hashes[0][1]
            found[place] = about
    return found


def _paths(value: Any, place: str) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Path):
        yield place, value
    elif isinstance(value, Entry):
        yield from _paths(value.options, place)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _paths(getattr(value, name), f"{place}.{name}")
    elif isinstance(value, (Mapping, list, tuple)):
        for key, inner in value.items() if isinstance(value, Mapping) else enumerate(value):
            yield from _paths(inner, f"{place}.{key}")


def end_metadata(
    config: Config,
    data: TrainingData,
    counts: dict[str, Any],
    seconds: float,
    strategies: Mapping[str, Any],
    energy: Mapping[str, float],
) -> dict[str, Any]:
    """What run.json says after the last step: what the model was trained on, and how long it took."""
    truncated, passed = counts.pop("truncated"), counts.pop("passed")
    total = {unit: sum(by_kind.values()) for unit, by_kind in counts.items()}

    def share_of(kind: str) -> dict[str, float]:
        return {unit: found.get(kind, 0) / total[unit] if total[unit] else 0.0 for unit, found in counts.items()}

    taught = {"instruction_data_share": share_of(INSTRUCTION_DATA)} if len(data.taught) else {}
    return {
        "training_hash": training_hash(config),
        "mixture": {
            "realised": {**counts, "replay_share": share_of("replay"), **taught, "size": len(data.replay)},
        },
        "encoding": {"examples": total.get("rows", 0), **truncated},
        "padding": round(_padding_share(passed), 6),
        "timings": {"training_seconds": round(seconds, 3)},
        "strategies": dict(strategies),
        "energy": dict(energy),
    }
