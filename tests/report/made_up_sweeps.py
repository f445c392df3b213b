"""Sweep folders as `instructalign sweep` would leave them, with made-up scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from made_up_runs import GROUPS as ALL
from made_up_runs import predictions

from instructalign.files import write_json
from instructalign.types import Prediction, Score

GROUPS = {"L1": ["eng", "ind"], "L2": ["jav", "sun"], "L3": ["mad"]}
BASE = {"L1": 0.9, "L2": 0.45, "L3": 0.4}


def rows(run: str, skill: Mapping[str, float], task: str) -> list[Score]:
    """Rows of a run's report: scores by language and group, gains, forgetting."""
    found = []
    for group, codes in GROUPS.items():
        for code in [*codes, ""]:
            value, before = skill[group], BASE[group]
            sign = {"task": task, "model": run, "version": "0.1.0"}

            def row(
                name: str, metric: str, value: float, code: str = code, group: str = group, sign: Any = sign
            ) -> Score:
                return Score(name, task, code, group, metric, value, value - 0.03, value + 0.03, 200, sign)

            found += [row("base", "f1_weighted", before), row(run, "f1_weighted", value)]
            found.append(row(run, "gain", value - before))
            if group == "L1":
                found.append(row(run, "forgetting", before - value))
            found.append(row("random", "f1_weighted", 0.33))
    return found


def write_sweep(
    folder: Path,
    axes: Mapping[str, Sequence[Any]],
    skill: Any,
    seeds: Sequence[int] = (1, 2, 3),
    tasks: Sequence[str] = ("mood",),
    failed: int = 0,
) -> Path:
    """A sweep over the axes; `skill` gives a cell's scores by group from its place and its seed."""
    cells = []
    for place, seed in product(product(*axes.values()), seeds):
        at = {
            name: f"{name}={value}" if not isinstance(value, str) else value
            for name, value in zip(axes, place, strict=True)
        }
        name = ", ".join(at.values())
        run = f"{name.replace(', ', '_')}_seed={seed}"
        cell = {"name": name, "seed": seed, "at": at, "folder": run, "key": run, "error": "", "seconds": 30.0}
        cells.append({**cell, "status": "done"})
        found = [row for task in tasks for row in rows(run, skill(place, seed), task)]
        write_json(folder / "cells" / run / "report.json", {"rows": [asdict(row) for row in found]})
        record = {"model": {"base": "models/toy", "parameters": 1000}, "corpus": {"train": 900}}
        write_json(folder / "cells" / run / "run.json", record)
    for cell in cells[len(cells) - failed :]:
        cell.update(status="failed", error="no room left <b>on the device</b>")
    described = [
        {
            "name": name,
            "labels": [f"{name}={value}" if not isinstance(value, str) else value for value in values],
            "numbers": None if isinstance(values[0], str) else list(values),
        }
        for name, values in axes.items()
    ]
    write_json(folder / "sweep.json", {"config": "a.yaml", "versions": {}, "axes": described, "cells": cells})
    return folder


def answers(skill: Mapping[str, float], seed: int) -> list[Prediction]:
    """Predictions in the languages of the made-up sweeps."""
    chosen = {g: codes[: len(GROUPS[g])] for g, codes in ALL.items()}
    rename = {old: new for g in chosen for old, new in zip(chosen[g], GROUPS[g], strict=True)}
    return [
        replace(each, language=rename[each.language])
        for each in predictions("mood", skill, seed)
        if each.language in rename
    ]


MIXTURES = ("mlm", "tlm", "mt", "xss", "tlm+mt", "tlm+xss", "mt+xss", "mlm+mt", "mlm+tlm+mt", "tlm+mt+xss")


def paper_skill(place: tuple[Any, ...], seed: int) -> dict[str, float]:
    """What the paper's main sweep might give: more replay keeps more, mixtures differ."""
    mixture, size = place
    noise = np.random.default_rng([seed, int(size), *mixture.encode()]).normal(0, 0.01, 3)
    kept = 0.9 - 0.5 * np.exp(-size / 200)
    learned = 0.45 + 0.04 * MIXTURES.index(mixture) - (0.05 if size > 5000 else 0)
    return {
        "L1": float(kept + noise[0]),
        "L2": float(learned + noise[1]),
        "L3": float(0.4 + 0.4 * (learned - 0.45) + noise[2]),
    }


def write_paper_sweep(folder: Path) -> Path:
    """Ten mixtures by three sizes of the replay buffer, three seeds: thirty cells, ninety runs."""
    return write_sweep(folder, {"objectives": MIXTURES, "replay.size": (0, 1000, 10000)}, paper_skill)
