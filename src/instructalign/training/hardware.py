"""What a run ran on, for run.json (machine, GPU, driver, commits), and the energy that it took, where counted."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
from pathlib import Path
from threading import Event, Thread
from typing import Any

import torch

_RAPL = Path("/sys/class/powercap")  # Linux: energy counters of processors, in microjoules, often for root alone
_SECONDS = 60.0  # between readings: a counter of 262 kJ runs over after some ten minutes at full load


def describe_machine() -> dict[str, Any]:
    """The machine as far as numbers and times depend on it."""
    facts: dict[str, Any] = {"platform": platform.platform(), "cpu": _processor(), "cores": os.cpu_count()}
    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
        facts |= {"gpu": names, "cuda": torch.version.cuda, "driver": _driver()}
    return {key: value for key, value in facts.items() if value}


def commits() -> dict[str, str]:
    """The Git commits of this package's checkout, if any, and of the working folder; `+` where files differ."""
    found = {}
    for name, folder in (("instructalign", Path(__file__).parent), ("working_folder", Path.cwd())):
        commit, changed = (
            _git(folder, *words) for words in (("rev-parse", "HEAD"), ("status", "--porcelain", "-uno"))
        )
        if commit:
            found[name] = commit + ("+" if changed else "")
    return found


class EnergyMeter:
    """Sums what the counters of this machine's processors and of this process's GPUs say between start and end.

    Everything else that runs on them counts too.
    """

    def __init__(self) -> None:
        self._joules = {"cpu_joules": 0.0, "gpu_joules": 0.0}
        self._last = self._read()
        self._ended = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        if self._last:
            self._thread.start()

    def end(self) -> dict[str, float]:
        """The joules of processors and GPUs, each where it has a counter, and their sum in kilowatt-hours."""
        self._ended.set()
        if not self._last:
            return {}
        self._thread.join()
        kinds = {kind for kind, _, _ in self._last.values()}
        found = {kind: round(joules, 1) for kind, joules in self._joules.items() if kind in kinds}
        return {**found, "kwh": round(sum(found.values()) / 3.6e6, 6)}

    def _watch(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._add()
        self._add()

    def _add(self) -> None:
        now = self._read()
        for name, (kind, joules, limit) in now.items():
            change = joules - self._last.get(name, (kind, joules, limit))[1]
            self._joules[kind] += change + (limit if change < 0 else 0)
        self._last = now

    def _read(self) -> dict[str, tuple[str, float, float]]:
        """By counter: what it counts, joules, and the joules at which it begins again at 0."""
        counters: dict[str, tuple[str, float, float]] = {}
        for zone in sorted(_RAPL.glob("intel-rapl:[0-9]*")):
            if zone.name.count(":") > 1:  # a part of a package
                continue
            try:
                joules, limit = (
                    int((zone / name).read_text()) / 1e6 for name in ("energy_uj", "max_energy_range_uj")
                )
            except (OSError, ValueError):
                continue
            counters[zone.name] = ("cpu_joules", joules, limit)
        for number, joules in enumerate(_gpu_joules()):
            counters[f"gpu{number}"] = ("gpu_joules", joules, 0.0)
        return counters


def _nvml() -> Any:
    """NVIDIA's management library; None where it is not there."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    return library if library.nvmlInit_v2() == 0 else None


def _driver() -> str:
    text, library = ctypes.create_string_buffer(80), _nvml()
    return text.value.decode() if library and library.nvmlSystemGetDriverVersion(text, 80) == 0 else ""


def _gpu_joules() -> list[float]:
    """What each GPU of this process has taken since its driver was loaded (Volta and later)."""
    found = []
    library: Any = _nvml() if torch.cuda.is_available() else None
    for number in range(torch.cuda.device_count() if library else 0):
        handle, millijoules = ctypes.c_void_p(), ctypes.c_ulonglong()
        uuid = f"GPU-{torch.cuda.get_device_properties(number).uuid}".encode()
        if library.nvmlDeviceGetHandleByUUID(uuid, ctypes.byref(handle)) == 0 and (
            library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) == 0
        ):
            found.append(millijoules.value / 1000)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *words], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
