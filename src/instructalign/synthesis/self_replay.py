"""Self-synthesised rehearsal: replay data written by the base model, as a replay source and as a file.

Huang et al. 2024, "Mitigating Catastrophic Forgetting in Large Language Models with Self-Synthesized Rehearsal"
(arXiv 2403.01244): the model writes instructions, and its own answers to them are rehearsed. For models whose
instruction data is not public or not available.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from filelock import FileLock
from pydantic import Field

from instructalign.config import Config, ModelConfig, Positive, known_model_keys
from instructalign.errors import ConfigError, DataError
from instructalign.files import read_jsonl, text_hash, write_jsonl
from instructalign.mixture.replay_sources import ReplayRequest
from instructalign.progress import Progress, silent
from instructalign.synthesis.candidates import (
    Candidate,
    SamplingConfig,
    SynthesisMethod,
    defect_of,
    filter_candidates,
    write_candidates,
)
from instructalign.synthesis.seed_prompts import load_instructions, load_seed_prompts
from instructalign.types import Counts, Instruction

if TYPE_CHECKING:
    from instructalign.training.models import LoadedModel

_VERSION = 2  # of the cached files; those of another version are not read
_CHUNK = 64  # candidates per cached file: as much as an interrupted call has to write again at most
_DEFAULT_COUNT = 1000


def read_self(
    request: ReplayRequest,
    *,
    method: SynthesisMethod = "complete",
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
    """Replay data that the base model synthesises: sampled instructions with greedily decoded answers.

    Candidates are cached, so that the same model and settings never write them twice, and an interrupted run
    resumes. If several processes need them, one writes while the others wait for its lock.

    Args:
        request: the model, the seed, and how many examples are wanted.
        method: `complete` seed prompts; `imitate` a few instructions of a file; or `answer` those of a file.
        seeds: the shipped set of seed prompts: `eng`, `ind`, `toy`.
        path: your own seed prompts (YAML, for `complete`), or the file of instructions (JSON lines).
        prompt: the field of the instructions in that file.
        shots: how many instructions are shown at a time to be imitated.
        temperature, top_k: of the sampling of instructions.
        instruction_tokens, answer_tokens: maximum lengths; longer ones are dropped.
        likelihood: minimum mean log-likelihood of an answer under the model, in nats per token.
        words: minimum number of words of an instruction.
        tries: attempts per wanted example.
        cache: the folder of the cached candidates; by default in the user's cache.

    Raises:
        ConfigError: `imitate` or `answer` without a file.
        DataError: the file cannot be read.
        ModelError: the model cannot be loaded.
    """
    if request.model is None:
        raise DataError("the replay source self needs a model that writes the examples, and none was given.")
    if method != "complete" and path is None:
        raise ConfigError([f"replay.source.method {method} needs replay.source.path: a file of instructions"])
    sampling = SamplingConfig(
        method,
        load_seed_prompts(seeds, path if method == "complete" else None),
        load_instructions(path, prompt) if path is not None and method != "complete" else (),
        shots,
        temperature,
        top_k,
        instruction_tokens,
        answer_tokens,
        request.seed,
    )
    most = tries * request.wanted if method != "answer" else min(tries * request.wanted, len(sampling.prompts))
    folder = _cache_folder(request.model, sampling, cache)
    load = functools.cache(load_writer)
    candidates: list[Candidate] = []
    good, enough = 0, request.wanted
    with ExitStack() as stack:
        lock = FileLock(folder / ".lock")
        for first in range(0, most, _CHUNK):
            file = folder / f"{first:07d}.jsonl"
            if not file.exists() and not lock.is_locked:  # released too if this process dies
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(lock)
            if not file.exists():  # nobody wrote it in the meantime
                attempts = range(first, min(first + _CHUNK, most))
                write_jsonl(file, map(asdict, write_candidates(load(request.model), sampling, attempts)))
            chunk = [Candidate(**record) for _, record in read_jsonl(file)]
            candidates += chunk
            good += sum(not defect_of(each, likelihood, words) for each in chunk)
            request.progress("writing replay data", min(good, enough), enough, f"{len(candidates)} candidates")
            if good >= enough:  # only now look for near-duplicates, which takes long for many
                filtered = filter_candidates(candidates, likelihood, words)
                missing = request.wanted - sum(not defect for _, defect in filtered)
                if missing <= 0:
                    break
                enough = good + missing
    language = sampling.seeds.language if method == "complete" else ""
    given = 0
    for candidate, defect in filter_candidates(candidates, likelihood, words):
        if defect:
            request.counts.read += 1
            request.counts.drop(defect)
            continue
        row = f"self-{candidate.attempt}"
        yield Instruction(
            candidate.prompt, candidate.answer, "replay", target=language, row=row, template=candidate.seed
        )
        given += 1
        if given == request.wanted:
            return


def synthesize(
    config: Config, out: str | Path, *, count: int | None = None, progress: Progress = silent
) -> Counts:
    """Writes replay data that the base model synthesises, as JSON lines with their provenance.

    The fields are those of the replay source `jsonl` (`inputs`, `targets`, `task`, `lang`) and `origin`: the model
    and its hash, the attempt, and the sampling settings. What is written is what `format: self` replays. The file
    appears once it is complete; an interrupted call is resumed by repeating it.

    Args:
        config: its model and seed, and the options of its replay source with `format: self`, if it has one.
        out: the file.
        count: how many examples; by default `replay.size`, or 1000 without replay.
        progress: called with each step's progress.

    Returns:
        How many candidates were read, kept, and dropped by reason.

    Raises:
        ConfigError: the configuration has several such sources.
        DataError: as for `read_self`, or no candidate can be used.
        ModelError: the model cannot be loaded.
    """
    from instructalign.training.models import model_hash

    sources = [source for source in config.replay.sources if source.name == "self"] if config.replay else []
    if len(sources) > 1:
        raise ConfigError([f"replay.source: {len(sources)} sources have format: self; synthesize needs one"])
    options = dict(sources[0].options) if sources else {}
    counts = Counts()
    wanted = count or (config.replay.size if config.replay else _DEFAULT_COUNT)
    examples = list(read_self(ReplayRequest(wanted, config.seed, counts, config.model, progress), **options))
    counts.read, counts.kept = counts.read + len(examples), len(examples)
    if not examples:
        raise DataError(f"no candidate can be used; dropped: {counts.dropped}.")
    settings = {**(read_self.__kwdefaults__ or {}), **options}
    origin = {
        "model": config.model.base,
        "model_hash": model_hash(config.model.base, config.model.revision),
        "seed": config.seed,
        **{
            name: value if isinstance(value, (int, float)) else str(value)
            for name, value in settings.items()
            if name not in ("cache", "tries") and value is not None
        },
    }
    write_jsonl(
        Path(out),
        (
            {
                "inputs": each.prompt,
                "targets": each.answer,
                "task": each.template,
                "lang": each.target,
                "origin": {**origin, "attempt": int(each.row.removeprefix("self-"))},
            }
            for each in examples
        ),
    )
    return counts


def load_writer(model: ModelConfig) -> LoadedModel:
    """A model that writes text, on this process's GPU if there is one."""
    import torch

    from instructalign.training.models import load_model

    loaded = load_model(model)
    if torch.cuda.is_available():
        network: Any = loaded.model
        network.to(f"cuda:{os.environ.get('LOCAL_RANK', '0')}")
    return loaded


def _cache_folder(model: ModelConfig, sampling: SamplingConfig, cache: Path | None) -> Path:
    """Where the candidates of this model and these settings are cached."""
    from instructalign.training.models import model_hash

    settings = asdict(sampling) | {"seeds": sampling.seeds.model_dump()}
    options = known_model_keys(model.model_dump(exclude={"base", "adapter"}))
    key = text_hash([_VERSION, _CHUNK, model_hash(model.base, model.revision), settings, options])[:16]
    return (cache or default_cache()) / key


def default_cache() -> Path:
    """The folder in the user's cache for what models wrote."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "instructalign" / "synthesis"
