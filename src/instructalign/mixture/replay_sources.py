"""Where replay data come from: JSON lines on disk, or a dataset on the Hub."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from instructalign.config import ModelConfig
from instructalign.data.readers import field_names, field_of, files_in, read_hub
from instructalign.errors import DataError, suggest
from instructalign.files import read_jsonl
from instructalign.progress import Progress, silent
from instructalign.types import Counts, Instruction


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """What a replay source is given beside its options, if its function takes a positional argument.

    Attributes:
        wanted: how many examples the run takes from it if all are usable; for sources that make them.
        seed: the run's seed.
        counts: for what the source leaves out: `read` and `dropped` of the examples that it does not yield.
        model: the model that is going to be trained; None where there is none.
        progress: called during long steps.
    """

    wanted: int = 0
    seed: int = 0
    counts: Counts = field(default_factory=Counts)
    model: ModelConfig | None = None
    progress: Progress = silent


def read_jsonl_examples(
    request: ReplayRequest | None = None,
    *,
    path: Path,
    prompt: str = "inputs",
    answer: str = "targets",
    task: str = "task",
    language: str = "lang",
    languages: list[str] | None = None,
) -> Iterator[Instruction]:
    """Replay examples from JSON lines or a JSON array: a file, or every `*.jsonl` (else `*.json`) of a folder.

    Args:
        request: where the examples in other languages are counted.
        path: the file or folder.
        prompt, answer: the fields of question and answer (the defaults are P3's and xP3's); dots lead into
            nested objects.
        task, language: fields of the example's task and language, kept where they exist.
        languages: only examples whose language field is one of these.

    Raises:
        DataError: a file is missing, a line is not JSON, or a field is missing; the message names file and line.
    """
    fields = (prompt, answer, task, language)
    for file in files_in(path, "jsonl", "json"):
        for number, record in read_jsonl(file):
            if example := _example(record, f"{file}:{number}", fields, languages, request):
                yield example


def read_hub_examples(
    request: ReplayRequest | None = None,
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
    """Replay examples from a Hub dataset such as xP3.

    Args:
        request: where the examples in other languages are counted.
        name: the dataset, a local folder in the Hub's layout, or a file type (`json`, `parquet`) whose
            files `data_files` names. xP3 needs the last: its repository has a loading script, which
            `datasets` refuses, but its files can be read as they are.
        subset: the dataset's configuration.
        split, revision, data_files: as in `datasets.load_dataset`.
        prompt, answer: the columns of question and answer (the defaults are P3's and xP3's); dots lead into
            nested objects.
        task, language: columns of the example's task and language, kept where they exist.
        languages: only examples whose language column is one of these.
        scan: how many examples from the start to choose from, since xP3's English part alone has tens of
            millions; null for all, in one pass.
        streaming: read over the network as needed; otherwise download first.

    Raises:
        DataError: the dataset cannot be loaded, or a field is missing.
    """
    advice = "or download it and use format: jsonl with its path."
    records = read_hub(
        name, subset, advice, split=split, revision=revision, data_files=data_files, streaming=streaming
    )
    fields = (prompt, answer, task, language)
    for number, record in islice(records, scan):
        if example := _example(record, f"{name} ({split}, row {number - 1})", fields, languages, request):
            yield example


def _example(
    record: Mapping[str, Any],
    where: str,
    fields: tuple[str, str, str, str],
    languages: list[str] | None,
    request: ReplayRequest | None,
) -> Instruction | None:
    """The example in a record; None, and counted, where it is in another language than those configured."""
    prompt, answer, task, language = (field_of(record, name) for name in fields)
    for key, name, text in zip(("prompt", "answer"), fields, (prompt, answer), strict=False):
        if not isinstance(text, str):
            raise DataError(
                f"{where}: no text in the field {name!r}. {suggest(name, list(field_names(record)))} "
                f"Set replay.source.{key} to the right one."
            )
    if languages is not None and language not in languages:
        if request:
            request.counts.read += 1
            request.counts.drop("other language")
        return None
    return Instruction(
        prompt=prompt.rstrip(),
        answer=answer.strip(),
        objective="replay",
        target=str(language or ""),
        row=where.rpartition("/")[2],
        template=str(task or ""),
    )
