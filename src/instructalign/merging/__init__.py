"""Arithmetic on saved models: interpolation with the base, and the sum of several adaptations."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructalign.errors import ConfigError, RunFolderError
from instructalign.files import read_object, text_hash, write_json
from instructalign.merging.arithmetic import Method, Recipe
from instructalign.merging.checkpoint_files import fitting, open_stored
from instructalign.merging.merged_model import RECORD, write_merged
from instructalign.progress import Progress, silent
from instructalign.run_folder import differences
from instructalign.training.models import model_hash

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.merging.coefficient_search import Worth

__all__ = ["Merged", "merge"]

WORTHS = "worths.json"  # what was measured so far, for a call that was interrupted
CAME = ("by", "rule", "scores")  # of a record, what came of a merge; the rest is what was asked for


@dataclass(frozen=True, slots=True)
class Merged:
    """What came of merging.

    Attributes:
        folder: the merged model, an ordinary Hugging Face folder with a merge.json.
        alpha: how far it is from the base.
        worths: by alpha, what it is worth on held-out data; empty where one alpha was given and nothing measured.
        base: what the base is worth; None where nothing was measured.
        by: what was measured.
        shortfalls: where none of the alphas is what was asked for, in words; see `choose.shortfalls`.
    """

    folder: Path
    alpha: float
    worths: Mapping[float, Worth]
    base: Worth | None
    by: str
    shortfalls: Sequence[str] = ()


def merge(
    base: str | Path,
    adapted: Sequence[str | Path],
    out: str | Path,
    *,
    alphas: Sequence[float] = (1.0,),
    weights: Sequence[float] | None = None,
    method: Method = "linear",
    density: float = 0.2,
    config: Config | None = None,
    keep: float = 0.01,
    report: Progress = silent,
) -> Merged:
    """Writes base + alpha · Σ weight · (adapted - base), with the alpha that is best on held-out data.

    Each alpha is measured on data that is neither trained nor tested on (`choose.yardstick`), and so is the base.
    The most on L2 wins among those that lose at most `keep` of the base on L1. An interrupted call goes on where
    it was; the same call again does nothing.

    Args:
        base: the model that was adapted.
        adapted: what it was adapted to; several are added up.
        out: the folder for the merged model.
        alphas: how far to go from the base; several need a configuration to choose by.
        weights: by adapted model; equal shares unless given.
        method, density: see `arithmetic.Recipe`.
        config: says what to choose by; with one alpha, what to measure.
        keep: how much of L1 may be lost: of weighted F1, or nats a token.
        report: told what is under way.

    Raises:
        ConfigError: an argument is wrong, or there is nothing to choose by.
        ModelError: a model cannot be read, or they do not fit together.
        RunFolderError: `out` holds something else, or another merge.
    """
    out = Path(out)
    shares = list(weights) if weights is not None else [1 / max(len(adapted), 1)] * len(adapted)
    _check(len(adapted), alphas, shares, density, keep, config)
    _check_folder(out)
    origin, others = open_stored(str(base)), [open_stored(str(each)) for each in adapted]
    names = fitting(origin, others)
    seed = config.seed if config else 0

    def write(alpha: float, folder: Path, record: Mapping[str, Any] | None = None) -> None:
        recipe = Recipe(alpha, tuple(shares), method, density, seed)
        write_merged(origin, others, names, recipe, folder, record, report)

    made: dict[str, Any] = {
        "base": {"name": origin.name, "hash": model_hash(str(origin.folder))},
        "adapted": [
            {"name": each.name, "hash": model_hash(str(each.folder)), "weight": share}
            for each, share in zip(others, shares, strict=True)
        ],
        "method": method,
        **({} if method == "linear" else {"density": density}),
        **({"seed": seed} if method == "dare" else {}),
    }
    if config is None:
        asked: dict[str, Any] = {**made, "alpha": alphas[0]}
    else:
        asked = {**made, "alphas": sorted(set(alphas)), "keep": keep, "config": text_hash(config.to_yaml())[:12]}
    if (there := _there(out, asked)) is not None:
        return _told(out, there)
    if config is not None:
        return _choose(config, out, asked, write, report)
    write(alphas[0], out, asked)
    return _told(out, asked)


def _choose(
    config: Config,
    out: Path,
    asked: Mapping[str, Any],
    write: Callable[..., None],
    report: Progress,
) -> Merged:
    """Measures the base and each alpha, and writes the model of the best."""
    from instructalign.merging.coefficient_search import Worth, pick, yardstick

    alphas, keep = asked["alphas"], asked["keep"]
    work = out.with_name(f".{out.name}.merging")
    key = text_hash({name: value for name, value in asked.items() if name not in ("alphas", "keep")})
    known = json.loads((work / WORTHS).read_text(encoding="utf-8")) if (work / WORTHS).is_file() else {}
    if known.get("key") != key:
        shutil.rmtree(work, ignore_errors=True)
        known = {"key": key}
    by = yardstick(config, work, report)
    for name in ("base", *map(str, alphas)):
        if name in known:
            continue
        model = asked["base"]["name"] if name == "base" else str(work / "model")
        if name != "base":
            write(float(name), work / "model")
        known[name] = asdict(by.measure(model, work / name))
        write_json(work / WORTHS, known)
    base = Worth(**known["base"])
    worths = {alpha: Worth(**known[str(alpha)]) for alpha in alphas}
    record = {
        **asked,
        "alpha": pick(worths, base, keep),
        "by": by.what,
        "rule": f"most on L2 among those that lose at most {keep:g} of the base on L1; else least lost on L1",
        "scores": {name: known[name] for name in ("base", *map(str, alphas))},
    }
    write(record["alpha"], out, record)
    shutil.rmtree(work)
    return _told(out, record)


def _told(out: Path, record: Mapping[str, Any]) -> Merged:
    """What came of a merge, by its record."""
    if "scores" not in record:
        return Merged(out, record["alpha"], {}, None, "")
    from instructalign.merging.coefficient_search import Worth, shortfalls

    worths = {name: Worth(**score) for name, score in record["scores"].items()}
    base = worths.pop("base")
    by_alpha = {float(name): worth for name, worth in worths.items()}
    said = shortfalls(by_alpha, base, record["keep"])
    return Merged(out, record["alpha"], by_alpha, base, record["by"], said)


def _there(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of this same merge where it is done already.

    Raises:
        RunFolderError: another merge was written there.
    """
    if not (out / RECORD).is_file():
        return None
    record = read_object(out / RECORD, json.loads)
    came = (*CAME, "alpha") if "scores" in record else CAME
    changed = differences({name: value for name, value in record.items() if name not in came}, dict(asked))
    if changed:
        raise RunFolderError(
            f"{out} holds a model that was merged otherwise; different: {', '.join(changed)}. Give another folder "
            "with --out, or remove this one."
        )
    return record


