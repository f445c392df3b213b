"""Jobs on a cluster that Slurm manages, through submitit (docs/decisions).

The process that submits stays and waits, and submits a job when those that it depends on have ended. It may end at
any time: submitted jobs keep running, and the same command finds them again by the job ids that it wrote down.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from instructalign.config_file import parse_setting
from instructalign.errors import ConfigError, InstructAlignError
from instructalign.files import write_json
from instructalign.sweeps.grid import split_values
from instructalign.sweeps.workers import Job, do_job

# What a job gets unless something else is asked for; submitit's own time limit is five minutes.
_DEFAULTS = {"timeout_min": 24 * 60, "gpus_per_node": 1, "cpus_per_task": 4, "name": "instructalign"}
# Parameters that submitit has for every cluster; others are Slurm's own.
_COMMON = ("name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node")
_POLL_SECONDS = 2.0  # submitit asks Slurm itself far less often


def read_slurm_parameters(texts: Sequence[str]) -> dict[str, Any]:
    """The parameters of `partition=gpu,timeout_min=600`, given once or several times.

    Raises:
        ConfigError: one is not a name and a value.
    """
    parameters: dict[str, Any] = {}
    problems = []
    for text in (part for each in texts for part in split_values(each) if part):
        try:
            key, value = parse_setting(text)
        except ConfigError:
            problems.append(f"--slurm {text}: expected name=value, for example partition=gpu,timeout_min=600")
            continue
        parameters[key] = value
    if problems:
        raise ConfigError(problems)
    return parameters


class SlurmExecutor:
    """Runs each job as a Slurm job.

    Args:
        folder: the sweep's folder; the nodes must see it under the same path.
        parameters: as submitit's `update_parameters` takes them: `timeout_min`, `gpus_per_node`, `mem_gb`, and
            Slurm's own with or without the prefix `slurm_`, such as `partition`.
        cluster: `slurm`; `local` runs the jobs on this machine in the same way, for a try.

    Raises:
        ConfigError: there is no such parameter.
        InstructAlignError: submitit is not installed, or this machine has no Slurm.
    """

    def __init__(self, folder: Path, parameters: Mapping[str, Any], *, cluster: str = "slurm") -> None:
        self._folder = folder.resolve() / "logs" / "submitit"
        self._executor = _submitit(self._folder, {**_DEFAULTS, **parameters}, cluster)
        self._id_file = self._folder / "jobs.json"
        ids = json.loads(self._id_file.read_text(encoding="utf-8")) if self._id_file.exists() else {}
        self._earlier: dict[str, str] = ids
        self._running: dict[str, tuple[Job, Any]] = {}

    def has_room(self) -> bool:
        """Always: Slurm has a queue."""
        return True

    def start(self, job: Job) -> None:
        """Submits a job, unless an earlier process did so and it is still queued or running."""
        handle, id = None, self._earlier.pop(job.name, None)
        if id is not None:
            earlier = self._executor.job_class(self._folder, id)
            handle = None if earlier.done(force_check=True) else earlier
        if handle is None:
            handle = self._executor.submit(do_job, job.call, job.arguments, job.log)
        self._running[job.name] = job, handle
        write_json(self._id_file, {**self._earlier, **{name: h.job_id for name, (_, h) in self._running.items()}})

    def ended(self) -> Iterator[tuple[Job, str]]:
        """The jobs that ended; waits for two seconds if there are none."""
        done = [(job, handle) for job, handle in self._running.values() if handle.done()]
        for job, handle in done:
            del self._running[job.name]
            yield job, _error(job, handle)
        if not done:
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Leaves submitted jobs alone; where there are none, their ids are forgotten."""
        if not self._running:
            self._id_file.unlink(missing_ok=True)


def _submitit(folder: Path, parameters: Mapping[str, Any], cluster: str) -> Any:
    try:
        import submitit
    except ImportError:
        raise InstructAlignError(
            "a sweep on Slurm needs submitit, which is not installed: pip install 'instructalign[slurm]'"
        ) from None
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
    except RuntimeError as error:
        raise InstructAlignError(
            f"this machine cannot submit jobs to Slurm ({error}) Run the command on the cluster's login node, or "
            "leave --slurm out to use this machine."
        ) from None
    prefixed = {
        key if key in _COMMON or key.startswith("slurm_") else f"slurm_{key}": value
        for key, value in parameters.items()
    }
    try:
        executor.update_parameters(**prefixed)
    except (NameError, ValueError, AssertionError) as error:
        raise ConfigError([f"--slurm: {' '.join(str(error).split())}"]) from None
    return executor


def _error(job: Job, handle: Any) -> str:
    failure = handle.exception()
    if failure is None:
        return str(handle.result())
    lines = [line for line in str(failure).strip().splitlines() if line.strip()]
    why = lines[-1] if lines else type(failure).__name__
    return f"job {handle.job_id} ended as {handle.state.lower()}: {why} (see {job.log})"
