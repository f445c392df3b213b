"""Several stages, each an ordinary run: languages are taught one after another to the same model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from instructalign.config import Config, Entry, MemoryConfig
from instructalign.corpora import Guard
from instructalign.files import copy_folder
from instructalign.mixture.build import build_instructions, read_guarded
from instructalign.mixture.carry import MANIFEST, SOURCE, carry, read_manifest
from instructalign.mixture.replay import guard_replay, load_replay
from instructalign.progress import is_main_process
from instructalign.runfolder import read_record, training_hash, update_record

STAGES = "stages"  # the folder of a run's stages


def stage_folder(out: Path, number: int, codes: list[str]) -> Path:
    """The folder of a stage, counted from 0."""
    return out / STAGES / f"{number + 1}-{'-'.join(codes)}"


def memory_of(config: Config) -> MemoryConfig | None:
    """What a model carries: as configured; by default with stages and past data; nothing otherwise."""
    if config.memory is None and config.stages and config.replay:
        return MemoryConfig()
    return config.memory


def stage_config(config: Config, number: int, base: Path | None) -> Config:
    """The configuration of one stage: its languages are the targets, its base is the model of the stage before.

    All languages stay in their groups, so that every stage is evaluated on all of them.

    Args:
        config: the configuration with the stages.
        number: the stage, from 0.
        base: the model's folder of the stage before; None for the first.
    """
    codes = (config.stages or [])[number]
    changes: dict[str, Any] = {
        "stages": None,
        "memory": memory_of(config),
        "instructions": config.instructions.model_copy(update={"targets": codes}),
    }
    if base is not None:
        changes["model"] = config.model.model_copy(update={"base": str(base.resolve()), "revision": None})
        if config.replay is not None:
            carried = read_manifest(base).get("replay", {}).get("examples", 0)
            source = Entry.model_construct(name=SOURCE, label=None, options={"path": None}, weight=1.0)
            changes["replay"] = config.replay.model_copy(update={"source": source, "size": carried})
    return config.model_copy(update=changes)


def carry_on(config: Config, out: Path, guard: Guard) -> None:
    """Writes what the next stage needs into the model's folder of a finished run, if it is to carry something."""
    memory, folder = memory_of(config), out / "model"
    if memory is None or (folder / MANIFEST).exists() or not is_main_process():
        return
    corpus, _, _ = read_guarded(config, guard)
    past, _ = guard_replay(load_replay(config.replay, config.seed, config.model), guard)
    rows = read_record(out)["mixture"]["realised"]["rows"]
    trained = sum(count for kind, count in rows.items() if kind != "replay")
    carry(folder, config, memory, past, build_instructions(config, corpus), trained)


def gather(config: Config, out: Path, folders: list[Path]) -> None:
    """Puts first and last together in the run's own folder: the base before, the model and its scores after."""
    first, last = folders[0], folders[-1]
    for source, name in ((first, "evaluation/base"), (last, "evaluation/adapted"), (last, "model")):
        if (source / name).exists() and not (out / name).exists():
            copy_folder(source / name, out / name, link=True)
    record = read_record(first)
    update_record(
        out,
        command=record.get("command"),
        versions=record.get("versions", {}),
        seed=config.seed,
        model=record.get("model", {}),
        corpus=record.get("corpus", {}),
        stages=[folder.name for folder in folders],
        training_hash=training_hash(config),
    )
