"""Merged models, written file by file."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instructalign.files import write_json
from instructalign.merging.arithmetic import Recipe, merge_weight
from instructalign.merging.checkpoint_files import Stored
from instructalign.progress import Progress, silent

RECORD = "merge.json"
LEFT = (".safetensors", ".bin", ".pt", ".h5", ".msgpack")


def write_merged(
    base: Stored,
    adapted: Sequence[Stored],
    names: Sequence[Mapping[str, str]],
    recipe: Recipe,
    out: Path,
    record: Mapping[str, Any] | None = None,
    report: Progress = silent,
) -> None:
    """Writes a merged model as an ordinary folder, which appears when it is whole.

    It has the files, the types and the tokenizer of the first adapted model. One file's weights are in memory at a
    time, and of the models no more than one weight each.

    Args:
        base, adapted: the models.
        names: as `fitting` gives them.
        recipe: how they are merged.
        out: the folder; what stands there is replaced.
        record: goes into it as merge.json.
        report: told how many weights are done.
    """
    leader = adapted[0]
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done = 0
    with ExitStack() as stack:
        read = [stack.enter_context(model.reader()) for model in (base, *adapted)]
        for path in sorted({*leader.files.values()}):
            tensors: dict[str, torch.Tensor] = {}
            for name in sorted(key for key, file in leader.files.items() if file == path):
                start, *others = (one(where[name]) for one, where in zip(read, names, strict=True))
                tensors[name] = merge_weight(name, start, others, recipe, others[0].dtype)
                done += 1
                report("merging", done, len(leader.files), name)
            save_file(tensors, partial / path.name, metadata={"format": "pt"})
    for path in leader.folder.iterdir():
        if path.is_file() and path.suffix not in LEFT and path.name != RECORD:
            shutil.copyfile(path, partial / path.name)
    if record is not None:
        write_json(partial / RECORD, dict(record))
    shutil.rmtree(out, ignore_errors=True)
    partial.rename(out)
