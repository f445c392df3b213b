"""On-policy self-distillation: the model learns from itself with the answer in its context (Shenfeld et al. 2026,
"Self-Distillation Enables Continual Learning", SDFT, arXiv 2601.19897).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from string import Formatter
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from instructalign.config import Config, Positive
from instructalign.randomness import digest_key
from instructalign.training.strategies.ema import EMA
from instructalign.training.strategies.strategy import Strategy, StrategyContext, sum_over_processes

if TYPE_CHECKING:
    import torch

    from instructalign.training.tokenization import EncodedExample
    from instructalign.types import Instruction

_GENERATION_TOKENS = 16_384  # at a time; no gradients are kept for them
_SPARE = 8  # tokens that a sampled answer may have beyond twice its demonstration


class SDFT(Strategy):
    """The model learns to answer as it does with the example's answer, the demonstration, in its prompt.

    In each step the model samples an answer to the prompt of each new example (replay examples keep the
    cross-entropy). The loss at each sampled token is the KL divergence between the prediction for the prompt alone
    and the teacher's: the same model with the demonstration in its prompt, without a gradient.

    A base that cannot use an example in its prompt is no teacher: the model learns what the odd prompt makes it
    say, and forgets like any other (docs/LOG.md).

    Args:
        decay: share that each step keeps of the moving average of the weights, which is the teacher. 0: the model
            as it is, without a copy of the weights; 1: the base.
        divergence: `reverse` is KL(model ‖ teacher), the paper's; `forward` KL(teacher ‖ model).
        tokens: maximum length of a sampled answer, which also ends at twice its demonstration and 8 tokens.
        prompt: what the teacher is asked, with the example's `{prompt}` and `{answer}`.
    """

    needs_full_weights = True
    _context: StrategyContext  # from `prepare` on

    def __init__(
        self,
        *,
        decay: Annotated[float, Field(ge=0, le=1)] = 0.99,
        divergence: Literal["reverse", "forward"] = "reverse",
        tokens: Positive = 128,
        prompt: str = (
            "{prompt}\n\nThis is an example for a response to the question:\n{answer}\n\n"
            "Now answer with a response of your own:"
        ),
    ) -> None:
        self.divergence: Literal["reverse", "forward"] = divergence
        self.tokens = tokens
        self.prompt = prompt
        self._average = EMA(decay=decay) if decay else None
        self._generated = self._truncated = 0

    def problems(self, config: Config) -> Iterable[str]:
        """A prompt without its placeholders, and what needs the examples' own answers or tokens in one row."""
        try:
            fields = sorted({name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None})
        except ValueError as error:
            fields = [str(error)]
        if fields != ["answer", "prompt"]:
            yield f"prompt needs {{prompt}} and {{answer}}, and nothing else in braces; found {fields}"
        if config.training.loss_on == "all":
            yield "trains on sampled answers alone; set training.loss_on to answer"
        if config.training.packing:
            yield "samples answers whose lengths are not known when rows are packed; set training.packing to false"
        distil = config.training.strategy.get("distil")
        if distil is not None and distil.options["on"] != "replay":
            yield "replaces the answers that distil knows the base by; set training.strategy.distil.on to replay"

    def prepare(self, context: StrategyContext) -> None:
        """Starts the average with the base's weights."""
        self._context = context
        if self._average:
            self._average.prepare(context)

    def step_batches(self, batches: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The same examples with sampled answers; under `teacher`, these answers to the teacher's prompts."""
        import torch

        from instructalign.training.batching import collate, plan_micro_batches

        made = self._context.batches
        codec, weights = made.encoder.codec, made.weights
        students, teachers = self._sample([number for batch in batches for number in batch["numbers"]])

        def length(number: int) -> tuple[int, ...]:
            both = students[number], teachers.get(number, students[number])
            if codec.encoder_decoder:
                return max(len(each.prompt) for each in both), len(both[0].answer)
            return (max(map(len, both)),)

        order = sorted(students, key=lambda number: sum(length(number)))
        result = []
        for part in plan_micro_batches([length(number) for number in order], made.limits):
            numbers = [order[place] for place in part]
            batch = {**collate([students[number] for number in numbers], codec, weights), "numbers": numbers}
            if taught := [teachers[number] for number in numbers if number in teachers]:
                batch["teacher"] = collate(taught, codec, weights)
                batch["taught"] = [number in teachers for number in numbers]
            result.append(batch)
        mass = sum(sum(batch["masses"]) for batch in result)
        written = sum(len(student.answer) for number, student in students.items() if number in teachers)
        total = sum_over_processes(torch.tensor([mass, written, self._cut], dtype=torch.float64)).tolist()
        self._generated += int(total[1])
        self._truncated += int(total[2])
        return [{**batch, "step_mass": max(total[0], 1.0)} for batch in result]

    def _sample(self, numbers: list[int]) -> tuple[dict[int, EncodedExample], dict[int, EncodedExample]]:
        """By position in the stream, examples as the model sees them, and new ones as the teacher does."""
        from instructalign.training.generation import Sampling, generate
        from instructalign.training.tokenization import EncodedExample

        context, encoder = self._context, self._context.batches.encoder
        examples = {number: context.data.mixture[number] for number in numbers}
        students = {number: encoder(example) for number, example in examples.items()}
        # What has no prompt is text to continue, not an answer that could be shown before it is given.
        new = [number for number in numbers if students[number].kind != "replay" and examples[number].prompt]
        sampled = generate(
            context.loaded,
            [students[number].prompt for number in new],
            [self.generated_tokens(len(students[number].answer)) for number in new],
            _GENERATION_TOKENS,
            sampling=Sampling(digest_key(context.config.seed, "sdft"), top_k=None),
            streams=new,
        )
        teachers = {}
        end = encoder.codec.end
        self._cut = 0
        for number, written in zip(new, sampled, strict=True):
            given = students[number]
            answer = [*written.tokens, *([end] if written.finished and end is not None else [])]
            lost = tuple(reason for reason in given.truncated if reason == "prompt truncated")
            students[number] = EncodedExample(given.prompt, answer, given.kind, given.target, lost)
            asked = self._demonstration(examples[number], len(answer))
            teachers[number] = EncodedExample(asked, answer, given.kind, given.target)
        return students, teachers

    def _demonstration(self, example: Instruction, answer: int) -> list[int]:
        """The teacher's prompt as tokens, without its start where it and the answer exceed the context."""
        from instructalign.training.tokenization import truncate_pair

        codec = self._context.loaded.codec

        def shown(question: str) -> str:
            return self.prompt.format(prompt=question, answer=example.answer)

        turns = [*example.turns[:-1], *((role, shown(text)) for role, text in example.turns[-1:])]
        prompt, _ = codec.pair(shown(example.prompt), "", turns)
        if codec.context is None:
            return prompt
        room = max(1, codec.context - (0 if codec.encoder_decoder else answer))
        kept, _ = truncate_pair(prompt, [], None, room, codec.opening())
        self._cut += len(kept) < len(prompt)
        return kept

    def generated_tokens(self, answer: int) -> int:
        """The most that a sampled answer may have."""
        return min(self.tokens, 2 * answer + _SPARE)

    def replace_loss(
        self, model: torch.nn.Module, batch: dict[str, Any], logits: torch.Tensor, losses: torch.Tensor
    ) -> torch.Tensor:
        """The divergence at sampled tokens, the cross-entropy at those of replay examples."""
        import torch

        from instructalign.training.loss import target_logits
        from instructalign.training.models import unwrapped

        if "teacher" not in batch:
            return losses
        inner = unwrapped(model)
        training = inner.training
        inner.eval()
        with torch.no_grad(), self._average.in_place_of(inner) if self._average else nullcontext():
            teacher = target_logits(inner, batch["teacher"], self._context.loaded.encoder_decoder)
        inner.train(training)
        taught = torch.tensor(batch["taught"], device=logits.device)
        where = taught[batch["examples"]].nonzero().squeeze(1)
        return losses.index_put((where,), token_kl(logits[where], teacher, self.divergence))

    def after_update(self, model: torch.nn.Module, step: int) -> None:
        """Updates the average."""
        if self._average:
            self._average.after_update(model, step)

    def state(self) -> dict[str, torch.Tensor]:
        """The average, and the counts."""
        import torch

        average = self._average.state() if self._average else {}
        return {**average, "counts": torch.tensor([self._generated, self._truncated])}

    def restore(self, state: dict[str, torch.Tensor]) -> None:
        """Restores them."""
        self._generated, self._truncated = map(int, state["counts"])
        if self._average:
            self._average.restore(state)

    def costs(self) -> dict[str, float]:
        """The tokens sampled, the demonstrations that lost their start, and the memory of the average."""
        average = self._average.costs() if self._average else {}
        return {**average, "generated": self._generated, "truncated": self._truncated}


def token_kl(
    student: torch.Tensor, teacher: torch.Tensor, divergence: Literal["reverse", "forward"]
) -> torch.Tensor:
    """The KL divergence between two predictions over the whole vocabulary, in nats, [positions].

    Args:
        student, teacher: logits, [positions, vocabulary].
        divergence: `reverse` for KL(student ‖ teacher), `forward` for KL(teacher ‖ student).
    """
    import torch.nn.functional as F

    model, other = F.log_softmax(student.float(), dim=-1), F.log_softmax(teacher.float(), dim=-1)
    one, given = (model, other) if divergence == "reverse" else (other, model)
    return F.kl_div(given, one, reduction="none", log_target=True).sum(dim=-1)
