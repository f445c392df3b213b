"""A run that kills itself (signal 9) at a given event: between steps, or amid the writes of a checkpoint."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

UNFINISHED = 75


def count_events(fatal: int | None, note: Callable[[str], None]) -> None:
    """Has every step and every file operation in a run's folder count as an event, and the fatal one kill.

    Args:
        fatal: the number of the event at which the process kills itself; None for never.
        note: called with the name of each event.
    """
    import torch
    import transformers.modeling_utils
    from transformers.trainer_callback import CallbackHandler

    seen = 0

    def event(name: str) -> None:
        nonlocal seen
        seen += 1
        note(name)
        if seen == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            event(f"before {name}")
            result = real(*args, **kwargs)
            event(f"after {name}")
            return result

        setattr(owner, name, counted)

    real_rmtree = shutil.rmtree

    def rmtree(path: Any, *args: Any, **kwargs: Any) -> None:
        # One file at a time, so that a removal can be interrupted in its middle.
        for file in sorted(Path(path).rglob("*")) if Path(path).is_dir() else []:
            if file.is_file():
                file.unlink()
                event("amid rmtree")
        real_rmtree(path, *args, **kwargs)

    shutil.rmtree = rmtree  # type: ignore[assignment]
    around(transformers.modeling_utils, "safe_save_file")
    around(torch, "save")
    around(os, "fsync")
    around(Path, "rename")
    around(Path, "replace")
    around(CallbackHandler, "on_step_end")


def run(config: str, out: str, fatal: int | None, events: str | None = None) -> None:
    """Trains, to be killed at an event; writes the names of the events to a file where one is named."""
    import torch

    from instructalign.config_file import load_config
    from instructalign.training.train import train

    torch.set_num_threads(1)
    names: list[str] = []
    count_events(fatal, names.append)
    train(load_config(config), out)
    if events:
        Path(events).write_text("\n".join(names), encoding="utf-8")


def run_plainly(config: str, out: str) -> None:
    """Trains as it is; exits with UNFINISHED when it was asked to stop before the end."""
    import torch

    from instructalign.config_file import load_config
    from instructalign.training.train import train

    torch.set_num_threads(1)
    if not train(load_config(config), out).finished:
        sys.exit(UNFINISHED)
