"""Merging saved models: interpolation with the base model, and task arithmetic with several adapted models."""

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
from instructalign.merging.model_weights import match_names, open_weights
from instructalign.merging.weight_merging import MERGE_RECORD, write_merged
from instructalign.progress import Progress, silent
from instructalign.run_folder import config_differences
from instructalign.training.models import model_hash

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.merging.coefficient_search import HeldOutScore

__all__ = ["MergeResult", "merge"]

_MEASURED = "scores.json"  # in the working folder: what was measured before an interruption


@dataclass(frozen=True, slots=True)
class MergeResult:
    """The outcome of a merge.

    Attributes:
        folder: the merged model, an ordinary Hugging Face folder with a merge.json.
        alpha: its coefficient, 0 (the base) to 1.
        scores: by alpha, the score on held-out data; empty without a configuration to measure by.
        base: the base's score; None if nothing was measured.
        criterion: what was measured.
        shortfalls: in words, if no alpha meets the criterion; see `coefficient_search.shortfalls`.
    """

    folder: Path
    alpha: float
    scores: Mapping[float, HeldOutScore]
    base: HeldOutScore | None
    criterion: str
    shortfalls: Sequence[str] = ()


def merge(
    base: str | Path,
    adapted: Sequence[str | Path],
    out: str | Path,
    *,
    alphas: Sequence[float] = (1.0,),
    weights: Sequence[float] | None = None,
    config: Config | None = None,
    keep: float = 0.01,
    progress: Progress = silent,
) -> MergeResult:
    """Writes base + alpha · Σ weight · (adapted - base), with the alpha that is best on held-out data.

    With one adapted model this is linear interpolation (Wortsman et al. 2022, arXiv 2109.01903), with several task
    arithmetic (Ilharco et al. 2023, arXiv 2212.04089). The base and each alpha are measured on data that is
    neither trained nor tested on (`coefficient_search.criterion_of`). The highest score on L2 wins among the
    alphas that lose at most `keep` of the base's score on L1. An interrupted call can be resumed by repeating it;
    repeating a finished one does nothing.

    Args:
        base: the model that was adapted.
        adapted: one or more models adapted from it.
        out: the folder for the merged model.
        alphas: coefficients, 0 to 1; several need a configuration to choose by.
        weights: by adapted model; by default the same for all, with the sum 1.
        config: what to choose by; with one alpha, what to measure.
        keep: the maximum loss on L1: of weighted F1, or in nats per token.
        progress: called with each step's progress.

    Raises:
        ConfigError: an argument is wrong, or there is no held-out data to choose by.
        ModelError: a model cannot be read, or the models do not match.
        RunFolderError: `out` holds something else, or another merge.
    """
    out = Path(out)
    shares = list(weights) if weights is not None else [1 / max(len(adapted), 1)] * len(adapted)
    _check_arguments(len(adapted), alphas, shares, keep, config)
    if out.is_file():
        raise RunFolderError(f"{out} is a file; a model needs a folder. Choose another --out.")
    if out.is_dir() and any(out.iterdir()) and not (out / MERGE_RECORD).is_file():
        found = ", ".join(sorted(path.name for path in out.iterdir())[:8])
        raise RunFolderError(
            f"{out} is not empty and is not a merged model (found: {found}). Choose an empty or new --out."
        )
    models = [open_weights(str(each)) for each in (base, *adapted)]
    names = match_names(models)
    hashes = [model_hash(str(each.folder)) for each in models]
    asked: dict[str, Any] = {
        "base": {"name": models[0].name, "hash": hashes[0]},
        "adapted": [
            {"name": each.name, "hash": hash_, "weight": share}
            for each, hash_, share in zip(models[1:], hashes[1:], shares, strict=True)
        ],
    }
    if config is None:
        asked["alpha"] = alphas[0]
    else:
        asked |= {"alphas": sorted(set(alphas)), "keep": keep, "config": text_hash(config.to_yaml())[:12]}
    record = _finished(out, asked)
    if record is None:

        def write(alpha: float, folder: Path, record: Mapping[str, Any] | None = None) -> None:
            write_merged(models, names, shares, alpha, folder, record, progress)

        work = out.with_name(f".{out.name}.merging")
        record = {**asked, **_choose(config, asked, work, write, progress)} if config else asked
        write(record["alpha"], out, record)
        shutil.rmtree(work, ignore_errors=True)
    if "scores" not in record:
        return MergeResult(out, record["alpha"], {}, None, "")
    from instructalign.merging.coefficient_search import shortfalls

    scores, base_score = _scores_of(record["scores"], record["alphas"])
    problems = shortfalls(scores, base_score, record["keep"])
    return MergeResult(out, record["alpha"], scores, base_score, record["by"], problems)


