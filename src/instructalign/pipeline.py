"""All stages in order: prepare the data, evaluate the base, train, evaluate the adapted model, report.

`run` is the paper's Figure 1 from left to right. What a stage needs is prepared once and handed on, and everything
that can be refused is refused before the base is evaluated, which may take hours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from instructalign.config import Config, Entry, MemoryConfig
from instructalign.config_file import ConfigSource, load_config
from instructalign.data import ContaminationCheck, ItemIndex
from instructalign.errors import ConfigError, InstructAlignError
from instructalign.files import copy_folder
from instructalign.mixture.carried_replay import CARRIED_SOURCE, MEMORY_MANIFEST, read_memory, write_memory
from instructalign.mixture.replay_buffer import INSTRUCTION_DATA
from instructalign.mixture.training_data import (
    CorpusCache,
    TrainingData,
    build_instructions,
    prepare_corpus,
    prepare_data,
)
from instructalign.notebooks import default_progress
from instructalign.progress import Progress, is_main_process, silent
from instructalign.run_folder import open_folder, read_run_metadata, training_hash, update_run_metadata
from instructalign.types import Counts, Instruction

if TYPE_CHECKING:
    from instructalign.evaluation.task_selection import TaskSelection
    from instructalign.instructions.export import Form
    from instructalign.report import Report
    from instructalign.training.preview import PreviewExample
    from instructalign.training.train import TrainResult

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunResult:
    """How a run ended.

    Attributes:
        folder: the run's folder.
        finished: whether training is done; if not, the same call resumes from its last checkpoint.
        step: optimizer steps done.
        report: the report; None while training is unfinished, and in all processes but the first.
    """

    folder: Path
    finished: bool
    step: int
    report: Report | None

    def _repr_html_(self) -> str:
        if self.report is not None:
            return self.report._repr_html_()
        return f"<p>not finished: step {self.step}; the same call resumes</p>"


def back_translation_rounds(
    config: Config,
    out: str | Path,
    rounds: int,
    *,
    model: str | None = None,
    progress: Progress = silent,
    **options: Any,
) -> Path:
    """Translates monolingual text, trains on the pairs beside the corpora, translates with that model, and so on.

    Each round has a folder in `out`: `round-1/pairs.jsonl`, and the run that was trained on it. Every round trains
    the base anew, on the translations of the round before. Repeated, it continues where it was interrupted.

    Args:
        config: the configuration of each run.
        out: the folder.
        rounds: how many.
        model: what translates in the first round; by default the base.
        progress: reports each step.
        options: of `synthesis.back_translate`; each round has a file of rejects of its own, of the name given.

    Returns:
        The folder of the last run; it is unfinished if that was interrupted.

    Raises:
        InstructAlignError: as `synthesis.back_translate` and `train`.
    """
    from instructalign.data.corpus import check_entries
    from instructalign.synthesis import back_translate

    folder, rejects = Path(out), options.pop("rejects", None)
    for number in range(1, rounds + 1):
        folder = Path(out).resolve() / f"round-{number}"
        pairs = folder / "pairs.jsonl"
        if not pairs.exists():
            dropped = folder / rejects.name if rejects else None
            back_translate(config, pairs, model=model, rejects=dropped, progress=progress, **options)
        into = options.get("pivot") or config.pivots[0]
        given = {"format": "jsonl", "path": pairs, "label": "back-translated", "synthetic": [into]}
        corpora = [*config.corpora, *check_entries([given])]
        trained = train(config.model_copy(update={"corpora": corpora}), folder / "run", progress=progress)
        if not trained.finished:
            break
        model = str(trained.model)
    return folder / "run"


def run(
    config: ConfigSource,
    out: str | Path,
    *,
    base_evaluation: Path | None = None,
    cache: CorpusCache | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Evaluates the base, trains, evaluates the adapted model and writes the report.

    What the folder already holds from the same configuration is not done again. Several processes
    (`accelerate launch -m instructalign run …`) share the work of each stage. A configuration with `stages` is run
    stage by stage, each in a run folder of its own under `stages`.

    Args:
        config: the run's configuration, or its file, or what that holds as dictionaries.
        out: the run's folder.
        base_evaluation: an evaluation of the same base on the same tasks, to use instead of repeating it;
            it is checked before use.
        cache: keeps the corpora for the next run of this process.
        progress: reports each step; by default in a notebook's cell, where there is one.

    Raises:
        InstructAlignError: anything that keeps a stage from being done.
    """
    from instructalign.evaluation import evaluate
    from instructalign.evaluation.accuracy_monitor import make_accuracy_monitor
    from instructalign.evaluation.task_selection import plan_heldout, select_tasks
    from instructalign.training.train import is_done
    from instructalign.training.train import train as fit

    config, out, progress = load_config(config), Path(out), progress or default_progress()
    _require_training(config)
    open_folder(out, config)
    if config.stages:
        return _run_stages(config, out, base_evaluation, cache, progress)
    base, adapted = out / "evaluation" / "base", out / "evaluation" / "adapted"

    # 1. Read: the test items first, since training data that contain them are reported or dropped.
    tasks = select_tasks(config) if config.evaluation.tasks else None
    done = is_done(config, out)
    data = None if done else _prepare(config, tasks, cache, progress)
    monitor = None if done else make_accuracy_monitor(config)
    if tasks is not None:
        rows, replay = (data.heldout, data.replay.heldout) if data else (None, None)
        plans = [plan_heldout(config, task, rows=rows, replay=replay) for task in tasks.heldout_tasks]
        tasks = replace(tasks, heldout=[plan for some in plans for plan in some])

    # 2. Evaluate the base.
    if tasks is not None:
        if base_evaluation is not None and is_main_process() and not base.exists():
            copy_folder(base_evaluation, base)
        evaluate(config.model.base, config, base, run="base", selection=tasks, progress=progress)

    # 3. Train.
    trained = fit(config, out, data, accuracy_monitor=monitor, progress=progress)
    if not trained.finished:
        return RunResult(out, False, trained.step, None)
    _write_memory(config, out, data)

    # 4. Evaluate the adapted model, and report.
    if tasks is not None:
        evaluate(str(trained.model), config, adapted, run=out.name, selection=tasks, progress=progress)
    return RunResult(out, True, trained.step, _write_results(out) if is_main_process() else None)


