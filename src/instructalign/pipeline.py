"""All stages in order: prepare the data, evaluate the base, train, evaluate the adapted model, report."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from instructalign.config import Config, Entry, MemoryConfig
from instructalign.data import Guard, ItemIndex
from instructalign.errors import ConfigError, InstructAlignError
from instructalign.files import copy_folder
from instructalign.mixture.replay import guard_replay, load_replay
from instructalign.mixture.replay_memory import MANIFEST, SOURCE, carry, read_manifest
from instructalign.mixture.training_data import build_instructions, read_guarded
from instructalign.progress import Progress, is_main_process, silent
from instructalign.run_folder import open_folder, read_record, training_hash, update_record
from instructalign.types import Instruction

if TYPE_CHECKING:
    from instructalign.instructions.export import Form
    from instructalign.report import Report
    from instructalign.training.preview import PreviewExample
    from instructalign.training.train import TrainResult

logger = logging.getLogger(__name__)

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


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        finished: whether training is done; if not, the same call goes on from its last checkpoint.
        step: optimizer steps done.
        report: the report; None while training is unfinished, and in all processes but the first.
    """

    folder: Path
    finished: bool
    step: int
    report: Report | None


def check_names(config: Config) -> None:
    """Template sets and tasks are files; what is wrong in them counts as a problem of the configuration.

    Raises:
        ConfigError, UnknownNameError: there is no such set, task or prompt, or it is wrong, or lacks what it asks.
    """
    from instructalign.evaluation import Task, load_task
    from instructalign.evaluation.task_selection import missing_replay
    from instructalign.evaluation.tasks import HeldOutTask
    from instructalign.instructions import load_templates

    load_templates(config.instructions.templates, config.instructions.objectives)
    for name in config.evaluation.tasks:
        task = load_task(name)
        if isinstance(task, Task):
            task.choose_prompts(config.evaluation.prompts)
        if isinstance(task, HeldOutTask) and task.kind == "past" and (lacks := missing_replay(config)):
            raise ConfigError([f"evaluation.tasks: {task.name} {lacks}"])


def run(
    config: Config, out: str | Path, *, base_evaluation: Path | None = None, progress: Progress = silent
) -> RunResult:
    """Evaluates the base, trains, evaluates the adapted model and writes the report.

    Whatever of it is already done in the folder, by the same configuration, is not done again. Several processes
    (`accelerate launch -m instructalign run …`) share the work of each stage. A configuration with `stages` is run
    stage by stage, each in a run folder of its own under `stages`.

    Args:
        config: the run's configuration.
        out: the run's folder.
        base_evaluation: an evaluation of the same base on the same tasks, to take over instead of repeating it;
            it is checked before use.
        progress: told what is under way.

    Raises:
        InstructAlignError: anything that keeps a stage from being done.
    """
    from instructalign.evaluation import evaluate
    from instructalign.mixture.training_data import keep_corpora
    from instructalign.report import write_report
    from instructalign.training.preflight import check_start

    out = Path(out)
    open_folder(out, config)
    if config.stages:
        return _run_stages(config, out, base_evaluation, progress)

    base_folder = out / "evaluation" / "base"
    if config.evaluation.tasks:
        if base_evaluation is None and not base_folder.exists():
            progress("checking what training needs", 0, 0, "")
            keep_corpora()
            check_start(config, guard(config) if config.contamination == "refuse" else None)
        if is_main_process() and base_evaluation is not None and not base_folder.exists():
            copy_folder(base_evaluation, base_folder)
        evaluate(config.model.base, config, base_folder, run="base", progress=progress)
    trained = train(config, out, progress)
    if not trained.finished:
        return RunResult(out, False, trained.step, None)
    if config.evaluation.tasks:
        adapted = out / "evaluation" / "adapted"
        evaluate(str(trained.model), config, adapted, run=out.name, progress=progress)
    return RunResult(out, True, trained.step, write_report([out]) if is_main_process() else None)


def _run_stages(config: Config, out: Path, base_evaluation: Path | None, progress: Progress) -> RunResult:
    """Runs the stages in order; each begins with the model of the one before, and with its evaluation."""
    from instructalign.report import write_report

    folders: list[Path] = []
    for number, codes in enumerate(config.stages or []):
        base = folders[-1] / "model" if folders else None
        known = folders[-1] / "evaluation" / "adapted" if folders and config.evaluation.tasks else base_evaluation
        folder = stage_folder(out, number, codes)
        result = run(stage_config(config, number, base), folder, base_evaluation=known, progress=progress)
        if not result.finished:
            return RunResult(out, False, result.step, None)
        folders.append(folder)
    if is_main_process():
        gather(config, out, folders)
    steps = len(folders) * config.training.steps
    return RunResult(out, True, steps, write_report([out]) if is_main_process() else None)


