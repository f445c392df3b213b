"""From the tokens that a model wrote to an answer: up to its end, or to the end of the line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import StoppingCriteria


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
