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
from instructalign.training.space import writing
from instructalign.training.strategies.group import StrategyGroup
from instructalign.training.tally import Tally
from instructalign.training.watch import WATCH, Watch

TALLY = "tally.json"


def counted_logits(model: torch.nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> torch.Tensor:
    """The model's logits at every position that counts; its output layer runs at those alone.

    Returns:
        [positions that count, vocabulary], in the order of `(batch["weights"] > 0).nonzero()`.
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
        logits: torch.Tensor = model(**inputs, use_cache=False).logits
    return logits


def cross_entropy(logits: torch.Tensor, batch: dict[str, Any]) -> torch.Tensor:
    """Cross-entropy at every position that counts, in nats, [positions that count]."""
    return F.cross_entropy(logits.float(), batch["targets"][batch["weights"] > 0], reduction="none")


def weighted_loss(model: torch.nn.Module, batch: dict[str, Any], encoder_decoder: bool) -> torch.Tensor:
    """Cross-entropy at every position that counts, in nats, without reduction.

    Returns:
        Losses in the order of `(batch["weights"] > 0).nonzero()`, shape [positions that count].
    """
    return cross_entropy(counted_logits(model, batch, encoder_decoder), batch)


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
        watch: says which checkpoints must stay beside the newest ones.
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
        strategies: StrategyGroup,
        checkpoints: Path,
        keep: int,
        tally: Tally,
        watch: Watch,
        beside: Mapping[str, Callable[[], Any]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        super().__init__(model, args, train_dataset=batches, callbacks=[strategies, *callbacks])
        self.model_accepts_loss_kwargs = True
        self.batches = batches
        self.encoder_decoder = encoder_decoder
        self.strategies = strategies
        self.checkpoints = checkpoints
        self.keep = keep
        self.tally = tally
        self.watch = watch
        self.beside = {TALLY: tally.total, WATCH: watch.state, **(beside or {})}

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
            # Of its own, or each iterator would draw a seed from what dropout draws from, and a resumed run two.
            generator=torch.Generator(),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """The micro-batches of one optimizer step, and the weight of all tokens that count in it."""
        batches = list(islice(epoch_iterator, num_batches))
        # Resumed from the checkpoint of the last step, or of the one after which training ended early.
        if not batches or self.watch.reason:
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
        logits = counted_logits(model, inputs, self.encoder_decoder)
        losses = cross_entropy(logits, inputs)
        weights = inputs["weights"][inputs["weights"] > 0]
        total = num_items_in_batch if num_items_in_batch is not None else weights.sum()
        self.tally.add(inputs, losses.detach())
        # Gradients are averaged over processes afterwards, so each process scales its part up by their number.
        shares = weights / total * self.args.world_size
        loss = (losses * shares).sum()
        added = self.strategies.token_loss(model, inputs, logits, shares)
        if added is not None:
            loss = loss + added
        if self.accelerator.sync_gradients:  # the step's last micro-batch: once a step, in every process
            penalty = self.strategies.penalty(model)
            if penalty is not None:
                loss = loss + penalty
        return loss

    def floating_point_ops(self, inputs: Any) -> int:
        """Not estimated: the Trainer's formula knows neither our batches nor our loss."""
        return 0

    @property
    def layout(self) -> str:
        """How checkpoints hold weights and the optimizer's state: `whole`, or as `fsdp` or `deepspeed` do."""
        return "fsdp" if self.is_fsdp_enabled else "deepspeed" if self.is_deepspeed_enabled else "whole"

    def go_back(self, folder: Path) -> None:
        """Takes the weights of a checkpoint, and what the strategies held then; every process must call it."""
        self._load_from_checkpoint(str(folder), self.model_wrapped if self.is_fsdp_enabled else None)
        self.strategies.restore(folder)

    def whole_state(self) -> dict[str, Any] | None:
        """All weights by name, where each process holds a part of them (FSDP, DeepSpeed); None where it has them.

        Every process must call it; only the first one gets the weights.
        """
        if self.layout == "whole":
            return None
        state: dict[str, Any] = self.accelerator.get_state_dict(self.model_wrapped)
        return state

    def _get_output_dir(self, trial: Any) -> str:
        return str(checkpoint.partial_folder(self.checkpoints))

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise TrainingError(
                f"the weights are no longer finite at step {self.state.global_step}; nothing was saved over the "
                "last good checkpoint. Lower training.learning_rate, or use precision float32 or bfloat16."
            )
        step = int(self.state.global_step)
        spared = self.watch.saved(step)
        with writing(self.checkpoints.parent, f"checkpoint-{step}"):
            self._write_checkpoint(model, trial, step, spared)

    def _write_checkpoint(self, model: Any, trial: Any, step: int, spared: set[int]) -> None:
        with quiet_loading():
            super()._save_checkpoint(model, trial)
        beside = {name: content() for name, content in self.beside.items()}
        if self.args.should_save:
            written = checkpoint.partial_folder(self.checkpoints) / f"checkpoint-{step}"
            for name, content in beside.items():
                write_json(written / name, content)
            self.strategies.save(written)
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            checkpoint.publish(self.checkpoints, step, self.keep, spared)
        self.accelerator.wait_for_everyone()
