"""Run by `test_gradients`, in one process or several: trains one step in every way, and writes its gradient."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from instructalign.config_file import build_config
from instructalign.plugins import STRATEGIES
from instructalign.training.strategies import Strategy
from instructalign.training.train import train
from instructalign.training.trainer import AlignTrainer


class Catch(Strategy):
    """Writes the gradient of a step, as the optimizer gets it."""

    def __init__(self, *, path: str) -> None:
        self._path = path

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        inner: Any = model
        while hasattr(inner, "module"):
            inner = inner.module
        save_file({name: weight.grad for name, weight in inner.named_parameters()}, self._path)


def count_passes() -> list[int]:
    """How many passes each step from now on takes, in this process."""
    counts: list[int] = []
    usual = AlignTrainer.training_step

    def counting(self: AlignTrainer, model: Any, inputs: Any, *more: Any) -> torch.Tensor:
        counts.append(len(inputs))
        return usual(self, model, inputs, *more)

    AlignTrainer.training_step = counting  # type: ignore[method-assign]
    return counts


def main(folder: Path) -> None:
    """Trains each configuration of `ways.json` in the folder, and writes how many passes it took."""
    counts = count_passes()
    STRATEGIES._places["catch"] = f"{__name__}:Catch"
    sys.modules.setdefault("gradients", sys.modules[__name__])
    for name, data in json.loads((folder / "ways.json").read_text(encoding="utf-8")).items():
        train(build_config(data, folder=folder), folder / name)
        (folder / f"{name}.passes").write_text(str(counts.pop()), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
