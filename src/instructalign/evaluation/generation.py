"""Greedy generation in batches, and where an answer ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from instructalign.errors import DataError
from instructalign.evaluation.processes import joined, processes
from instructalign.training.cpu_kernels import fast_inference
from instructalign.training.models import LoadedModel, context_length


def ends_of(tokenizer: Any, generation: Any) -> tuple[set[int], float]:
    """The tokens at which an answer ends, and the penalty on repetition that a model asks for (1 is none)."""
    eos = getattr(generation, "eos_token_id", None)
    listed = eos if isinstance(eos, list) else [eos]
    penalty = getattr(generation, "repetition_penalty", None)
    return {int(token) for token in (tokenizer.eos_token_id, *listed) if token is not None}, float(penalty or 1.0)


def answer_of(tokenizer: Any, tokens: Sequence[int], ends: set[int]) -> tuple[str, bool]:
    """The first line of what was written, and whether neither it nor the text had come to an end."""
    stop = next((place for place, token in enumerate(tokens) if token in ends), None)
    text = str(tokenizer.decode(tokens[:stop], skip_special_tokens=True)).lstrip()
    line = text.split("\n", 1)
    return line[0].strip(), stop is None and len(line) == 1


class LineEnds(StoppingCriteria):
    """Stops a row when its first line is written: what would come behind is not read.

    Args:
        tokenizer: turns tokens into text.
        rows: how many answers are written at once.
    """

    def __init__(self, tokenizer: Any, rows: int) -> None:
        self._tokenizer = tokenizer
        self._begun, self._ended = [False] * rows, [False] * rows
        self._texts: dict[int, str] = {}

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        """Which rows have ended, from the last token of each."""
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if token not in self._texts:
                self._texts[token] = str(self._tokenizer.decode([token], skip_special_tokens=True))
            # Line ends in front of an answer are not its end.
            text = self._texts[token] if self._begun[row] else self._texts[token].lstrip()
            self._begun[row] = self._begun[row] or bool(text)
            self._ended[row] = self._ended[row] or "\n" in text
        return torch.tensor(self._ended, device=input_ids.device)


def generate(
    loaded: LoadedModel,
    prompts: Sequence[str],
    tokens: int,
    batch_tokens: int,
    progress: Callable[[int, int], None] | None = None,
) -> list[tuple[str, bool]]:
    """What a model writes behind prompts, greedily, and whether it had not come to an end.

    Several processes share the batches; each gets all answers.

    Args:
        loaded: the model.
        prompts: as text.
        tokens: how many it may write.
        batch_tokens: tokens of a batch, those to be written included.
        progress: told how many prompts are done.

    Returns:
        By prompt, the first line of what was written; and whether it has as many tokens as allowed.

    Raises:
        DataError: a prompt leaves no room in the model's context.
    """
    encoded = [loaded.codec.pair(prompt, "")[0] for prompt in prompts]
    context = None if loaded.encoder_decoder else context_length(loaded)
    order = sorted(range(len(prompts)), key=lambda index: (-len(encoded[index]), index))
    batches: list[tuple[list[int], int]] = []
    while order:
        longest = len(encoded[order[0]])
        room = tokens if context is None else min(tokens, context - longest)
        if room < 1:
            raise DataError(
                f"a prompt of {longest} tokens leaves no room in the model's context of {context}: "
                f"{prompts[order[0]][:60]}…"
            )
        rows = max(1, batch_tokens // (longest + room))
        batches.append((order[:rows], room))
        order = order[rows:]
    answers: dict[int, tuple[str, bool]] = {}
    together = processes()
    for batch, room in batches[together.process_index :: together.num_processes]:
        answers.update(zip(batch, _write(loaded, [encoded[index] for index in batch], room), strict=True))
        if progress:
            progress(min(len(answers) * together.num_processes, len(prompts)), len(prompts))
    every = joined(answers)
    return [every[index] for index in range(len(prompts))]


def _write(loaded: LoadedModel, prompts: Sequence[list[int]], tokens: int) -> list[tuple[str, bool]]:
    model: Any = loaded.model
    tokenizer = loaded.tokenizer
    ends, _ = ends_of(tokenizer, model.generation_config)
    longest = max(map(len, prompts))
    ids = torch.zeros((len(prompts), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        # A decoder goes on behind the last token, so that its padding stands in front.
        where = slice(0, len(prompt)) if loaded.encoder_decoder else slice(longest - len(prompt), longest)
        ids[row, where] = torch.tensor(prompt)
        mask[row, where] = 1
    with fast_inference(model):
        written = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=sorted(ends) or None,
            pad_token_id=tokenizer.pad_token_id,
            stopping_criteria=StoppingCriteriaList([LineEnds(tokenizer, len(prompts))]),
        )
    behind = written[:, 1:] if loaded.encoder_decoder else written[:, longest:]
    return [answer_of(tokenizer, row, ends) for row in behind.tolist()]
