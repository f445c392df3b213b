"""What a result was measured on and with, and where it is written to."""

from __future__ import annotations

import logging
import os
import platform
import time
import warnings
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """The date, the processor, the load and the versions of some packages, in one line."""
    versions = ", ".join(f"{name} {version(name)}" for name in ("instructalign", *packages))
    load = f"load {os.getloadavg()[0]:.1f} at the start"
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {processor()}, {os.cpu_count()} cores ({load}), "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """The processor's name, as the system has it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())


def put(parts: Sequence[str], out: Path | None) -> None:
    """Writes a result's paragraphs as Markdown to a file, or prints them."""
    text = "\n\n".join(parts) + "\n"
    if out:
        out.write_text(text, encoding="utf-8")
    else:
        print(text)


class Clock:
    """Time on the wall, and of the processor: the machine may have other work to do."""

    def __init__(self) -> None:
        self.start = time.perf_counter(), time.process_time()

    def read(self) -> tuple[float, float]:
        """Seconds since the start, of both kinds."""
        return time.perf_counter() - self.start[0], time.process_time() - self.start[1]


def start_quietly(threads: int) -> None:
    """The number of threads, and silence on the standard output."""
    import torch

    torch.set_num_threads(threads)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
