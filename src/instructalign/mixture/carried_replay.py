"""What the folder of an adapted model carries for the next stage: replay examples, and where they are from.

`instructalign.json` lists the languages that the model was taught and each stage that it went through;
`replay.jsonl` holds the examples, in the fields of P3 and xP3. With `format: carried` as replay source, a
configuration whose `model.base` is such a folder continues from it.
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
from instructalign.mixture.replay_buffer import ReplayBuffer
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.randomness import digest_key, permuted
from instructalign.types import Instruction, Turn

MEMORY_MANIFEST = "instructalign.json"
CARRIED_SOURCE = "carried"  # the name of this replay source

_EXAMPLES = "replay.jsonl"
MEMORY_FILES = (MEMORY_MANIFEST, _EXAMPLES)
"""What a model's folder has beside the model where it carries replay examples."""
_NO_STAGE = "past"  # the origin of examples that no stage made


@dataclass(frozen=True, slots=True)
class MemoryExample:
    """One example of the memory; its id begins with its origin: `past/12`, `jav+sun/mt-873`."""

    id: str
    inputs: str
    targets: str
    task: str
    lang: str
    turns: tuple[Turn, ...] = ()

    @property
    def origin(self) -> str:
        """The stage that made it, or `past`."""
        return self.id.partition("/")[0]


def write_memory(
    folder: Path,
    config: Config,
    memory: MemoryConfig,
    replay: ReplayBuffer,
    stream: InstructionStream,
    trained: int,
) -> None:
    """Writes what the next stage needs into the folder of an adapted model; the manifest last.

    Args:
        folder: the model's folder.
        config: the configuration that it was trained by.
        memory: how much is carried.
        replay: the examples that were replayed.
        stream: the alignment instructions.
        trained: how many of these were trained on, from the first.
    """
    stage = "+".join(config.targets)
    examples = []
    origins = replay.origins or [("", "")] * len(replay)
    for number, (example, (source, _)) in enumerate(zip(replay.examples, origins, strict=True)):
        carried = source.partition(" ")[0] == CARRIED_SOURCE
        id = example.row if carried else f"{_NO_STAGE}/{number}"
        examples.append(
            MemoryExample(id, example.prompt, example.answer, example.template, example.target, example.turns)
        )
    for number in range(min(memory.per_stage, trained)):  # of the instructions trained on, none twice
        index = permuted(number, trained, config.seed, "carried")
        made = stream[index]
        if not made.prompt:  # plain text, which replay has not
            continue
        id = f"{stage}/{made.objective}-{index}"
        examples.append(MemoryExample(id, made.prompt, made.answer, made.objective, made.target))
    kept = within_budget(memory.budget, examples, config.seed)
    fields = ("id", "inputs", "targets", "task", "lang", "turns")
    lines = ({name: getattr(each, name) for name in fields if name != "turns" or each.turns} for each in kept)
    write_jsonl(folder / _EXAMPLES, lines)
    before = read_memory(Path(config.model.base))
    this = {"taught": config.targets, "seed": config.seed, "steps": config.training.steps}
    write_json(
        folder / MEMORY_MANIFEST,
        {
            "format": 1,
            "known": config.languages.known,
            "taught": list(dict.fromkeys([*before.get("taught", []), *config.targets])),
            "names": dict(config.languages.names),
            "base": before.get("base") or config.model.base,
            "stages": [*before.get("stages", []), this],
            "replay": {
                "file": _EXAMPLES,
                "examples": len(kept),
                "from": dict(Counter(each.origin for each in kept)),
            },
        },
    )


def within_budget(budget: int, examples: Sequence[MemoryExample], seed: int) -> list[MemoryExample]:
    """As many examples as fit the budget: those with the smallest keyed hash of their id, in their order.

    An example that had to leave once would have to leave again, so that what stays is a fair sample of all that
    ever came.
    """
    if len(examples) <= budget:
        return list(examples)
    key = digest_key(seed, "memory")
    hashes = {each.id: blake2b(each.id.encode(), digest_size=16, key=key).digest() for each in examples}
    bound = sorted(hashes.values())[budget - 1]
    return [each for each in examples if hashes[each.id] <= bound]


def read_memory(folder: Path) -> dict[str, Any]:
    """What the manifest in a model's folder says of its stages; empty where there is none.

    Raises:
        DataError: the file cannot be read.
    """
    path = folder / MEMORY_MANIFEST
    if not path.is_file():
        return {}
    try:
        found: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return dict(found)
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} cannot be read: {error}. Copy the folder again from its source.") from None


def read_carried(request: ReplayRequest, *, path: Path | None = None) -> Iterator[Instruction]:
    """The replay examples that an adapted model carries.

    Args:
        request: names the model to be trained.
        path: another model's folder; the base's own by default.

    Raises:
        DataError: the folder carries none, or they cannot be read.
    """
    file = (path or Path(request.model.base if request.model else "")) / _EXAMPLES
    if not file.is_file():
        raise DataError(
            f"{file.parent} carries no replay examples: it has no {_EXAMPLES}. Runs with stages or a memory block "
            "write it into the folder of their model: name that under model.base, or as path of the source."
        )
    for number, record in read_jsonl(file):
        missing = [name for name in ("id", "inputs", "targets") if not isinstance(record.get(name), str)]
        if missing:
            raise DataError(f"{file}:{number}: no text under {', '.join(missing)}.")
        yield Instruction(
            prompt=record["inputs"],
            answer=record["targets"],
            objective="replay",
            target=str(record.get("lang") or ""),
            row=record["id"],
            template=str(record.get("task") or ""),
            turns=tuple((str(role), str(text)) for role, text in record.get("turns") or ()),
        )
