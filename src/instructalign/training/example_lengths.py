"""How long examples are as a model gets them, for shares of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from instructalign.config import Config
from instructalign.mixture.token_shares import Lengths
from instructalign.training.batching import ExampleEncoder
from instructalign.training.models import load_codec
from instructalign.training.tokenization import Codec
from instructalign.types import Instruction


class Measured:
    """A measure of examples under a configuration; the tokenizer is loaded when it is first needed.

    Args:
        config: says the model, the greatest length and what the loss counts.
        codec: the model's way with texts, where it is loaded already.
    """

    def __init__(self, config: Config, codec: Codec | None = None) -> None:
        self._config = config
        self._encoder = ExampleEncoder(codec, config.training.max_length) if codec else None

    def __call__(self, instructions: Sequence[Instruction]) -> list[Lengths]:
        """The lengths of examples after cutting.

        Raises:
            ModelError: the tokenizer cannot be loaded.
        """
        if self._encoder is None:
            self._encoder = ExampleEncoder(load_codec(self._config.model), self._config.training.max_length)
        encoder, on_prompt = self._encoder, self._config.training.loss_on == "all"
        encoded = [encoder(instruction)[0] for instruction in instructions]
        return [
            lengths(len(each.prompt), len(each.answer), on_prompt, encoder.codec.encoder_decoder)
            for each in encoded
        ]


def lengths(prompt: int, answer: int, on_prompt: bool, encoder_decoder: bool) -> Lengths:
    """The lengths of an example of so many tokens; the first token of a sequence is never predicted."""
    if encoder_decoder:
        return Lengths(prompt + answer, answer)
    counted = prompt + answer - 1 if on_prompt else prompt + answer - max(1, prompt)
    return Lengths(prompt + answer, max(0, counted))
