"""Training a run from its configuration, from the start or resumed from its last checkpoint."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from instructalign.config import Config, TrainingConfig
from instructalign.data import Guard
from instructalign.errors import TrainingError
from instructalign.files import text_hash
from instructalign.mixture.training_data import Data, build_data
from instructalign.progress import Progress, silent
from instructalign.run_folder import open_folder, read_record, training_hash, update_record
from instructalign.training import checkpoints
from instructalign.training.adapters import add_adapter, new_language_tokens
from instructalign.training.batching import ExampleEncoder, LossWeights, MicroBatchLimits, StepBatches
from instructalign.training.callbacks import GracefulStop, TrainingLog
from instructalign.training.checkpoints import (
    IDENTITY,
    CheckpointIdentity,
    check_checkpoint,
    check_layout,
    identity_of,
    save_model,
)
from instructalign.training.cpu_kernels import speed_up_training
from instructalign.training.disk_space import disk_bytes, refuse_full_disk, trained_embeddings, writing
from instructalign.training.early_stopping import WATCH, Monitor, StoppingRules
from instructalign.training.metrics_log import TALLY, TrainingCounters, at_beginning, at_end
from instructalign.training.models import LoadedModel, checkpoint_activations, compile_layers, load_configured
from instructalign.training.monitors import kl_monitor, validation_loss
from instructalign.training.packing import enable_packing, packed_row_limits
from instructalign.training.preflight import (
    check_run,
    refuse_half_precision,
    refuse_missing_deepspeed,
    refuse_missing_optimizer,
    refuse_parted,
    refuse_uneven,
)
from instructalign.training.strategies import StrategyContext, StrategyGroup, make_strategies
from instructalign.training.trainer import AlignTrainer

MonitorFactory = Callable[[LoadedModel], Callable[[Any], Mapping[str, float]]]
"""Makes, from a base, a function that measures a model built like it."""

PASSES = {
    "cpu": MicroBatchLimits(tokens=1024, overhead=24),
    "cuda": MicroBatchLimits(tokens=16_384, overhead=1024),
}
"""By device, what a pass through the model takes at most, and what it costs beside its tokens.

