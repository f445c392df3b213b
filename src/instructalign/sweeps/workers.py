"""Jobs on the devices of this machine: processes that take one job after another.

A process that dies (out of memory, a crash in a library) takes its job with it and nothing else; another one
takes its place. Processes end with the one that started them, however that ends: a sweep that was killed leaves
nobody behind who would go on writing into its folders.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from instructalign.errors import InstructAlignError

PATIENCE = 60.0  # seconds that a process has to write a checkpoint when it is asked to stop


@dataclass(frozen=True, slots=True)
class Job:
    """Something to be done in a process of its own.

    Attributes:
        name: what it is called; no two are the same.
        call: a function of a module, and `arguments` for it.
        log: the file that takes what it prints.
        after: names of the jobs that must have ended before, well or not.
    """

    name: str
    call: Callable[..., None]
    arguments: tuple[Any, ...]
    log: Path
    after: tuple[str, ...] = ()


Ended = Callable[[Job, str, float], None]
"""Told of a job that ended: the error, empty if it went well, and the seconds that it took."""


@dataclass(slots=True)
class _Worker:
    environment: Mapping[str, str]
    process: Any = None
    pipe: Any = None
    job: Job | None = None
    began: float = field(default=0.0)


def run_jobs(
    jobs: Sequence[Job], ended: Ended, tick: Callable[[], None], *, environments: Sequence[Mapping[str, str]]
) -> None:
    """Does all jobs, as many at a time as there are environments.

    Args:
        jobs: in the order in which they are to be begun.
        ended: called in this process whenever a job has ended.
        tick: called about once a second.
        environments: environment variables, for one process each: the device it has, its number of threads.

    Raises:
        KeyboardInterrupt: asked to stop (Ctrl-C, SIGTERM). The processes were asked to stop before that, and had
            time to write a checkpoint.
    """
    waiting = list(jobs)
    open_names = {job.name for job in jobs}
    workers = [_Worker(environment) for environment in environments[: max(1, len(jobs))]]
    with _terminated_like_interrupted():
        try:
            while waiting or any(worker.job for worker in workers):
                for worker in workers:
                    ready = next((job for job in waiting if not open_names.intersection(job.after)), None)
                    if worker.job is None and ready is not None:
                        waiting.remove(ready)
                        _begin(worker, ready)
                for worker, error in _events(workers):
                    job, worker.job = worker.job, None
                    if job is not None:
                        open_names.discard(job.name)
                        ended(job, error, time.monotonic() - worker.began)
                tick()
        finally:
            _dismiss(workers)


def _begin(worker: _Worker, job: Job) -> None:
    if worker.process is None or not worker.process.is_alive():
        context = get_context("spawn")
        worker.pipe, other = context.Pipe()
        worker.process = context.Process(target=_serve, args=(other,), daemon=True)
        with _environment(worker.environment):  # before the process imports anything
            worker.process.start()
        other.close()
    worker.job, worker.began = job, time.monotonic()
    worker.pipe.send((job.call, job.arguments, job.log))


def _events(workers: Sequence[_Worker]) -> Iterator[tuple[_Worker, str]]:
    """The workers whose job has ended, with its error; waits for a second at most."""
    busy = [worker for worker in workers if worker.job is not None]
    connection.wait([handle for worker in busy for handle in (worker.pipe, worker.process.sentinel)], timeout=1)
    for worker in busy:
        try:
            if worker.pipe.poll():
                yield worker, worker.pipe.recv()
                continue
        except (EOFError, OSError):
            pass
        if not worker.process.is_alive():
            yield worker, _obituary(worker.process.exitcode, worker.job.log if worker.job else Path())


def _obituary(code: int | None, log: Path) -> str:
    """Why a process is no more, from its exit code."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        why = "; the memory may have run out: try fewer --workers" if name == "SIGKILL" else ""
        return f"the process was ended by {name}{why} (see {log})"
    return f"the process ended with exit code {code} (see {log})"


def _dismiss(workers: Sequence[_Worker]) -> None:
    """Ends the processes: idle ones at once, busy ones after they wrote a checkpoint."""
    alive = [worker for worker in workers if worker.process is not None and worker.process.is_alive()]
    for worker in alive:
        if worker.job is not None:
            worker.process.terminate()
        worker.pipe.close()
    deadline = time.monotonic() + PATIENCE
    for worker in alive:
        worker.process.join(max(0.0, deadline - time.monotonic()))
        if worker.process.is_alive():
            worker.process.kill()
            worker.process.join()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _terminated_like_interrupted() -> Iterator[None]:
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


def _serve(pipe: Any) -> None:
    """The life of a process: jobs, one after another, until the pipe is closed."""
    if hasattr(os, "setsid"):
        os.setsid()  # Ctrl-C reaches the sweep alone, which then asks its processes to stop, once
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            call, arguments, log = pipe.recv()
            pipe.send(do(call, arguments, log))


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def do(call: Callable[..., None], arguments: Sequence[Any], log: Path) -> str:
    """Does one job with its output in a file, and returns its error in words; an empty text if it went well."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab", buffering=0) as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    try:
        call(*arguments)
    except InstructAlignError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)  # noqa: T201 (stands in the log)
        return str(error)
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        return f"{type(error).__name__}: {' '.join(str(error).split())} (see {log})"
    return ""
