"""`transformers.Trainer` with our training stream, our loss, and atomic checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import DistributedType
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, Trainer, TrainingArguments
from transformers.trainer_callback import TrainerCallback

from instructalign.errors import TrainingError
from instructalign.files import write_json
from instructalign.training.batching import RemainingSteps, StepBatches
from instructalign.training.checkpoints import explaining_full_disk, partial_folder, publish
from instructalign.training.early_stopping import STOPPING_STATE, StoppingRules
from instructalign.training.loss import ChunkedLoss, at_positions, cross_entropy, target_logits
from instructalign.training.metrics_log import COUNTERS, TrainingCounters
from instructalign.training.models import quiet_loading
from instructalign.training.strategies.strategy_group import StrategyGroup


class AlignTrainer(Trainer):
    """The Trainer of transformers, changed in four ways.

    Its steps are pure functions of their number, each with as many micro-batches as it needs, so the Trainer does
    not accumulate gradients itself; the loss is the weighted mean over all counted tokens of an optimizer step,
    whatever the accumulation and the number of processes; checkpoints appear complete or not at all; and
    strategies take part in each step.

    Args:
        model: the model, or its peft wrapper.
        args: the Trainer's own arguments; those of gradient accumulation are not used.
        batches: the run's steps.
        encoder_decoder: whether the model has an encoder and a decoder.
        strategies: the configured strategies against forgetting.
        checkpoints: the run's `checkpoints` folder.
        keep: how many checkpoints are kept.
        counters: counts what was trained on.
        stopping: says when training ends early, and which checkpoints are kept beside the newest ones.
        saved_state: what else is written into each checkpoint: JSON files by name, each from a call in every
            process.
        callbacks: further callbacks of the Trainer.
    """

    # The loss is normalised over the whole step here; the Trainer must not divide it again.
    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: Any,
        args: TrainingArguments,
        *,
        batches: StepBatches,
        encoder_decoder: bool,
        strategies: StrategyGroup,
        checkpoints: Path,
        keep: int,
        counters: TrainingCounters,
        stopping: StoppingRules,
        saved_state: Mapping[str, Callable[[], Any]] | None = None,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        cached = getattr(model.config, "use_cache", None)
        super().__init__(model, args, train_dataset=batches, callbacks=[strategies, *callbacks])
        # Trainer's choice for training would be saved with the model; each call of ours says it.
        if cached is not None:
            model.config.use_cache = cached
        # Else it looks at the signature of `forward`, and where that takes no **kwargs scales the loss once more.
        self.model_accepts_loss_kwargs = True
        self.batches = batches
        self.encoder_decoder = encoder_decoder
        self.chunked_loss = ChunkedLoss(model, encoder_decoder)
        self.strategies = strategies
        self.checkpoints = checkpoints
        self.keep = keep
        self.counters = counters
        self.stopping = stopping
        self.saved_state = {COUNTERS: counters.total, STOPPING_STATE: stopping.state, **(saved_state or {})}

    def get_train_dataloader(self) -> DataLoader[Any]:
        """The steps of this process, from the first that is not done yet."""
        return DataLoader(
            self.batches,
            batch_size=None,
            sampler=RemainingSteps(self.args.max_steps, done=lambda: int(self.state.global_step)),
            num_workers=self.args.dataloader_num_workers,
            pin_memory=torch.cuda.is_available(),
            # Without one, each iterator takes a seed from the global generator, which dropout uses: a resumed run
            # makes one iterator more, and its dropout would differ.
            generator=torch.Generator(),
        )

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: Any) -> Any:
        """A step's micro-batches as one "batch", and the weight of all its tokens, over all processes."""
        [step] = [*islice(epoch_iterator, 1)] or [None]
        # Resumed from the checkpoint of the last step, or of the one after which training ended early.
        if step is None or self.stopping.reason:
            self.control.should_training_stop = True
            return [], None
        total = step[0]["step_mass"]
        if total == 0:
            raise TrainingError(
                f"step {self.state.global_step + 1}: no token of any example carries loss; every answer is empty "
                "or was truncated to nothing. Raise training.max_length, or look at them with `instructalign "
                "preview`."
            )
        return [step], total

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward through a step's micro-batches; processes share gradients after the last."""
        losses = []
        inputs = self.strategies.step_batches(inputs)
        num_items_in_batch = inputs[0]["step_mass"]
        for number, batch in enumerate(inputs, 1):
            last = number == len(inputs)
            # Private in accelerate: says whether gradients are shared, which the Trainer decides by its own count.
            self.accelerator.gradient_state._set_sync_gradients(last)
            with nullcontext() if last else self._gradients_not_shared(model):
                losses.append(super().training_step(model, batch, num_items_in_batch))
        return torch.stack(losses).sum()

    def _gradients_not_shared(self, model: Any) -> AbstractContextManager[Any]:
        """Inside, gradients stay in their process, as in the Trainer's own loop."""
        if self.accelerator.distributed_type == DistributedType.DEEPSPEED:  # keeps its own count
            return nullcontext()
        # Private, and only in newer versions, where transformers itself shards the model.
        defer: Any = getattr(self, "_defer_fsdp_gradient_reduction", None)
        if defer is not None and getattr(self, "is_distributed_loading_by_transformers", False):
            return cast(AbstractContextManager[Any], defer())
        return cast(AbstractContextManager[Any], self.accelerator.no_sync(model=model))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """The micro-batch's part of the step's weighted mean loss, with the strategies' penalties."""
        total = num_items_in_batch if num_items_in_batch is not None else inputs["step_mass"]
        # Gradients are averaged over processes afterwards, so each process scales its part up by their number.
        shares = at_positions(inputs, "weights") * (self.args.world_size / total)
        if self.strategies.reads_logits:
            logits = target_logits(model, inputs, self.encoder_decoder)
            losses = self.strategies.replace_loss(model, inputs, logits, cross_entropy(logits, inputs))
            loss = (losses * shares).sum()
            added = self.strategies.token_loss(model, inputs, logits, shares)
            loss = loss if added is None else loss + added
        else:
            loss, losses = self.chunked_loss(model, inputs, shares)
        self.counters.add(inputs, losses.detach())
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

    def load_checkpoint(self, folder: Path) -> None:
        """Loads the weights of a checkpoint and the state of the strategies; every process must call it."""
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

    # -- private methods of the Trainer that are overridden ---------------------------------------------------

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # The Trainer matches the model's own names and ignores weights that files call otherwise: the output layer
        # of GPT-NeoX would be the base's again in a resumed run. `from_pretrained` knows both names.
        model = model if model is not None else self.model
        if self.layout != "whole" or not isinstance(model, PreTrainedModel):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        with quiet_loading():
            saved = type(model).from_pretrained(resume_from_checkpoint, dtype="auto")
        model.load_state_dict(saved.state_dict())

    def _get_output_dir(self, trial: Any) -> str:
        return str(partial_folder(self.checkpoints))  # `_save_checkpoint` publishes it once it is complete

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        step = int(self.state.global_step)
        if not all(bool(torch.isfinite(weight).all()) for weight in model.parameters()):
            raise TrainingError(
                f"the weights are not finite at step {step}; nothing was saved over the last good checkpoint. "
                "Lower training.learning_rate, or set training.precision to float32 or bfloat16."
            )
        spared = self.stopping.on_checkpoint(step)
        with explaining_full_disk(self.checkpoints.parent, f"checkpoint-{step}"):
            with quiet_loading():
                super()._save_checkpoint(model, trial)
            saved_state = {name: content() for name, content in self.saved_state.items()}  # in every process
            if self.args.should_save:
                written = partial_folder(self.checkpoints) / f"checkpoint-{step}"
                for name, content in saved_state.items():
                    write_json(written / name, content)
                self.strategies.save(written)
            self.accelerator.wait_for_everyone()  # each process writes its own random state
            if self.args.should_save:
                publish(self.checkpoints, step, self.keep, spared)
            self.accelerator.wait_for_everyone()
