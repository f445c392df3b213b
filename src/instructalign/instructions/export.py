"""Writing instructions as JSON lines or Parquet, for this package or for another trainer."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from instructalign.errors import DataError
from instructalign.files import atomic, json_line
from instructalign.instructions.stream import InstructionStream, generate_instructions
from instructalign.progress import Progress, silent
from instructalign.types import Instruction

_CHUNK = 5_000  # examples that a process makes at a time

Form = Literal["plain", "messages"]
ENDINGS = (".jsonl", ".parquet")
"""How a file of instructions may end."""

MakeChunk = Callable[[int], bytes]
DistributedMap = Callable[[MakeChunk, Sequence[int]], Iterable[bytes]]
"""Calls a function with each of some numbers, and gives its results in their order."""


def as_record(instruction: Instruction, form: Form = "plain") -> dict[str, Any]:
    """An instruction as the record of a file.

    Args:
        instruction: what to write.
        form: `plain` has the keys prompt and answer; `messages` has a list of one user and one assistant turn, as
            chat trainers read it. Both have objective, source, target and row.

    Raises:
        DataError: plain text is to be written as messages.
    """
    about = {
        "objective": instruction.objective,
        "source": instruction.source,
        "target": instruction.target,
        "row": instruction.row,
    }
    if form == "plain":
        return {"prompt": instruction.prompt, "answer": instruction.answer, **about}
    if not instruction.prompt:
        raise DataError(
            f"--format messages: {instruction.objective} makes plain text, which is no conversation. Leave it "
            f"out, or set instructions.objectives.{instruction.objective}.form to chat."
        )
    turns = [
        {"role": "user", "content": instruction.prompt},
        {"role": "assistant", "content": instruction.answer},
    ]
    return {"messages": turns, **about}


def write_stream(
    path: Path,
    stream: InstructionStream,
    count: int,
    form: Form = "plain",
    *,
    processes: int = 1,
    spread: DistributedMap | None = None,
    progress: Progress = silent,
) -> int:
    """Writes the first examples of a stream, all or nothing, and returns how many.

    Args:
        path: a file; Parquet where its name ends in .parquet, JSON lines otherwise.
        stream: where the examples come from.
        count: how many.
        form: see `as_record`.
        processes: how many processes make them; the file is the same for any number.
        spread: makes the chunks elsewhere, instead of by processes of this machine.
        progress: called after each chunk.
    """
    make = partial(_make_chunk, stream, count, _as_table if path.suffix == ".parquet" else _as_lines, form)
    starts = range(0, count, _CHUNK)
    chunks = spread(make, starts) if spread else _by_processes(make, starts, processes)
    with _writing(path) as write:
        for start, chunk in zip(starts, chunks, strict=True):
            write(chunk)
            progress("writing", min(start + _CHUNK, count), count, "")
    return count


def _make_chunk(
    stream: InstructionStream,
    count: int,
    encode: Callable[[Iterable[dict[str, Any]]], bytes],
    form: Form,
    start: int,
) -> bytes:
    made = generate_instructions(stream, min(_CHUNK, count - start), start)
    return encode([as_record(each, form) for each in made])


def _by_processes(make: MakeChunk, starts: Sequence[int], processes: int) -> Iterator[bytes]:
    if processes == 1:
        yield from map(make, starts)
        return
    # Forked, the processes share the corpus; where there is no fork, each gets a copy.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes, _keep, (make,)) as pool:
        yield from pool.imap(_call_kept, starts)


_kept: MakeChunk  # of a worker process


def _keep(make: MakeChunk) -> None:
    global _kept  # a worker serves one stream, which is too large to be sent with each chunk
    _kept = make


def _call_kept(start: int) -> bytes:
    return _kept(start)


def _as_lines(records: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(map(json_line, records))


def _as_table(records: Iterable[dict[str, Any]]) -> bytes:
    """Records in Arrow's stream format, which goes from one process to another."""
    import pyarrow

    table = pyarrow.Table.from_pylist(list(records))
    buffer = io.BytesIO()
    with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """A function that appends encoded chunks to a file, which appears when the block ends."""
    with atomic(path) as file:
        if path.suffix != ".parquet":
            yield file.write
            return
        import pyarrow
        from pyarrow.parquet import ParquetWriter

        writers: list[ParquetWriter] = []

        def add(chunk: bytes) -> None:
            table = pyarrow.ipc.open_stream(chunk).read_all()
            if not writers:
                writers.append(ParquetWriter(file, table.schema, compression="zstd"))
            writers[0].write_table(table)

        yield add
        for writer in writers:
            writer.close()
