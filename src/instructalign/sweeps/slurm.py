"""Jobs on a cluster that Slurm runs, through submitit (docs/decisions).

The process that submits stays and waits, and submits a cell when what it needs is done. It may end at any time:
what Slurm runs goes on, and the same command takes it up again by the job ids that it wrote down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from instructalign.config_file import parse_setting
from instructalign.errors import ConfigError, InstructAlignError
from instructalign.files import write_json
from instructalign.sweeps.grid import split_values
from instructalign.sweeps.workers import Ended, Job, do

DEFAULTS = {"timeout_min": 24 * 60, "gpus_per_node": 1, "cpus_per_task": 4, "name": "instructalign"}
"""What a job gets unless something else is asked for; submitit's own time limit is five minutes."""

COMMON = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
"""Parameters that submitit has for every cluster; others are Slurm's own."""

EVERY = 2.0  # seconds between two looks; submitit asks Slurm far less often


@dataclass(frozen=True, slots=True)
class _Submitted:
    job: Job
    handle: Any
    began: float


def read_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """The parameters of `partition=gpu,timeout_min=600`, given once or several times.

    Raises:
        ConfigError: one is not a name and a value.
    """
    found: dict[str, Any] = {}
    problems = []
    for text in (part for each in texts for part in split_values(each) if part):
        try:
            key, value = parse_setting(text)
        except ConfigError:
            problems.append(f"--slurm {text}: expected name=value, for example partition=gpu,timeout_min=600")
            continue
        found[key] = value
    if problems:
        raise ConfigError(problems)
    return found


def on_cluster(
    folder: Path, parameters: Mapping[str, Any], *, cluster: str = "slurm"
) -> Callable[[Sequence[Job], Ended, Callable[[], None]], None]:
    """Does jobs on a cluster, each as a job of its own.

    Args:
        folder: the sweep's folder; the nodes must see it under the same path.
        parameters: as submitit's `update_parameters` takes them: `timeout_min`, `gpus_per_node`, `mem_gb`, and
            Slurm's own with `slurm_` before them or without, such as `partition`.
        cluster: `slurm`; `local` runs the jobs on this machine in the same way, for a try.

    Raises:
        ConfigError: there is no such parameter.
        InstructAlignError: submitit is not installed, or this machine has no Slurm.
    """
    place = folder.resolve() / "logs" / "submitit"
    executor = _executor(place, {**DEFAULTS, **parameters}, cluster)
    ids = place / "jobs.json"

    def execute(jobs: Sequence[Job], ended: Ended, tick: Callable[[], None]) -> None:
        before = json.loads(ids.read_text(encoding="utf-8")) if ids.exists() else {}
        waiting, running = list(jobs), dict[str, _Submitted]()
        while waiting or running:
            open_names = {job.name for job in waiting} | set(running)
            for job in [job for job in waiting if not open_names.intersection(job.after)]:
                waiting.remove(job)
                handle = _running(executor, place, before.pop(job.name, None))
                handle = handle or executor.submit(do, job.call, job.arguments, job.log)
                running[job.name] = _Submitted(job, handle, time.monotonic())
                write_json(ids, {**before, **{name: each.handle.job_id for name, each in running.items()}})
            for name, each in list(running.items()):
                if each.handle.done():
                    del running[name]
                    ended(each.job, _error(each), time.monotonic() - each.began)
            tick()
            time.sleep(EVERY if running else 0)
        ids.unlink(missing_ok=True)

    return execute


def _executor(place: Path, parameters: Mapping[str, Any], cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise InstructAlignError(
            "a sweep on a cluster needs submitit, which is not installed: pip install 'instructalign[slurm]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=place, cluster=cluster)
    except RuntimeError as error:
        raise InstructAlignError(
            f"this machine cannot submit jobs to Slurm ({error}) Run the command on the cluster's login node, or "
            "leave --slurm out to use this machine."
        ) from None
    named = {
        key if key in COMMON or key.startswith("slurm_") else f"slurm_{key}": value
        for key, value in parameters.items()
    }
    try:
        executor.update_parameters(**named)
    except (NameError, ValueError, AssertionError) as error:
        raise ConfigError([f"--slurm: {' '.join(str(error).split())}"]) from None
    return executor


def _running(executor: Any, place: Path, id: str | None) -> Any:
    """A job that an earlier process submitted and that is still under way; None where there is none."""
    if id is None:
        return None
    handle = executor.job_class(place, id)
    return None if handle.done(force_check=True) else handle


def _error(submitted: _Submitted) -> str:
    """How a job ended: empty if well."""
    handle = submitted.handle
    failure = handle.exception()
    if failure is None:
        return str(handle.result())
    lines = [line for line in str(failure).strip().splitlines() if line.strip()]
    why = lines[-1] if lines else type(failure).__name__
    return f"job {handle.job_id} ended as {handle.state.lower()}: {why} (see {submitted.job.log})"