def _choose(
    config: Config, asked: Mapping[str, Any], work: Path, write: Callable[[float, Path], None], progress: Progress
) -> dict[str, Any]:
    """Measures the base and each alpha; returns the alpha chosen and why, for merge.json."""
    from instructalign.merging.coefficient_search import choose_alpha, criterion_of

    key = text_hash({name: value for name, value in asked.items() if name not in ("alphas", "keep")})
    known = read_object(work / _MEASURED, json.loads)
    if known.get("key") != key:
        shutil.rmtree(work, ignore_errors=True)
        known = {"key": key}
    criterion = criterion_of(config, progress)
    names = ["base", *map(str, asked["alphas"])]
    for name in names:
        if name not in known:
            model = asked["base"]["name"]
            if name != "base":
                model = str(work / "model")
                write(float(name), work / "model")
            known[name] = asdict(criterion.measure(model, work / name))
            write_json(work / _MEASURED, known)
    scores, base = _scores_of(known, asked["alphas"])
    keep = asked["keep"]
    return {
        "alpha": choose_alpha(scores, base, keep),
        "by": criterion.description,
        "rule": f"best on L2 among those that lose at most {keep:g} of the base on L1; else least lost on L1",
        "scores": {name: known[name] for name in names},
    }


def _scores_of(
    known: Mapping[str, Any], alphas: Sequence[float]
) -> tuple[dict[float, HeldOutScore], HeldOutScore]:
    from instructalign.merging.coefficient_search import HeldOutScore

    return {alpha: HeldOutScore(**known[str(alpha)]) for alpha in alphas}, HeldOutScore(**known["base"])


def _finished(out: Path, asked: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of this same merge if it is done already.

    Raises:
        RunFolderError: the folder holds another merge.
    """
    if not (out / MERGE_RECORD).is_file():
        return None
    record = read_object(out / MERGE_RECORD, json.loads)
    outcome = {"by", "rule", "scores", *(["alpha"] if "scores" in record else [])}
    changed = config_differences(
        {name: value for name, value in record.items() if name not in outcome}, dict(asked)
    )
    if changed:
        raise RunFolderError(
            f"{out} holds another merged model; different: {', '.join(changed)}. Choose another --out, or remove "
            "this folder."
        )
    return record


def _check_arguments(
    models: int, alphas: Sequence[float], weights: Sequence[float], keep: float, config: Config | None
) -> None:
    """Refuses wrong arguments, all at once."""
    problems = []
    if models == 0:
        problems.append("name one or more adapted models after the base")
    if not alphas:
        problems.append("--alpha: give at least one number from 0 to 1")
    problems += [
        f"--alpha: must be between 0 (the base) and 1 (the adapted model), found {alpha:g}"
        for alpha in alphas
        if not 0 <= alpha <= 1
    ]
    if len(weights) != models:
        problems.append(f"--weights: one per adapted model is needed: {models}, found {len(weights)}")
    problems += [f"--weights: must be numbers, found {weight}" for weight in weights if not math.isfinite(weight)]
    if keep < 0:
        problems.append(f"--keep: must not be negative, found {keep:g}")
    if len(set(alphas)) > 1 and config is None:
        problems.append("--alpha: several values need held-out data to choose by; give --config, or one alpha")
    if problems:
        raise ConfigError(problems, "the arguments of merge")