def _check(
    models: int,
    alphas: Sequence[float],
    weights: Sequence[float],
    density: float,
    keep: float,
    config: Config | None,
) -> None:
    """Refuses wrong arguments, all at once."""
    problems = []
    if models == 0:
        problems.append("name the adapted model, or several, behind the base")
    if not alphas:
        problems.append("--alpha: give at least one number from 0 to 1")
    problems += [
        f"--alpha: must lie between 0 (the base) and 1 (the adapted model), found {alpha:g}"
        for alpha in alphas
        if not 0 <= alpha <= 1
    ]
    if len(weights) != models:
        problems.append(f"--weights: one for each adapted model is needed: {models}, found {len(weights)}")
    problems += [f"--weights: must be numbers, found {weight}" for weight in weights if not math.isfinite(weight)]
    if not 0 < density <= 1:
        problems.append(f"--density: must lie above 0 and not above 1, found {density:g}")
    if keep < 0:
        problems.append(f"--keep: must not be below 0, found {keep:g}")
    if len(set(alphas)) > 1 and config is None:
        problems.append("--alpha: several need something to choose by; give --config, or one alpha")
    if problems:
        raise ConfigError(problems, "the arguments of merge")


def _check_folder(out: Path) -> None:
    """Refuses a folder that would be overwritten and is no merged model."""
    if out.is_file():
        raise RunFolderError(f"{out} is a file; a model needs a folder. Give another name with --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / RECORD).is_file():
        found = ", ".join(sorted(path.name for path in out.iterdir())[:8])
        raise RunFolderError(
            f"{out} is not empty and holds no merged model (found: {found}). Give an empty or new "
            "folder with --out."
        )