def _write_results(out: Path) -> Report:
    """The report of a finished run, and its model's card."""
    from instructalign.report import write_report
    from instructalign.sharing.model_card import write_card

    report = write_report([out])
    write_card(out, report=report)
    return report


def train(config: ConfigSource, out: str | Path, progress: Progress | None = None) -> TrainResult:
    """Adapts the configured model, and looks for test items in its training data; see `training.train.train`.

    Args:
        config: the run's configuration, or its file, or what that holds as dictionaries.
        out: the run's folder.
        progress: reports each step; by default in a notebook's cell, where there is one.

    Raises:
        ConfigError: the configuration has stages, each of which is trained and evaluated: `run` does that.
        InstructAlignError: anything that keeps training from being done.
    """
    from instructalign.evaluation.accuracy_monitor import make_accuracy_monitor
    from instructalign.training.train import is_done
    from instructalign.training.train import train as fit

    config, progress = load_config(config), progress or default_progress()
    if config.stages:
        raise ConfigError(
            ["stages: train does one stage alone. `instructalign run` trains and evaluates them one after another"]
        )
    _require_training(config)
    open_folder(Path(out), config)
    done = is_done(config, Path(out))
    data = None if done else _prepare(config, None, None, progress)
    monitor = None if done else make_accuracy_monitor(config)
    result = fit(config, out, data, accuracy_monitor=monitor, progress=progress)
    if result.finished:
        _write_memory(config, Path(out), data)
    return result


