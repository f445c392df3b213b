"""Writing instructions as JSON lines, for this package or for another trainer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

from instructalign.files import write_jsonl
from instructalign.records import Instruction

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
    """Writes instructions as JSON lines, all or nothing, and returns how many."""
    records: Iterator[dict[str, Any]] = (as_record(instruction, form) for instruction in instructions)
    return write_jsonl(path, records)
