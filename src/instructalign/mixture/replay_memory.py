"""What an adapted model's folder carries: the past examples that the next stage replays, and where they are from.

`instructalign.json` names the languages that the model was taught and each stage that it went through;
`replay.jsonl` holds the examples, in the fields of P3 and xP3. With `format: carried` as replay source, a
configuration whose `model.base` is such a folder goes on from it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from instructalign.config import Config, MemoryConfig
from instructalign.errors import DataError
from instructalign.files import read_jsonl, write_json, write_jsonl
from instructalign.instructions import InstructionStream
from instructalign.mixture.replay import ReplayBuffer
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.randomness import digest_key, permuted
from instructalign.types import Instruction

MANIFEST, EXAMPLES = "instructalign.json", "replay.jsonl"
PAST = "past"  # where examples are from that no stage made
SOURCE = "carried"  # this replay source's name


@dataclass(frozen=True, slots=True)
class Carried:
    """One example of the buffer; its id begins with where it is from: `past/12`, `jav+sun/mt-873`."""

    id: str
    inputs: str
    targets: str
    task: str
    lang: str

    @property
    def origin(self) -> str:
        """The stage that made it, or `past`."""
        return self.id.partition("/")[0]


def carry(
    folder: Path, config: Config, memory: MemoryConfig, past: ReplayBuffer, stream: InstructionStream, trained: int
) -> None:
    """Writes what the next stage needs into an adapted model's folder; the manifest last.

    Args:
        folder: the model's folder.
        config: the configuration that it was trained by.
        memory: how much is carried.
        past: the past examples that were replayed.
        stream: the alignment instructions.
        trained: how many of these were trained on, from the first.
    """
    stage = "+".join(config.targets)
    kept = within(
        memory.budget, [*_past(past), *_made(stream, stage, memory.per_stage, trained, config.seed)], config.seed
    )
    write_jsonl(
        folder / EXAMPLES,
        (
            {"id": each.id, "inputs": each.inputs, "targets": each.targets, "task": each.task, "lang": each.lang}
            for each in kept
        ),
    )
    before = read_manifest(Path(config.model.base))
    this = {"taught": config.targets, "seed": config.seed, "steps": config.training.steps}
    write_json(
        folder / MANIFEST,
        {
            "format": 1,
            "known": config.languages.known,
            "taught": list(dict.fromkeys([*before.get("taught", []), *config.targets])),
            "names": dict(config.languages.names),
            "base": before.get("base") or config.model.base,
            "stages": [*before.get("stages", []), this],
            "replay": {"file": EXAMPLES, "examples": len(kept), "from": dict(Counter(e.origin for e in kept))},
        },
    )


def _past(buffer: ReplayBuffer) -> Iterator[Carried]:
    origins = buffer.origins or [("", "")] * len(buffer)
    for number, (example, (source, _)) in enumerate(zip(buffer.examples, origins, strict=True)):
        carried = source.partition(" ")[0] == SOURCE
        id = example.row if carried else f"{PAST}/{number}"
        yield Carried(id, example.prompt, example.answer, example.template, example.target)


def _made(stream: InstructionStream, stage: str, count: int, trained: int, seed: int) -> Iterator[Carried]:
    """Some of the instructions that were trained on, none of them twice."""
    for number in range(min(count, trained)):
        index = permuted(number, trained, seed, "carried")
        made = stream[index]
        yield Carried(f"{stage}/{made.objective}-{index}", made.prompt, made.answer, made.objective, made.target)


def within(budget: int, examples: Sequence[Carried], seed: int) -> list[Carried]:
    """As many examples as the budget has room for: those with the smallest keyed hash of their id, in their order.

    What has had to make room once would have to again, so that what stays is a fair sample of all that ever came.
    """
    if len(examples) <= budget:
        return list(examples)
    key = digest_key(seed, "memory")
    hashes = {each.id: blake2b(each.id.encode(), digest_size=16, key=key).digest() for each in examples}
    bound = sorted(hashes.values())[budget - 1]
    return [each for each in examples if hashes[each.id] <= bound]


def read_manifest(folder: Path) -> dict[str, Any]:
    """What a model's folder says of its stages; nothing where it carries none.

    Raises:
        DataError: the file cannot be read.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return {}
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return dict(found)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Take the folder from where it came again.") from None


def read_carried(asked: ReplayRequest, *, path: Path | None = None) -> Iterator[Instruction]:
    """The replay buffer that an adapted model carries.

    Args:
        asked: names the model that is to be trained.
        path: another model's folder; the base's own by default.

    Raises:
        DataError: the folder carries none, or it cannot be read.
    """
    folder = path or Path(asked.model.base if asked.model else "")
    if not (folder / EXAMPLES).is_file():
        raise DataError(
            f"{folder} carries no replay buffer: it has no {EXAMPLES}. Runs with stages or a memory block "
            "write it into the folder of their model: name that under model.base, or as path of the source."
        )
    for number, record in read_jsonl(folder / EXAMPLES):
        missing = [name for name in ("id", "inputs", "targets") if not isinstance(record.get(name), str)]
        if missing:
            raise DataError(f"{folder / EXAMPLES}:{number}: no text under {', '.join(missing)}.")
        yield Instruction(
            prompt=record["inputs"],
            answer=record["targets"],
            objective="replay",
            target=str(record.get("lang") or ""),
            row=record["id"],
            template=str(record.get("task") or ""),
        )
