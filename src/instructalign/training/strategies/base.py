"""What a strategy can do to a training run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from instructalign.progress import Progress, silent
from instructalign.training.batch import LossWeights, collate, to_device

if TYPE_CHECKING:
    from instructalign.config import Config
    from instructalign.mixture.build import Data
    from instructalign.records import Instruction
    from instructalign.training.batch import MicroBatches
    from instructalign.training.model import LoadedModel


@dataclass(frozen=True, slots=True)
class Setting:
    """What a run gives its strategies to prepare themselves with.

    Attributes:
        config: the run's configuration.
        loaded: the base model with its tokenizer.
        model: the model as it is trained: inside its adapter where there is one, on its device, in evaluation
            mode, not yet wrapped for several processes. Its weights are the base's, in a resumed run too, and
            no optimizer exists yet: what is frozen here is not trained.
        data: the corpora, the past data and the training stream over both.
        batches: the stream as encoded micro-batches.
        folder: the run's folder; what is worth keeping for a resumed run goes into `folder / "cache"`.
        process, processes: this process's number, and how many there are.
        report: called with what is going on, how far it is, of how much, and a remark.
    """

    config: Config
    loaded: LoadedModel
    model: Any
    data: Data
    batches: MicroBatches
    folder: Path
    process: int = 0
    processes: int = 1
    report: Progress = silent

    def encoded(self, examples: Sequence[Instruction]) -> Iterator[dict[str, Any]]:
        """Examples as batches on the model's device, in their order, `micro_batch_size` each."""
        device = next(self.model.parameters()).device
        encoder, size = self.batches.encoder, self.batches.micro_batch_size
        for first in range(0, len(examples), size):
            pairs = [encoder(example) for example in examples[first : first + size]]
            yield to_device(collate(pairs, encoder.codec, LossWeights()), device)


class Strategy:
    """A way to keep what the model knew. Every hook does nothing unless a strategy overrides it.

    Constructors take keyword-only options; their annotations are the strategy's keys in the configuration.
    Where several strategies take part, each hook is called in the order of `registry.STRATEGIES`.

    With several processes every hook runs in every one of them, on the same weights and, but for `token_loss`,
    on the same gradients; so it must do the same in all of them.

    Attributes:
        past_data: what the strategy wants of the configured past data: `needed`, `used` where there is some,
            or `unused`. Options may decide; then it is set in the constructor.
    """

    past_data: str = "unused"

    def problems(self, config: Config) -> Iterable[str]:
        """What of a configuration does not go with this strategy, a sentence each, before any work is done."""
        return ()

    def prepare(self, setting: Setting) -> None:
        """Called once before training, before the optimizer exists and before a checkpoint is loaded."""

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        """Added to the cross-entropy of each counted position, and weighed like it; or None.

        Args:
            model: the model in training.
            batch: the micro-batch, as `batch.collate` makes it.
            logits: of the model at the counted positions, [counted, vocabulary], in the order of
                `(batch["weights"] > 0).nonzero()`.

        Returns:
            [counted], in nats; or None for nothing.
        """
        return None

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """A scalar added to the loss of every optimizer step, or None."""
        return None

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        """Called when the gradients of a step are complete and clipped, before the optimizer uses them.

        Args:
            model: the model in training.
            step: how many optimizer steps were done before this one.
        """

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Called when the optimizer has changed the weights; `step` as for `before_update`."""

    def finish(self, model: torch.nn.Module) -> None:
        """Called once after the last step, before the model is saved (and an adapter merged)."""

    def state(self) -> dict[str, torch.Tensor]:
        """What goes into every checkpoint; the same in all processes."""
        return {}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Takes over what `state` gave when the checkpoint was written; called after `prepare`."""

    def holds(self) -> dict[str, int]:
        """Bytes that the strategy takes in each process, by place: `memory`, `disk`."""
        return {}
