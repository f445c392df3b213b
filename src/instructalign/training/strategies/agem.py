"""Averaged gradient episodic memory (Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", arXiv
1812.00420, equation 11).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from instructalign.config import Config, Positive
from instructalign.randomness import permuted
from instructalign.training.strategies.strategy import Strategy, StrategyContext, sum_over_processes

if TYPE_CHECKING:
    import torch


class AGEM(Strategy):
    """Projects out of a step's gradient what would raise the loss on a batch of replay examples.

    With g the gradient of the step and r that of the replay examples: if g · r < 0, g ← g - (g · r / r · r) r.
    The replay examples of a step are a function of the seed and the step.

    Args:
        examples: replay examples per step; each step costs a forward and backward pass over them.
    """

    replay_data = "needed"
    needs_full_weights = True
    _context: StrategyContext  # from `prepare` on

    def __init__(self, *, examples: Positive = 32) -> None:
        self.examples = examples
        self._projected = 0

    def problems(self, config: Config) -> Iterable[str]:
        """A precision in which small gradients vanish unless the loss is scaled."""
        if config.training.precision == "float16":
            yield (
                "computes gradients without loss scaling, and float16 would lose the small ones; set "
                "training.precision to bfloat16 or float32"
            )

    def prepare(self, context: StrategyContext) -> None:
        """Keeps the replay data."""
        self._context = context

    def before_update(self, model: torch.nn.Module, step: int) -> None:
        """Projects the gradient if it conflicts with that of the replay examples."""
        weights = [weight for weight in model.parameters() if weight.grad is not None]
        references = self.reference(model, weights, step)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        along = sum(float((g.float() * r).sum()) for g, r in zip(gradients, references, strict=True))
        if along >= 0:
            return
        length = sum(float(r.square().sum()) for r in references)
        self._projected += 1
        for gradient, reference in zip(gradients, references, strict=True):
            gradient.sub_(reference.to(gradient.dtype), alpha=along / length)

    def reference(
        self, model: torch.nn.Module, weights: list[torch.nn.Parameter], step: int
    ) -> list[torch.Tensor]:
        """The gradient of the mean loss over the answer tokens of the step's replay examples, float32.

        The processes share the examples and get the same sum.
        """
        import torch

        from instructalign.training.loss import cross_entropy, target_logits
        from instructalign.training.models import unwrapped

        context, inner = self._context, unwrapped(model)
        replay, seed = context.data.replay, context.config.seed
        count = min(self.examples, len(replay))
        chosen = [replay.examples[permuted(step * count + i, len(replay), seed, "agem")] for i in range(count)]
        total = [torch.zeros_like(weight, dtype=torch.float32) for weight in weights]
        tokens = torch.zeros(1)
        for batch in context.encoded(context.shard(chosen)):
            losses = cross_entropy(target_logits(inner, batch, context.loaded.encoder_decoder), batch)
            gradients = torch.autograd.grad(losses.sum(), weights, allow_unused=True)
            for place, gradient in enumerate(gradients):
                if gradient is not None:
                    total[place] += gradient
            tokens += losses.numel()
        count_all = max(float(sum_over_processes(tokens)), 1.0)
        return [sum_over_processes(value) / count_all for value in total]

    def state(self) -> dict[str, torch.Tensor]:
        """The number of steps projected so far."""
        import torch

        return {"projected": torch.tensor([self._projected])}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Restores that number."""
        self._projected = int(state["projected"])

    def costs(self) -> dict[str, float]:
        """The number of steps whose gradients were projected."""
        return {"projected": self._projected}
