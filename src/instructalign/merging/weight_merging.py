"""The arithmetic on weights, and merged models written file by file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instructalign.files import write_json
from instructalign.merging.model_weights import SavedWeights
from instructalign.progress import Progress, silent

MERGE_RECORD = "merge.json"
_BLOCK = 1 << 22  # elements computed at a time, in float64
_WEIGHT_FILES = (".safetensors", ".bin", ".pt", ".h5", ".msgpack")


def merge_weight(
    base: torch.Tensor, adapted: Sequence[torch.Tensor], weights: Sequence[float], alpha: float, dtype: torch.dtype
) -> torch.Tensor:
    """base + alpha · Σ weight · (adapted - base), for one weight.

    Computed in float64, so that alpha 0 and 1 return exactly what went in.

    Args:
        base: the base's weight, of any shape.
        adapted: those of the adapted models, of the same shape.
        weights: by adapted model.
        alpha: the coefficient, 0 to 1.
        dtype: of the result.
    """
    merged = torch.empty(base.shape, dtype=dtype)
    scales = torch.tensor(weights, dtype=torch.float64)[:, None]
    flat, start, others = merged.view(-1), base.reshape(-1), [each.reshape(-1) for each in adapted]
    for first in range(0, len(flat), _BLOCK):
        block = slice(first, first + _BLOCK)
        origin = start[block].double()
        deltas = torch.stack([each[block].double() - origin for each in others])
        flat[block] = (origin + alpha * (scales * deltas).sum(dim=0)).to(dtype)
    return merged


def write_merged(
    models: Sequence[SavedWeights],
    names: Sequence[Mapping[str, str]],
    weights: Sequence[float],
    alpha: float,
    out: Path,
    record: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> None:
    """Writes a merged model as an ordinary folder, which appears once it is complete.

    It has the files, types and tokenizer of the first adapted model. One file's weights are in memory at a time,
    and of the models one weight each.

    Args:
        models: the base and the adapted models.
        names: as `match_names` returns them.
        weights, alpha: as for `merge_weight`.
        out: the folder; replaced if it exists.
        record: written into it as merge.json.
        progress: called with the number of weights done.
    """
    leader = models[1]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = 0
    with ExitStack() as stack:
        read = [stack.enter_context(model.reader()) for model in models]
        for path in sorted({*leader.files.values()}):
            tensors: dict[str, torch.Tensor] = {}
            for name in sorted(key for key, file in leader.files.items() if file == path):
                base, *others = (one(where[name]) for one, where in zip(read, names, strict=True))
                tensors[name] = merge_weight(base, others, weights, alpha, others[0].dtype)
                done += 1
                progress("merging", done, len(leader.files), name)
            save_file(tensors, partial / path.name, metadata={"format": "pt"})
    for path in leader.folder.iterdir():
        if path.is_file() and path.suffix not in _WEIGHT_FILES and path.name != MERGE_RECORD:
            shutil.copyfile(path, partial / path.name)
    if record is not None:
        write_json(partial / MERGE_RECORD, dict(record))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
