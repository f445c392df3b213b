"""The base class of strategies, and what a run gives them.

Validating a configuration imports this file and those of the configured strategies, so they import torch (which
takes seconds) only where they use it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from instructalign.files import atomic, text_hash
from instructalign.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from instructalign.config import Config
    from instructalign.mixture.training_data import TrainingData
    from instructalign.training.batching import StepBatches
    from instructalign.training.models import LoadedModel
    from instructalign.types import Instruction

PenaltyWeight = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class StrategyContext:
    """What a run gives its strategies to prepare themselves.

    Attributes:
        config: the run's configuration.
        loaded: the base model with its tokenizer.
        model: the model as it is trained: inside its adapter if there is one, on its device, in evaluation mode,
            not yet wrapped for distributed training. Its weights are the base's, in a resumed run too, and no
            optimizer exists yet, so a parameter frozen now is never trained.
        data: the corpora, the replay data and the training stream over both.
        batches: the stream as tokenised steps of this process.
        folder: the run's folder; what a resumed run can reuse goes into `folder / "cache"`.
        run_hash: a hash of everything that the run's weights depend on.
        process, processes: rank and world size.
        sharded: whether each process holds only a part of the weights during training.
        progress: called with what is being done, how much of it is done, the total, and a remark.
    """

    config: Config
    loaded: LoadedModel
    model: Any
    data: TrainingData
    batches: StepBatches
    folder: Path
    run_hash: str = ""
    process: int = 0
    processes: int = 1
    sharded: bool = False
    progress: Progress = silent

    def encoded(self, examples: Sequence[Instruction], size: int | None = None) -> Iterator[dict[str, Any]]:
        """Examples as batches on the model's device, in their order, with the loss on answers only.

        Args:
            examples: the examples.
            size: the batch size; by default as many as are sure to fit.
        """
        from instructalign.training.batching import LossWeights, collate, to_device

        device = next(self.model.parameters()).device
        encoder = self.batches.encoder
        size = size or self.batches.limits.rows_of(encoder.max_length)
        for first in range(0, len(examples), size):
            chunk = [encoder(example) for example in examples[first : first + size]]
            yield to_device(collate(chunk, encoder.codec, LossWeights()), device)

    def shard(self, examples: Sequence[Any]) -> Sequence[Any]:
        """This process's share of work that all processes do together."""
        return examples[self.process :: self.processes]

    def cached(
        self, name: str, options: Any, compute: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """What `compute` returns, computed once and kept in the run's folder for resumed runs.

        Every process must call it, and gets the same tensors, on the CPU.

        Args:
            name: what it is, for the file's name.
            options: what it depends on besides the run itself.
            compute: called in every process; must return the same in all.
        """
        from safetensors.torch import load_file, save

        path = self.folder / "cache" / f"{name}-{text_hash([self.run_hash, options])[:12]}.safetensors"
        if in_all_processes(path.exists()):
            return load_file(path)
        computed = {key: value.detach().cpu().contiguous() for key, value in compute().items()}
        if self.process == 0:
            with atomic(path) as file:
                file.write(save(computed))
        return computed


def in_all_processes(condition: bool) -> bool:
    """Whether a condition holds in every process; every process must call it, which also makes it a barrier."""
    import torch

    return not sum_over_processes(torch.tensor(float(not condition))).item()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor summed over all processes, in place and returned; every process must call it."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        moved = tensor.to("cuda") if torch.distributed.get_backend() == "nccl" else tensor
        torch.distributed.all_reduce(moved)
        tensor.copy_(moved)
    return tensor


class Strategy:
    """A strategy against forgetting. Every hook does nothing unless a subclass overrides it.

    Constructors take keyword-only options; their annotations are the strategy's keys in the configuration.
    The hooks of several strategies are called in the order of `plugins.STRATEGIES`.

    In distributed training every hook runs in every process, on the same weights and, except for hooks that take
    micro-batches, on the same gradients; so it must do the same in all of them.

    Attributes:
        replay_data: how the strategy uses the configured replay data: `needed`, `used` if there is some, or
            `unused`. May depend on options; then the constructor sets it.
        without_replay: what else can be done if replay data is needed and missing; ends the error message.
        needs_full_weights: whether it needs all weights or gradients in every process, so that it does not work
            with sharding (FSDP, DeepSpeed ZeRO).
    """

    replay_data: str = "unused"
    without_replay: str = ""
    needs_full_weights: bool = False

    def problems(self, config: Config) -> Iterable[str]:
        """What in a configuration is incompatible with this strategy, one sentence each; checked by `validate`."""
        return ()

    def prepare(self, context: StrategyContext) -> None:
        """Called once before training, before the optimizer exists and before a checkpoint is loaded."""

    def step_batches(self, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The micro-batches of a step to train on, of those of this process; not yet on the model's device.

        Args:
            batches: as `StepBatches` makes them. Others must have the same keys; each process must return at least
                one, and `step_mass` is the weight of the counted tokens of all.
        """
        return batches

    def replace_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor, losses: torch.Tensor
    ) -> torch.Tensor:
        """The loss of each counted position, in place of the cross-entropy.

        Args:
            model, batch, logits: as for `token_loss`.
            losses: the loss so far, [counted], in nats.
        """
        return losses

    def generated_tokens(self, answer: int) -> int:
        """For `doctor`: how many tokens at most it lets the model write for an example of the new data.

        Args:
            answer: tokens of the example's answer.
        """
        return 0

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        """A term added to the cross-entropy of each counted position and weighted like it; None for nothing.

        Args:
            model: the model in training.
            batch: the micro-batch, as `batching.collate` makes it.
            logits: of the model at the counted positions, [counted, vocabulary], in the order of
                `batch["positions"]`.

        Returns:
            [counted], in nats; or None.
        """
        return None

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """A scalar added to the loss of every optimizer step, or None."""
        return None

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        """Called when the gradients of a step are complete and clipped, before the optimizer uses them.

        Args:
            model: the model in training.
            step: the number of optimizer steps before this one.
        """

    def undo_update(self, model: torch.nn.Module, step: int) -> None:
        """Called after the optimizer has changed the weights, to change back those that stay as they are."""

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Called when the weights are those of the next step, after every `undo_update`."""

    def finish(self, model: torch.nn.Module) -> None:
        """Called once after the last step, before the model is saved (and an adapter merged)."""

    def state(self) -> dict[str, torch.Tensor]:
        """What goes into every checkpoint; the same in all processes."""
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Restores what `state` returned when the checkpoint was written; called after `prepare`."""

    def costs(self) -> dict[str, float]:
        """For run.json: `memory` and `disk` in bytes per process, and counts of the strategy's own."""
        return {}
