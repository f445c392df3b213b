"""Distillation from the base (Li and Hoiem 2018, "Learning without Forgetting", arXiv 1606.09282; Hinton et al.
2015, "Distilling the Knowledge in a Neural Network", arXiv 1503.02531).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instructalign.config import Config
from instructalign.config.base import Positive
from instructalign.training.strategies.base import Setting, Strategy
from instructalign.training.strategies.l2sp import Weight
from instructalign.training.strategies.weights import adapter_problems, unwrapped

if TYPE_CHECKING:
    import torch

    from instructalign.training.strategies.teacher import Taught, Teacher

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
            from instructalign.training.strategies.teacher import Teacher

            self._teacher = Teacher(setting, self._wanted, self.top_k, self.temperature)

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        """The divergence at the positions of the examples that are distilled, 0 elsewhere."""
        import torch

        from instructalign.training.batch import example_of

        wanted = torch.tensor([self._wanted(kind) for kind in batch["kinds"]], device=logits.device)
        where = wanted[example_of(batch)].nonzero().squeeze(1)
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

        from instructalign.training.loss import counted_logits
        from instructalign.training.strategies.teacher import reduced

        inner = unwrapped(model)
        training = inner.training
        inner.eval()
        with torch.no_grad(), inner.disable_adapter():
            logits = counted_logits(inner, batch, self._encoder_decoder)
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
