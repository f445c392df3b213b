"""Joining a Ray cluster, or starting Ray on this machine; and running functions on it."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from instructalign.errors import DataError, InstructAlignError, first_line

# For a Ray that is started here: loopback only on any system, and no usage statistics.
_LOCAL = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def ray_session(processes: int | None = None) -> Iterator[None]:
    """Ray for the duration of a block.

    The cluster that the variable RAY_ADDRESS names is joined; `ray job submit` sets it. Otherwise Ray starts on
    this machine alone, without its dashboard, and ends with the block. An existing session is used.

    Args:
        processes: how many processes a Ray that is started here runs at a time; one per CPU by default.

    Raises:
        DataError: Ray is not installed, or the cluster cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address and "ray" not in sys.modules:
        os.environ.update({name: os.environ.get(name, value) for name, value in _LOCAL.items()})
    try:
        import ray
        import ray.data
    except ImportError:
        raise DataError("Ray Data is not installed: pip install 'instructalign[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        local: dict[str, Any] = {} if address else {"num_cpus": processes, "include_dashboard": False}
        try:
            ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (ConnectionError, RuntimeError, OSError) as error:
            raise DataError(
                f"Ray cannot be started or reached (RAY_ADDRESS is {address or 'not set'}): {first_line(error)}"
            ) from None
    try:
        yield
    except ray.exceptions.RayError as error:
        # Ray wraps what a task raised; an error of ours comes out as it was.
        inner: BaseException | None = error
        while inner is not None and not isinstance(inner, InstructAlignError):
            inner = getattr(inner, "cause", None) or inner.__cause__
        raise inner or error from None
    finally:
        if ours:
            ray.shutdown()


def dataset(items: Sequence[Mapping[str, Any]]) -> Any:
    """A Ray data set with one block per item, whose tasks print nothing."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    made = ray.data.from_items([dict(item) for item in items], override_num_blocks=len(items))
    made.context.enable_progress_bars = False
    made.context.print_on_execution_start = False
    made.context.target_max_block_size = None  # a block is what one task makes, and must not be split
    return made


def map_unordered(items: Sequence[Mapping[str, Any]], work: Callable[..., Any], **shared: Any) -> Iterator[Any]:
    """The result of a function for each item, in the order in which they finish.

    Args:
        items: what differs between calls: keyword arguments of the function.
        work: the function; its result must be picklable.
        shared: keyword arguments that are the same for all.
    """
    import ray

    # In a list, as Ray would resolve a reference that is an argument by itself, once per call.
    options = {"work": work, "shared": [ray.put(shared)]}
    for row in dataset(items).map(_call, fn_kwargs=options).iter_rows():
        yield pickle.loads(row["result"])


def _call(item: dict[str, Any], *, work: Callable[..., Any], shared: list[Any]) -> dict[str, bytes]:
    import ray

    return {"result": pickle.dumps(work(**item, **ray.get(shared[0])))}


def map_on_cluster(make: Callable[[int], bytes], starts: Iterable[int]) -> Iterator[bytes]:
    """The result of a function for each number, in the numbers' order.

    Args:
        make: the function; it is sent to each process once.
        starts: the numbers.
    """
    import ray

    made = dataset([{"start": start} for start in starts])
    made.context.execution_options.preserve_order = True
    for row in made.map(_call_cached, fn_kwargs={"make": [ray.put(make)]}).iter_rows():
        yield row["result"]


_cached: dict[str, Callable[[int], bytes]] = {}  # in a worker process: a function too large to fetch for each call


def _call_cached(item: dict[str, Any], *, make: list[Any]) -> dict[str, bytes]:
    import ray

    name = make[0].hex()
    if name not in _cached:
        _cached.clear()
        _cached[name] = ray.get(make[0])
    return {"result": _cached[name](item["start"])}


def cluster_cpus() -> int:
    """How many processes the session's cluster runs at a time."""
    import ray

    return max(1, int(ray.cluster_resources().get("CPU", 1)))
