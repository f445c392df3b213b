"""Elastic weight consolidation (Kirkpatrick et al. 2017, "Overcoming catastrophic forgetting in neural networks",
PNAS 114, equation 3).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

from instructalign.config import Config, Positive
from instructalign.randomness import Draws, digest_key
from instructalign.training.strategies.calibration_examples import (
    WITHOUT_REPLAY,
    CalibrationSource,
    calibration_examples,
)
from instructalign.training.strategies.parameter_deltas import ParameterDeltas, adapter_problems
from instructalign.training.strategies.strategy import (
    PenaltyWeight,
    Strategy,
    StrategyContext,
    sum_over_processes,
)

if TYPE_CHECKING:
    import torch


class EWC(Strategy):
    """Adds `weight / 2 · Σ F (W - W0)²` to the loss: each weight is held back as much as prior tasks depend on it.

    F is the diagonal of the Fisher information of the base on calibration examples: the mean over examples of the
    squared gradient of the answer's log-likelihood, summed over its tokens. With `fisher: true`, each token of the
    answer is sampled from the model's own prediction, which makes F the Fisher information; with `empirical`, it
    is the one in the data, a common stand-in that is something else (Kunstner et al. 2019, arXiv 1905.12558).

    Args:
        weight: the penalty's weight (λ in the paper).
        on: what F is computed on: `replay` data, or `known`, sentences in the known languages.
        examples: the number of calibration examples.
        fisher: `true` or `empirical`.
    """

    needs_full_weights = True
    _deltas: ParameterDeltas  # from `prepare` on, as the next
    _fisher: dict[str, torch.Tensor]

    def __init__(
        self,
        *,
        weight: PenaltyWeight = 1.0,
        on: CalibrationSource = "replay",
        examples: Positive = 256,
        fisher: Literal["true", "empirical"] = "true",
    ) -> None:
        self.weight = weight
        self.on: CalibrationSource = on
        self.examples = examples
        self.fisher = fisher
        self.replay_data = "needed" if on == "replay" else "unused"
        self.without_replay = WITHOUT_REPLAY.format(name="ewc")

    def problems(self, config: Config) -> Iterable[str]:
        """Adapters whose delta is not a low-rank product, or whose base has no gradient."""
        yield from adapter_problems(config)
        if config.model.adapter and config.model.adapter.quantised:
            yield (
                "needs gradients of the base's weights, which model.adapter.quantised keeps in 4 bits; set it to "
                "false, or use l2sp"
            )

    def prepare(self, context: StrategyContext) -> None:
        """Copies the base's weights and computes the Fisher information; a resumed run reads it."""
        self._deltas = ParameterDeltas(context.model)
        options = [self.on, self.examples, self.fisher]
        fisher = context.cached("fisher", options, lambda: self._compute_fisher(context))
        parameters = self._deltas.base_parameters()
        self._fisher = {name: value.to(parameters[name].device) for name, value in fisher.items()}

    def _compute_fisher(self, context: StrategyContext) -> dict[str, torch.Tensor]:
        import torch

        chosen = calibration_examples(context, self.on, self.examples)
        numbered = context.shard(list(enumerate(chosen)))
        batches = context.encoded([example for _, example in numbered], size=1)
        parameters = self._deltas.base_parameters()
        total = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in parameters.items()}
        for done, ((number, _), batch) in enumerate(zip(numbered, batches, strict=True)):
            context.progress("Fisher information", done, len(numbered), "")
            draws = Draws(digest_key(context.config.seed, "fisher"), number) if self.fisher == "true" else None
            squares = squared_gradient(context.model, batch, context.loaded.encoder_decoder, parameters, draws)
            for name, square in squares.items():
                total[name] += square
        return {name: sum_over_processes(value) / len(chosen) for name, value in total.items()}

    def penalty(self, model: torch.nn.Module) -> torch.Tensor | None:
        """The squared distance from the base, weighted by the Fisher information."""
        return self.weight / 2 * self._deltas.sum_of_squares(self._fisher)

    def costs(self) -> dict[str, float]:
        """The memory of the copy and of the Fisher information, and the disk of the latter."""
        fisher = sum(value.nbytes for value in self._fisher.values())
        return {"memory": fisher + self._deltas.bytes, "disk": fisher}


def squared_gradient(
    model: Any,
    batch: dict[str, Any],
    encoder_decoder: bool,
    parameters: dict[str, torch.nn.Parameter],
    draws: Draws | None,
) -> dict[str, torch.Tensor]:
    """The squared gradient of one example's log-likelihood, by parameter; for frozen parameters too.

    Args:
        model: the model.
        batch: one example.
        encoder_decoder: the kind of model.
        parameters: with respect to which the gradient is taken.
        draws: samples each token from the model's prediction; None for the example's own tokens.
    """
    import torch
    import torch.nn.functional as F

    from instructalign.training.loss import at_positions, target_logits

    trained = {name: weight.requires_grad for name, weight in parameters.items()}
    for weight in parameters.values():
        weight.requires_grad_(True)
    logits = target_logits(model, batch, encoder_decoder).float()
    targets = at_positions(batch, "targets")
    if draws is not None:
        targets = sample_tokens(logits.detach(), draws)
    likelihood = -F.cross_entropy(logits, targets, reduction="sum")
    gradients = torch.autograd.grad(likelihood, list(parameters.values()), allow_unused=True)
    for name, weight in parameters.items():
        weight.requires_grad_(trained[name])
    return {
        name: gradient.float().square()
        for name, gradient in zip(parameters, gradients, strict=True)
        if gradient is not None
    }


def sample_tokens(logits: torch.Tensor, draws: Draws) -> torch.Tensor:
    """One token from each row's distribution, [rows], by inverse transform sampling."""
    import torch

    sums = logits.double().softmax(dim=-1).cumsum(dim=-1)
    points = torch.tensor([[draws.uniform()] for _ in range(len(logits))], dtype=sums.dtype, device=sums.device)
    return torch.searchsorted(sums, points * sums[:, -1:], right=True).squeeze(1).clamp(max=logits.shape[1] - 1)
