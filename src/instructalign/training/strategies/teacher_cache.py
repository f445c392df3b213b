"""The base model's predictions for the training stream, cached on disk as top-k log-probabilities."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save

from instructalign.errors import TrainingError
from instructalign.files import atomic, text_hash
from instructalign.training.batching import collate, plan_micro_batches, to_device
from instructalign.training.loss import target_logits
from instructalign.training.strategies.strategy import StrategyContext, in_all_processes

_EXAMPLES_PER_FILE = 4096  # as much as an interrupted run has to compute again at most


@dataclass(frozen=True, slots=True)
class TopK:
    """Predictions at some positions, each as its top-k tokens and the mass of all others.

    Attributes:
        tokens: the most probable tokens, [positions, k].
        logs: their log-probabilities, [positions, k].
        rest: the log of the probability of all other tokens together, [positions].
    """

    tokens: torch.Tensor
    logs: torch.Tensor
    rest: torch.Tensor


def top_k_log_probs(logits: torch.Tensor, k: int) -> TopK:
    """The top-k log-probabilities of predictions; of all tokens if the vocabulary is smaller.

    Args:
        logits: divided by the temperature, [positions, vocabulary].
        k: how many tokens to keep.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    best, tokens = logits.topk(min(k, logits.shape[-1]), dim=-1)
    rest = logits.scatter(-1, tokens, float("-inf")).logsumexp(dim=-1) - total.squeeze(-1)
    return TopK(tokens, best - total, rest)


def top_k_kl(teacher: TopK, logits: torch.Tensor) -> torch.Tensor:
    """KL(teacher ‖ model) over the teacher's top-k tokens and all others as one, in nats, [positions].

    Args:
        teacher: the base's predictions.
        logits: the model's, divided by the temperature, [positions, vocabulary].
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    model = logits.gather(-1, teacher.tokens) - total
    kl = (teacher.logs.exp() * (teacher.logs - model)).sum(dim=-1)
    if teacher.tokens.shape[-1] == logits.shape[-1]:
        return kl
    rest = logits.scatter(-1, teacher.tokens, float("-inf")).logsumexp(dim=-1) - total.squeeze(-1)
    return kl + teacher.rest.exp() * (teacher.rest - rest)


class TeacherCache:
    """The base's predictions for the examples of a run's stream; equal examples are computed once.

    Files hold the distinct examples in the order in which they first occur; each process computes its share of the
    files. A file that exists already is not computed again.

    Args:
        context: the run, whose model still is the base.
        wanted: by objective, whether its examples are needed.
        k: how many tokens are kept per position.
        temperature: divides the logits.
    """

    def __init__(
        self, context: StrategyContext, wanted: Callable[[str], bool], k: int, temperature: float
    ) -> None:
        self._context = context
        self._k, self._temperature = k, temperature
        kinds = sorted(name for name in ("replay", "new") if wanted(name))
        key = text_hash([context.run_hash, kinds, k, temperature])[:12]
        self._folder = context.folder / "cache" / f"teacher-{key}"
        self._slots, firsts = self._distinct(wanted)
        self.examples = len(firsts)
        starts = range(0, len(firsts), _EXAMPLES_PER_FILE)
        for start in context.shard(starts):
            path = self._path(start // _EXAMPLES_PER_FILE)
            if not path.exists():
                tensors = self._compute(firsts[start : start + _EXAMPLES_PER_FILE], start, len(firsts))
                with atomic(path) as file:
                    file.write(save(tensors))
        in_all_processes(True)  # a barrier: all files exist before any process reads them

    def at(self, numbers: Sequence[int], positions: int) -> TopK:
        """The predictions at all counted positions of examples of the stream, one example after another.

        Args:
            numbers: the examples' positions in the stream.
            positions: how many counted positions they have.

        Raises:
            TrainingError: the cache holds another number of positions for them.
        """
        rows = []
        for number in numbers:
            file_number, place = divmod(int(self._slots[number]), _EXAMPLES_PER_FILE)
            file, ends = _opened(self._path(file_number))
            first, last = int(ends[place - 1]) if place else 0, int(ends[place])
            rows.append([file.get_slice(name)[first:last] for name in ("tokens", "logs", "rest")])
        tokens, logs, rest = (torch.cat(parts) for parts in zip(*rows, strict=True))
        if len(rest) != positions:
            raise TrainingError(
                f"{self._folder} has predictions for {len(rest)} positions instead of {positions}, so it belongs "
                "to another run. Remove it, and train again from the start."
            )
        return TopK(tokens.long(), logs, rest)

    @property
    def bytes(self) -> int:
        """The size of the files on disk."""
        return sum(path.stat().st_size for path in self._folder.glob("*.safetensors"))

    def _distinct(self, wanted: Callable[[str], bool]) -> tuple[np.ndarray[Any, Any], list[int]]:
        """By position in the stream, the distinct example's number (-1: none); and where each first occurs."""
        config, stream = self._context.config.training, self._context.data.mixture
        slots = np.full(config.steps * config.batch_size, -1, dtype=np.int64)
        seen: dict[bytes, int] = {}
        firsts: list[int] = []
        for number in range(len(slots)):
            example = stream[number]
            if not wanted(example.objective):
                continue
            text = f"{example.prompt}\x1f{example.answer}".encode()
            slot = seen.setdefault(blake2b(text, digest_size=16).digest(), len(firsts))
            if slot == len(firsts):
                firsts.append(number)
            slots[number] = slot
        return slots, firsts

    def _compute(self, numbers: Sequence[int], done: int, total: int) -> dict[str, torch.Tensor]:
        """The base's predictions for some examples of the stream, in their order."""
        context = self._context
        by_example: dict[int, TopK] = {}
        for places, batch in self._batches(numbers):
            context.progress("base model's predictions", done + len(by_example), total, "")
            with torch.no_grad():
                logits = target_logits(context.model, batch, context.loaded.encoder_decoder)
            predicted = top_k_log_probs(logits.float() / self._temperature, self._k)
            counts = torch.bincount(batch["examples"], minlength=len(places)).tolist()
            tensors: list[Any] = [predicted.tokens.cpu(), predicted.logs.cpu(), predicted.rest.cpu()]
            parts = [tensor.split(counts) for tensor in tensors]
            for place, tokens, logs, rest in zip(places, *parts, strict=True):
                by_example[place] = TopK(tokens, logs, rest)
        rows = [by_example[place] for place in range(len(numbers))]
        return {
            "tokens": torch.cat([row.tokens for row in rows]).to(torch.int32),
            "logs": torch.cat([row.logs for row in rows]),
            "rest": torch.cat([row.rest for row in rows]),
            "ends": torch.tensor([len(row.rest) for row in rows]).cumsum(0),
        }

    def _batches(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Batches of examples of similar length, with the examples' places among the numbers."""
        batches, stream = self._context.batches, self._context.data.mixture
        device = next(self._context.model.parameters()).device
        examples = [batches.encoder(stream[number]) for number in numbers]
        order = sorted(range(len(examples)), key=lambda place: len(examples[place]))
        for part in plan_micro_batches([(len(examples[place]),) for place in order], batches.limits):
            places = [order[number] for number in part]
            chosen = [examples[place] for place in places]
            yield places, to_device(collate(chosen, batches.encoder.codec, batches.weights), device)

    def _path(self, number: int) -> Path:
        return self._folder / f"part-{number:06}.safetensors"


@lru_cache(maxsize=64)
def _opened(path: Path) -> tuple[Any, torch.Tensor]:
    file: Any = safe_open(path, framework="pt")
    return file, file.get_tensor("ends")
