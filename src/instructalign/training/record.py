"""What run.json says of a training run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.mixture.build import Data
from instructalign.mixture.plan import describe_plan
from instructalign.runfolder import training_hash, versions
from instructalign.training.measure import Measured
from instructalign.training.model import LoadedModel
from instructalign.training.tally import padding_share


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
            "planned": describe_plan(config, data.mixture, Measured(config, loaded.codec)),
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
