"""Translation tasks: directions, prompts and the translations written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import ConfigError
from instructalign.evaluation.engine_vllm import make_vllm, vllm_version
from instructalign.evaluation.generation import generate
from instructalign.evaluation.predictions import MANIFEST, Translated, asking, forget, open_folder
from instructalign.evaluation.processes import from_first, processes
from instructalign.evaluation.task_selection import TranslationDirection
from instructalign.files import text_hash, write_json, write_jsonl
from instructalign.training.models import LoadedModel

Writer = Callable[..., list[tuple[str, bool]]]
"""Writes behind prompts at most so many tokens; see `decode.generate`."""


def translate_all(
    load: Callable[[], LoadedModel],
    directions: Sequence[TranslationDirection],
    config: Config,
    folder: Path,
    identity: Mapping[str, str],
    progress: Callable[[str, int, int], None] | None = None,
) -> None:
    """Translates in every direction, one file each; files that are there already are not made again.

    Args:
        load: gives the model, where it is needed.
        directions: what to translate.
        config: says how large a batch may be.
        folder: where the files go.
        identity: `name` and `hash` of the model.
        progress: told how far each direction is.

    Raises:
        RunFolderError: the folder holds translations of another model.
    """
    first = processes().is_main_process
    manifest = open_folder(folder, identity) if first else {"tasks": {}}
    writer = cache(lambda: _writer(load, config, identity["name"]))
    engine = [] if config.evaluation.engine == "transformers" else [config.evaluation.engine]
    keys = {
        direction.name: text_hash([direction.digest(), identity["hash"], *asking(config), *engine])
        for direction in directions
    }
    there = {file for file in keys if manifest["tasks"].get(file, {}).get("key") == keys[file]}
    done = from_first({file for file in there if (folder / file).exists()})
    for direction in directions:
        if direction.name in done:
            continue
        if first:
            forget(folder, manifest, direction.name)
        tell = partial(progress, direction.name.removesuffix(".jsonl")) if progress else None
        entry = _translate(writer(), direction, folder, tell)
        engines = {"engine": vllm_version()} if engine else {}
        manifest["tasks"][direction.name] = {"key": keys[direction.name], **entry, **engines}
        if first:
            write_json(folder / MANIFEST, manifest)


def _writer(load: Callable[[], LoadedModel], config: Config, base: str) -> Writer:
    """What writes behind prompts: the loaded model, or vLLM."""
    if config.evaluation.engine == "vllm":
        if processes().num_processes > 1:
            raise ConfigError(["evaluation.engine: vllm takes one process; start without accelerate or torchrun"])
        return make_vllm(config.answering_model, base)
    return partial(generate, load(), batch_tokens=config.evaluation.batch_tokens)


def _translate(
    write: Writer,
    direction: TranslationDirection,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Translates, writes the file, and gives the manifest's entry."""
    asked = [
        (prompt, index, direction.format_prompt(prompt, text))
        for prompt in direction.prompts
        for index, text in enumerate(direction.texts)
    ]
    answers = write([words for _, _, words in asked], direction.task.tokens, progress=progress)
    records = [
        Translated(
            direction.task.name,
            prompt,
            direction.items[index],
            direction.source,
            direction.target,
            direction.texts[index],
            direction.references[index],
            *answer,
        )
        for (prompt, index, _), answer in zip(asked, answers, strict=True)
    ]
    if processes().is_main_process:
        write_jsonl(folder / direction.name, map(asdict, records))
    return {
        "questions": direction.digest(),
        "title": direction.title,
        "language": direction.language,
        "split": direction.task.split,
        "prompts": direction.prompts,
        "items": len(direction.items),
        "unfinished": sum(record.unfinished for record in records),
        "version": version("instructalign"),
    }
