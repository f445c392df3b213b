"""Training a run from its configuration, from the start or resumed from its last checkpoint."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from instructalign.config import Config, TrainingConfig
from instructalign.errors import TrainingError
from instructalign.files import text_hash
from instructalign.mixture.training_data import TrainingData, prepare_data
from instructalign.progress import Progress, silent
from instructalign.run_folder import open_folder, read_run_metadata, training_hash, update_run_metadata
from instructalign.training.adapters import add_adapter, new_language_tokens
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, StepBatches
from instructalign.training.callbacks import GracefulStop, TrainingLog
from instructalign.training.checkpoints import (
    IDENTITY,
    CheckpointIdentity,
    check_identity,
    check_layout,
    check_whole,
    clear_partial,
    complete_checkpoints,
    explaining_full_disk,
    identity_of,
    save_model,
)
from instructalign.training.cpu_kernels import speed_up_training
from instructalign.training.early_stopping import STOPPING_STATE, StoppingRules
from instructalign.training.hardware import EnergyMeter
from instructalign.training.metrics_log import COUNTERS, TrainingCounters, end_metadata, start_metadata
from instructalign.training.models import (
    LoadedModel,
    checkpoint_activations,
    compile_layers,
    load_model,
    model_hash,
)
from instructalign.training.monitors import VALIDATION_EXAMPLES, Monitor, kl_monitor, validation_loss
from instructalign.training.new_rows import NewRowsFirst, extend_base
from instructalign.training.packed_attention import enable_packing, packed_row_limits
from instructalign.training.preflight import (
    check_disk,
    check_examples,
    check_launch,
    check_setup,
    check_tokenizer,
    disk_bytes,
    trained_embeddings,
)
from instructalign.training.requirements import trackers
from instructalign.training.strategies import StrategyContext, StrategyGroup, make_strategies
from instructalign.training.trainer import AlignTrainer

MonitorFactory = Callable[[LoadedModel], Callable[[Any], Mapping[str, float]]]
"""Makes, from a base, a function that measures a model built like it."""

_LIMITS = {
    "cpu": MicroBatchLimits(tokens=1024, overhead=24),
    "cuda": MicroBatchLimits(tokens=16_384, overhead=1024),
}
"""The fastest micro-batches by device, and what one costs besides its tokens.

A CPU is fastest on what fits its caches; a GPU with little to do spends its time launching kernels.
"""

# Where transformers has another name for what the configuration calls so.
_OPTIMIZERS = {"adamw": "adamw_torch_fused"}
_SCHEDULERS = {"constant": "constant_with_warmup"}  # its `constant` has no warmup


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a call of `train` ended.

    Attributes:
        folder: the run's folder.
        model: the adapted model's folder; exists when `finished`.
        step: optimizer steps done so far.
        finished: whether training is done; if not, the same call resumes from the last checkpoint.
        ended_early: why training ended before its last step; empty where it did not.
    """

    folder: Path
    model: Path
    step: int
    finished: bool
    ended_early: str = ""


