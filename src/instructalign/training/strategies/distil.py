"""Distillation from the base: cached teacher log-probabilities and the KL loss."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import safe_open
from safetensors.torch import save

from instructalign.config import Config, Positive
from instructalign.errors import TrainingError
from instructalign.files import atomic, text_hash
from instructalign.training.batching import collate, plan_micro_batches, to_device
from instructalign.training.loss import target_logits
from instructalign.training.strategies.l2sp import Weight
from instructalign.training.strategies.parameter_deltas import adapter_problems, unwrapped
from instructalign.training.strategies.strategy import Setting, Strategy, everywhere

if TYPE_CHECKING:
    import torch

    pass  # MOVED

PART = 4096  # examples in a file: what is lost at most where the run is stopped


@dataclass(frozen=True, slots=True)
class Taught:
    """Predictions at some positions, each as its likeliest tokens and the rest.

    Attributes:
        tokens: the likeliest tokens, [positions, kept].
        logs: their log-probabilities, [positions, kept].
        rest: the log of the probability of all others together, [positions].
    """

    tokens: torch.Tensor
    logs: torch.Tensor
    rest: torch.Tensor

    def to(self, device: torch.device) -> Taught:
        """The same on a device."""
        return Taught(self.tokens.to(device), self.logs.to(device), self.rest.to(device))


def reduced(logits: torch.Tensor, top_k: int) -> Taught:
    """The likeliest tokens of predictions, and the mass of the others; all tokens where there are no more.

    Args:
        logits: over the temperature, [positions, vocabulary].
        top_k: how many tokens to keep.
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    best, tokens = logits.topk(min(top_k, logits.shape[-1]), dim=-1)
    rest = logits.scatter(-1, tokens, float("-inf")).logsumexp(dim=-1) - total.squeeze(-1)
    return Taught(tokens, best - total, rest)


def split(taught: Taught, counts: Sequence[int]) -> list[Taught]:
    """Predictions in parts of so many positions."""
    ends = np.cumsum(counts).tolist()
    spans = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
    return [Taught(taught.tokens[span], taught.logs[span], taught.rest[span]) for span in spans]


