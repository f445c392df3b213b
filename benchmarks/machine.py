"""What a result was measured on, and where it is written to."""

from __future__ import annotations

import os
import platform
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
