"""Jobs in processes: what may start when, and the processes of this machine, which take one job after another.

A process that dies (out of memory, a crash in a library) takes its job with it and nothing else; another one takes
its place. Processes end with the one that started them, however that ends: a sweep that was killed leaves no
process that would continue to write into its folders. This is why it is not a `concurrent.futures` pool, in which
one dead process ends all jobs, nor submitit's local executor, which starts a new interpreter for each job.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any, Protocol

from instructalign.errors import ConfigError, InstructAlignError

_CHECKPOINT_SECONDS = 60.0  # what a process has to write a checkpoint when it is asked to stop


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done in a process of its own.

    Attributes:
        name: unique.
        call: a function of a module, and `arguments` for it.
        log: the file that takes what it prints.
        after: names of the jobs that must have ended before, successfully or not.
    """

    name: str
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    log: Path
    after: tuple[str, ...] = ()


class Executor(Protocol):
    """Where jobs run."""

    def has_room(self) -> bool:
        """Whether another job can start now."""

    def start(self, job: Job) -> None:
        """Starts a job."""

    def ended(self) -> Iterable[tuple[Job, str]]:
        """Jobs that ended since the last call, each with its error (empty if successful); may wait a little."""

    def close(self) -> None:
        """Called when all jobs ended, or no more are waited for."""


def run_jobs(
    jobs: Sequence[Job],
    executor: Executor,
    on_end: Callable[[Job, str, float], None],
    tick: Callable[[], None] = lambda: None,
) -> None:
    """Runs all jobs.

    Args:
        jobs: in the order in which they are to be started.
        executor: where they run.
        on_end: called whenever a job has ended, with its error (empty if successful) and the seconds it took.
        tick: called every second or two.

    Raises:
        KeyboardInterrupt: asked to stop (Ctrl-C, SIGTERM); the executor was closed before that.
    """
    waiting, started = list(jobs), dict[str, float]()
    with _sigterm_as_interrupt():
        try:
            while waiting or started:
                unfinished = {job.name for job in waiting} | started.keys()
                for job in [job for job in waiting if not unfinished.intersection(job.after)]:
                    if executor.has_room():
                        waiting.remove(job)
                        executor.start(job)
                        started[job.name] = time.monotonic()
                for job, error in executor.ended():
                    on_end(job, error, time.monotonic() - started.pop(job.name))
                tick()
        finally:
            executor.close()


@dataclass(slots=True)
class _Worker:
    environment: Mapping[str, str]
    process: Any = None
    pipe: Any = None
    job: Job | None = None


class LocalExecutor:
    """Runs jobs on this machine, as many at a time as there are environments.

    Args:
        environments: environment variables, for one process each: the device it has, its number of threads.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]) -> None:
        self._workers = [_Worker(environment) for environment in environments]

    def has_room(self) -> bool:
        """Whether a process is idle."""
        return any(worker.job is None for worker in self._workers)

    def start(self, job: Job) -> None:
        """Gives a job to the first idle process."""
        worker = next(worker for worker in self._workers if worker.job is None)
        if worker.process is None or not worker.process.is_alive():
            context = get_context("spawn")  # forking a process in which torch has threads can deadlock
            worker.pipe, other = context.Pipe()
            worker.process = context.Process(target=_serve, args=(other,), daemon=True)
            with _environment(worker.environment):  # before the process imports anything
                worker.process.start()
            other.close()
        worker.job = job
        worker.pipe.send((job.call, job.arguments, job.log))

    def ended(self) -> Iterator[tuple[Job, str]]:
        """The jobs that ended; waits for a second at most."""
        busy = [(worker, worker.job) for worker in self._workers if worker.job is not None]
        handles = [handle for worker, _ in busy for handle in (worker.pipe, worker.process.sentinel)]
        connection.wait(handles, timeout=1)
        for worker, job in busy:
            try:
                error = worker.pipe.recv() if worker.pipe.poll() else None
            except (EOFError, OSError):
                error = None
            if error is None and not worker.process.is_alive():
                error = _cause_of_death(worker.process.exitcode, job.log)
            if error is not None:
                worker.job = None
                yield job, error

    def close(self) -> None:
        """Ends the processes: idle ones at once, busy ones after they wrote a checkpoint."""
        alive = [worker for worker in self._workers if worker.process is not None and worker.process.is_alive()]
        for worker in alive:
            if worker.job is not None:
                worker.process.terminate()
            worker.pipe.close()
        deadline = time.monotonic() + _CHECKPOINT_SECONDS
        for worker in alive:
            worker.process.join(max(0.0, deadline - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()


def local_executor(workers: int | None, jobs: int) -> LocalExecutor:
    """Processes of this machine, one for each GPU or core, each with its share of the cores as threads.

    Threads of processes that share cores must not be more than the cores, and must not wait for each other in a
    loop, which takes many times as long on a machine that does other work as well (docs/LOG.md).

    Args:
        workers: how many; by default as many as there are GPUs, or cores.
        jobs: how many there are to do; more processes are not started.

    Raises:
        ConfigError: `workers` is less than 1.
    """
    if workers is not None and workers < 1:
        raise ConfigError([f"--workers: must be at least 1, found {workers}"])
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        import torch

        devices = [str(number) for number in range(torch.cuda.device_count())]
    else:
        devices = [device.strip() for device in visible.split(",") if device.strip() not in ("", "-1")]
    count = max(1, min(workers or len(devices) or cores, jobs))
    threads = os.environ.get("OMP_NUM_THREADS") or str(max(1, cores // count))
    policy = os.environ.get("OMP_WAIT_POLICY") or "PASSIVE"
    environments = [{"OMP_NUM_THREADS": threads, "OMP_WAIT_POLICY": policy} for _ in range(count)]
    for number, environment in enumerate(environments):
        if devices:
            environment["CUDA_VISIBLE_DEVICES"] = devices[number % len(devices)]
    return LocalExecutor(environments)


def do_job(call: Callable[..., None], arguments: Sequence[Any], log: Path) -> str:
    """Does one job with its output in a file, and returns its error; an empty text if it was successful."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        call(*arguments)
    except InstructAlignError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 (it is written to the log)
        return str(error)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        return f"{type(error).__name__}: {' '.join(str(error).split())} (see {log})"
    return ""


def _cause_of_death(code: int | None, log: Path) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; it may have run out of memory: try fewer --workers" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{why} (see {log})"
    return f"the process ended with exit code {code} (see {log})"


def _serve(pipe: Any) -> None:
    """A process's main function: jobs, one after another, until the pipe is closed."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the sweep alone, which then asks its processes to stop, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            call, arguments, log = pipe.recv()
            pipe.send(do_job(call, arguments, log))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Takes SIGTERM as Ctrl-C, so that the processes are asked to stop in either case."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where Python delivers signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
