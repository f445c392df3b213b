"""Runs the command line with FSDP2 over gloo: torch offers it on processors, accelerate on GPUs alone."""

from __future__ import annotations

from typing import Any

from accelerate.state import PartialState
from accelerate.utils import DistributedType

_begin = PartialState.__init__


def _pretend(self: Any, *args: Any, **kwargs: Any) -> None:
    """Takes this machine's processes for GPUs, where accelerate asks which kind they are."""
    _begin(self, *args, **kwargs)
    if PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU:
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


if __name__ == "__main__":
    PartialState.__init__ = _pretend
    from instructalign.cli import main

    main()
