"""Knowledge distillation from the base model: a KL penalty on the predictions for training examples (Li and Hoiem
2016, "Learning without Forgetting", arXiv 1606.09282; softened by a temperature as in Hinton et al. 2015, arXiv
1503.02531).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instructalign.config import Config, Positive
from instructalign.training.strategies.parameter_deltas import adapter_problems
from instructalign.training.strategies.strategy import PenaltyWeight, Strategy, StrategyContext

if TYPE_CHECKING:
    import torch

    from instructalign.training.strategies.teacher_cache import TeacherCache, TopK

DistilOn = Literal["replay", "new", "all"]


class Distil(Strategy):
    """Adds `weight · T² · KL(base ‖ model)` at each counted token, both predictions softened by the temperature T.

    The base's prediction is stored as its `top_k` most probable tokens and the mass of all others together, and
    the model's is reduced in the same way. The KL divergence of the two is a lower bound of the full one and
    equals it if `top_k` is the size of the vocabulary.

    Before training, the base runs once over the examples and its predictions are cached on disk, so that no second
    model is in memory. Under an adapter nothing is cached: the base is the model with its adapter disabled, one
    more forward pass per step.

    Args:
        weight: of the divergence relative to the cross-entropy.
        on: which examples: `replay`, `new` (the alignment instructions), or `all`.
        temperature: T.
        top_k: how many tokens are kept.
    """

    def __init__(
        self,
        *,
        weight: PenaltyWeight = 1.0,
        on: DistilOn = "all",
        temperature: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0,
        top_k: Positive = 64,
    ) -> None:
        self.weight = weight
        self.on: DistilOn = on
        self.temperature = temperature
        self.top_k = top_k
        self.replay_data = "needed" if on == "replay" else "unused"
        self.without_replay = "or set training.strategy.distil.on to new"
        self._teacher: TeacherCache | None = None
        self._encoder_decoder = False

    def problems(self, config: Config) -> Iterable[str]:
        """Replay examples that are not in the stream; adapters without which the model is not the base."""
        if self.on == "replay" and config.replay and "replay" not in config.training.strategy:
            yield (
                "on: replay needs replay examples in the stream, and there are none: add replay to "
                "training.strategy, or set on to new"
            )
        yield from adapter_problems(config, dora=True)

    def prepare(self, context: StrategyContext) -> None:
        """Runs the base over the stream, unless the model without its adapter is the base."""
        self._encoder_decoder = context.loaded.encoder_decoder
        if context.config.model.adapter is None:
            from instructalign.training.strategies.teacher_cache import TeacherCache

            self._teacher = TeacherCache(context, self._wanted, self.top_k, self.temperature)

    def token_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor
    ) -> torch.Tensor | None:
        """The divergence at the positions of the examples that are distilled, 0 elsewhere."""
        import torch

        from instructalign.training.strategies.teacher_cache import TopK, top_k_kl

        wanted = torch.tensor([self._wanted(kind) for kind in batch["kinds"]], device=logits.device)
        where = wanted[batch["examples"]].nonzero().squeeze(1)
        if not len(where):
            return None
        if self._teacher is None:
            teacher = self._without_adapter(model, batch, where)
        else:
            numbers = [n for n, kind in zip(batch["numbers"], batch["kinds"], strict=True) if self._wanted(kind)]
            cached = self._teacher.at(numbers, len(where))
            teacher = TopK(*(each.to(logits.device) for each in (cached.tokens, cached.logs, cached.rest)))
        losses = self.weight * self.temperature**2 * top_k_kl(teacher, logits[where].float() / self.temperature)
        return torch.zeros(len(logits), device=logits.device).index_put((where,), losses)

    def _without_adapter(self, model: Any, batch: dict[str, Any], where: torch.Tensor) -> TopK:
        import torch

        from instructalign.training.loss import target_logits
        from instructalign.training.models import unwrapped
        from instructalign.training.strategies.teacher_cache import top_k_log_probs

        inner = unwrapped(model)
        training = inner.training
        inner.eval()
        with torch.no_grad(), inner.disable_adapter():
            logits = target_logits(inner, batch, self._encoder_decoder)
        inner.train(training)
        return top_k_log_probs(logits[where].float() / self.temperature, self.top_k)

    def _wanted(self, kind: str) -> bool:
        return self.on == "all" or (kind == "replay") == (self.on == "replay")

    def costs(self) -> dict[str, float]:
        """The disk that the base's predictions take, and the number of examples they are for."""
        return {"disk": self._teacher.bytes, "examples": self._teacher.examples} if self._teacher else {}
