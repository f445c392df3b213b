"""Batches of questions, shared among processes and journaled, so that an interrupted evaluation resumes.

Several processes are launched by `accelerate launch` or `torchrun`, and must see the same output folder. The first
one writes; all of them get the results.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import PartialState

from instructalign.files import atomic, json_line, text_hash
from instructalign.progress import Progress

T = TypeVar("T")


def this_process() -> Any:
    """This process's index, how many there are, and its device: an `accelerate.PartialState`."""
    return PartialState(cpu=not torch.cuda.is_available())


def gather(part: Mapping[int, T]) -> dict[int, T]:
    """The union of what all processes have, in each of them; they wait for each other."""
    if this_process().num_processes == 1:
        return dict(part)
    parts: list[Any] = [None] * this_process().num_processes
    torch.distributed.all_gather_object(parts, dict(part))
    return {key: value for some in parts for key, value in some.items()}


def broadcast(value: T) -> T:
    """The first process's value, in all of them; they wait for it."""
    if this_process().num_processes == 1:
        return value
    box = [value]
    torch.distributed.broadcast_object_list(box, src=0)
    return box[0]


class BatchRunner:
    """Answers the questions of one task, batch by batch.

    Results are the same for any number of processes, interrupted or not: batches do not depend on either, and
    every finished batch is in the journal of the process that did it.

    Args:
        folder: where the journal is kept, beside the task's files.
        name: the task, for the journal and the progress.
        key: hash of the model and the questions; a journal of another key is discarded.
        title: what the progress calls the evaluation.
        progress: reports questions done.
    """

    def __init__(self, folder: Path, name: str, key: str, title: str, progress: Progress) -> None:
        self._path = folder / f".{name}.unfinished"
        self._name, self._key, self._title, self._progress = name, key, title, progress

    def run(self, batches: Sequence[list[int]], answer: Callable[[list[int]], Sequence[Any]]) -> list[Any]:
        """The answers to all questions, in every process.

        Args:
            batches: the indices of the questions in each batch, every question in one of them.
            answer: gives the answers to a batch's questions, as values that JSON can hold.

        Returns:
            By question, its answer; what was a tuple may be a list, if it was read from the journal.
        """
        process = this_process()
        journal = Journal(self._path, text_hash([self._key, batches]))
        total = sum(map(len, batches))
        done = sum(len(batches[number]) for number in journal.done)
        left = [number for number in range(len(batches)) if number not in journal.done]
        for number in left[process.process_index :: process.num_processes]:
            journal.add(number, answer(batches[number]))
            done += len(batches[number]) * process.num_processes  # the others are about as far
            self._progress(self._title, min(done, total), total, self._name)
        by_batch = gather(journal.done)
        answers: list[Any] = [None] * total
        for number, batch in enumerate(batches):
            for index, value in zip(batch, by_batch[number], strict=True):
                answers[index] = value
        return answers

    def close(self) -> None:
        """Deletes the journals of all processes, once the answers are in the task's files."""
        for file in _journals(self._path):
            file.unlink(missing_ok=True)


class Journal:
    """The answers of finished batches, appended as they come.

    Each process has a file of its own, and begins with what is in those of all, which may have been more or fewer
    processes.

    Args:
        path: the first process's file; those of others end in their number.
        key: what the batches belong to; a journal of another key is discarded.
    """

    def __init__(self, path: Path, key: str) -> None:
        process = this_process()
        self.done = {batch: answers for file in _journals(path) for batch, answers in _entries(file, key)}
        process.wait_for_everyone()  # all have read
        if process.is_main_process:
            self._own = path
            self._begin(key, self.done)  # without a line that was interrupted while it was written
        process.wait_for_everyone()  # the first file has all of it
        if not process.is_main_process:
            self._own = path.with_name(f"{path.name}.{process.process_index}")
            self._begin(key, {})

    def _begin(self, key: str, done: Mapping[int, Sequence[Any]]) -> None:
        with atomic(self._own) as file:
            file.write(json_line({"key": key}))
            for batch, answers in done.items():
                file.write(json_line({"batch": batch, "answers": answers}))

    def add(self, batch: int, answers: Sequence[Any]) -> None:
        """Keeps the answers of a batch."""
        self.done[batch] = list(answers)
        with self._own.open("ab") as file:
            file.write(json_line({"batch": batch, "answers": self.done[batch]}))


def _journals(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.name}*"))


def _entries(path: Path, key: str) -> Iterator[tuple[int, list[Any]]]:
    lines = path.read_bytes().split(b"\n")[:-1]  # after the last line end is nothing, or half a line
    if not lines or json.loads(lines[0]) != {"key": key}:
        return
    for line in lines[1:]:
        entry = json.loads(line)
        yield entry["batch"], entry["answers"]
