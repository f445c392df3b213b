"""`transformers.Trainer`, with our stream, our loss and whole checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader
from transformers import Trainer, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from instructalign.errors import TrainingError
from instructalign.files import write_json
from instructalign.training import checkpoint
from instructalign.training.batch import MicroBatches, ProcessShare
from instructalign.training.model import logits_at, quiet_loading
from instructalign.training.strategies import Strategy
from instructalign.training.tally import Tally

TALLY = "tally.json"


def weighted_loss(model: torch.nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> torch.Tensor:
    """Cross-entropy at every position that counts, in nats, without reduction.

    The output layer runs at those positions alone.

    Returns:
        Losses in the order of `(batch["weights"] > 0).nonzero()`, shape [positions that count].
    """
    counted = batch["weights"] > 0
    inputs = batch["inputs"]
    if encoder_decoder:
        inner: Any = model
        while hasattr(inner, "module"):
            inner = inner.module
        decoder = inner.prepare_decoder_input_ids_from_labels(labels=batch["targets"])
        inputs = {**inputs, "decoder_input_ids": decoder}
    with logits_at(model, counted):
        logits = model(**inputs, use_cache=False).logits
    return F.cross_entropy(logits.float(), batch["targets"][counted], reduction="none")


class AlignTrainer(Trainer):
    """The Trainer of transformers, asked for four things of its own.

    Its micro-batches are pure functions of their number; the loss is the weighted mean over all counted tokens
    of an optimizer step, whatever the accumulation and the number of processes; checkpoints appear complete or
    not at all; and strategies take part in each step.

    Args:
        model: the model, or its peft wrapper.
        args: the Trainer's own arguments; `max_steps` and the batch sizes must fit `batches`.
        batches: the run's micro-batches.
        encoder_decoder: what kind of model it is.
        strategies: the ways against forgetting that take part.
        checkpoints: the run's `checkpoints` folder.
        keep: how many checkpoints stay.
        tally: counts what was trained on.
        beside: what else is written into each checkpoint: JSON files by name, each from a call in every process.
        callbacks: further callbacks of the Trainer.
    """

    # The loss is normalised over the whole step here; the Trainer must not divide it again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        batches: MicroBatches,
        encoder_decoder: bool,
        strategies: Sequence[Strategy],
        checkpoints: Path,
        keep: int,
        tally: Tally,
        beside: Mapping[str, Callable[[], Any]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        hooks = StrategyHooks(strategies)
        super().__init__(model, args, train_dataset=batches, callbacks=[hooks, *callbacks])
        self.model_accepts_loss_kwargs = True
        self.batches = batches
        self.encoder_decoder = encoder_decoder
        self.strategies = strategies
        self.checkpoints = checkpoints
        self.keep = keep
        self.tally = tally
        self.beside = {TALLY: tally.total, **(beside or {})}

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The micro-batches of this process, from the step on at which training stands."""
        share = ProcessShare(
            self.batches,
            steps=self.args.max_steps,
            process=self.args.process_index,
            processes=self.args.world_size,
            done=lambda: int(self.state.global_step),
        )
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=share,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=torch.cuda.is_available(),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The micro-batches of one optimizer step, and the weight of all tokens that count in it."""
        batches = list(islice(epoch_iterator, num_batches))
        if not batches:  # resumed from the checkpoint of the last step
            self.control.should_training_stop = True
            return [], None
        total = torch.stack([batch["weights"].sum() for batch in batches]).sum().to(device)
        if self.args.world_size > 1:
            total = self.accelerator.gather(total).sum()
        if total.item() == 0:
            raise TrainingError(
                f"step {self.state.global_step + 1}: no token of any example counts in the loss; every answer "
                "was cut or empty. Raise training.max_length, or look at them with `instructalign preview`."
            )
        return batches, total

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's part of the step's weighted mean loss, with the strategies' penalties."""
        losses = weighted_loss(model, inputs, self.encoder_decoder)
        weights = inputs["weights"][inputs["weights"] > 0]
        total = num_items_in_batch if num_items_in_batch is not None else weights.sum()
        self.tally.add(inputs, losses.detach())
        # Gradients are averaged over processes afterwards, so each process scales its part up by their number.
        loss = (losses * weights).sum() / total * self.args.world_size
        for strategy in self.strategies:
            penalty = strategy.penalty(model)
            if penalty is not None:
                loss = loss + penalty / self.batches.per_step * self.args.world_size
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer's formula knows neither our batches nor our loss."""
        return 0

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoint.partial_folder(self.checkpoints))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise TrainingError(
                f"the weights are no longer finite at step {self.state.global_step}; nothing was saved over the "
                "last good checkpoint. Lower training.learning_rate, or use precision float32 or bfloat16."
            )
        with quiet_loading():
            super()._save_checkpoint(model, trial)
        beside = {name: content() for name, content in self.beside.items()}
        if self.args.should_save:
            written = checkpoint.partial_folder(self.checkpoints) / f"checkpoint-{self.state.global_step}"
            for name, content in beside.items():
                write_json(written / name, content)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint.publish(self.checkpoints, self.state.global_step, self.keep)
        self.accelerator.wait_for_everyone()


class StrategyHooks(TrainerCallback):
    """Calls the strategies before and after each update."""

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = strategies

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Gradients are complete."""
        for strategy in self._strategies:
            strategy.before_update(kwargs["model"])

    def on_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Weights have changed."""
        for strategy in self._strategies:
            strategy.after_update(kwargs["model"])
