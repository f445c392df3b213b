"""Writing instructions as JSON lines or Parquet, for this package or for another trainer."""

from __future__ import annotations

import io
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from instructalign.files import atomic, json_line
from instructalign.instructions.stream import InstructionStream, generate
from instructalign.types import Instruction

_CHUNK = 5_000  # examples that a process makes at a time

Form = Literal["plain", "messages"]
ENDINGS = (".jsonl", ".parquet")
"""How a file of instructions may end."""

Make = Callable[[int], bytes]
Spread = Callable[[Make, Sequence[int]], Iterable[bytes]]
"""What has a function called with each of some numbers, and gives what it returns in their order."""


def as_record(instruction: Instruction, form: Form = "plain") -> dict[str, Any]:
    """An instruction as the dictionary that stands in a file.

    Args:
        instruction: what to write.
        form: `plain` has the keys prompt and answer; `messages` has a list of one turn of the user and one of
            the assistant, as chat trainers read it. Both have objective, source, target and row.
    """
    about = {
        "objective": instruction.objective,
        "source": instruction.source,
        "target": instruction.target,
        "row": instruction.row,
    }
    if form == "plain":
        return {"prompt": instruction.prompt, "answer": instruction.answer, **about}
    turns = [
        {"role": "user", "content": instruction.prompt},
        {"role": "assistant", "content": instruction.answer},
    ]
    return {"messages": turns, **about}


def write_instructions(path: Path, instructions: Iterable[Instruction], form: Form = "plain") -> int:
    """Writes instructions, all or nothing, and returns how many.

    Args:
        path: a file; Parquet where its name ends in .parquet, JSON lines otherwise.
        instructions: what to write; consumed once.
        form: see `as_record`.
    """
    encode = _encoder(path, form)
    count = 0
    several = iter(instructions)
    with _writing(path) as write:
        while chunk := list(islice(several, _CHUNK)):
            write(encode(chunk))
            count += len(chunk)
    return count


def write_stream(
    path: Path,
    stream: InstructionStream,
    count: int,
    form: Form = "plain",
    *,
    processes: int = 1,
    spread: Spread | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes the first examples of a stream, all or nothing, and returns how many.

    Args:
        path: a file; Parquet where its name ends in .parquet, JSON lines otherwise.
        stream: where the examples come from.
        count: how many.
        form: see `as_record`.
        processes: how many make them; the file is the same for any number.
        spread: has them made elsewhere, instead of by processes of this machine.
        progress: called now and then with the number written so far.
    """
    make = partial(_make_chunk, stream, count, _encoder(path, form))
    starts = range(0, count, _CHUNK)
    chunks = spread(make, starts) if spread else _by_processes(make, starts, processes)
    with _writing(path) as write:
        for start, chunk in zip(starts, chunks, strict=True):
            write(chunk)
            if progress is not None:
                progress(min(start + _CHUNK, count))
    return count


def _make_chunk(
    stream: InstructionStream, count: int, encode: Callable[[Iterable[Instruction]], bytes], start: int
) -> bytes:
    return encode(generate(stream, min(_CHUNK, count - start), start))


def _by_processes(make: Make, starts: Sequence[int], processes: int) -> Iterator[bytes]:
    if processes == 1:
        yield from map(make, starts)
        return
    # Forked, the processes share the corpus; where there is no fork, each gets a copy.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with multiprocessing.get_context(method).Pool(processes, _keep, (make,)) as pool:
        yield from pool.imap(_call_kept, starts)


_kept: Make  # of a worker process


def _keep(make: Make) -> None:
    global _kept  # a worker serves one stream, which is too large to be sent with each chunk
    _kept = make


def _call_kept(start: int) -> bytes:
    return _kept(start)


def _encoder(path: Path, form: Form) -> Callable[[Iterable[Instruction]], bytes]:
    return partial(_as_table if path.suffix == ".parquet" else _as_lines, form)


def _as_lines(form: Form, instructions: Iterable[Instruction]) -> bytes:
    return b"".join([json_line(as_record(each, form)) for each in instructions])


def _as_table(form: Form, instructions: Iterable[Instruction]) -> bytes:
    """Instructions as Arrow has them on their way from one process to another."""
    import pyarrow

    table = pyarrow.Table.from_pylist([as_record(each, form) for each in instructions])
    buffer = io.BytesIO()
    with pyarrow.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


@contextmanager
def _writing(path: Path) -> Iterator[Callable[[bytes], object]]:
    """A function that adds encoded chunks to a file, which appears when the block ends."""
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