def _require_training(config: Config) -> None:
    if not config.has_training:
        raise ConfigError([NO_TRAINING])


def _prepare(
    config: Config, tasks: TaskSelection | None, cache: CorpusCache | None, progress: Progress
) -> TrainingData:
    """The data of a run; refuses whatever would fail later, the quickest checks first."""
    from instructalign.training.preflight import check_examples, check_setup

    progress("checking model and machine", 0, 0, config.model.base)
    codec = check_setup(config)
    progress("preparing the data", 0, 0, "")
    data = prepare_data(config, contamination_check(config, tasks), progress, cache)
    check_examples(config, data, codec)
    return data


def contamination_check(config: Config, tasks: TaskSelection | None = None) -> ContaminationCheck:
    """The test items of a configuration, to look for in its training data.

    Where they are only to be reported and cannot be read, the log says so, and the check has the reason.

    Args:
        config: the configuration.
        tasks: its tasks with their items; read now if None.

    Raises:
        InstructAlignError: test items are to be dropped or refused, and cannot be read.
    """
    from instructalign.evaluation.task_selection import select_tasks

    action = config.contamination
    if action == "ignore":
        return ContaminationCheck(action, reason="contamination is set to ignore")
    if not config.evaluation.tasks:
        return ContaminationCheck(action, reason="no evaluation task is configured")
    try:
        return ContaminationCheck(action, ItemIndex((tasks or select_tasks(config)).item_texts()), "")
    except InstructAlignError as error:
        if action != "report":
            raise
        logger.warning("the training data is not checked for test items: %s", error)
        return ContaminationCheck(action, reason=str(error))


NO_TRAINING = (
    "training: missing, and train and run need it, such as training: {steps: 1000}; "
    "`generate`, `preview`, `evaluate` and `doctor` do without"
)


def check_config(config: Config, *, trains: bool = True) -> None:
    """Checks what a well-formed configuration may still lack, as far as it is known without data and model.

    Args:
        config: the configuration.
        trains: whether it is going to be trained.

    Raises:
        ConfigError, UnknownNameError: something is lacking; all problems are listed.
    """
    problems = [*config_problems(config)]
    if trains and not config.has_training:
        problems.insert(0, ConfigError([NO_TRAINING]))
    if len(problems) == 1:
        raise problems[0]
    if problems:
        raise ConfigError([line for each in problems for line in each.problems])


def validate(config: ConfigSource, *, trains: bool = True) -> list[str]:
    """Every problem of a configuration that is known without data and model; empty if there is none.

    Args:
        config: its file, what that holds as dictionaries, or the configuration.
        trains: whether it is going to be trained.
    """
    try:
        check_config(load_config(config), trains=trains)
    except InstructAlignError as error:
        return list(error.problems)
    return []


def config_problems(config: Config) -> Iterator[InstructAlignError]:
    """What `run` would refuse in a configuration or one of its stages, as far as known without data and model.

    `validate`, `doctor`, `train` and `run` all look here: template sets, tasks, prompts, what tasks and
    monitors need, and packages.
    """
    said = set[str]()
    for error in _problems_of(config):
        said.update(error.problems)
        yield error
    for number, codes in enumerate(config.stages or ()):
        for error in _problems_of(stage_config(config, number, None)):
            if own := [problem for problem in error.problems if problem not in said]:
                yield ConfigError([f"stages.{number} ({', '.join(codes)}): {problem}" for problem in own])


