"""Where past instruction data comes from: JSON lines on disk, or a data set on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from instructalign.config import ModelConfig
from instructalign.errors import DataError
from instructalign.files import read_jsonl as read_records
from instructalign.progress import Progress, silent
from instructalign.types import Counts, Instruction


@dataclass(frozen=True, slots=True)
class Asked:
    """What a replay source is told beside its options, if its function takes an argument for it.

    Attributes:
        wanted: how many examples the run takes of it, if all are usable; for sources that make them.
        seed: the run's seed.
        counts: for what the source leaves out: `read` and `dropped` of the examples that it does not give.
        model: the model that is going to be trained; None where there is none.
        report: told how far a long step is.
    """

    wanted: int = 0
    seed: int = 0
    counts: Counts = field(default_factory=Counts)
    model: ModelConfig | None = None
    report: Progress = silent


def read_jsonl(
    asked: Asked | None = None,
    *,
    path: Path,
    prompt: str = "inputs",
    answer: str = "targets",
    task: str = "task",
    language: str = "lang",
    languages: list[str] | None = None,
) -> Iterator[Instruction]:
    """Past instruction data from a JSON-lines file, or from every `*.jsonl` of a folder.

    Args:
        asked: where the examples in other languages are counted.
        path: the file or folder.
        prompt, answer: the fields of question and answer (the defaults are P3's and xP3's).
        task, language: fields that are kept for the record where they exist.
        languages: only examples whose language field holds one of these.

    Raises:
        DataError: a file is missing, a line is not JSON, or a field is missing (file and line are named).
    """
    for file in _files(path):
        for number, record in read_records(file):
            yield from _example(record, f"{file}:{number}", prompt, answer, task, language, languages, asked)


def read_hub(
    asked: Asked | None = None,
    *,
    name: str,
    subset: str | None = None,
    split: str = "train",
    revision: str | None = None,
    data_files: str | list[str] | None = None,
    prompt: str = "inputs",
    answer: str = "targets",
    task: str = "task",
    language: str = "lang",
    languages: list[str] | None = None,
    scan: int | None = 200_000,
    streaming: bool = True,
) -> Iterator[Instruction]:
    """Past instruction data from a data set on the Hub, such as xP3.

    Args:
        asked: where the examples in other languages are counted.
        name: the data set, a local folder in the Hub's layout, or a file type (`json`, `parquet`) whose
            files `data_files` names. xP3 needs the last: its repository holds a loading script, which
            `datasets` refuses, but its files can be read as they are.
        subset: the data set's configuration.
        split, revision, data_files: as in `datasets.load_dataset`.
        prompt, answer, task, language, languages: as in `read_jsonl`.
        scan: how many examples from the start to choose from, since xP3's English part alone has tens of
            millions; null for all, in one pass.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the data set cannot be loaded, or a field is missing.
    """
    from datasets import load_dataset

    try:
        rows = load_dataset(
            name, subset, split=split, revision=revision, data_files=data_files, streaming=streaming
        )
        for number, record in enumerate(islice(rows, scan)):
            yield from _example(
                record, f"{name} ({split}, row {number})", prompt, answer, task, language, languages, asked
            )
    except (OSError, ValueError, RuntimeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise DataError(
            f"the replay data set {name!r} cannot be read: {reason} Check its name, the network and your "
            "access token; or download it and use format: jsonl with its path."
        ) from None


def _example(
    record: Mapping[str, Any],
    where: str,
    prompt: str,
    answer: str,
    task: str,
    language: str,
    languages: list[str] | None,
    asked: Asked | None,
) -> Iterator[Instruction]:
    for name in (prompt, answer):
        if not isinstance(record.get(name), str):
            raise DataError(
                f"{where}: no text under {name!r}; found the fields {', '.join(map(repr, record))}. "
                "Name the right ones with replay.source.prompt and replay.source.answer."
            )
    if languages is not None and record.get(language) not in languages:
        if asked:
            asked.counts.read += 1
            asked.counts.drop("language not asked for")
        return
    yield Instruction(
        prompt=record[prompt].rstrip(),
        answer=record[answer].strip(),
        objective="replay",
        target=str(record.get(language) or ""),
        row=f"{where.rpartition('/')[2]}",
        template=str(record.get(task) or ""),
    )


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(path.glob("*.jsonl"))
    if not files:
        found = ", ".join(sorted(child.name for child in path.iterdir())[:12]) or "nothing"
        raise DataError(f"{path} holds no *.jsonl file; it holds: {found}.")
    return files
