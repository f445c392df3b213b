"""Writing instructions as JSON lines or Parquet, for this package or for another trainer."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from instructalign.files import atomic, json_line, write_jsonl
from instructalign.instructions.stream import InstructionStream, generate
from instructalign.records import Instruction

_CHUNK = 5_000  # examples that a process makes at a time

Form = Literal["plain", "messages"]


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
    records = (as_record(instruction, form) for instruction in instructions)
    return _write_parquet(path, records) if path.suffix == ".parquet" else write_jsonl(path, records)


def _write_parquet(path: Path, records: Iterator[dict[str, Any]]) -> int:
    import pyarrow
    from pyarrow.parquet import ParquetWriter

    count = 0
    with atomic(path) as file:
        writer: ParquetWriter | None = None
        while chunk := list(islice(records, _CHUNK)):
            table = pyarrow.Table.from_pylist(chunk)
            writer = writer or ParquetWriter(file, table.schema, compression="zstd")
            writer.write_table(table)
            count += len(chunk)
        if writer is not None:
            writer.close()
    return count


def write_stream(
    path: Path,
    stream: InstructionStream,
    count: int,
    form: Form = "plain",
    *,
    processes: int = 1,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Writes the first examples of a stream as JSON lines, all or nothing, and returns how many.

    Args:
        path: the file.
        stream: where the examples come from.
        count: how many.
        form: see `as_record`.
        processes: how many make them; the file is the same for any number.
        progress: called now and then with the number written so far.
    """
    starts = range(0, count, _CHUNK)
    with atomic(path) as file:
        for start, lines in zip(starts, _chunks(stream, count, starts, form, processes), strict=True):
            file.write(lines)
            if progress is not None:
                progress(min(start + _CHUNK, count))
    return count


def _chunks(
    stream: InstructionStream, count: int, starts: Iterable[int], form: Form, processes: int
) -> Iterator[bytes]:
    if processes == 1:
        yield from (_lines(stream, count, form, start) for start in starts)
        return
    # Forked, the processes share the corpus; where there is no fork, each gets a copy.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    pool = multiprocessing.get_context(method).Pool(processes, _keep, (stream, count, form))
    with pool:
        yield from pool.imap(_kept_lines, starts)


def _lines(stream: InstructionStream, count: int, form: Form, start: int) -> bytes:
    number = min(_CHUNK, count - start)
    return b"".join([json_line(as_record(each, form)) for each in generate(stream, number, start)])


_make: Callable[[int], bytes]  # of a worker process: the lines of the chunk that begins there


def _keep(stream: InstructionStream, count: int, form: Form) -> None:
    global _make  # a worker serves one stream, which is too large to be sent with each chunk
    _make = partial(_lines, stream, count, form)


def _kept_lines(start: int) -> bytes:
    return _make(start)