def _problems_of(config: Config) -> Iterator[InstructAlignError]:
    from instructalign.evaluation import load_task
    from instructalign.evaluation.comet import find_command
    from instructalign.evaluation.task_selection import (
        missing_examples,
        missing_heldout,
        probe_tasks,
    )
    from instructalign.evaluation.tasks import HeldOutTask, ItemTask, PlainText, Translation
    from instructalign.instructions import load_templates, worded
    from instructalign.training.requirements import NO_HELDOUT_SENTENCES, NO_KNOWN_SENTENCE, missing_packages

    def problem_of(check: Callable[[], Any]) -> Iterator[InstructAlignError]:
        try:
            check()
        except InstructAlignError as error:
            yield error

    instructions, comet = config.instructions, config.evaluation.comet
    yield from problem_of(lambda: load_templates(instructions.templates, worded(instructions.objectives)))
    few = instructions.heldout is not None and instructions.heldout < 2
    tasks = []
    for name in config.evaluation.tasks:
        try:
            tasks.append(load_task(name))
        except InstructAlignError as error:
            yield error
    for task in tasks:
        if not isinstance(task, PlainText):
            yield from problem_of(partial(task.choose_prompts, config.evaluation.prompts))
        if isinstance(task, ItemTask) and config.evaluation.shots and task.on_examples() is None:
            yield ConfigError([missing_examples(task)])
        if isinstance(task, HeldOutTask) and (lacks := missing_heldout(config, task)):
            yield ConfigError([f"evaluation.tasks: {task.name} {lacks}"])
    if comet is not None and any(isinstance(task, Translation) for task in tasks):
        yield from problem_of(lambda: find_command(comet))
    if config.training.probe and len(tasks) == len(config.evaluation.tasks):
        yield from problem_of(lambda: probe_tasks(config))
    if config.training.evaluate_every and few:
        yield ConfigError([NO_HELDOUT_SENTENCES])
    if config.training.kl and instructions.heldout == 0:
        yield ConfigError([NO_KNOWN_SENTENCE])
    yield from (ConfigError([problem]) for problem in missing_packages(config))


# Stages: new languages one after another


def _run_stages(
    config: Config, out: Path, base_evaluation: Path | None, cache: CorpusCache | None, progress: Progress
) -> RunResult:
    """Runs the stages in order; each begins with the model of the one before, and with its evaluation."""
    folders: list[Path] = []
    for number, codes in enumerate(config.stages or []):
        base = folders[-1] / "model" if folders else None
        known = folders[-1] / "evaluation" / "adapted" if folders and config.evaluation.tasks else base_evaluation
        folder = out / "stages" / f"{number + 1}-{'-'.join(codes)}"
        stage = stage_config(config, number, base)
        result = run(stage, folder, base_evaluation=known, cache=cache, progress=progress)
        if not result.finished:
            return RunResult(out, False, result.step, None)
        folders.append(folder)
    if is_main_process():
        # The run's own folder has the base's scores before the first stage, and the model after the last.
        first, last = folders[0], folders[-1]
        for source, name in ((first, "evaluation/base"), (last, "evaluation/adapted"), (last, "model")):
            if (source / name).exists() and not (out / name).exists():
                copy_folder(source / name, out / name, link=True)
        record = read_run_metadata(first)
        update_run_metadata(
            out,
            command=record.get("command"),
            versions=record.get("versions", {}),
            seed=config.seed,
            model=record.get("model", {}),
            corpus=record.get("corpus", {}),
            stages=[folder.name for folder in folders],
            training_hash=training_hash(config),
        )
    steps = len(folders) * config.training.steps
    return RunResult(out, True, steps, _write_results(out) if is_main_process() else None)


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
        "memory": _memory_config(config),
        "instructions": config.instructions.model_copy(update={"targets": codes}),
    }
    if base is not None:
        changes["model"] = config.model.model_copy(update={"base": str(base.resolve()), "revision": None})
        if config.replay is not None:
            carried = read_memory(base).get("replay", {}).get("examples", 0)
            source = Entry.model_construct(name=CARRIED_SOURCE, label=None, options={"path": None}, weight=1.0)
            changes["replay"] = config.replay.model_copy(update={"source": source, "size": carried})
    return config.model_copy(update=changes)