def train(config: Config, out: str | Path, progress: Progress = silent) -> TrainResult:
    """Adapts the configured model, and looks for test items in its training data; see `training.train.train`.

    Args:
        config: the run's configuration.
        out: the run's folder.
        progress: told what is under way.

    Raises:
        ConfigError: the configuration has stages, each of which is trained and evaluated: `run` does that.
        InstructAlignError: anything that keeps training from being done.
    """
    from instructalign.evaluation.accuracy_monitor import make_probe
    from instructalign.training.train import is_done
    from instructalign.training.train import train as fit

    if config.stages:
        raise ConfigError(
            ["stages: train does one stage alone. `instructalign run` trains and evaluates them one after another"]
        )
    done = is_done(config, Path(out))
    items = None if done else guard(config)
    result = fit(config, out, progress, items, None if done else make_probe(config))
    if result.finished and memory_of(config):
        carry_on(config, Path(out), items or guard(config))
    return result


def preview(config: Config, count: int = 5, step: int = 0) -> list[PreviewExample]:
    """The first examples of an optimizer step as the model will see them; see `training.preview.preview`.

    Args:
        config: the run's configuration.
        count: how many examples; more than a step has go on into the next.
        step: which step, counted from 0.

    Raises:
        InstructAlignError: the data, the tokenizer, or test items to leave out cannot be read.
    """
    from instructalign.training.preview import preview as make

    changes_examples = config.contamination in ("drop", "refuse")
    return make(config, count, step, guard(config) if changes_examples else None)


def generate(config: Config, count: int, start: int = 0) -> Iterator[Instruction]:
    """Alignment instructions of a configuration, without replay: `start` … `start + count - 1` of its stream.

    The same configuration gives the same instructions; fewer of them are the beginning of more.

    Raises:
        InstructAlignError: a corpus cannot be read, a language has no text, or test items stand in the corpora
            and must not.
    """
    from instructalign.instructions import generate as instructions_of
    from instructalign.mixture.training_data import build_instructions, read_guarded

    corpus = read_guarded(config, guard(config))[0]
    return instructions_of(build_instructions(config, corpus), count, start)


def write_generated(
    config: Config,
    path: Path,
    count: int,
    form: Form = "plain",
    *,
    engine: Literal["local", "ray"] = "local",
    processes: int | None = None,
    store: Path | None = None,
    progress: Progress = silent,
) -> int:
    """Writes the first examples of `generate` to a file, all or nothing, and returns how many.

    Args:
        config: the configuration.
        path: a file; Parquet where its name ends in .parquet, JSON lines otherwise.
        count: how many.
        form: as `instructions.as_record` has it.
        engine: `local` reads the corpora in this process; `ray` has a Ray cluster read, clean and generate, with
            the same result.
        processes: how many make the examples; by default one, or with Ray all there are.
        store: with Ray, a folder that all machines see, to keep the cleaned rows in for the next time.
        progress: told what is under way.

    Raises:
        InstructAlignError: as `generate`; or Ray is not there.
    """
    from instructalign.instructions import write_stream
    from instructalign.mixture.training_data import build_instructions, read_guarded

    if path.is_dir():
        raise InstructAlignError(f"{path} is a folder. Name a file: .jsonl or .parquet.")

    def tell(done: int) -> None:
        progress("writing", done, count, "")

    if engine == "local":
        progress("reading corpora", 0, 0, "")
        stream = build_instructions(config, read_guarded(config, guard(config), progress)[0])
        return write_stream(path, stream, count, form, processes=processes or 1, progress=tell)

    from instructalign import ray_data

    with ray_data.session(processes), ray_data.place(path, store) as folder:
        corpus = ray_data.read_rows(config, folder, guard(config), progress)[0]
        progress("laying out the instructions", 0, 0, "")
        stream = build_instructions(config, corpus)
        return write_stream(path, stream, count, form, spread=ray_data.spread, progress=tell)


def guard(config: Config) -> Guard:
    """The test items of a configuration, to be looked for in its training data.

    Where they are only to be reported and cannot be read, the log says so, and the guard has the reason.

    Raises:
        InstructAlignError: test items are to be dropped or refused, and cannot be read.
    """
    from instructalign.evaluation.task_selection import select_tasks

    action = config.contamination
    if action == "ignore":
        return Guard(action, reason="contamination is set to ignore")
    if not config.evaluation.tasks:
        return Guard(action, reason="no evaluation task is configured")
    try:
        return Guard(action, ItemIndex(list(select_tasks(config).item_texts())), "")
    except InstructAlignError as error:
        if action != "report":
            raise
        logger.warning("the training data is not searched for test items: %s", error)
        return Guard(action, reason=str(error))
