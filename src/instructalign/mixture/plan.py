"""What a run's mixture will be, worked out before it begins: its record, its refusals, its file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import ConfigError
from instructalign.files import write_json
from instructalign.mixture.mixture import Mixture
from instructalign.mixture.token_shares import BLOCK, Lengths, Measure
from instructalign.progress import Progress, is_main_process, silent

SAMPLED = 1024  # examples of each kind whose lengths stand for the others in what is planned

_OFTEN = 256 * BLOCK  # examples planned between two reports


def settle(mixture: Mixture, total: int, file: Path, key: str, report: Progress = silent) -> None:
    """Plans a share of tokens to the end of the run, or reads the plan that was made when it began.

    Args:
        mixture: the training stream; nothing is done where its share is one of rows.
        total: examples of the run.
        file: keeps the plan, so that a run that is gone on with does not measure everything again.
        key: names what the plan depends on; one with another key is not used.
        report: told how far it is.
    """
    if mixture.balance is None:
        return
    saved = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if saved.get("key") == key:
        mixture.balance.restore(saved["plan"])
        return
    for count in range(0, total, _OFTEN):
        mixture.balance.replayed(count)
        report("planning the mixture", count, total, "")
    plan = mixture.balance.plan(total)
    if is_main_process():
        write_json(file, {"key": key, "plan": plan})


def refuse_repeats(config: Config, mixture: Mixture) -> None:
    """Refuses a run that would show a replayed example again where that is not allowed.

    Raises:
        ConfigError: replay.repeat is false, and the run needs more past examples than there are.
    """
    if config.replay is None or config.replay.repeat or not len(mixture.replay):
        return
    total = config.training.steps * config.training.batch_size
    needed, there = mixture.replayed(total), len(mixture.replay)
    if needed > there:
        short = f"of the {config.replay.size:,} wanted " if there < config.replay.size else ""
        raise ConfigError(
            [
                f"replay.repeat is false, but the run replays {needed:,} of its {total:,} examples and {there:,} "
                f"{short}are there to replay: each would be shown {needed / there:.1f} times. Raise replay.size "
                f"to {needed:,} with a source that holds as many, lower replay.share or training.steps, or allow "
                "repeats"
            ]
        )


def describe_plan(config: Config, mixture: Mixture, measure: Measure) -> dict[str, Any]:
    """The planned mixture as run.json holds it: the share of replay in every unit, and how often examples return.

    The share is exact in the unit that it was asked for, and in rows; in the others it follows from the lengths
    of examples spread over the run.
    """
    total = config.training.steps * config.training.batch_size
    replayed, size = mixture.replayed(total), len(mixture.replay)
    asked = round(mixture.mean(total), 6)
    shares = {"rows": replayed / total, **_token_shares(mixture, total, replayed, measure), mixture.unit: asked}
    described: dict[str, Any] = {
        "replay": asked,
        "unit": mixture.unit,
        "shares": {unit: round(share, 6) for unit, share in shares.items()},
        "size": config.replay.size if config.replay else 0,
        "rows": replayed,
        "repeats": round(replayed / size, 3) if size else 0.0,
    }
    if config.replay and config.replay.schedule and size:
        described["begins"], described["ends"] = mixture.share.at(0), mixture.share.at(total - 1)
    return described


def _token_shares(mixture: Mixture, total: int, replayed: int, measure: Measure) -> dict[str, float]:
    if not replayed:
        return {"tokens": 0.0, "loss_tokens": 0.0}
    new = measure([mixture.instructions[k] for k in _spread(total - replayed)])
    past = measure([mixture.replay.examples[k] for k in _spread(min(replayed, len(mixture.replay)))])
    return {unit: _share(_mean(new, unit), _mean(past, unit), replayed / total) for unit in Lengths._fields}


def _spread(count: int) -> list[int]:
    """Numbers below `count`, as far apart as can be; all of them where they are few."""
    most = min(count, SAMPLED)
    return [place * count // most for place in range(most)]


def _mean(some: Sequence[Lengths], unit: str) -> float:
    return float(sum(getattr(each, unit) for each in some)) / max(1, len(some))


def _share(new: float, past: float, rows: float) -> float:
    whole = rows * past + (1 - rows) * new
    return rows * past / whole if whole else 0.0
