"""Joining a Ray cluster, or starting Ray on this machine; and work that it spreads."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from instructalign.errors import DataError, InstructAlignError

# Of a Ray that is started here: loopback only, whatever the system, and nothing reported to its makers.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def session(processors: int | None = None) -> Iterator[None]:
    """Ray for the time of a block.

    The cluster that the variable RAY_ADDRESS names is joined; `ray job submit` sets it. Otherwise Ray starts on
    this machine alone, without its dashboard, and ends with the block. A session that is there already is used.

    Args:
        processors: how many processes a Ray that is started here runs at a time; all processors by default.

    Raises:
        DataError: Ray is not installed, or the cluster cannot be reached.
    """
    address = os.environ.get("RAY_ADDRESS")
    if not address and "ray" not in sys.modules:
        os.environ.update({name: os.environ.get(name, value) for name, value in _ALONE.items()})
    try:
        import ray
        import ray.data
    except ImportError:
        raise DataError("Ray Data is not installed: pip install 'instructalign[ray]'") from None
    ours = not ray.is_initialized()
    if ours:
        _start(ray, address, processors)
    try:
        yield
    except ray.exceptions.RayError as error:
        raise _own(error) or error from None
    finally:
        if ours:
            ray.shutdown()


def _start(ray: Any, address: str | None, processors: int | None) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address:
            ray.init(address=address, **quiet)
        else:
            ray.init(address="local", num_cpus=processors, include_dashboard=False, **quiet)
    except (ConnectionError, RuntimeError, OSError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(
            f"Ray cannot be started or reached (RAY_ADDRESS is {address or 'not set'}): {reason}"
        ) from None


def _own(error: BaseException | None) -> InstructAlignError | None:
    """The error of ours that was raised in a task, out of what Ray wraps around it."""
    while error is not None and not isinstance(error, InstructAlignError):
        error = getattr(error, "cause", None) or error.__cause__
    return error


def dataset(items: Sequence[Mapping[str, Any]]) -> Any:
    """A data set of one block an item, whose tasks say nothing on the screen."""
    import ray

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    made = ray.data.from_items([dict(item) for item in items], override_num_blocks=len(items))
    made.context.enable_progress_bars = False
    made.context.print_on_execution_start = False
    made.context.target_max_block_size = None  # a block is what one task makes: it is not to be cut
    return made


def each(items: Sequence[Mapping[str, Any]], work: Callable[..., Any], **shared: Any) -> Iterator[Any]:
    """What a function makes of each item, as it gets done, in no order.

    Args:
        items: what differs between calls: keyword arguments of the function.
        work: the function; its result has to be picklable.
        shared: keyword arguments that are the same for all.
    """
    import ray

    place = ray.put(shared)
    made = dataset(items).map(_call, fn_kwargs={"work": work, "place": [place]})
    for row in made.iter_rows():
        yield pickle.loads(row["made"])


def _call(item: dict[str, Any], *, work: Callable[..., Any], place: list[Any]) -> dict[str, bytes]:
    import ray

    return {"made": pickle.dumps(work(**item, **ray.get(place[0])))}


def spread(make: Callable[[int], bytes], starts: Iterable[int]) -> Iterator[bytes]:
    """What a function makes of each number, in the numbers' order.

    Args:
        make: the function; it goes to each process once.
        starts: the numbers.
    """
    import ray

    made = dataset([{"start": start} for start in starts])
    made.context.execution_options.preserve_order = True
    place = ray.put(make)
    for row in made.map(_call_kept, fn_kwargs={"place": [place]}).iter_rows():
        yield row["made"]


_kept: dict[str, Callable[[int], bytes]] = {}  # of a worker process: what is too large to be fetched for each call


def _call_kept(item: dict[str, Any], *, place: list[Any]) -> dict[str, bytes]:
    import ray

    name = place[0].hex()
    if name not in _kept:
        _kept.clear()
        _kept[name] = ray.get(place[0])
    return {"made": _kept[name](item["start"])}


def processors() -> int:
    """How many processes the session's cluster runs at a time."""
    import ray

    resources: dict[str, float] = ray.cluster_resources()
    return max(1, int(resources.get("CPU", 1)))