def train(
    config: Config,
    out: str | Path,
    data: TrainingData | None = None,
    *,
    accuracy_monitor: MonitorFactory | None = None,
    progress: Progress = silent,
) -> TrainResult:
    """Adapts the configured model to the new languages, in the run's folder.

    An unfinished run of the same configuration in that folder is resumed from its last checkpoint, with the same
    result as without the interruption; a finished one is left as it is.

    Args:
        config: the run's configuration.
        out: the run's folder.
        data: what to train on, checked by `preflight`; prepared and checked now if None, without looking for test
            items, which `instructalign.train` reads.
        accuracy_monitor: makes what `training.probe` asks for, from the base; `instructalign.train` does.
        progress: called with what is under way, how much is done, how much there is, and a remark.

    Raises:
        RunFolderError: the folder belongs to another configuration, or its checkpoints to another model or data.
        DataError, ModelError: what the run needs cannot be read.
        TrainingError: training cannot start or resume.
    """
    out = Path(out)
    open_folder(out, config)
    model_folder, checkpoints = out / "model", out / "checkpoints"
    if is_done(config, out):
        early = read_run_metadata(out).get("early_stopping", {})
        step = early.get("stopped_at") or config.training.steps
        return TrainResult(out, model_folder, step, finished=True, ended_early=early.get("reason", ""))
    began, energy = time.monotonic(), EnergyMeter()
    if data is None:
        codec = check_setup(config)
        data = prepare_data(config, progress=progress)
        check_examples(config, data, codec)
    last = next(reversed(complete_checkpoints(checkpoints)), None)
    if last is not None:  # before the base is extended, which would put another in its place
        check_whole(last)
        check_identity(last, identity := identity_of(config, data, last))
    run = prepare_run(config, out, data, progress)
    if last is not None:
        check_identity(last, replace(identity, extended=run.identity.extended))
    update_run_metadata(out, **start_metadata(config, run.data, run.loaded, run.identity.model))
    if run.vocabulary:
        update_run_metadata(out, vocabulary=run.vocabulary)
    if run.trained_tokens:
        update_run_metadata(out, model={"trained_rows": len(run.trained_tokens)})

    counters = TrainingCounters()
    stopping = StoppingRules(config.training.early_stopping, config.training.divergence)
    log, stop = TrainingLog(out / "log.jsonl", counters, progress, stopping), GracefulStop()
    trainer = make_trainer(run, counters, stopping, [log, stop])
    check_launch(config, run.loaded, trainer.layout, trainer.args.world_size)
    check_disk(out, _disk_bytes(config, trainer.model))
    trainer.strategies.prepare(_strategy_context(run, trainer))
    log.monitors += make_monitors(run, trainer, accuracy_monitor)

    if trainer.args.should_save:
        clear_partial(checkpoints)
    trainer.accelerator.wait_for_everyone()
    if last is not None:
        check_layout(last, trainer.layout)
        if trainer.args.process_index == 0:  # the saved counts are those of all processes together
            counters.restore(json.loads((last / COUNTERS).read_text(encoding="utf-8")))
        trainer.strategies.restore(last)
        stopping.restore(json.loads((last / STOPPING_STATE).read_text(encoding="utf-8")))
    with stop.listening(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    step = int(trainer.state.global_step)
    counts = counters.total()
    if step < config.training.steps and not stopping.reason:
        return TrainResult(out, model_folder, step, finished=False)

    _save_model(run, trainer, model_folder)
    if trainer.args.should_save:
        seconds = time.monotonic() - began
        ended = end_metadata(config, run.data, counts, seconds, trainer.strategies.costs(), energy.end())
        if stopping.early_stopping:
            ended["early_stopping"] = stopping.early_stopping.summary(step)
        update_run_metadata(out, **ended)  # with the training hash, by which `is_done` goes: last of all
    trainer.accelerator.wait_for_everyone()
    return TrainResult(out, model_folder, step, finished=True, ended_early=stopping.reason)


def is_done(config: Config, out: Path) -> bool:
    """Whether a folder holds the model of a finished run of the configuration."""
    return (out / "model").exists() and read_run_metadata(out).get("training_hash") == training_hash(config)


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run is made of.

    Attributes:
        config, out, progress: as `train` was given them.
        data: what it trains on.
        loaded: the base.
        encoder: from instruction to token ids.
        identity: what its checkpoints are made from.
        trained_tokens: the tokens whose embeddings are trained beside an adapter, where those are chosen.
        vocabulary: what `model.vocabulary` added to the base, as run.json has it; the base is extended then.
    """

    config: Config
    out: Path
    progress: Progress
    data: TrainingData
    loaded: LoadedModel
    encoder: ExampleEncoder
    identity: CheckpointIdentity
    trained_tokens: list[int] | None
    vocabulary: dict[str, Any] | None = None

    def adapted(self, loaded: LoadedModel) -> Any:
        """A base as it is trained: inside its adapter, where there is one."""
        adapter = self.config.model.adapter
        return add_adapter(loaded, adapter, self.trained_tokens) if adapter else loaded.model


def prepare_run(config: Config, out: Path, data: TrainingData, progress: Progress) -> TrainingRun:
    """Loads the base, and checks its tokenizer."""
    progress("loading model", 0, 0, config.model.base)
    adapter, identity, vocabulary = config.model.adapter, identity_of(config, data), None
    if config.model.vocabulary:
        model, vocabulary = extend_base(config, config.model.vocabulary, out, data, identity, progress)
        config = config.model_copy(update={"model": model})
        identity = replace(identity, extended=model_hash(model.base))
    loaded = load_model(config.model, quantised=adapter is not None and adapter.quantised, trainable=True)
    check_tokenizer(loaded)
    encoder = ExampleEncoder(loaded.codec, config.training.max_length)
    tokens = None
    if adapter and adapter.train_embeddings == "new":
        tokens = new_language_tokens(loaded.tokenizer, data.corpus, config.languages)
    if adapter and vocabulary and adapter.train_embeddings is not True:
        tokens = sorted({*(tokens or ()), *range(*vocabulary["ids"])})
    return TrainingRun(config, out, progress, data, loaded, encoder, identity, tokens, vocabulary)


def make_trainer(
    run: TrainingRun, counters: TrainingCounters, stopping: StoppingRules, callbacks: Sequence[Any]
) -> AlignTrainer:
    """The trainer of a run, with the model as it is trained.

    Raises:
        ModelError: the model cannot be adapted, packed or compiled as configured.
    """
    config, training, loaded = run.config, run.config.training, run.loaded
    set_seed(config.seed)
    speed_up_training(loaded.model)
    if training.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    model = run.adapted(loaded)
    if training.packing:
        enable_packing(loaded, model)
    if training.compile:
        compile_layers(loaded.model)
    arguments = TrainingArguments(
        output_dir=str(run.out / "checkpoints"),
        max_steps=training.steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=_SCHEDULERS.get(training.scheduler, training.scheduler),
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        optim=_OPTIMIZERS.get(training.optimizer, training.optimizer),
        max_grad_norm=training.max_grad_norm,
        per_device_train_batch_size=1,  # steps bring their own micro-batches
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",
        seed=config.seed,
        save_steps=training.checkpoint_every,
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,  # `TrainingLog` refuses a loss that is not finite
        report_to=[name for name in trackers(training) if name != "tensorboard"],
        dataloader_num_workers=training.workers,
        ignore_data_skip=True,  # `RemainingSteps` begins where a resumed run is
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )
    if "tensorboard" in trackers(training):  # into the run's folder, where the Trainer's own would not write
        from torch.utils.tensorboard import SummaryWriter
        from transformers.integrations.integration_utils import TensorBoardCallback

        tensorboard: Any = TensorBoardCallback
        callbacks = [*callbacks, tensorboard(SummaryWriter(str(run.out / "tensorboard")))]
    limits = micro_batch_limits(training, arguments.device.type)
    row_length, limits = packed_row_limits(training, limits, loaded.model)
    batches = StepBatches(
        run.data.mixture,
        run.encoder,
        batch_size=training.batch_size,
        limits=limits,
        weights=loss_weights(training),
        row_length=row_length,
        process=arguments.process_index,
        processes=arguments.world_size,
    )
    trainer = AlignTrainer(
        model,
        arguments,
        batches=batches,
        encoder_decoder=loaded.encoder_decoder,
        strategies=StrategyGroup({**make_strategies(config), **new_rows_first(run)}),
        checkpoints=run.out / "checkpoints",
        keep=training.keep_checkpoints,
        counters=counters,
        stopping=stopping,
        saved_state={IDENTITY: lambda: {**asdict(run.identity), "layout": trainer.layout}},
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def new_rows_first(run: TrainingRun) -> dict[str, NewRowsFirst]:
    """What trains the rows of new pieces before all else, where the configuration asks for it."""
    settings, added = run.config.model.vocabulary, run.vocabulary
    if not settings or not added or not settings.train_new_rows_first:
        return {}
    steps, rows, ids = settings.train_new_rows_first, added["rows"]["after"], range(*added["ids"])
    decayed = run.config.training.weight_decay > 0
    return {"new_rows_first": NewRowsFirst(steps, rows, ids, run.trained_tokens, decayed)}


def micro_batch_limits(training: TrainingConfig, device: str) -> MicroBatchLimits:
    """How much goes through the model at once, by kind of device: as configured, or what is fastest there."""
    rows, tokens = training.micro_batch_size, training.micro_batch_tokens
    usual = _LIMITS.get(device, _LIMITS["cuda"])
    return MicroBatchLimits(rows, tokens or (None if rows else usual.tokens), usual.overhead)


def loss_weights(training: TrainingConfig) -> LossWeights:
    """What tokens count in the loss, by `loss_on` and `prompt_weight`."""
    return LossWeights(prompt=0.0 if training.loss_on == "answer" else training.prompt_weight)


def make_monitors(run: TrainingRun, trainer: AlignTrainer, probe: MonitorFactory | None) -> list[Monitor]:
    """What the run measures while it trains.

    Raises:
        TrainingError: something configured cannot be measured.
    """
    training, loaded = run.config.training, run.loaded
    # After the last step alone, it is not to take longer than a tenth of the training: on a processor, with a real
    # model, all examples take as long as twenty steps.
    examples = VALIDATION_EXAMPLES
    if not training.evaluate_every:
        examples = min(examples, max(16, training.steps * training.batch_size // 10))
    validation = validation_loss(run.config, run.data, run.encoder, loaded, trainer.batches.limits, examples)
    monitors = []
    if validation is not None:
        monitors.append(Monitor(lambda model: {"heldout_loss": validation(model)}, training.evaluate_every))
    if training.kl:
        measure = kl_monitor(run.config, run.data.heldout, run.encoder, trainer.model, training.kl.positions)
        monitors.append(Monitor(measure, training.kl.every))
    if training.probe:
        if probe is None:
            raise TrainingError("training.probe needs the evaluation: train with `instructalign.train`.")
        monitors.append(Monitor(probe(loaded), training.probe.every))
    return monitors


def _strategy_context(run: TrainingRun, trainer: AlignTrainer) -> StrategyContext:
    return StrategyContext(
        config=run.config,
        loaded=run.loaded,
        model=trainer.model,
        data=run.data,
        batches=trainer.batches,
        folder=run.out,
        run_hash=text_hash(asdict(run.identity)),
        process=trainer.args.process_index,
        processes=trainer.args.world_size,
        sharded=trainer.layout != "whole",
        progress=run.progress,
    )


def _disk_bytes(config: Config, model: Any) -> int:
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total, width = sum(weight.numel() for weight in weights), weights[0].element_size()
    return disk_bytes(config, total, trained, width, trained_embeddings(model))


def _save_model(run: TrainingRun, trainer: AlignTrainer, folder: Path) -> None:
    """Ends the strategies and saves the model; every process takes part."""
    rule = trainer.stopping.early_stopping
    if rule and rule.step_to_keep not in (None, trainer.state.global_step):
        trainer.load_checkpoint(run.out / "checkpoints" / f"checkpoint-{rule.step_to_keep}")
    trained: Any = trainer.model
    trainer.strategies.finish(trained)
    state = trainer.whole_state()
    if trainer.args.should_save:
        with explaining_full_disk(run.out, "the model"):
            save_model(
                trained,
                run.loaded,
                run.config.model.adapter,
                folder,
                state=state,
                fresh=lambda: run.adapted(load_model(run.config.model, trainable=True)),
            )
