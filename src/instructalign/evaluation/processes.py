"""Several processes that share the work of an evaluation, launched by `accelerate launch` or `torchrun`.

They must see the same output folder. The first writes; all know the results.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from accelerate import PartialState

T = TypeVar("T")


def processes() -> Any:
    """Which process this is, how many there are, and the device of this one: an `accelerate.PartialState`.

    Where one process runs alone, that is all there is to it.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def joined(part: Mapping[int, T]) -> dict[int, T]:
    """What all processes have, in one dictionary in each of them; they wait for each other."""
    if processes().num_processes == 1:
        return dict(part)
    parts: list[Any] = [None] * processes().num_processes
    torch.distributed.all_gather_object(parts, dict(part))
    return {key: value for some in parts for key, value in some.items()}


def from_first(value: T) -> T:
    """What the first process has, in all of them; they wait for it."""
    if processes().num_processes == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]