def _memory_config(config: Config) -> MemoryConfig | None:
    """What a model carries: as configured; by default with stages and replay; nothing otherwise."""
    if config.memory is None and config.stages and config.replay:
        return MemoryConfig()
    return config.memory


def _write_memory(config: Config, out: Path, data: TrainingData | None) -> None:
    """Writes what the next stage needs into the model's folder of a finished run, if it is to carry something.

    Args:
        config: the run's configuration.
        out: the run's folder.
        data: what it trained on; prepared again if None, where a run was interrupted just before this.
    """
    memory, folder = _memory_config(config), out / "model"
    if memory is None or (folder / MEMORY_MANIFEST).exists() or not is_main_process():
        return
    data = data or prepare_data(config, contamination_check(config))
    rows = read_run_metadata(out)["mixture"]["realised"]["rows"]
    trained = sum(count for kind, count in rows.items() if kind not in ("replay", INSTRUCTION_DATA))
    write_memory(folder, config, memory, data.replay, data.instructions, trained)


# Looking at the data without training


def preview(config: ConfigSource, count: int = 5, step: int = 0) -> list[PreviewExample]:
    """The first examples of an optimizer step as the model will see them; see `training.preview.preview`.

    Args:
        config: the run's configuration.
        count: how many examples; more than a step has continue into the next.
        step: which step, counted from 0.

    Raises:
        InstructAlignError: the data, the tokenizer, or test items to leave out cannot be read.
    """
    from instructalign.training.preview import preview as show

    config = load_config(config)
    changes_examples = config.contamination in ("drop", "refuse")
    check = contamination_check(config) if changes_examples else ContaminationCheck()
    return show(config, prepare_data(config, check), count, step)


def generate(config: ConfigSource, count: int, start: int = 0) -> Iterator[Instruction]:
    """Alignment instructions of a configuration, without replay: `start` … `start + count - 1` of its stream.

    The same configuration gives the same instructions; fewer of them are the beginning of more.

    Raises:
        InstructAlignError: a corpus cannot be read, a language has no text, or the corpora contain test items and
            must not.
    """
    from instructalign.instructions import generate_instructions

    config = load_config(config)
    corpus = prepare_corpus(config, contamination_check(config))[0]
    return generate_instructions(build_instructions(config, corpus), count, start)


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
) -> tuple[int, Counts]:
    """Writes the first examples of `generate` to a file, all or nothing; gives how many, and the corpora's counts.

    Args:
        config: the configuration.
        path: a file; Parquet where its name ends in .parquet, JSON lines otherwise.
        count: how many.
        form: as `instructions.as_record` has it.
        engine: `local` reads the corpora in this process; `ray` has a Ray cluster read, clean and generate, with
            the same result.
        processes: how many make the examples; by default one, or with Ray all there are.
        store: with Ray, a folder that all machines see, to keep the cleaned rows in for the next time.
        progress: reports examples written.

    Raises:
        InstructAlignError: as `generate`; or Ray is not installed.
    """
    from instructalign.instructions import write_stream

    if path.is_dir():
        raise InstructAlignError(f"{path} is a folder. Name a file: .jsonl or .parquet.")

    if engine == "local":
        progress("reading corpora", 0, 0, "")
        corpus = prepare_corpus(config, contamination_check(config), progress)[0]
        stream = build_instructions(config, corpus)
        written = write_stream(path, stream, count, form, processes=processes or 1, progress=progress)
        return written, corpus.counts

    from instructalign import ray_data

    with ray_data.ray_session(processes), ray_data.rows_folder(path, store) as folder:
        corpus = ray_data.prepare_corpus_on_ray(config, folder, contamination_check(config), progress)[0]
        progress("building the instruction stream", 0, 0, "")
        stream = build_instructions(config, corpus)
        written = write_stream(path, stream, count, form, spread=ray_data.map_on_cluster, progress=progress)
        return written, corpus.counts
