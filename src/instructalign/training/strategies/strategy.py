"""What a strategy can do to a training run.

Checking a configuration imports this file and those of the strategies it names; so they import torch where they
use it, which takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from instructalign.files import atomic, text_hash
from instructalign.progress import Progress, silent

if TYPE_CHECKING:
    import torch

    from instructalign.config import Config
    from instructalign.mixture.training_data import Data
    from instructalign.training.batching import StepBatches
    from instructalign.training.models import LoadedModel
    from instructalign.types import Instruction


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
        batches: the stream as encoded steps, of this process.
        folder: the run's folder; what is worth keeping for a resumed run goes into `folder / "cache"`.
        origin: a hash of everything that the run's weights depend on.
        process, processes: this process's number, and how many there are.
        sharded: whether each process holds but a part of the weights once training has begun.
        report: called with what is going on, how far it is, of how much, and a remark.
    """

    config: Config
    loaded: LoadedModel
    model: Any
    data: Data
    batches: StepBatches
    folder: Path
    origin: str = ""
    process: int = 0
    processes: int = 1
    sharded: bool = False
    report: Progress = silent

    def encoded(self, examples: Sequence[Instruction], size: int | None = None) -> Iterator[dict[str, Any]]:
        """Examples as batches on the model's device, in their order, the loss on answers alone.

        Args:
            examples: the examples.
            size: how many a batch; as many as surely fit unless given.
        """
        from instructalign.training.batching import LossWeights, collate, to_device

        device = next(self.model.parameters()).device
        encoder = self.batches.encoder
        size = size or self.batches.limits.rows_of(encoder.max_length)
        for first in range(0, len(examples), size):
            pairs = [encoder(example) for example in examples[first : first + size]]
            yield to_device(collate(pairs, encoder.codec, LossWeights()), device)

    def mine(self, examples: Sequence[Any]) -> Sequence[Any]:
        """This process's part of what all of them do together."""
        return examples[self.process :: self.processes]

    def cached(
        self, name: str, options: Any, make: Callable[[], dict[str, torch.Tensor]]
    ) -> dict[str, torch.Tensor]:
        """What `make` gives, made once and kept in the run's folder for when the run goes on.

        Every process must call it, and gets the same tensors, on the CPU.

        Args:
            name: what it is, for the file's name.
            options: what it depends on beside the run itself.
            make: called in every process; it must give the same in all.
        """
        from safetensors.torch import load_file, save

        path = self.folder / "cache" / f"{name}-{text_hash([self.origin, options])[:12]}.safetensors"
        if everywhere(path.exists()):
            return load_file(path)
        made = {key: value.detach().cpu().contiguous() for key, value in make().items()}
        if self.process == 0:
            with atomic(path) as file:
                file.write(save(made))
        return made


def everywhere(here: bool) -> bool:
    """Whether something holds in all processes; every process must call it."""
    import torch

    return not sum_over_processes(torch.tensor(float(not here))).item()


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor summed over all processes, in place and returned; every process must call it."""
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        moved = tensor.to("cuda") if torch.distributed.get_backend() == "nccl" else tensor
        torch.distributed.all_reduce(moved)
        tensor.copy_(moved)
    return tensor


class Strategy:
    """A way to keep what the model knew. Every hook does nothing unless a strategy overrides it.

    Constructors take keyword-only options; their annotations are the strategy's keys in the configuration.
    Where several strategies take part, each hook is called in the order of `registry.STRATEGIES`.

    With several processes every hook runs in every one of them, on the same weights and, but for `token_loss`,
    on the same gradients; so it must do the same in all of them.

    Attributes:
        past_data: what the strategy wants of the configured past data: `needed`, `used` where there is some,
            or `unused`. Options may decide; then it is set in the constructor.
        instead: what can be done where past data is needed and missing, beside giving some; for the error.
        whole: whether it needs the whole weights or gradients in every process, so that it cannot work where
            these are sharded (FSDP, DeepSpeed ZeRO).
    """

    past_data: str = "unused"
    instead: str = ""
    whole: bool = False

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
                `batch["positions"]`.

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

    def record(self) -> dict[str, float]:
        """What run.json says of it: `memory` and `disk` that it took, in bytes a process, and its own counts."""
        return {}
