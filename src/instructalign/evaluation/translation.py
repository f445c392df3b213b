"""Translation tasks: directions, prompts and the translations written."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructalign.config import Config
from instructalign.errors import ConfigError, DataError
from instructalign.evaluation.comet import find_command
from instructalign.evaluation.engine_vllm import make_vllm, vllm_version
from instructalign.evaluation.generation import generate
from instructalign.evaluation.items import choose_items
from instructalign.evaluation.predictions import MANIFEST, Translated, asking, forget, open_folder
from instructalign.evaluation.processes import from_first, processes
from instructalign.evaluation.task_sources import place, read_aligned
from instructalign.evaluation.tasks import Translation
from instructalign.files import text_hash, write_json, write_jsonl
from instructalign.languages import name_in
from instructalign.training.models import LoadedModel

log = logging.getLogger(__name__)

Writer = Callable[..., list[tuple[str, bool]]]
"""Writes behind prompts at most so many tokens; see `decode.generate`."""


@dataclass(frozen=True, slots=True)
class Direction:
    """Sentences to translate from one language into another.

    Attributes:
        task: the task.
        prompts: ids of the prompts.
        source, target: codes of the languages.
        items: ids of the sentences, the numbers of their lines.
        texts: the sentences in the source language.
        references: the same sentences in the target language.
        names: names of languages by code, from the configuration.
    """

    task: Translation
    prompts: list[str]
    source: str
    target: str
    items: list[str]
    texts: list[str]
    references: list[str]
    names: Mapping[str, str]

    @property
    def language(self) -> str:
        """The language that is not the pivot."""
        return self.source if self.target == self.task.pivot else self.target

    @property
    def title(self) -> str:
        """What scores call the task in this direction."""
        into = self.target == self.task.pivot
        return f"{self.task.name}/{'into' if into else 'from'}-{self.task.pivot}"

    @property
    def file(self) -> str:
        """The name of the file of translations."""
        return f"{self.task.name}.{self.source}-{self.target}.jsonl"

    def digest(self) -> str:
        """A hash of the questions."""
        return text_hash([self.task.digest(), self.prompts, self.source, self.items, self.texts, dict(self.names)])

    def word(self, prompt: str, text: str) -> str:
        """The prompt for a sentence."""
        wording = self.task.prompts[prompt]
        names = {
            slot: self.names.get(code) or name_in(code, wording.language)
            for slot, code in (("source", self.source), ("target", self.target))
        }
        return wording.prompt.format(text=text, **names)


def plan_directions(config: Config, task: Translation) -> list[Direction]:
    """The directions of a task in a configuration.

    Every language of the configuration that the task has is translated from and into the pivot. One without
    a file is left out and said so, unless `evaluation.languages` names it.

    Raises:
        DataError: a language that `evaluation.languages` names has no file, or no language has.
        ConfigError: COMET is asked for and not there, which is better known now than after the translating.
    """
    settings = config.evaluation
    if settings.comet is not None:
        find_command(settings.comet)
    wanted = settings.languages or [code for codes in config.languages.groups.values() for code in codes]
    directions: list[Direction] = []
    pivot = place(settings.data, task.path, task.languages[task.pivot])
    for language in wanted:
        if language not in task.languages or language == task.pivot:
            continue
        file = place(settings.data, task.path, task.languages[language])
        if not file.is_file() and settings.languages:
            raise DataError(
                f"{task.name} in {language}, which evaluation.languages asks for: {file} does not exist."
            )
        if not file.is_file():
            log.warning("%s leaves out %s: %s does not exist", task.name, language, file)
            continue
        directions += _both_ways(config, task, language, *read_aligned(pivot, file))
    if not directions:
        raise DataError(f"{task.name} has no data for the languages of this configuration under {settings.data}.")
    return directions


def _both_ways(
    config: Config, task: Translation, language: str, pivots: Sequence[str], others: Sequence[str]
) -> list[Direction]:
    kept = choose_items([str(number) for number in range(1, len(pivots) + 1)], config.evaluation.items)
    lines = [index for index in range(len(pivots)) if str(index + 1) in kept]
    ids = [str(index + 1) for index in lines]
    here, there = [pivots[index] for index in lines], [others[index] for index in lines]
    prompts, names = task.choose_prompts(config.evaluation.prompts), config.languages.names
    return [
        Direction(task, prompts, task.pivot, language, ids, here, there, names),
        Direction(task, prompts, language, task.pivot, ids, there, here, names),
    ]


def translate_all(
    load: Callable[[], LoadedModel],
    directions: Sequence[Direction],
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
        direction.file: text_hash([direction.digest(), identity["hash"], *asking(config), *engine])
        for direction in directions
    }
    there = {file for file in keys if manifest["tasks"].get(file, {}).get("key") == keys[file]}
    done = from_first({file for file in there if (folder / file).exists()})
    for direction in directions:
        if direction.file in done:
            continue
        if first:
            forget(folder, manifest, direction.file)
        tell = partial(progress, direction.file.removesuffix(".jsonl")) if progress else None
        entry = _translate(writer(), direction, folder, tell)
        engines = {"engine": vllm_version()} if engine else {}
        manifest["tasks"][direction.file] = {"key": keys[direction.file], **entry, **engines}
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
    direction: Direction,
    folder: Path,
    progress: Callable[[int, int], None] | None,
) -> dict[str, Any]:
    """Translates, writes the file, and gives the manifest's entry."""
    asked = [
        (prompt, index, direction.word(prompt, text))
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
        write_jsonl(folder / direction.file, map(asdict, records))
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