A processor works best on what its caches hold; a GPU with little to do spends its time on starting kernels.
"""

OPTIMIZERS = {"adamw": "adamw_torch_fused"}
"""What transformers calls the optimizers that it has another name for."""

SCHEDULERS = {"constant": "constant_with_warmup"}
"""The same for schedules: what it calls constant passes over a warmup."""


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """What a run is made of.

    Attributes:
        config, out, report: as `train` was given them.
        data: what it trains on.
        loaded: the base.
        encoder: from instruction to token ids.
        origin: what its checkpoints are made from.
        rows: the tokens whose embeddings are trained beside an adapter, where those are chosen.
    """

    config: Config
    out: Path
    report: Progress
    data: Data
    loaded: LoadedModel
    encoder: ExampleEncoder
    origin: CheckpointIdentity
    rows: list[int] | None

    def adapted(self, loaded: LoadedModel) -> Any:
        """A base as it is trained: inside its adapter, where there is one."""
        adapter = self.config.model.adapter
        return add_adapter(loaded, adapter, self.rows) if adapter else loaded.model


def prepare(config: Config, out: Path, report: Progress, guard: Guard | None) -> TrainingRun:
    """Reads the data and the base, and refuses what would fail later."""
    report("reading data", 0, 0, "")
    data = build_data(config, guard, report)
    report("loading model", 0, 0, config.model.base)
    adapter = config.model.adapter
    loaded = load_configured(config.model, quantised=adapter is not None and adapter.quantised)
    encoder = ExampleEncoder(loaded.codec, config.training.max_length)
    check_run(config, data, loaded, encoder)
    rows = None
    if adapter and adapter.train_embeddings == "new":
        rows = new_language_tokens(loaded.tokenizer, data.corpus, config.languages)
    return TrainingRun(config, out, report, data, loaded, encoder, identity_of(config, data), rows)


def measurements(run: TrainingRun, trainer: AlignTrainer, probe: MonitorFactory | None) -> list[Monitor]:
    """What the run measures while it trains.

    Raises:
        TrainingError: something is to be measured that cannot be.
    """
    training, loaded = run.config.training, run.loaded
    heldout = validation_loss(run.config, run.data, run.encoder, loaded, trainer.batches.limits)
    if heldout is None and training.evaluate_every:
        raise TrainingError(
            "training.evaluate_every asks for the loss on held-out instructions, and fewer than two sentences are "
            "held out: raise instructions.heldout."
        )
    measures = []
    if heldout is not None:
        measures.append(Monitor(lambda model: {"heldout_loss": heldout(model)}, training.evaluate_every))
    if training.kl:
        gauge = kl_monitor(run.config, run.data.heldout, run.encoder, trainer.model, training.kl.positions)
        measures.append(Monitor(gauge, training.kl.every))
    if training.probe:
        if probe is None:
            raise TrainingError("training.probe needs the evaluation: train with `instructalign.train`.")
        measures.append(Monitor(probe(loaded), training.probe.every))
    return measures


def make_trainer(run: TrainingRun) -> tuple[AlignTrainer, GracefulStop]:
    """The trainer of a run, with the model as it is trained, and what makes it stop when asked to.

    Raises:
        ModelError: the model can be adapted, packed or compiled in no such way as is configured.
        TrainingError: a step cannot be dealt out to the processes.
    """
    config, loaded = run.config, run.loaded
    set_seed(config.seed)
    speed_up_training(loaded.model)
    if config.training.gradient_checkpointing:
        checkpoint_activations(loaded.model)
    model = run.adapted(loaded)
    if config.training.packing:
        enable_packing(loaded, model)
    if config.training.compile:
        compile_layers(loaded.model)
    arguments = _arguments(config, run.out)
    refuse_uneven(config, arguments.world_size)
    tally, stop = TrainingCounters(), GracefulStop()
    watch = StoppingRules(config.training.early_stopping, config.training.divergence)
    log = TrainingLog(run.out / "log.jsonl", tally, run.report, watch)
    trainer = AlignTrainer(
        model,
        arguments,
        batches=_batches(run, arguments),
        encoder_decoder=loaded.encoder_decoder,
        strategies=StrategyGroup(make_strategies(config)),
        checkpoints=run.out / "checkpoints",
        keep=config.training.keep_checkpoints,
        tally=tally,
        watch=watch,
        beside={IDENTITY: lambda: {**asdict(run.origin), "layout": trainer.layout}},
        callbacks=[log, stop, *_tensorboard(config, run.out)],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer, stop


def _batches(run: TrainingRun, arguments: TrainingArguments) -> StepBatches:
    """The steps of the run that this process does its part of."""
    training = run.config.training
    row_length, limits = packed_row_limits(
        training, micro_batch_limits(training, arguments.device.type), run.loaded.model
    )
    return StepBatches(
        run.data.mixture,
        run.encoder,
        batch_size=training.batch_size,
        limits=limits,
        weights=loss_weights(training),
        row_length=row_length,
        process=arguments.process_index,
        processes=arguments.world_size,
    )


def strategy_context(run: TrainingRun, trainer: AlignTrainer) -> StrategyContext:
    """What the strategies prepare themselves with; see `StrategyContext`."""
    return StrategyContext(
        config=run.config,
        loaded=run.loaded,
        model=trainer.model,
        data=run.data,
        batches=trainer.batches,
        folder=run.out,
        run_hash=text_hash(asdict(run.origin)),
        process=trainer.args.process_index,
        processes=trainer.args.world_size,
        sharded=trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled,
        progress=run.report,
    )


def _arguments(config: Config, out: Path) -> TrainingArguments:
    training = config.training
    return TrainingArguments(
        output_dir=str(out / "checkpoints"),
        max_steps=training.steps,
        learning_rate=training.learning_rate,
        lr_scheduler_type=SCHEDULERS.get(training.scheduler, training.scheduler),
        warmup_steps=training.warmup,
        weight_decay=training.weight_decay,
        optim=OPTIMIZERS.get(training.optimizer, training.optimizer),
        max_grad_norm=training.max_grad_norm,
        per_device_train_batch_size=1,  # steps bring their own micro-batches
        bf16=training.precision == "bfloat16",
        fp16=training.precision == "float16",
        seed=config.seed,
        save_steps=training.checkpoint_every,
        logging_steps=training.log_every,
        logging_nan_inf_filter=False,
        report_to=[name for name in training.report_to if name != "tensorboard"],
        dataloader_num_workers=training.workers,
        ignore_data_skip=True,
        disable_tqdm=True,
        remove_unused_columns=False,
        use_cpu=not torch.cuda.is_available(),
    )


def micro_batch_limits(training: TrainingConfig, device: str) -> MicroBatchLimits:
    """How much goes through the model at once, on a kind of device; by default what is fastest there."""
    rows, tokens = training.micro_batch_size, training.micro_batch_tokens
    usual = PASSES.get(device, PASSES["cuda"])
    return MicroBatchLimits(rows, tokens or (None if rows else usual.tokens), usual.overhead)


def loss_weights(training: TrainingConfig) -> LossWeights:
    """What tokens count in the loss, by `loss_on` and `prompt_weight`."""
    return LossWeights(prompt=0.0 if training.loss_on == "answer" else training.prompt_weight)


def _tensorboard(config: Config, out: Path) -> list[Any]:
    if "tensorboard" not in config.training.report_to:
        return []
    from torch.utils.tensorboard import SummaryWriter
    from transformers.integrations.integration_utils import TensorBoardCallback

    callback: Any = TensorBoardCallback
    return [callback(SummaryWriter(str(out / "tensorboard")))]


@dataclass(frozen=True, slots=True)
class TrainResult:
    """How a call of `train` ended.

    Attributes:
        folder: the run's folder.
        model: the adapted model's folder; exists when `finished`.
        step: optimizer steps done so far.
        finished: whether training is done; if not, the same call goes on from the last checkpoint.
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
    report: Progress = silent,
    guard: Guard | None = None,
    probe: MonitorFactory | None = None,
) -> TrainResult:
    """Adapts the configured model to the new languages, in the run's folder.

    A folder with an unfinished run of the same configuration is gone on with from its last checkpoint, with
    the same result as without the stop; a finished one is left as it is.

    Args:
        config: the run's configuration.
        out: the run's folder.
        report: called with what is going on, how far it is, of how much, and a remark.
        guard: the test items to look for in the training data; `instructalign.train` reads them.
        probe: makes what `training.probe` asks for, from the base; `instructalign.train` does.

    Raises:
        RunFolderError: the folder belongs to another configuration, or its checkpoints to another model or data.
        DataError, ModelError: what the run needs cannot be read.
        TrainingError: training cannot start or go on.
    """
    out = Path(out)
    open_folder(out, config)
    model_folder = out / "model"
    if is_done(config, out):
        early = read_record(out).get("early_stopping", {})
        step = early.get("stopped_at") or config.training.steps
        return TrainResult(out, model_folder, step, finished=True, ended_early=early.get("reason", ""))
    began = time.monotonic()
    refuse_half_precision(config)
    refuse_missing_optimizer(config)
    refuse_missing_deepspeed()
    run = prepare(config, out, report, guard)
    last = next(iter(checkpoints.complete(out / "checkpoints")[::-1]), None)
    if last is not None:
        check_checkpoint(last, run.origin)
    update_record(out, **at_beginning(config, run.data, run.loaded, run.origin.model))
    if run.rows:
        update_record(out, model={"trained_rows": len(run.rows)})
    trainer, stop = make_trainer(run)
    refuse_parted(config, run.loaded, trainer.layout)
    refuse_full_disk(out, _disk_bytes(config, trainer.model))
    trainer.strategies.prepare(strategy_context(run, trainer))
    trainer.watch.measures += measurements(run, trainer, probe)
    if trainer.args.should_save:
        checkpoints.clear_partial(out / "checkpoints")
    trainer.accelerator.wait_for_everyone()
    if last is not None:
        check_layout(last, trainer.layout)
        if trainer.args.process_index == 0:  # what all processes counted together is counted on in one
            trainer.tally.restore(json.loads((last / TALLY).read_text(encoding="utf-8")))
        trainer.strategies.restore(last)
        trainer.watch.restore(json.loads((last / WATCH).read_text(encoding="utf-8")))
    with stop.listening(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*pin_memory.*")
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    step = int(trainer.state.global_step)
    counts = trainer.tally.total()
    if step < config.training.steps and not trainer.watch.reason:
        return TrainResult(out, model_folder, step, finished=False)
    _save(run, trainer, model_folder)
    if trainer.args.should_save:
        seconds = time.monotonic() - began
        ended = at_end(config, run.data, counts, seconds, trainer.strategies.costs())
        if trainer.watch.stopping:
            ended["early_stopping"] = trainer.watch.stopping.summary(step)
        update_record(out, **ended)
    trainer.accelerator.wait_for_everyone()
    return TrainResult(out, model_folder, step, finished=True, ended_early=trainer.watch.reason)


def is_done(config: Config, out: Path) -> bool:
    """Whether a folder holds the model of a finished run of the configuration."""
    return (out / "model").exists() and read_record(out).get("training_hash") == training_hash(config)


def _save(run: TrainingRun, trainer: AlignTrainer, folder: Path) -> None:
    """Ends the strategies and saves the model; every process takes part."""
    stopping = trainer.watch.stopping
    if stopping and stopping.wanted not in (None, trainer.state.global_step):
        trainer.go_back(run.out / "checkpoints" / f"checkpoint-{stopping.wanted}")
    trained: Any = trainer.model
    trainer.strategies.finish(trained)
    state = trainer.whole_state()
    if trainer.args.should_save:
        with writing(run.out, "the model"):
            save_model(
                trained,
                run.loaded,
                run.config.model.adapter,
                folder,
                state=state,
                fresh=lambda: run.adapted(load_configured(run.config.model)),
            )


def _disk_bytes(config: Config, model: Any) -> int:
    """What the run will take on the disk."""
    weights = list(model.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    total, width = sum(weight.numel() for weight in weights), weights[0].element_size()
    return disk_bytes(config, total, trained, width, trained_embeddings(model))
