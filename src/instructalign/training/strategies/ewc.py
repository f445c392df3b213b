"""Elastic weight consolidation (Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
PNAS 114, equation 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from instructalign.config import Config, Positive
from instructalign.randomness import Draws, digest_key
from instructalign.training.strategies.calibration_examples import INSTEAD, Source, source_examples
from instructalign.training.strategies.l2sp import Weight
from instructalign.training.strategies.parameter_deltas import Changes, adapter_problems
from instructalign.training.strategies.strategy import Setting, Strategy, sum_over_processes

if TYPE_CHECKING:
    import torch


class EWC(Strategy):
    """Adds `weight / 2 · Σ F (W - W0)²` to the loss: a spring for each weight, stiff where the past needs it.

    F is the diagonal of the Fisher information of the base on examples of the past: the mean over examples of the
    squared gradient of the answer's log-likelihood, summed over its tokens. With `fisher: true`, each token of the
    answer is drawn from the model's own prediction, which makes F the Fisher information; with `empirical`, it is
    the one in the data, a common stand-in that is something else (Kunstner et al. 2019, arXiv 1905.12558).

    Args:
        weight: the springs' strength (λ in the paper).
        on: what F is computed on: `replay`, the past data, or `known`, sentences in the known languages.
        examples: how many of them.
        fisher: `true` or `empirical`.
    """

    whole = True
    _changes: Changes  # from `prepare` on, as the next
    _fisher: dict[str, torch.Tensor]

    def __init__(
        self,
        *,
        weight: Weight = 1.0,
        on: Source = "replay",
        examples: Positive = 256,
        fisher: Literal["true", "empirical"] = "true",
    ) -> None:
        self.weight = weight
        self.on: Source = on
        self.examples = examples
        self.fisher = fisher
        self.past_data = "needed" if on == "replay" else "unused"
        self.instead = INSTEAD.format(name="ewc")

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose change of the base is no product of two factors, or whose base has no gradient."""
        yield from adapter_problems(config)
        if config.model.adapter and config.model.adapter.quantised:
            yield (
                "needs gradients of the base's weights, which model.adapter.quantised keeps in 4 bits; set it to "
                "false, or use l2sp"
            )

    def prepare(self, setting: Setting) -> None:
        """Copies the base's weights and computes the Fisher information, or reads it where the run goes on."""
        self._changes = Changes(setting.model)
        options = [self.on, self.examples, self.fisher]
        fisher = setting.cached("fisher", options, lambda: self._measure(setting))
        bases = self._changes.bases()
        self._fisher = {name: value.to(bases[name].device) for name, value in fisher.items()}

    def _measure(self, setting: Setting) -> dict[str, torch.Tensor]:
        import torch

        chosen = source_examples(setting, self.on, self.examples)
        sample = self.fisher == "true"
        numbered = setting.mine(list(enumerate(chosen)))
        batches = setting.encoded([example for _, example in numbered], size=1)
        total = {
            name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in self._changes.bases().items()
        }
        for done, ((number, _), batch) in enumerate(zip(numbered, batches, strict=True)):
            setting.report("Fisher information", done, len(numbered), "")
            draws = Draws(digest_key(setting.config.seed, "fisher"), number) if sample else None
            squares = squared_gradient(
                setting.model, batch, setting.loaded.encoder_decoder, self._changes.bases(), draws
            )
            for name, square in squares.items():
                total[name] += square
        return {name: sum_over_processes(value) / len(chosen) for name, value in total.items()}

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The springs' energy."""
        return self.weight / 2 * self._changes.sum_of_squares(self._fisher)

    def record(self) -> dict[str, float]:
        """The memory of the copy and of the Fisher information, and the disk of the latter."""
        fisher = sum(value.nbytes for value in self._fisher.values())
        return {"memory": fisher + self._changes.bytes, "disk": fisher}


def squared_gradient(
    model: Any,
    batch: dict[str, Any],
    encoder_decoder: bool,
    weights: dict[str, torch.nn.Parameter],
    draws: Draws | None,
) -> dict[str, torch.Tensor]:
    """The squared gradient of one example's log-likelihood, by weight; frozen weights have one here as well.

    Args:
        model: the model.
        batch: one example.
        encoder_decoder: what kind of model it is.
        weights: with respect to what.
        draws: draws each token from the model's prediction in place of the example's own; None for those.
    """
    import torch
    import torch.nn.functional as F

    from instructalign.training.loss import at_positions, target_logits

    trained = {name: weight.requires_grad for name, weight in weights.items()}
    for weight in weights.values():
        weight.requires_grad_(True)
    logits = target_logits(model, batch, encoder_decoder).float()
    targets = at_positions(batch, "targets")
    if draws is not None:
        targets = drawn(logits.detach(), draws)
    likelihood = -F.cross_entropy(logits, targets, reduction="sum")
    gradients = torch.autograd.grad(likelihood, list(weights.values()), allow_unused=True)
    for name, weight in weights.items():
        weight.requires_grad_(trained[name])
    return {
        name: gradient.float().square()
        for name, gradient in zip(weights, gradients, strict=True)
        if gradient is not None
    }


def drawn(logits: torch.Tensor, draws: Draws) -> torch.Tensor:
    """One token from each row's distribution, [rows], by inverting its distribution function."""
    import torch

    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    points = torch.tensor([[draws.uniform()] for _ in range(len(logits))], dtype=sums.dtype, device=sums.device)
    return torch.searchsorted(sums, points * sums[:, -1:], right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