class Teacher:
    """The base's predictions for the examples of a run's stream; those of equal examples are computed once.

    Files hold the distinct examples in the order in which they come up, `PART` each; the processes share the work
    by file. A file that is there already is not made again.

    Args:
        setting: the run, whose model still is the base.
        wanted: by kind, which examples it is asked for.
        top_k: how many tokens are kept a position.
        temperature: divides the logits.
    """

    def __init__(self, setting: Setting, wanted: Callable[[str], bool], top_k: int, temperature: float) -> None:
        self._setting = setting
        self._top_k, self._temperature = top_k, temperature
        kinds = sorted(name for name in ("replay", "new") if wanted(name))
        key = text_hash([setting.origin, kinds, top_k, temperature])[:12]
        self._folder = setting.folder / "cache" / f"teacher-{key}"
        self._slots, firsts = self._distinct(wanted)
        self.examples = len(firsts)
        self._make(firsts)

    def at(self, numbers: Sequence[int], positions: int) -> Taught:
        """The predictions at all counted positions of examples of the stream, one example after another.

        Args:
            numbers: the examples' positions in the stream.
            positions: how many counted positions they have.

        Raises:
            TrainingError: the cache holds another number of positions for them.
        """
        rows = [self._read(int(self._slots[number])) for number in numbers]
        taught = Taught(*(torch.cat(parts) for parts in zip(*rows, strict=True)))
        if len(taught.rest) != positions:
            raise TrainingError(
                f"{self._folder} holds predictions for {len(taught.rest)} positions where there are {positions}; "
                "it does not belong to this run. Remove it, and train again from the start."
            )
        return taught

    @property
    def bytes(self) -> int:
        """What the files take on disk."""
        return sum(path.stat().st_size for path in self._folder.glob("*.safetensors"))

    def _distinct(self, wanted: Callable[[str], bool]) -> tuple[np.ndarray[Any, Any], list[int]]:
        """By position in the stream, which distinct example it is (-1: none); and where each comes first."""
        config, stream = self._setting.config.training, self._setting.data.mixture
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

    def _make(self, firsts: Sequence[int]) -> None:
        parts = [(part, firsts[part * PART : (part + 1) * PART]) for part in range(-(-len(firsts) // PART))]
        for part, numbers in self._setting.mine(parts):
            path = self._path(part)
            if not path.exists():
                tensors = self._run(numbers, part * PART, len(firsts))
                with atomic(path) as file:
                    file.write(save(tensors))
        everywhere(True)  # all files are there before any process goes on to read them

    def _run(self, numbers: Sequence[int], done: int, of: int) -> dict[str, torch.Tensor]:
        """The base's predictions for some examples of the stream, in their order."""
        by_example: list[Taught | None] = [None] * len(numbers)
        for places, batch in self._batches(numbers):
            self._setting.report("running the base", done + len(numbers) - by_example.count(None), of, "")
            with torch.no_grad():
                logits = target_logits(self._setting.model, batch, self._setting.loaded.encoder_decoder)
            taught = reduced(logits.float() / self._temperature, self._top_k)
            counts = torch.bincount(batch["examples"], minlength=len(places)).tolist()
            for place, part in zip(places, split(taught, counts), strict=True):
                by_example[place] = part
        rows = [each for each in by_example if each is not None]
        return {
            "tokens": torch.cat([row.tokens for row in rows]).to(torch.int32).cpu(),
            "logs": torch.cat([row.logs for row in rows]).cpu(),
            "rest": torch.cat([row.rest for row in rows]).cpu(),
            "ends": torch.tensor([len(row.rest) for row in rows]).cumsum(0),
        }

    def _batches(self, numbers: Sequence[int]) -> Iterator[tuple[list[int], dict[str, Any]]]:
        """Examples of like length together, with their places among the numbers."""
        batches, stream = self._setting.batches, self._setting.data.mixture
        device = next(self._setting.model.parameters()).device
        pairs = [batches.encoder(stream[number]) for number in numbers]
        order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0]))
        for part in plan_micro_batches([(len(pairs[place][0]),) for place in order], batches.limits):
            places = [order[number] for number in part]
            chosen = [pairs[place] for place in places]
            yield places, to_device(collate(chosen, batches.encoder.codec, batches.weights), device)

    def _read(self, slot: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        part, place = divmod(slot, PART)
        file, ends = _opened(self._path(part))
        first, last = int(ends[place - 1]) if place else 0, int(ends[place])
        tokens, logs, rest = (file.get_slice(name)[first:last] for name in ("tokens", "logs", "rest"))
        return tokens.long(), logs, rest

    def _path(self, part: int) -> Path:
        return self._folder / f"part-{part:06}.safetensors"


@lru_cache(maxsize=64)
def _opened(path: Path) -> tuple[Any, torch.Tensor]:
    file: Any = safe_open(path, framework="pt")
    return file, file.get_tensor("ends")


On = Literal["replay", "new", "all"]


class Distil(Strategy):
    """Adds `weight · T² · KL(base ‖ model)` at each counted token, both predictions softened by the temperature T.

    The base's prediction is kept as its `top_k` likeliest tokens and the mass of all others together, and so is
    the model's: the divergence of these two, which is never above the whole one and equals it where `top_k` is the
    size of the vocabulary.

    Before training, the base runs once over the examples, and what it predicts is cached on disk; no second model
    is in memory. Under an adapter nothing is cached: the base is the model with its adapter off, run once more a
    step.

    Args:
        weight: what the divergence counts beside the cross-entropy.
        on: which examples: `replay`, the past ones in the stream; `new`, the alignment instructions; or `all`.
        temperature: T.
        top_k: how many tokens are kept.
    """

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        on: On = "all",
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        top_k: Positive = 64,
    ) -> None:
        self.weight = weight
        self.on: On = on
        self.temperature = temperature
        self.top_k = top_k
        self.past_data = "needed" if on == "replay" else "unused"
        self.instead = "or set training.strategy.distil.on to new"
        self._teacher: Teacher | None = None
        self._encoder_decoder = False

    def problems(self, config: Config) -> Iterable[str]:
        """Past examples that are not in the stream; adapters without which the model is not the base."""
        if self.on == "replay" and config.replay and "replay" not in config.training.strategy:
            yield (
                "on: replay works on past examples in the stream, and there are none: add replay to "
                "training.strategy, or set on to new"
            )
        yield from adapter_problems(config, dora=True)

    def prepare(self, setting: Setting) -> None:
        """Lets the base run over the stream, unless it is at hand as the model without its adapter."""
        self._encoder_decoder = setting.loaded.encoder_decoder
        if setting.config.model.adapter is None:
            self._teacher = Teacher(setting, self._wanted, self.top_k, self.temperature)

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        """The divergence at the positions of the examples that are distilled, 0 elsewhere."""
        import torch

        wanted = torch.tensor([self._wanted(kind) for kind in batch["kinds"]], device=logits.device)
        where = wanted[batch["examples"]].nonzero().squeeze(1)
        if not len(where):
            return None
        if self._teacher is None:
            taught = self._without_adapter(model, batch, where)
        else:
            numbers = [n for n, kind in zip(batch["numbers"], batch["kinds"], strict=True) if self._wanted(kind)]
            taught = self._teacher.at(numbers, len(where)).to(logits.device)
        losses = self.weight * self.temperature**2 * divergence(taught, logits[where].float() / self.temperature)
        return torch.zeros(len(logits), device=logits.device).index_put((where,), losses)

    def _without_adapter(self, model: Any, batch: dict[str, Any], where: torch.Tensor) -> Taught:
        import torch

        from instructalign.training.loss import target_logits

        inner = unwrapped(model)
        training = inner.training
        inner.eval()
        with torch.no_grad(), inner.disable_adapter():
            logits = target_logits(inner, batch, self._encoder_decoder)
        inner.train(training)
        return reduced(logits[where].float() / self.temperature, self.top_k)

    def _wanted(self, kind: str) -> bool:
        return self.on == "all" or (kind == "replay") == (self.on == "replay")

    def record(self) -> dict[str, float]:
        """The disk that the base's predictions take, and how many examples they are for."""
        if self._teacher is None:
            return {}
        return {"disk": self._teacher.bytes, "examples": self._teacher.examples}


def divergence(taught: Taught, logits: torch.Tensor) -> torch.Tensor:
    """KL(base ‖ model) over the base's likeliest tokens and the rest as one, in nats, [positions].

    Args:
        taught: the base's predictions.
        logits: the model's, over the temperature, [positions, vocabulary].
    """
    total = logits.logsumexp(dim=-1, keepdim=True)
    model = logits.gather(-1, taught.tokens) - total
    known = (taught.logs.exp() * (taught.logs - model)).sum(dim=-1)
    if taught.tokens.shape[-1] == logits.shape[-1]:
        return known
    others = logits.scatter(-1, taught.tokens, float("-inf")).logsumexp(dim=-1) - total.squeeze(-1)
    return known + taught.rest.exp() * (taught.rest - others)
