"""What a result was measured on."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path


def describe(*packages: str) -> str:
    """The date, the processor, the load and the versions of some packages, in one line."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    cpu = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    versions = ", ".join(f"{name} {version(name)}" for name in ("instructalign", *packages))
    return (
        f"{datetime.now(timezone.utc):%Y-%m-%d}, {cpu}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f} at "
        f"the start), Python {platform.python_version()}, {versions}"
    )
