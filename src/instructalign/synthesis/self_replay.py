"""The replay source `self`: the base model writes its own past data (self-synthesised rehearsal).

Huang et al. 2024, "Mitigating Catastrophic Forgetting in Large Language Models with Self-Synthesized Rehearsal"
(arXiv 2403.01244): the model writes instances, and its own answers to them are rehearsed. For models whose
instruction data is not public, or where none is at hand.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from instructalign.config import ModelConfig, Positive
from instructalign.errors import ConfigError, DataError
from instructalign.files import read_jsonl, text_hash, write_jsonl
from instructalign.mixture.replay_sources import Asked
from instructalign.synthesis.drafting import Manner, Method, write_drafts
from instructalign.synthesis.filtering import Draft, flaw_of, judge
from instructalign.synthesis.seed_prompts import load_prompts, load_seeds
from instructalign.types import Instruction

if TYPE_CHECKING:
    from instructalign.training.models import LoadedModel

VERSION = 1  # of what is written; another one does not read the files of this one
CHUNK = 64
"""Attempts that are written together and kept in one file."""
PATIENCE = 3600.0
"""Seconds that a process waits for what another one is writing."""


def write_replay(
    asked: Asked,
    *,
    method: Method = "complete",
    seeds: str = "eng",
    path: Path | None = None,
    prompt: str = "inputs",
    shots: Positive = 4,
    temperature: Annotated[float, Field(gt=0)] = 1.0,
    top_k: Positive = 50,
    instruction_tokens: Positive = 96,
    answer_tokens: Positive = 128,
    likelihood: float = -2.0,
    words: Positive = 3,
    tries: Positive = 10,
    cache: Path | None = None,
) -> Iterator[Instruction]:
    """Past data that the base model writes itself: instructions by keyed draws, and its likeliest answers.

    Everything written is kept in files, so that the same model and settings never write it twice, whatever is
    selected of it, and an interrupted one goes on. Several processes write in turns.

    Args:
        asked: the model, the seed, and how many examples are wanted.
        method: `complete` beginnings of instructions; `imitate` a few instructions of a file; or `answer` those
            of a file, which are then the past data's own.
        seeds: the shipped set of beginnings: `eng`, `ind`, `toy`.
        path: a set of beginnings of your own (YAML, for `complete`), or the file of instructions (JSON lines).
        prompt: the field of the instructions in that file.
        shots: how many instructions the model imitates at a time.
        temperature, top_k: how instructions are drawn.
        instruction_tokens, answer_tokens: how long they may be; what is not at its end then is dropped.
        likelihood: mean log-likelihood (nats per token) below which the model does not believe its own answer.
        words: how many words an instruction must have.
        tries: attempts for each example wanted, after which it is given up.
        cache: the folder that keeps what was written; a folder of the user's cache if null.

    Raises:
        ConfigError: `imitate` or `answer` without a file.
        DataError: the file cannot be read; or nothing that was written is of use.
        ModelError: the model cannot be loaded.
    """
    if asked.model is None:
        raise DataError("self-made replay needs a model to write it, and none was given.")
    if method != "complete" and path is None:
        raise ConfigError([f"replay.source.method {method} needs replay.source.path: a file of instructions"])
    manner = Manner(
        method,
        load_seeds(seeds, path if method == "complete" else None),
        load_prompts(path, prompt) if path is not None and method != "complete" else (),
        shots,
        temperature,
        top_k,
        instruction_tokens,
        answer_tokens,
        asked.seed,
    )
    most = tries * asked.wanted if method != "answer" else min(tries * asked.wanted, len(manner.prompts))
    drafts: list[Draft] = []
    sound, enough = 0, asked.wanted
    for chunk in _chunks(asked.model, manner, _folder(asked.model, manner, cache), most):
        drafts += chunk
        sound += sum(not flaw_of(draft, likelihood, words) for draft in chunk)
        asked.report("writing past data", min(sound, enough), enough, f"{len(drafts)} tried")
        if sound >= enough:  # looking for near-duplicates takes the longer the more there are
            missing = asked.wanted - sum(not flaw for _, flaw in judge(drafts, likelihood, words))
            if missing <= 0:
                break
            enough = sound + missing
    yield from _given(asked, judge(drafts, likelihood, words))


def _given(asked: Asked, judged: Iterable[tuple[Draft, str]]) -> Iterator[Instruction]:
    """The good ones as examples, until there are as many as wanted; the others on the way are counted."""
    given = 0
    for draft, flaw in judged:
        if flaw:
            asked.counts.read += 1
            asked.counts.drop(flaw)
            continue
        yield Instruction(draft.prompt, draft.answer, "replay", row=f"self-{draft.attempt}", template=draft.seed)
        given += 1
        if given == asked.wanted:
            return


def _chunks(model: ModelConfig, manner: Manner, folder: Path, most: int) -> Iterator[list[Draft]]:
    """What was written, chunk by chunk; what is not there yet is written now, by this process or another."""
    process, processes = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    load = functools.cache(lambda: _load(model))
    for first in range(0, most, CHUNK * processes):
        mine = first + CHUNK * process
        file = folder / f"{mine:07d}.jsonl"
        if mine < most and not file.exists():
            attempts = range(mine, min(mine + CHUNK, most))
            write_jsonl(file, map(asdict, write_drafts(load(), manner, attempts)))
        for start in range(first, min(first + CHUNK * processes, most), CHUNK):
            there = folder / f"{start:07d}.jsonl"
            _wait_for(there)
            yield [Draft(**record) for _, record in read_jsonl(there)]


def _wait_for(file: Path) -> None:
    """Waits until another process has written a file.

    Raises:
        DataError: it does not come.
    """
    until = time.monotonic() + PATIENCE
    while not file.exists():
        if time.monotonic() > until:
            raise DataError(
                f"another process was to write {file}, and has not for an hour. All processes must see the same "
                "folder: name one with replay.source.cache."
            )
        time.sleep(0.5)


def _load(model: ModelConfig) -> LoadedModel:
    import torch

    from instructalign.training.models import load_configured

    loaded = load_configured(model)
    if torch.cuda.is_available():
        place = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        loaded.model.to(place)  # type: ignore[arg-type]
    return loaded


def _folder(model: ModelConfig, manner: Manner, cache: Path | None) -> Path:
    """Where what this model writes in this manner is kept."""
    from instructalign.training.models import model_hash

    manner_said = asdict(manner) | {"seeds": manner.seeds.model_dump()}
    model_said = model.model_dump(exclude={"base", "adapter"})
    key = text_hash([VERSION, CHUNK, model_hash(model.base, model.revision), manner_said, model_said])[:16]
    usual = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instructalign" / "self-made"
    return (cache or usual) / key
