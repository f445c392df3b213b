"""Room on the disk: whether there will be enough, and what to say where there is none."""

from __future__ import annotations

import errno
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import nn

from instructalign.config import Config
from instructalign.errors import TrainingError
from instructalign.files import format_bytes
from instructalign.training import checkpoints

FULL = (errno.ENOSPC, errno.EDQUOT)
NEARLY = 0.8  # share of the free space

logger = logging.getLogger(__name__)


def optimizer_bytes(optimizer: str, trained: int, embedded: int, width: int) -> int:
    """Bytes that an optimizer keeps beside the weights and their gradients.

    Adam has two moments of each weight, and of 8 bits each where it is one of those; but not for embeddings, which
    the Trainer keeps out of that. Adafactor has a number for each row and column (Shazeer and Stern 2018, arXiv
    1804.04235), which is not counted here, and plain gradient descent has nothing.

    Args:
        optimizer: as `training.optimizer` calls it.
        trained, embedded: weights that are trained, and how many of those are embeddings.
        width: bytes of one weight.
    """
    if optimizer == "adamw":
        return 2 * trained * width
    return 2 * (trained - embedded) + 2 * embedded * width if optimizer.endswith("8bit") else 0


def trained_embeddings(model: nn.Module) -> int:
    """How many of a model's trained weights are embeddings; an output layer that is one of them counts once."""
    inside = {
        id(module.weight): module.weight.numel()
        for module in model.modules()
        if isinstance(module, nn.Embedding) and module.weight.requires_grad
    }
    return sum(inside.values())


def disk_bytes(config: Config, total: int, trained: int, width: int, embedded: int = 0) -> int:
    """Bytes that a run's checkpoints and its model take at most at one time.

    A checkpoint holds the weights (those of an adapter alone, where there is one) and the optimizer's state. One
    more is there while it is written, and one more where early stopping keeps the best.

    Args:
        config: the run's configuration.
        total, trained: weights in all, and those that are trained.
        width: bytes of one weight.
        embedded: how many of the trained ones are embeddings.
    """
    stopping = config.training.early_stopping
    count = config.training.keep_checkpoints + 1 + bool(stopping and stopping.keep == "best")
    adapter = config.model.adapter
    saved = trained if adapter else total
    model = trained if adapter and not adapter.merge else total
    state = optimizer_bytes(config.training.optimizer, trained, embedded, width)
    return (count * saved + model) * width + count * state


def refuse_full_disk(out: Path, needed: int) -> None:
    """Refuses a run whose checkpoints will not fit, and warns where they hardly will.

    Args:
        out: the run's folder; what it holds already is part of what is needed.
        needed: bytes, as `disk_bytes` says.

    Raises:
        TrainingError: less is free.
    """
    held = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    free = shutil.disk_usage(out).free + held
    if needed > free:
        raise TrainingError(
            f"checkpoints and model need about {format_bytes(needed)} on the disk of {out}, and "
            f"{format_bytes(free)} are free. Lower training.keep_checkpoints, use model.adapter, or write "
            "to another disk with --out."
        )
    if needed > NEARLY * free:
        logger.warning(
            "checkpoints and model need about %s on the disk of %s: %s free",
            format_bytes(needed),
            out,
            format_bytes(free),
        )


@contextmanager
def writing(out: Path, what: str) -> Iterator[None]:
    """Says plainly that the disk is full, where writing fails for that inside the block.

    Args:
        out: the run's folder.
        what: what is written, for the message.

    Raises:
        TrainingError: there is no room. What was half written is gone; the last whole checkpoint is not touched.
    """
    try:
        yield
    except Exception as error:
        if not _is_full(error):
            raise
        checkpoints.clear_partial(out / "checkpoints")
        whole = checkpoints.complete(out / "checkpoints")
        left = f"{whole[-1].name} is whole" if whole else "there is no checkpoint yet"
        raise TrainingError(
            f"no space is left on the disk of {out} for {what}; {left}. Free some (lower "
            "training.keep_checkpoints, or move the folder to a larger disk) and give the same command again: it "
            "goes on from there."
        ) from error


def _is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that it came from, says that the disk is full.

    safetensors says it in words, and `torch.save` says only that its writer failed.
    """
    if error is None:
        return False
    words = str(error)
    told = isinstance(error, OSError) and error.errno in FULL
    said = "No space left on device" in words or "os error 28" in words
    failed = isinstance(error, RuntimeError) and ("PytorchStreamWriter" in words or "inline_container" in words)
    return told or said or failed or _is_full(error.__cause__ or error.__context__)
